package omaha_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"html"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nebraska/omahaclient/omaha"
)

// FuzzResponse reads anything as the answer to a request for the apps of the recorded exchanges. Whatever comes is
// an error of a known kind, or one answer per app that keeps the promises of its types.
func FuzzResponse(f *testing.F) {
	names, err := filepath.Glob("testdata/wire/*.response.*")
	if err != nil || len(names) != 19 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		f.Add(recorded(f, filepath.Base(name)))
	}
	full := offerOf(`<url codebase="https://h.example/x"/><url codebase="registry.example/a:1"/>`,
		`<package name="a b%" size="7" hash="`+sha1Hex+`" hash_sha256="`+sha256Base64+`"><metadata content-type="t"><![CDATA[<>]]></metadata></package>`,
		`<action event="postinstall" sha256="`+sha256Base64+`" MaxFailureCountPerUrl="3"/>`)
	f.Add([]byte(`<response protocol="3.0" server="s"><!-- c --><?pi x?>` + full + full + `</response>`))
	f.Add([]byte("\ufeff" + `<response protocol="3.1"><app appid="A" status="ok"><event status="ok"/><updatecheck status="noupdate"/></app></response>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><response/>`))
	f.Add([]byte(`<response a='>' b="'"><x y="/"/><![CDATA[ ]]>`))
	for _, s := range []string{
		"<EOF/>", `<response protocol="EOF"/>`, `<response protocol="&#69;OF"/>`, `<response protocol="unexpected EOF"/>`, `<response></EOF>`, `<response>&EOF`,
		`<response protocol="3.0"><app appid="a" status="EOF"/></response>`, `<?xml version="EOF"?><response/>`, `<response EOF`, `<?xml version="&#XEEE6EOF"?>`, `<response protocol="3.0"><a x='EOF`,
	} {
		f.Add([]byte(s))
	}
	req := &omaha.Request{Apps: []omaha.AppRequest{
		{ID: "io.example.AppW", Check: true, Events: make([]omaha.Event, 2)},
		{ID: "io.example.CtrW", Check: true},
		{ID: "a", Check: true, Events: make([]omaha.Event, 1)},
		{ID: "io.unknown.App", Ping: true},
	}}
	f.Fuzz(func(t *testing.T, body []byte) {
		resp, err := omaha.ReadResponse(req, body)
		if err != nil {
			if !errors.Is(err, omaha.ErrEmptyResponse) && !errors.Is(err, omaha.ErrNotOmaha) && !errors.Is(err, omaha.ErrTooLarge) {
				t.Errorf("unknown kind of error: %v", err)
			}
			checkMessage(t, err, string(body))
			return
		}
		if len(resp.Apps) != len(req.Apps) {
			t.Fatalf("%d answers for %d apps", len(resp.Apps), len(req.Apps))
		}
		for i, app := range resp.Apps {
			if app.ID != req.Apps[i].ID || app.Delivered > len(req.Apps[i].Events) {
				t.Errorf("got %+v", app)
			}
			states := 0
			for _, is := range []bool{app.Err != nil, app.NoUpdate, len(app.Manifests) > 0} {
				if is {
					states++
				}
			}
			if states > 1 || states == 0 && req.Apps[i].Check || states > 0 && app.Err == nil && !req.Apps[i].Check {
				t.Errorf("%d states in %+v", states, app)
			}
			if app.Err != nil {
				checkMessage(t, app.Err, string(body))
			}
			for _, m := range app.Manifests {
				checkManifest(t, m)
			}
		}
	})
}

// checkMessage wants a message that can be shown, and no "EOF" in it but the answer's own: messages quote what servers write.
func checkMessage(t *testing.T, err error, answer string) {
	t.Helper()
	text := err.Error()
	if len(text) > 1000 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\n\r\x1b") {
		t.Errorf("message %q", text)
	}
	// An E may be written &#69;, and belong to a number: &#XEEE6EOF.
	if strings.Contains(text, "EOF") && !strings.Contains(answer, "EOF") && !strings.Contains(html.UnescapeString(answer), "EOF") {
		t.Errorf("message %q does not say it plainly", text)
	}
}

func checkManifest(t *testing.T, m omaha.Manifest) {
	t.Helper()
	hasScheme := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	if m.Version == "" || len(m.Packages) == 0 {
		t.Errorf("got %+v", m)
	}
	for _, p := range m.Packages {
		if len(p.URLs) == 0 || p.Size < 0 || p.SHA1 != nil && len(p.SHA1) != 20 || p.SHA256 != nil && len(p.SHA256) != 32 {
			t.Errorf("got %+v", p)
		}
		for _, u := range p.URLs {
			if u == "" || hasScheme.MatchString(u) && strings.ContainsAny(u, " \r\n\x00\"<>") { // others stay as they are: image references
				t.Errorf("URL %q", u)
			}
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back omaha.Manifest
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("%+v came back from JSON as %+v, %v", m, back, err)
	}
}

// FuzzRequest sends anything that users may have configured. It arrives as it was, but for what XML does not allow,
// and within the size that Split reckons with.
func FuzzRequest(f *testing.F) {
	f.Add("io.example.App", "v1.0.0", "stable", "host", "1.0.0", 10)
	f.Add(`a"/><app appid='b`, "&lt;", "]]>", "\x00\xff\ufffe", "\t\r\n", -1)
	f.Add("", "v", "😀", "\u2028", "1.2.3.4", 1<<62)
	f.Fuzz(func(t *testing.T, id, version, channel, alias, previous string, code int) {
		req := &omaha.Request{SessionID: alias, UserID: channel, MachineID: id, MachineAlias: alias, Apps: []omaha.AppRequest{{
			ID: id, Version: version, Channel: channel, Check: true,
			Events: []omaha.Event{{Type: 3, Result: 1, ErrorCode: omaha.ExitCode(code), PreviousVersion: previous}},
		}}}
		doc := marshal(t, req)
		if len(doc.Apps) != 1 || len(doc.Apps[0].Events) != 1 {
			t.Fatalf("got %+v", doc)
		}
		app, event := doc.Apps[0], doc.Apps[0].Events[0]
		for _, pair := range [][2]string{{app.ID, id}, {app.Track, channel}, {app.MachineAlias, alias}, {doc.SessionID, alias}} {
			if pair[0] != allowed(pair[1]) {
				t.Errorf("%q arrived as %q", pair[1], pair[0])
			}
		}
		if !strings.HasSuffix(allowed(previous), event.PreviousVersion) || event.ErrorCode != code || app.Version == "" {
			t.Errorf("got %+v, %+v", app, event)
		}
		limit := wireSize(t, req) + 2<<10
		if parts := req.Split(limit); len(parts) != 1 || len(parts[0].Apps[0].Events) != 1 {
			t.Errorf("%d parts for a request of %d bytes", len(parts), limit)
		}
		size := len(req.Split(1)[0].Apps) // one app is never split
		if body, err := req.Marshal(omaha.OS{}, ""); err != nil || size != 1 || bytes.Contains(body, []byte{0}) {
			t.Errorf("%s, %v", body, err)
		}
	})
}

// allowed replaces what XML 1.0 does not allow (section 2.2).
func allowed(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 {
			return r
		}
		return utf8.RuneError
	}, s)
}
