package testserver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// payload is app A's file: 100 KB in which every byte tells its place modulo
// 251.
var payload = func() []byte {
	p := make([]byte, 100_000)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}()

var pathA = testserver.FilePath(appA, "2.0.0", "a.bin")

// get asks for a URL with headers (pairs of key and value) and returns what came
// until the body ended or broke.
func get(ctx context.Context, client *http.Client, url string, headers ...string) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestPayloads_ranges(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		url := ts.Payloads.URL() + pathA
		whole, _, err := get(t.Context(), client, url)
		if err != nil {
			t.Fatal(err)
		}
		etag := whole.Header.Get("ETag")
		tests := []struct {
			name, spec, ifRange string
			status              int
			start, end          int
			contentRange        string
		}{
			{"none", "", "", 200, 0, 100000, ""},
			{"closed", "bytes=10-19", "", 206, 10, 20, "bytes 10-19/100000"},
			{"open", "bytes=99990-", "", 206, 99990, 100000, "bytes 99990-99999/100000"},
			{"suffix", "bytes=-10", "", 206, 99990, 100000, "bytes 99990-99999/100000"},
			{"beyond", "bytes=99990-200000", "", 206, 99990, 100000, "bytes 99990-99999/100000"},
			{"behind the end", "bytes=100000-", "", 416, 0, 0, "bytes */100000"},
			{"several", "bytes=0-1,5-6", "", 200, 0, 100000, ""},
			{"backwards", "bytes=9-8", "", 200, 0, 100000, ""},
			{"junk", "bytes=x-y", "", 200, 0, 100000, ""},
			{"other unit", "lines=1-2", "", 200, 0, 100000, ""},
			{"condition holds", "bytes=10-19", etag, 206, 10, 20, "bytes 10-19/100000"},
			{"condition fails", "bytes=10-19", `"other"`, 200, 0, 100000, ""},
			{"weak condition", "bytes=10-19", "W/" + etag, 200, 0, 100000, ""},
		}
		for _, test := range tests {
			resp, body, err := get(t.Context(), client, url, "Range", test.spec, "If-Range", test.ifRange)
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if resp.StatusCode != test.status || resp.Header.Get("Content-Range") != test.contentRange {
				t.Errorf("%s: %d %q", test.name, resp.StatusCode, resp.Header.Get("Content-Range"))
			}
			if test.status < 300 && !bytes.Equal(body, payload[test.start:test.end]) {
				t.Errorf("%s: wrong content of %d bytes", test.name, len(body))
			}
		}
	})
}

func TestPayloads_faultsOfContent(t *testing.T) {
	flipped := func(at, start, end int) []byte {
		p := bytes.Clone(payload)
		p[at] ^= 1
		return p[start:end]
	}
	tests := []struct {
		name         string
		fault        testserver.FileFault
		spec         string // Range
		status       int
		contentRange string
		want         []byte
		err          error
	}{
		{"cut", testserver.FileFault{Cut: true, After: 1000}, "", 200, "", payload[:1000], io.ErrUnexpectedEOF},
		{"cut at once", testserver.FileFault{Cut: true}, "", 200, "", nil, io.ErrUnexpectedEOF},
		{"cut in a range", testserver.FileFault{Cut: true, After: 10}, "bytes=500-", 206, "bytes 500-99999/100000", payload[500:510], io.ErrUnexpectedEOF},
		{"reset", testserver.FileFault{Reset: true, After: 1000}, "", 200, "", payload[:1000], syscall.ECONNRESET},
		{"corrupt", testserver.FileFault{Corrupt: true, CorruptAt: 77}, "", 200, "", flipped(77, 0, 100000), nil},
		{"corrupt in a range", testserver.FileFault{Corrupt: true, CorruptAt: 77}, "bytes=70-79", 206, "bytes 70-79/100000", flipped(77, 70, 80), nil},
		{"corrupt before the range", testserver.FileFault{Corrupt: true}, "bytes=70-79", 206, "bytes 70-79/100000", flipped(70, 70, 80), nil},
		{"range ignored", testserver.FileFault{IgnoreRange: true}, "bytes=70-79", 200, "", payload, nil},
		{"range shifted", testserver.FileFault{ShiftRange: -10}, "bytes=70-79", 206, "bytes 60-69/100000", payload[60:70], nil},
		{"range lied about", testserver.FileFault{LieRange: 10}, "bytes=70-79", 206, "bytes 80-89/100000", payload[70:80], nil},
		{"length too long", testserver.FileFault{LieLength: 10}, "", 200, "", payload, io.ErrUnexpectedEOF},
		{"length too short", testserver.FileFault{LieLength: -10}, "", 200, "", payload[:99990], nil},
		{"junk behind", testserver.FileFault{Append: 3}, "", 200, "", append(bytes.Clone(payload), "!!!"...), nil},
		{"no length", testserver.FileFault{Chunked: true}, "", 200, "", payload, nil},
		{"other content", testserver.FileFault{Content: []byte("other")}, "", 200, "", []byte("other"), nil},
		{"no validator", testserver.FileFault{NoValidator: true}, "", 200, "", payload, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
				ts.Payloads.Fail(pathA, 1, test.fault)
				url := ts.Payloads.URL() + pathA
				resp, body, err := get(t.Context(), client, url, "Range", test.spec)
				if !errors.Is(err, test.err) {
					t.Errorf("error %v, want %v", err, test.err)
				}
				if resp == nil || resp.StatusCode != test.status || resp.Header.Get("Content-Range") != test.contentRange {
					t.Fatalf("answer %+v", resp)
				}
				if !bytes.Equal(body, test.want) {
					t.Errorf("%d bytes, want %d, or other ones", len(body), len(test.want))
				}
				if chunked := resp.ContentLength < 0; chunked != test.fault.Chunked {
					t.Errorf("chunked: %v", chunked)
				}
				if bare := resp.Header.Get("ETag") == ""; bare != test.fault.NoValidator {
					t.Errorf("ETag %q", resp.Header.Get("ETag"))
				}
				if _, body, err := get(t.Context(), client, url); err != nil || !bytes.Equal(body, payload) {
					t.Errorf("the next answer: %d bytes, %v", len(body), err)
				}
			})
		})
	}
}

func TestPayloads_faultsInstead(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		url := ts.Payloads.URL() + pathA
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		ts.Payloads.Fail(pathA, 2, testserver.FileFault{Status: 503, Header: http.Header{"Retry-After": {"9"}}})
		ts.Payloads.Fail(pathA, 1, testserver.FileFault{Redirect: "https://elsewhere.test/x"})
		ts.Payloads.Fail(pathA, 1, testserver.FileFault{Redirect: "/y", Status: 307})
		for _, want := range []struct {
			status     int
			key, value string
		}{{503, "Retry-After", "9"}, {503, "Retry-After", "9"}, {302, "Location", "https://elsewhere.test/x"}, {307, "Location", "/y"}, {200, "Accept-Ranges", "bytes"}} {
			resp, _, err := get(t.Context(), client, url)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want.status || resp.Header.Get(want.key) != want.value {
				t.Errorf("%d %v, want %+v", resp.StatusCode, resp.Header, want)
			}
		}
		ts.Payloads.Remove(pathA)
		if resp, _, err := get(t.Context(), client, url); err != nil || resp.StatusCode != 404 {
			t.Errorf("removed: %v, %v", resp, err)
		}
	})
}

func TestPayloads_gzip(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		ts.Payloads.Fail("", 1, testserver.FileFault{Gzip: true})
		resp, body, err := get(t.Context(), client, ts.Payloads.URL()+pathA)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%+v, %v", resp, err)
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if unzipped, err := io.ReadAll(z); err != nil || !bytes.Equal(unzipped, payload) {
			t.Errorf("unzips to %d bytes, %v", len(unzipped), err)
		}
	})
}

func TestPayloads_rateDelayStallAndHold(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		url := ts.Payloads.URL() + pathA
		took := func(f testserver.FileFault, spec string) (time.Duration, int, error) {
			ts.Payloads.Fail(pathA, 1, f)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			begun := time.Now()
			_, body, err := get(ctx, client, url, "Range", spec)
			return time.Since(begun), len(body), err
		}
		if d, n, err := took(testserver.FileFault{Rate: 10_000, Delay: time.Minute}, ""); d != 70*time.Second || n != 100_000 || err != nil {
			t.Errorf("at 10 kB/s after a minute: %v, %d bytes, %v", d, n, err)
		}
		if d, n, err := took(testserver.FileFault{Rate: 2}, "bytes=0-9"); d != 5*time.Second || n != 10 || err != nil {
			t.Errorf("10 bytes at 2 B/s: %v, %d bytes, %v", d, n, err)
		}
		if d, n, err := took(testserver.FileFault{Stall: true, After: 500}, ""); d != time.Hour || n != 500 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stalled: %v, %d bytes, %v", d, n, err)
		}
		hold := make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(hold) })
		if d, n, err := took(testserver.FileFault{Hold: hold, After: 500}, ""); d != time.Minute || n != 100_000 || err != nil {
			t.Errorf("held: %v, %d bytes, %v", d, n, err)
		}
	})
}

func TestPayloads_mirrorsAndCounters(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		mirror := testserver.MirrorPath("one", pathA)
		ts.Payloads.Fail(pathA, -1, testserver.FileFault{Status: 500})
		if resp, _, err := get(t.Context(), client, ts.Payloads.URL()+pathA, "Authorization", "secret"); err != nil || resp.StatusCode != 500 {
			t.Errorf("%+v, %v", resp, err)
		}
		if resp, body, err := get(t.Context(), client, "http://mirror.test/"+mirror); err != nil || resp.StatusCode != 200 || !bytes.Equal(body, payload) {
			t.Errorf("mirror: %+v, %v", resp, err)
		}
		if resp, _, err := get(t.Context(), client, ts.Payloads.URL()+"m/one/nothing"); err != nil || resp.StatusCode != 404 {
			t.Errorf("nothing: %+v, %v", resp, err)
		}
		if got := ts.Payloads.Stats(mirror); got != (testserver.FileStats{Requests: 1, Bytes: 100_000}) {
			t.Errorf("mirror's stats %+v", got)
		}
		if got := ts.Payloads.Stats(""); got.Requests != 3 || got.Bytes < 100_000 {
			t.Errorf("sums %+v", got)
		}
		log := ts.Payloads.Requests()
		if len(log) != 3 || log[0].Header.Get("Authorization") != "secret" || log[0].Status != 500 || log[1].Host != "mirror.test" || log[1].Bytes != 100_000 || log[1].TLS {
			t.Errorf("logged %+v", log)
		}
		if paths := ts.Payloads.Paths(); len(paths) != 1 || paths[0] != pathA {
			t.Errorf("paths %q", paths)
		}
		ts.Payloads.Heal()
		if resp, _, err := get(t.Context(), client, ts.Payloads.URL()+pathA); err != nil || resp.StatusCode != 200 {
			t.Errorf("healed: %+v, %v", resp, err)
		}
	})
}

func TestPayloads_authorizeAndFailFunc(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		url := ts.Payloads.URL() + pathA
		ts.Payloads.Authorize(func(r *http.Request) bool { _, _, ok := r.BasicAuth(); return ok })
		ts.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault {
			if r.Range == "" {
				return testserver.FileFault{Status: 429}
			}
			return testserver.FileFault{}
		})
		for _, want := range []struct {
			status  int
			headers []string
		}{{401, nil}, {429, []string{"Authorization", "Basic dTpw"}}, {206, []string{"Authorization", "Basic dTpw", "Range", "bytes=0-1"}}} {
			resp, _, err := get(t.Context(), client, url, want.headers...)
			if err != nil || resp.StatusCode != want.status {
				t.Errorf("%+v, %v, want %d", resp, err, want.status)
			}
		}
	})
}

func TestPayloads_faultsOnSockets(t *testing.T) {
	ts := testserver.New()
	ts.Payloads.Put("x", payload)
	if err := ts.Start(); err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	client := ts.Client()
	ts.Payloads.Fail("x", 1, testserver.FileFault{Cut: true, After: 1000})
	if _, body, err := get(t.Context(), client, ts.Payloads.URL()+"x"); len(body) != 1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %d bytes, %v", len(body), err)
	}
	ts.Payloads.Fail("x", 1, testserver.FileFault{Reset: true, After: 1000})
	var reset *net.OpError // each system has a number of its own for it
	if _, body, err := get(t.Context(), client, ts.Payloads.URL()+"x"); len(body) > 1000 || !errors.As(err, &reset) {
		t.Errorf("reset: %d bytes, %v", len(body), err)
	}
	ts.Payloads.Fail("x", 1, testserver.FileFault{Stall: true, After: 1000})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, _, err := get(ctx, client, ts.Payloads.URL()+"x")
		done <- err
	}()
	if err := ts.WaitFor(t.Context(), func(ts *testserver.Server) bool { return ts.Payloads.Stats("x").Requests == 3 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("stalled: %v", err)
	}
}
