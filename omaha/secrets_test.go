package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

const (
	bearer   = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.c2VjcmV0LXRva2Vu"
	password = `pW "x"<Sup3r> se/cr3t`
)

// withSecrets is a client that has secrets, of a server that answers so.
func withSecrets(status int, header map[string]string, body io.Reader) *omaha.Client {
	c := answering(200, nil, "")
	c.Endpoint = "https://joe:pW%20%22x%22%3CSup3r%3E%20se%2Fcr3t@updates.example.com/v1/update/"
	c.Authorize = func(r *http.Request) error { r.Header.Set("X-Token", "Bearer "+bearer); return nil }
	c.RetryMax = -1
	c.HTTP.Transport = transport(func(req *http.Request) (*http.Response, error) {
		resp := response(req, status, header, "")
		resp.ContentLength, resp.Body = -1, io.NopCloser(body)
		return resp, nil
	})
	return c
}

// wantHidden fails for a text with 8 bytes of a secret, in upper or lower case.
func wantHidden(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range []string{bearer, password} {
		for i := range len(secret) - 8 + 1 {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret[i:i+8])) {
				t.Errorf("%s shows %q: %s", what, secret[i:i+8], text)
				break
			}
		}
	}
}

// Wherever an answer holds what was secret in the request, no error shows a piece of it.
func TestClient_hidesWhatAnswersReflect(t *testing.T) {
	app := func(status, rest string) string {
		return `<response protocol="3.0" server="SHOWN"><app appid="a" status="` + status + `">` + rest + `</app></response>`
	}
	offer := func(version, name, size string) string {
		return app("ok", `<updatecheck status="ok"><urls><url codebase="https://h.example/"/></urls><manifest version="`+version+`"><packages><package name="`+
			name+`" size="`+size+`"/></packages></manifest></updatecheck>`)
	}
	for _, tt := range []struct {
		name   string
		status int
		header map[string]string
		body   string
	}{
		{"app status", 200, xmlType(), app("error-SHOWN", "")},
		{"updatecheck status", 200, xmlType(), app("ok", `<updatecheck status="SHOWN"/>`)},
		{"version", 200, xmlType(), offer("SHOWN x", "a", "1")},
		{"version of an unusable package", 200, xmlType(), offer("SHOWN", "SHOWN", "SHOWN")},
		{"version without package", 200, xmlType(), app("ok", `<updatecheck status="ok"><manifest version="SHOWN"/></updatecheck>`)},
		{"size", 200, xmlType(), offer("2.0.0", "a", "SHOWN")},
		{"server", 200, xmlType(), app("ok", `<updatecheck status="noupdate"/>`)},
		{"protocol", 200, xmlType(), `<response protocol="SHOWN"/>`},
		{"root", 200, xmlType(), `<SHOWN/>`},
		{"entity", 200, xmlType(), `<response>&SHOWN;</response>`},
		{"another end", 200, xmlType(), `<response></SHOWN>`},
		{"XML version", 200, xmlType(), `<?xml version="SHOWN"?><response/>`},
		{"encoding", 200, xmlType(), `<?xml version="1.0" encoding="SHOWN"?><response/>`},
		{"charset", 200, map[string]string{"Content-Type": `text/xml; charset="SHOWN"`}, noUpdate},
		{"media type", 200, map[string]string{"Content-Type": `SHOWN`}, noUpdate},
		{"content encoding", 200, map[string]string{"Content-Type": "text/xml", "Content-Encoding": "SHOWN"}, noUpdate},
		{"long content type", 500, map[string]string{"Content-Type": strings.Repeat("x", 85) + "SHOWN"}, ""},
		{"page", 403, nil, strings.Repeat("x", 145) + " SHOWN"},
		{"edge of the sample", 403, nil, strings.Repeat(" ", 4<<10-9) + "SHOWN"},
		{"edge of the sample of an answer", 200, nil, "<html>" + strings.Repeat(" ", 4<<10-15) + "SHOWN"},
		{"redirect", 307, map[string]string{"Location": "https://h.example:SHOWN/"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, word := range []string{
				bearer, strings.ToLower(bearer), strings.ToUpper(bearer), bearer[:20], bearer[9:40], password, strings.ToLower(password),
				"Bearer " + bearer, bearer + bearer, strings.ReplaceAll(password, " ", "\t\t"),
			} {
				header := map[string]string{}
				for name, value := range tt.header {
					header[name] = strings.ReplaceAll(value, "SHOWN", word)
				}
				if strings.HasPrefix(tt.body, "<response") {
					word = html.EscapeString(word)
				}
				c := withSecrets(tt.status, header, strings.NewReader(strings.ReplaceAll(tt.body, "SHOWN", word)))
				resp, err := c.Do(context.Background(), checkFor("a"))
				if err != nil {
					wantHidden(t, "an error", fmt.Sprintf("%v %+v", err, *asAnswer(t, err)))
					continue
				}
				wantHidden(t, "the server's name", resp.Server)
				if err := resp.Apps[0].Err; err != nil {
					wantHidden(t, "an app's error", err.Error())
					if refusal := new(omaha.StatusError); errors.As(err, &refusal) {
						wantHidden(t, "a status", refusal.Status+" "+refusal.UpdateStatus)
					}
				}
			}
		})
	}
}

// An answer that breaks off may do so in the middle of a secret.
func TestClient_hidesWhatBrokeOff(t *testing.T) {
	for _, status := range []int{200, 403} {
		for n := range 8 {
			c := withSecrets(status, xmlType(), io.MultiReader(strings.NewReader("token: "+bearer[:n]), failing{io.ErrUnexpectedEOF}))
			_, err := c.Do(context.Background(), checkFor("a"))
			want := "token: …"
			if n == 0 {
				want = "token:"
			}
			if answer := asAnswer(t, err); answer.Body != want {
				t.Errorf("%d: %q", status, answer.Body)
			}
		}
	}
}

// A secret that is an ordinary word spoils no status that means something.
func TestClient_knownStatusesStay(t *testing.T) {
	for _, status := range []string{"error-updatesDisabled", "error-updateInProgressOnInstance"} {
		c := answering(200, xmlType(), `<response protocol="3.0"><app appid="a" status="`+status+`"/></response>`)
		c.Endpoint = "https://error:updates@updates.example.com/"
		resp, err := c.Do(context.Background(), checkFor("a"))
		var refusal *omaha.StatusError
		if err != nil || !errors.As(resp.Apps[0].Err, &refusal) || refusal.Status != status || !refusal.CheckOnly() {
			t.Errorf("got %+v, %v", resp, err)
		}
	}
}
