package omahaclient_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// A clock that was a month ahead holds nothing back for a month once it is right again. (Each bubble begins at the same time.)
func TestNew_clockWasPutBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ahead func(t *testing.T, w *world)
	}{
		{"the server asked for no check", func(_ *testing.T, w *world) {
			w.FailFunc(func(testserver.Request) testserver.Fault {
				return testserver.Fault{Header: http.Header{"Retry-After": {"86400"}}}
			})
			must(w.t, w.once(w.client(app(appA))).closed())
			want(w.t, "checks", len(w.checks(appA)), 1)
		}},
		{"the program deferred", func(t *testing.T, w *world) {
			w.offering(appB, "2.0.0")
			s := w.once(w.client(app(appA), app(appB)))
			must(t, s.next().Defer(2*time.Hour))
			must(t, s.closed())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var dir string
			inBubble(t, func(bt *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				simPass(30 * 24 * time.Hour)
				tc.ahead(bt, w)
				dir = copyOf(t, w.dir)
			})
			inBubble(t, func(t *testing.T, w *world) {
				w.dir = dir
				w.offering(appA, "2.0.0")
				w.offering(appB, "2.0.0")
				s := w.updates(w.client(app(appA), app(appB)))
				start := time.Now()
				must(t, s.next().Ack(nil))
				must(t, s.next().Ack(nil))
				if took := time.Since(start); took > 25*time.Hour {
					t.Errorf("both updates took %v", took)
				}
			})
		})
	}
}
