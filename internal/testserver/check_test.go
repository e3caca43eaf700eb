package testserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	unknown    = "error-failedToRetrieveUpdatePackageInfo/error-internal"
	inProgress = "error-updateInProgressOnInstance/error-internal"
	noUpdate   = "ok/noupdate"
)

func TestCheck_isRefusedInProgressForEver(t *testing.T) {
	for _, kind := range []int{13, 14, 800} {
		b := newBench(t)
		b.group(testserver.Policy{})
		b.offers("2.0.0", both)
		b.one(event(kind, 1))
		for range 3 {
			b.offers(inProgress, both)
			b.clock.advance(30 * 24 * time.Hour)
		}
		b.one(ping) // or the event would come too late
		b.one(event(3, 0))
		b.offers("2.0.0", both)
	}
}

func TestCheck_repeatsBareGrantPastPolicy(t *testing.T) {
	b := newBench(t)
	g := b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
	g.Publish(testserver.Release{Version: "3.0.0"})
	b.offers("3.0.0", both)
	b.offers("error-updatesDisabled/error-internal", both, "machineid=m2")
	g.Publish(testserver.Release{Version: "0.5.0"})
	b.offers("0.5.0", both) // the one way to be offered a downgrade
	i := b.is(testserver.Granted)
	if i.GrantedVersion != "2.0.0" || i.Grants != 1 || i.Offers != 3 {
		t.Errorf("granted %s, %d grants, %d offers; want 2.0.0, 1, 3", i.GrantedVersion, i.Grants, i.Offers)
	}
	b.one(event(3, 1))
	if i := b.is(testserver.Complete); i.Version != "2.0.0" {
		t.Errorf("completed %s, want what was granted first, 2.0.0", i.Version)
	}
}

func TestCheck_completesGrantThatWasReached(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	b.offers(noUpdate, both, "version=2.0.0")
	b.is(testserver.Complete)
}

func TestCheck_grantsAgainAtOnceAfterFailure(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	for n := 1; n <= 3; n++ {
		b.offers("2.0.0", both)
		b.one(event(3, 0, `errorcode="10"`))
		if i := b.is(testserver.Error); i.Grants != n {
			t.Errorf("%d grants, want %d", i.Grants, n)
		}
	}
	if got := b.Grants(appA); got != 3 {
		t.Errorf("%d grants of the app, want 3", got)
	}
}

func TestCheck_comparesVersions(t *testing.T) {
	tests := []struct{ runs, released, want string }{
		{"1.0.0", "2.0.0", "2.0.0"},
		{"2.0.0", "2.0.0", noUpdate},
		{"3.0.0", "2.0.0", noUpdate},
		{"2.0.0-rc.1", "2.0.0", "2.0.0"},
		{"2.0.0", "2.1.0-rc.1", "2.1.0-rc.1"},
		{"2.0.0+build.1", "2.0.0+build.2", noUpdate},
		{"9.0.0", "10.0.0", "10.0.0"},
	}
	for _, test := range tests {
		b := newBench(t)
		b.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{Version: test.released})
		b.offers(test.want, both, "version="+test.runs)
	}
}

func TestCheck_anyVersionIsOfferedUnlessItRuns(t *testing.T) {
	b := newBench(t)
	g := b.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{})
	for _, version := range []string{"2026-08-01", "1.2.3.4", "0.9.0"} {
		g.Publish(testserver.Release{Version: version, AnyVersion: true})
		b.offers(version, both)
		b.one(event(3, 0))
	}
	b.offers(noUpdate, both, "version=0.9.0")
}

func TestCheck_wantsSemanticVersions(t *testing.T) {
	for _, version := range []string{"v1.0.0", "1.0", "1.0.0.0", "01.0.0", "", "latest"} {
		b := newBench(t)
		b.group(testserver.Policy{})
		a := b.one(ping, "version="+version)
		if a.Status != "ok" || a.Ping == nil {
			t.Errorf("%q: ping answered %+v, want it silently acknowledged", version, a)
		}
		b.offers("error-instanceRegistrationFailed/error-internal", both, "version="+version)
		if _, known := b.Instance(appA, "m1"); known {
			t.Errorf("%q registered an instance", version)
		}
	}
}

func TestCheck_wantsMachineIDsThatFit(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both, "machineid="+strings.Repeat("m", 50))
	for _, id := range []string{"", strings.Repeat("m", 51)} {
		b.offers("error-instanceRegistrationFailed/error-internal", both, "machineid="+id)
	}
}

func TestCheck_withoutPackage(t *testing.T) {
	b := newBench(t)
	g := b.group(testserver.Policy{})
	g.Unpublish()
	b.offers("error-noPackageFound/error-internal", both)
}

// Nebraska reads an app's row before it writes it: an app that is new to a known
// machine is not seen by its first check, and its grant fails silently.
func TestCheck_falseNoUpdate(t *testing.T) {
	tests := []struct {
		name, content string
		attributes    []string
		want          string
	}{
		{"check alone", check, nil, noUpdate},
		{"with ping", both, nil, "2.0.0"},
		{"alias changed too", check, []string{"machinealias=new"}, "2.0.0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.group(testserver.Policy{})
			b.AddGroup(appB, "stable", testserver.AnyArch, testserver.Policy{})
			b.send(app(appB, ping))
			b.offers(test.want, test.content, test.attributes...)
			b.offers("2.0.0", check, test.attributes...) // the row is there now
		})
	}
	t.Run("in one request", func(t *testing.T) {
		b := newBench(t)
		b.group(testserver.Policy{})
		b.AddGroup(appB, "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{Version: "5.0.0"})
		apps := b.send(app(appB, check), app(appA, check))
		if apps[0].offered() != "5.0.0" || apps[1].offered() != noUpdate {
			t.Errorf("offered %s and %s, want 5.0.0 and a false %s", apps[0].offered(), apps[1].offered(), noUpdate)
		}
	})
	t.Run("silent for a day", func(t *testing.T) {
		b := newBench(t)
		b.group(testserver.Policy{})
		b.one(ping)
		b.clock.advance(25 * time.Hour)
		b.offers(noUpdate, check)
		b.clock.advance(25 * time.Hour)
		b.offers("2.0.0", both)
	})
}

func TestCheck_unknownAppOrTrackAbortsTheRequest(t *testing.T) {
	for _, culprit := range []string{app("io.example.Unknown", both), app(appB, both, "track=beta")} {
		b := newBench(t)
		b.group(testserver.Policy{})
		b.AddGroup(appB, "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{Version: "5.0.0"})
		apps := b.send(app(appA, both), culprit, app(appB, both))
		if len(apps) != 2 {
			t.Fatalf("%d apps answered, want 2: the third is not mentioned", len(apps))
		}
		if apps[0].offered() != "2.0.0" || apps[1].offered() != unknown || apps[1].Ping != nil {
			t.Errorf("answered %+v", apps)
		}
		if _, known := b.Instance(appB, "m1"); known {
			t.Error("the app behind the culprit was processed")
		}
	}
}

func TestCheck_findsGroupByTrackAndArchitecture(t *testing.T) {
	tests := []struct {
		name, arch, board, want string
	}{
		{"amd64 in Omaha's words", "x64", "", "1.0.1"},
		{"amd64", "amd64", "", "1.0.1"},
		{"arm64 in Omaha's words", "arm", "", "1.0.2"},
		{"aarch64", "aarch64", "", "1.0.2"},
		{"x86", "x86", "", "1.0.3"},
		{"Go's arm64 is taken for amd64", "arm64", "", "1.0.1"},
		{"nothing is taken for amd64", "", "", "1.0.1"},
		{"board amd64", "aarch64", "amd64-usr", "1.0.1"},
		{"board arm64", "x64", "arm64-usr", "1.0.2"},
		{"unknown board", "aarch64", "riscv-usr", "1.0.2"},
		{"no group", "all", "", unknown},
	}
	b := newBench(t)
	for arch, version := range map[string]string{testserver.AMD64: "1.0.1", testserver.AArch64: "1.0.2", testserver.X86: "1.0.3"} {
		b.AddGroup(appA, "stable", arch, testserver.Policy{}).Publish(testserver.Release{Version: version})
	}
	for _, test := range tests {
		if got := b.sendArch(test.arch, app(appA, both, "machineid="+test.name, "board="+test.board))[0].offered(); got != test.want {
			t.Errorf("%s: offered %s, want %s", test.name, got, test.want)
		}
	}
	if got := b.send(app(appA, both, "track=Stable"))[0].offered(); got != unknown {
		t.Errorf("track in another case offered %s", got)
	}
}

func TestCheck_appIDsInAnyCaseAreEchoed(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	for _, id := range []string{"IO.Example.a", "{io.example.A}", " io.example.A "} {
		a := b.send(app(id, both))[0]
		if a.offered() != "2.0.0" || a.ID != id {
			t.Errorf("%q: answered %q, offered %s", id, a.ID, a.offered())
		}
	}
	if n := len(b.Instances(appA)); n != 1 {
		t.Errorf("%d instances, want 1", n)
	}
}

func TestCheck_floorsComeOneAtATime(t *testing.T) {
	b := newBench(t)
	g := b.group(testserver.Policy{})
	g.AddFloor(testserver.Release{Version: "1.8.0"}, "partitions")
	g.AddFloor(testserver.Release{Version: "1.5.0"}, "")
	g.AddFloor(testserver.Release{Version: "2.5.0"}, "above the target")
	for _, step := range []struct{ runs, want string }{{"1.0.0", "1.5.0"}, {"1.5.0", "1.8.0"}, {"1.8.0", "2.0.0"}} {
		a := b.one(both, "version="+step.runs)
		if a.offered() != step.want || len(a.Check.Manifests) != 1 || a.Check.Manifests[0].IsFloor {
			t.Errorf("%s was offered %+v, want %s without a mark", step.runs, a.Check, step.want)
		}
		b.one(event(3, 1))
		if i := b.is(testserver.Complete); i.Version != step.want {
			t.Errorf("completed %s, want %s", i.Version, step.want)
		}
	}
	a := b.one(both, "multi_manifest_ok=true", "machineid=m2")
	if len(a.Check.Manifests) != 3 {
		t.Fatalf("%d manifests, want 3", len(a.Check.Manifests))
	}
	for k, want := range []answerManifest{
		{Version: "1.5.0", IsFloor: true, FloorReason: "Required intermediate version"},
		{Version: "1.8.0", IsFloor: true, FloorReason: "partitions"},
		{Version: "2.0.0", IsTarget: true},
	} {
		got := a.Check.Manifests[k]
		if got.Version != want.Version || got.IsFloor != want.IsFloor || got.FloorReason != want.FloorReason || got.IsTarget != want.IsTarget {
			t.Errorf("manifest %d is %+v, want %+v", k, got, want)
		}
	}
	if i := b.is(testserver.Granted, "m2"); i.GrantedVersion != "2.0.0" {
		t.Errorf("granted %s, want the target", i.GrantedVersion)
	}
}

// The pair of install source and version that marks another Nebraska costs a
// client its floors, and with them its updates.
func TestCheck_syncerIsKeptFromFloors(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{}).AddFloor(testserver.Release{Version: "1.5.0"}, "")
	body := strings.Replace(request("x64", app(appA, both)), `version="test"`, `version="CoreOSUpdateEngine-0.1.0.0"`, 1)
	if got := b.post("/v1/update/", body).Body.String(); !strings.Contains(got, `<updatecheck status="noupdate">`) {
		t.Errorf("answered %s", got)
	}
	b.offers("1.5.0", both)
}

// Nebraska writes the time of a contact once in five minutes, unless the version
// has changed with it.
func TestCheck_recordsContactsOnceInFiveMinutes(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	start := b.clock.Now()
	for _, step := range []struct {
		version string
		want    time.Duration
	}{{"1.0.0", 0}, {"1.0.0", 0}, {"1.0.1", 6 * time.Minute}, {"1.0.1", 6 * time.Minute}, {"1.0.1", 12 * time.Minute}} {
		b.one(ping, "version="+step.version)
		i, _ := b.Instance(appA, "m1")
		if got := i.LastCheck.Sub(start); got != step.want {
			t.Errorf("last contact after %v, want %v", got, step.want)
		}
		b.clock.advance(3 * time.Minute)
	}
}

func TestPutInstance_wedges(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.PutInstance(testserver.Instance{AppID: appA, MachineID: "m1", Track: "stable", Version: "1.0.0", Status: testserver.Installed, GrantedVersion: "2.0.0"})
	b.offers(inProgress, both)
	b.one(event(3, 2, `previousversion="1.0.0"`))
	b.is(testserver.Complete)
	if list := b.Instances(appA); len(list) != 1 || list[0].Version != "2.0.0" {
		t.Errorf("instances %+v", list)
	}
}
