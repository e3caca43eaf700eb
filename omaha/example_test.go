package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/nebraska/omahaclient/omaha"
)

// exampleServer stands for an Omaha server that has an update.
func exampleServer() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		io.WriteString(w, `<response protocol="3.0" server="nebraska">
			<app appid="io.example.App" status="ok"><updatecheck status="ok">
				<urls><url codebase="https://updates.example.com/assets"/></urls>
				<manifest version="1.1.0"><packages><package name="app-1.1.0.tar.gz" size="100000"/></packages></manifest>
			</updatecheck></app>
			<app appid="io.example.Agent" status="error-updatesDisabled"><updatecheck status="error-internal"/></app>
		</response>`)
	}))
}

func ExampleClient_Do() {
	srv := exampleServer()
	defer srv.Close()

	client := &omaha.Client{Endpoint: srv.URL + "/v1/update/"}
	defer client.CloseIdleConnections()
	answer, err := client.Do(context.Background(), &omaha.Request{
		SessionID: omaha.NewID(),
		MachineID: "b3c5a1f0-machine",
		Apps: []omaha.AppRequest{
			{ID: "io.example.App", Version: "1.0.0", Channel: "stable", Check: true},
			{ID: "io.example.Agent", Version: "3.2.1", Channel: "stable", Check: true},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, app := range answer.Apps {
		var refusal *omaha.StatusError
		switch {
		case errors.As(app.Err, &refusal) && refusal.Temporary():
			fmt.Println("not now:", app.ID)
		case app.Err != nil:
			fmt.Println(app.Err)
		case app.NoUpdate:
			fmt.Println("up to date:", app.ID)
		default:
			update := app.Manifests[0]
			fmt.Println("update:", app.ID, update.Version, update.Packages[0].URLs[0])
		}
	}
	// Output:
	// update: io.example.App 1.1.0 https://updates.example.com/assets/app-1.1.0.tar.gz
	// not now: io.example.Agent
}

func ExampleAnswerError() {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()

	client := &omaha.Client{Endpoint: srv.URL + "/typo"}
	defer client.CloseIdleConnections()
	_, err := client.Do(context.Background(), &omaha.Request{Apps: []omaha.AppRequest{{ID: "io.example.App", Check: true}}})
	var answer *omaha.AnswerError
	if errors.As(err, &answer) {
		fmt.Println(answer.StatusCode, answer.ContentType, answer.Body, answer.Final())
	}
	// Output: 404 text/plain; charset=utf-8 404 page not found true
}

func ExampleRequest_Split() {
	req := &omaha.Request{SessionID: omaha.NewID(), MachineID: "b3c5a1f0-machine"}
	for i := range 500 {
		req.Apps = append(req.Apps, omaha.AppRequest{ID: fmt.Sprintf("io.example.App%03d", i), Version: "1.0.0", Channel: "stable", Check: true})
	}
	for _, part := range req.Split(0) {
		fmt.Println(len(part.Apps), "apps from", part.Apps[0].ID)
	}
	// Output:
	// 364 apps from io.example.App000
	// 136 apps from io.example.App364
}

func ExampleNormalizeVersion() {
	fmt.Println(omaha.NormalizeVersion("v0.1.2"))
	_, err := omaha.NormalizeVersion("1.0")
	fmt.Println(err != nil)
	// Output:
	// 0.1.2 <nil>
	// true
}
