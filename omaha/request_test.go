package omaha_test

import (
	"bytes"
	"regexp"
	"runtime"
	"strings"
	"testing"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

// marshal returns what the server would read.
func marshal(t testing.TB, req *omaha.Request) *wire.Request {
	t.Helper()
	body, err := req.Marshal(omaha.OS{}, "")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := wire.ParseRequest("text/xml; charset=utf-8", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return doc
}

func TestRequest_attributes(t *testing.T) {
	req := checkFor("io.example.App")
	req.UserID, req.BootID, req.MachineAlias = "u1", "b1", "host-1"
	doc := marshal(t, req)
	app := doc.Apps[0]
	for _, tt := range []struct{ name, got, want string }{
		{"protocol", doc.Protocol, "3.0"},
		{"session", doc.SessionID, "s1"},
		{"user", doc.UserID, "u1"},
		{"install source", doc.InstallSource, "scheduler"},
		{"app", app.ID, "io.example.App"},
		{"version", app.Version, "1.0.0"},
		{"track", app.Track, "stable"},
		{"machine", app.MachineID, "m1"},
		{"boot", app.BootID, "b1"},
		{"alias", app.MachineAlias, "host-1"},
		{"platform", doc.OS.Platform, wire.LocalPlatform()},
		{"arch", doc.OS.Arch, omaha.ArchName(runtime.GOARCH)},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %q, want %q", tt.name, tt.got, tt.want)
		}
	}
	if doc.IsMachine != 1 || !strings.HasPrefix(doc.Version, "omahaclient-") || doc.UpdaterVersion != doc.Version {
		t.Errorf("ismachine %d, version %q, updaterversion %q", doc.IsMachine, doc.Version, doc.UpdaterVersion)
	}
	if app.Ping == nil || app.Ping.Active != 1 || app.UpdateCheck == nil {
		t.Error("a check needs an updatecheck and an active ping beside it")
	}
}

func TestRequest_onDemand(t *testing.T) {
	req := checkFor("a")
	req.OnDemand = true
	if got := marshal(t, req).InstallSource; got != "ondemand" {
		t.Errorf("got %q", got)
	}
}

func TestRequest_neverASyncer(t *testing.T) {
	const syncer = "CoreOSUpdateEngine-0.1.0.0"
	body, err := checkFor("a").Marshal(omaha.OS{}, syncer)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "scheduler") {
		t.Errorf("Nebraska would take this for another Nebraska: %s", body)
	}
}

func TestRequest_pingAndEventsOnly(t *testing.T) {
	doc := marshal(t, &omaha.Request{Apps: []omaha.AppRequest{
		{ID: "ping", Ping: true},
		{ID: "event", Events: []omaha.Event{{Type: omaha.EventTypeUpdateDownloadStarted, Result: omaha.EventResultSuccess}}},
	}})
	if app := doc.Apps[0]; app.Ping == nil || app.UpdateCheck != nil || len(app.Events) != 0 {
		t.Errorf("ping: %+v", app)
	}
	if app := doc.Apps[1]; app.Ping != nil || app.UpdateCheck != nil || len(app.Events) != 1 {
		t.Errorf("event: %+v", app)
	}
}

func TestRequest_newIDForEach(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	req := checkFor("a")
	for range 100 {
		id := marshal(t, req).RequestID
		if seen[id] || !uuid.MatchString(id) {
			t.Fatalf("request id %q: again, or no UUID", id)
		}
		seen[id] = true
	}
}

func TestRequest_versions(t *testing.T) {
	for _, tt := range []struct{ name, version, want string }{
		{"as it is", "1.2.3", "1.2.3"},
		{"leading v", "v1.2.3", "1.2.3"},
		{"pre-release and build", "v1.2.3-rc.1+b5", "1.2.3-rc.1+b5"},
		{"none yet", "", "0.0.0"},
		{"not semantic, from another server", "1.2.3.4", "1.2.3.4"},
		{"word with a v", "vnext", "vnext"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := marshal(t, &omaha.Request{Apps: []omaha.AppRequest{{ID: "a", Version: tt.version, Events: []omaha.Event{
				{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResultSuccess, PreviousVersion: tt.version, NextVersion: tt.version}}}}})
			if got := doc.Apps[0].Version; got != tt.want {
				t.Errorf("app: got %q, want %q", got, tt.want)
			}
			want := tt.want
			if tt.version == "" {
				want = ""
			}
			if e := doc.Apps[0].Events[0]; e.PreviousVersion != want || e.NextVersion != want {
				t.Errorf("event: got %q and %q, want %q", e.PreviousVersion, e.NextVersion, want)
			}
		})
	}
}

func TestRequest_errorCodes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event omaha.Event
		want  int
	}{
		{"given", omaha.Event{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResultError, ErrorCode: omaha.ExitHash}, 10},
		{"failure without one", omaha.Event{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResultError}, 1},
		{"success", omaha.Event{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResultSuccess}, 0},
		{"of another event", omaha.Event{Type: omaha.EventTypeUpdateInstalled, Result: omaha.EventResultSuccess}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := marshal(t, &omaha.Request{Apps: []omaha.AppRequest{{ID: "a", Events: []omaha.Event{tt.event}}}})
			got := doc.Apps[0].Events[0]
			if got.ErrorCode != tt.want || got.Type != tt.event.Type || got.Result != tt.event.Result {
				t.Errorf("got %+v, want code %d", got, tt.want)
			}
		})
	}
}

// Names come from users and configuration files: none may break the document, or out of its attribute.
func TestRequest_hostileNames(t *testing.T) {
	for _, tt := range []struct{ name, id, want string }{
		{"quotes and tags", `a"><app appid="b`, `a"><app appid="b`},
		{"entity", "&lol;", "&lol;"},
		{"line break", "a\r\nb\tc", "a\r\nb\tc"},
		{"control", "a\x00b\x1bc", "a\ufffdb\ufffdc"},
		{"not UTF-8", "a\xff\xfeb", "a\ufffd\ufffdb"},
		{"noncharacter", "a\uffffb", "a\ufffdb"},
		{"beyond the basic plane", "a😀", "a😀"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := checkFor(tt.id)
			req.MachineAlias = tt.id
			doc := marshal(t, req)
			if len(doc.Apps) != 1 || doc.Apps[0].ID != tt.want || doc.Apps[0].MachineAlias != tt.want {
				t.Errorf("read back as %+v", doc.Apps[0])
			}
		})
	}
}

func TestLocalOS_arch(t *testing.T) {
	for goarch, want := range map[string]string{
		"amd64": "x64", "386": "x86", "arm": "arm", "arm64": "aarch64", "riscv64": "riscv64",
	} {
		if got := omaha.ArchName(goarch); got != want {
			t.Errorf("%s: got %q, want %q", goarch, got, want)
		}
	}
	body, err := checkFor("a").Marshal(omaha.OS{Version: "42"}, "")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := wire.ParseRequest("", bytes.NewReader(body))
	if want := omaha.LocalOS(); err != nil || doc.OS.Arch != want.Arch || doc.OS.Platform != want.Platform || doc.OS.Version != "42" {
		t.Errorf("got %+v, %v", doc.OS, err)
	}
	if os := omaha.LocalOS(); os.Arch == "" || os.Platform == "" {
		t.Errorf("got %+v", os)
	}
}
