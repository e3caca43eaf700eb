package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func TestResponse_delivered(t *testing.T) {
	const ok, bad = `<event status="ok"/>`, `<event status="error"/>`
	for _, tt := range []struct {
		name, status, elements string
		want                   int
	}{
		{"all", "ok", ok + ok + ok, 3},
		{"the first ones", "ok", ok + ok, 2},
		{"none", "ok", "", 0},
		{"up to the first refused", "ok", ok + bad + ok, 1},
		{"not even the first", "ok", bad + ok + ok, 0},
		{"more than sent", "ok", strings.Repeat(ok, 9), 3},
		{"without a status", "ok", `<event/>`, 0},
		{"policy refuses the check", "error-updatesDisabled", ok + ok + ok, 3},
		{"update in progress", "error-updateInProgressOnInstance", ok + ok + ok, 3},
		{"wrong channel", "error-failedToRetrieveUpdatePackageInfo", ok + ok + ok, 0},
		{"registration failed", "error-instanceRegistrationFailed", ok + ok + ok, 0},
		{"no status", "", ok + ok + ok, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := checkFor("a")
			req.Apps[0].Check = false
			req.Apps[0].Events = make([]omaha.Event, 3)
			got := askAs(t, req, `<app appid="a" status="`+tt.status+`">`+tt.elements+`</app>`)
			if got.Delivered != tt.want {
				t.Errorf("%d delivered, want %d", got.Delivered, tt.want)
			}
			var refusal *omaha.StatusError
			if errors.As(got.Err, &refusal) == (tt.status == "ok") {
				t.Errorf("status %q: error %v", tt.status, got.Err)
			}
		})
	}
}

func TestResponse_deliveredBesideAFailedCheck(t *testing.T) {
	req := checkFor("a")
	req.Apps[0].Events = make([]omaha.Event, 1)
	got := askAs(t, req, `<app appid="a" status="ok"><event status="ok"/><updatecheck status="error-internal"/></app>`)
	var refusal *omaha.StatusError
	if got.Delivered != 1 || !errors.As(got.Err, &refusal) || !refusal.CheckOnly() {
		t.Errorf("got %+v", got)
	}
}

func TestResponse_offerNobodyAskedFor(t *testing.T) {
	req := checkFor("a")
	req.Apps[0].Check, req.Apps[0].Ping = false, true
	got := askAs(t, req, offerOf(`<url codebase="https://h.example/"/>`, `<package name="a"/>`, ""))
	if got.Err != nil || got.Manifests != nil || got.NoUpdate {
		t.Errorf("got %+v", got)
	}
}

func TestResponse_matching(t *testing.T) {
	answer := func(id string) string {
		return fmt.Sprintf(`<app appid="%s" status="ok"><updatecheck status="noupdate"/></app>`, id)
	}
	refused := func(id string) string { return fmt.Sprintf(`<app appid="%s" status="error-restricted"/>`, id) }
	for _, tt := range []struct {
		name string
		ids  []string
		apps string
		want string // per app: n for no update, r for refused, m for missing
	}{
		{"in order", []string{"a", "b"}, answer("a") + refused("b"), "nr"},
		{"another order", []string{"a", "b"}, refused("b") + answer("a"), "nr"},
		{"another case", []string{"io.Example.App"}, answer("IO.example.aPP"), "n"},
		{"missing", []string{"a", "b", "c"}, answer("b"), "mnm"},
		{"none at all", []string{"a"}, "", "m"},
		{"not asked for", []string{"a"}, refused("x") + answer("a") + refused("y"), "n"},
		{"answered twice: the first counts", []string{"a"}, answer("a") + refused("a"), "n"},
		{"asked twice", []string{"a", "a"}, answer("a") + refused("a"), "nr"},
		{"asked twice, answered once", []string{"a", "A"}, answer("a"), "nn"},
		{"blanks", []string{" a"}, answer("a "), "n"},
		{"not allowed in XML", []string{"a\x00\xff"}, answer("a\ufffd\ufffd"), "n"},
		{"without an id", []string{"a"}, `<app status="ok"/>`, "m"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := &omaha.Request{}
			for _, id := range tt.ids {
				req.Apps = append(req.Apps, omaha.AppRequest{ID: id, Check: true})
			}
			resp, err := answering(200, xmlType(), `<response protocol="3.0">`+tt.apps+`</response>`).Do(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for i, app := range resp.Apps {
				var refusal *omaha.StatusError
				switch {
				case app.ID != tt.ids[i]:
					t.Errorf("app %d is %q, want %q", i, app.ID, tt.ids[i])
				case errors.Is(app.Err, omaha.ErrMissingApp):
					got += "m"
					saysAll(t, app.Err, "asked for alone")
				case errors.As(app.Err, &refusal):
					got += "r"
				case app.NoUpdate:
					got += "n"
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestResponse_unknownParts(t *testing.T) {
	const body = `<?xml version="1.0"?><!-- c --><response protocol="3.0" server="x" xmlns="http://www.google.com/update2/response" new="1">` +
		`<systemrequirements platform="any"><deep><deeper/></deep></systemrequirements><daystart elapsed_days="junk" elapsed_seconds="-"/>` +
		`<app appid="a" cohort="1:2" status="ok" cohortname="x"><data name="install" status="ok">text</data><ping status="weird"/>` +
		`<updatecheck status="ok" extra="1"><urls new=""><url codebase="https://h.example/" x="y"/></urls><news/>` +
		`<manifest version="2.0.0" arch="x"><packages><package name="a" fp="1.x" size="5" required="perhaps"><new/></package></packages>` +
		`<actions><action event="install" run="a.exe" arguments="--x"/></actions></manifest></updatecheck></app></response> trailing`
	resp, err := answering(200, xmlType(), body).Do(context.Background(), checkFor("a"))
	if err != nil {
		t.Fatal(err)
	}
	app := resp.Apps[0]
	if app.Err != nil || len(app.Manifests) != 1 || app.Manifests[0].Packages[0].Size != 5 || app.Manifests[0].Packages[0].Required {
		t.Errorf("got %+v", app)
	}
}

// Everything here would cost a careless reader time or memory out of proportion.
func TestResponse_bombs(t *testing.T) {
	head, tail := `<response protocol="3.0"><app appid="a" status="ok">`, `</app></response>`
	var attributes, urls, packages strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&attributes, ` a%d=""`, i)
	}
	for i := range 200 {
		fmt.Fprintf(&packages, `<package name="p%d"/>`, i)
	}
	for i := range 50 {
		fmt.Fprintf(&urls, `<url codebase="https://h.example/%d%s"/>`, i, strings.Repeat("x", 7000))
	}
	for _, tt := range []struct {
		name, body string
		want       error
	}{
		{"entities", `<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>` + head + `&b;` + tail, omaha.ErrNotOmaha},
		{"external entity", `<!DOCTYPE r SYSTEM "file:///etc/passwd">` + head + tail, omaha.ErrNotOmaha},
		{"unknown entity", head + `&lol;` + tail, omaha.ErrNotOmaha},
		{"deep", head + strings.Repeat("<x>", 1000) + strings.Repeat("</x>", 1000) + tail, omaha.ErrTooLarge},
		{"deep, never closed", strings.Repeat("<x>", 300_000), omaha.ErrTooLarge},
		{"attributes", head + `<x` + attributes.String() + `/>` + tail, omaha.ErrTooLarge},
		{"elements", head + strings.Repeat("<x/>", 200_000) + tail, omaha.ErrTooLarge},
		{"over 1 MiB", head + strings.Repeat(" ", 1<<20) + tail, omaha.ErrTooLarge},
		{"cut off", head, omaha.ErrNotOmaha},
		{"cut off in a tag", head + `<updatecheck stat`, omaha.ErrNotOmaha},
		{"cut off in a value", head + `<updatecheck status="o`, omaha.ErrNotOmaha},
		{"cut off in a comment", head + `<!-- `, omaha.ErrNotOmaha},
		{"not UTF-8", head + "<x a=\"\xff\xfe\"/>" + tail, omaha.ErrNotOmaha},
		{"zero byte", head + "\x00" + tail, omaha.ErrNotOmaha},
		{"another encoding", `<?xml version="1.0" encoding="ISO-8859-1"?>` + head + tail, omaha.ErrNotOmaha},
		{"another root", `<html><body/></html>`, omaha.ErrNotOmaha},
		{"a request", `<request protocol="3.0"/>`, omaha.ErrNotOmaha},
		{"another protocol", `<response protocol="2.0"/>`, omaha.ErrNotOmaha},
		{"text", `hello`, omaha.ErrEmptyResponse},
		{"comment alone", `<!-- nothing -->`, omaha.ErrEmptyResponse},
		{"byte order mark alone", "\ufeff", omaha.ErrEmptyResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := answering(200, xmlType(), tt.body).Do(context.Background(), checkFor("a"))
			answer := asAnswer(t, err)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if len(err.Error()) > 700 || len(answer.Body) > 170 {
				t.Errorf("message of %d bytes: %v", len(err.Error()), err)
			}
			saysNone(t, err, "EOF", "\xff", "\x00")
		})
	}
	t.Run("packages times mirrors", func(t *testing.T) {
		wantInvalid(t, ask(t, offerOf(urls.String(), packages.String(), "")), "more packages and mirrors")
	})
}

func TestResponse_byteOrderMark(t *testing.T) {
	c := answering(200, xmlType(), "\ufeff"+`<?xml version="1.0"?><response protocol="3.1"><app appid="a" status="ok"><updatecheck status="noupdate"/></app></response>`)
	resp, err := c.Do(context.Background(), checkFor("a"))
	if err != nil || !resp.Apps[0].NoUpdate {
		t.Errorf("got %+v, %v", resp, err)
	}
}
