package omahaclient_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
)

// anyServer answers every check with the same version, as no Nebraska would: it takes no look at what runs.
type anyServer struct {
	mu      sync.Mutex // guards what follows
	version string
	events  []string
}

func (s *anyServer) offer(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// RoundTrip is the whole server.
func (s *anyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var answer strings.Builder
	for event := range strings.SplitSeq(string(body), "<event ") {
		if kind, _, found := strings.Cut(event, " errorcode"); found || strings.HasPrefix(event, "eventtype") {
			s.events = append(s.events, kind)
			answer.WriteString(`<event status="ok"/>`)
		}
	}
	if strings.Contains(string(body), "<updatecheck") {
		fmt.Fprintf(&answer, `<updatecheck status="ok"><urls><url codebase="http://payloads.test/"/></urls><manifest version="%s">`+
			`<packages><package name="x" size="1"/></packages></manifest></updatecheck>`, s.version)
	}
	text := `<response protocol="3.0"><app appid="` + appA + `" status="ok">` + answer.String() + `</app></response>`
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r,
	}, nil
}

// Offers of four parts or dates are compared by equality alone, and never count as downgrades; a leading v counts for nothing.
func TestVersions_inOffers(t *testing.T) {
	for _, tc := range []struct {
		name             string
		current, offered string
		taken            bool
	}{
		{"higher", "1.0.0", "1.0.1", true},
		{"lower", "1.0.1", "1.0.0", false},
		{"pre-release of what runs", "1.0.0", "1.0.0-rc.1", false},
		{"release of the pre-release that runs", "1.0.0-rc.1", "1.0.0", true},
		{"the same", "1.0.0", "1.0.0", false},
		{"the same with a v", "1.0.0", "v1.0.0", false},
		{"higher with a v", "1.0.0", "v1.1.0", true},
		{"lower with a v", "1.0.0", "v0.9.0", false},
		{"four parts", "1.0.0", "0.0.0.1", true},
		{"date", "3000.0.0", "2024-05-01", true},
		{"word", "1.0.0", "zucchini", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				server := &anyServer{version: tc.offered}
				c := w.client(
					omahaclient.WithApp(appA, tc.current), omahaclient.WithFetcher("binary", fetchedFromMemory()),
					omahaclient.WithHTTPClient(&http.Client{Transport: server}),
				)
				s := w.updates(c)
				if !tc.taken {
					s.silent(24 * time.Hour)
					return
				}
				o := s.next()
				want(t, "version, as received", o.Version, tc.offered)
				must(t, o.Ack(nil))
				s.silent(24 * time.Hour) // it runs now, and is offered in vain
				want(t, "version", strings.TrimPrefix(status(t, c, appA).Version, "v"), strings.TrimPrefix(tc.offered, "v"))
				server.offer("another-version")
				want(t, "another one", s.next().Version, "another-version")
			})
		})
	}
}

// A grant of what runs already is complete: it must not stay open on the server.
func TestVersions_grantOfWhatRunsIsComplete(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		server := &anyServer{version: "v1.0.0"}
		c := w.client(app(appA), omahaclient.WithHTTPClient(&http.Client{Transport: server}))
		s := w.updates(c)
		s.silent(16 * time.Minute)
		synctest.Wait()
		server.mu.Lock()
		defer server.mu.Unlock()
		if got := strings.Join(server.events, ", "); !strings.HasPrefix(got, `eventtype="3" eventresult="1"`) {
			t.Errorf("events %s; want 3/1", got)
		}
	})
}
