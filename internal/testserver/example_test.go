package testserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// A server with one release, asked by hand; the library's client does the same.
func Example() {
	ts := testserver.New()
	stable := ts.AddGroup("io.example.App", "stable", testserver.AnyArch, testserver.Policy{})
	stable.Publish(testserver.Release{
		Version: "2.0.0",
		Files:   []testserver.File{{Name: "app.bin", Content: []byte("the new program")}},
	})
	if err := ts.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer ts.Close()

	const machine = `<app appid="io.example.App" version="1.0.0" track="stable" machineid="m1">`
	for _, content := range []string{
		`<ping active="1"/><updatecheck/>`,
		`<event eventtype="13" eventresult="1"/><event eventtype="14" eventresult="1"/><event eventtype="3" eventresult="1"/>`,
	} {
		body := strings.NewReader(`<request protocol="3.0">` + machine + content + `</app></request>`)
		resp, err := ts.Client().Post(ts.URL(), "text/xml; charset=utf-8", body)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	err := ts.WaitFor(context.Background(), func(ts *testserver.Server) bool {
		i, _ := ts.Instance("io.example.App", "m1")
		return i.Status == testserver.Complete
	})
	i, _ := ts.Instance("io.example.App", "m1")
	for _, entry := range i.History {
		fmt.Println(entry.Status, entry.Version)
	}
	fmt.Println("runs", i.Version, err)
	// Output:
	// granted 2.0.0
	// downloading 2.0.0
	// downloaded 2.0.0
	// complete 2.0.0
	// runs 2.0.0 <nil>
}

// Faults queue up: the first download breaks off, the second comes too slowly,
// the third is refused.
func ExamplePayloadHost_Fail() {
	ts := testserver.New()
	file := testserver.FilePath("io.example.App", "2.0.0", "app.bin")
	ts.Payloads.Fail(file, 1, testserver.FileFault{Cut: true, After: 64 << 10})
	ts.Payloads.Fail(file, 1, testserver.FileFault{Rate: 5})
	ts.Payloads.Fail(file, 1, testserver.FileFault{Status: http.StatusForbidden})
}

// The server takes the event, but the client does not learn it; then it is down
// for two exchanges.
func ExampleServer_Fail() {
	ts := testserver.New()
	ts.Fail(1, testserver.LostAnswer())
	ts.Fail(2, testserver.StatusFault(http.StatusServiceUnavailable, "Retry-After", "120"))
}
