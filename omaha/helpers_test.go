package omaha_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/omaha"
)

const endpoint = "https://updates.example.com/v1/update/"

// transport answers requests without a connection.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	return t(req)
}

// response makes an answer to req.
func response(req *http.Request, status int, header map[string]string, body string) *http.Response {
	h := http.Header{}
	for name, value := range header {
		h.Set(name, value)
	}
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req,
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
}

func xmlType() map[string]string { return map[string]string{"Content-Type": "text/xml"} }

// answering returns a client of a server that always gives this answer.
func answering(status int, header map[string]string, body string) *omaha.Client {
	return &omaha.Client{
		Endpoint: endpoint,
		HTTP: &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
			return response(req, status, header, body), nil
		})},
		OS:           omaha.OS{Platform: "linux", Arch: "x64"},
		RetryWaitMin: time.Millisecond, RetryWaitMax: time.Millisecond,
	}
}

// checkFor asks for an update of one app.
func checkFor(id string) *omaha.Request {
	return &omaha.Request{
		SessionID: "s1", MachineID: "m1",
		Apps: []omaha.AppRequest{{ID: id, Version: "1.0.0", Channel: "stable", Check: true}},
	}
}

// ask returns the answer for the one app "a" from a server that answers with this <app> element.
func ask(t *testing.T, app string) omaha.AppResponse {
	t.Helper()
	return askAs(t, checkFor("a"), app)
}

// askAs returns the answer for req's first app from a server that answers with these <app> elements.
func askAs(t *testing.T, req *omaha.Request, apps string) omaha.AppResponse {
	t.Helper()
	c := answering(200, xmlType(), `<response protocol="3.0" server="test">`+apps+`</response>`)
	resp, err := c.Do(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Apps) != len(req.Apps) {
		t.Fatalf("%d apps answered, %d asked for", len(resp.Apps), len(req.Apps))
	}
	return resp.Apps[0]
}

// offerOf returns an <app> that offers version 2.0.0 with these urls and packages.
func offerOf(urls, packages, actions string) string {
	return `<app appid="a" status="ok"><ping status="ok"/><updatecheck status="ok"><urls>` + urls + `</urls>` +
		`<manifest version="2.0.0"><packages>` + packages + `</packages><actions>` + actions + `</actions></manifest></updatecheck></app>`
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
