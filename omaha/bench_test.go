package omaha_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

// batch is a check of n apps, and the offer of an update for each, as Nebraska sends it.
func batch(n int) (*omaha.Request, []byte) {
	const offer = `<app appid="io.example.App%d" status="ok"><ping status="ok"></ping><updatecheck status="ok"><urls>` +
		`<url codebase="https://updates.example.com/assets/"></url></urls><manifest version="2.0.0"><packages>` +
		`<package name="myapp-2.0.0.tar.gz" hash="/HU7GjKqMpPM2/SXib7arZWaM0U=" size="100000" required="true"></package>` +
		`</packages><actions></actions></manifest></updatecheck></app>`
	req := &omaha.Request{SessionID: omaha.NewID(), MachineID: omaha.NewID(), MachineAlias: "host-1"}
	var body strings.Builder
	body.WriteString(xml.Header + `<response protocol="3.0" server="nebraska"><daystart elapsed_seconds="0"></daystart>`)
	for i := range n {
		req.Apps = append(req.Apps, omaha.AppRequest{ID: fmt.Sprintf("io.example.App%d", i), Version: "1.0.0", Channel: "stable", Check: true})
		fmt.Fprintf(&body, offer, i)
	}
	body.WriteString(`</response>`)
	return req, []byte(body.String())
}

// sizes are an app alone, and a full batch.
var sizes = [...]int{1, 100}

// report gives the time per app, and the ratio to a baseline that does the same number of times what the least
// possible is.
func report(b *testing.B, apps int, baseline func()) {
	ours := b.Elapsed()
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N*apps), "ns/app")
	start := time.Now()
	for range b.N {
		baseline()
	}
	b.ReportMetric(float64(ours)/float64(time.Since(start)), "x-baseline")
}

// BenchmarkMarshal is measured against encoding/xml on a document that is there already.
func BenchmarkMarshal(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("apps=", n), func(b *testing.B) {
			req, _ := batch(n)
			body, err := req.Marshal(omaha.OS{}, "")
			if err != nil {
				b.Fatal(err)
			}
			doc, err := wire.ParseRequest("", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := req.Marshal(omaha.OS{}, ""); err != nil {
					b.Fatal(err)
				}
			}
			report(b, n, func() {
				if _, err := xml.Marshal(doc); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkReadResponse is measured against encoding/xml into go-omaha's types, which checks and joins nothing.
func BenchmarkReadResponse(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("apps=", n), func(b *testing.B) {
			req, body := batch(n)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if resp, err := omaha.ReadResponse(req, body); err != nil || len(resp.Apps[n-1].Manifests) != 1 {
					b.Fatal(resp, err)
				}
			}
			report(b, n, func() {
				if err := xml.Unmarshal(body, new(wire.Response)); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkSplit has the whole batch looked over.
func BenchmarkSplit(b *testing.B) {
	req, _ := batch(1000)
	b.ReportAllocs()
	for b.Loop() {
		if parts := req.Split(0); len(parts) < 2 {
			b.Fatal(len(parts))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/app")
}

// BenchmarkDo is a whole exchange over loopback, server included, against a bare POST of the same bytes.
func BenchmarkDo(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("apps=", n), func(b *testing.B) {
			req, body := batch(n)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "text/xml")
				w.Write(body)
			}))
			defer srv.Close()
			c := &omaha.Client{Endpoint: srv.URL}
			defer c.CloseIdleConnections()
			sent, err := req.Marshal(omaha.OS{}, "")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Do(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
			report(b, n, func() {
				resp, err := srv.Client().Post(srv.URL, "text/xml", bytes.NewReader(sent))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			})
		})
	}
}
