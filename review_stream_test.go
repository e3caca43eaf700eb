package omahaclient_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
)

// hook is a log that runs a function, once, when a message comes.
type hook struct {
	slog.Handler
	message string
	run     func()
	once    *sync.Once
}

func onMessage(message string, run func()) omahaclient.Option {
	return omahaclient.WithLogger(slog.New(hook{slog.DiscardHandler, message, run, new(sync.Once)}))
}

func (hook) Enabled(context.Context, slog.Level) bool { return true }

func (h hook) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.message) {
		h.once.Do(h.run)
	}
	return nil
}

// A grant that comes while the fetch before it is still about to return was forgotten: nobody fetched it, and the server
// held it for ever.
func TestUpdates_fetchesWhatIsGrantedAtTheEndOfAFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		var c *omahaclient.Client
		failed := false
		c = w.client(app(appA), onMessage("update attempt ended", func() {
			must(t, c.CheckNow(t.Context()))
			synctest.Wait() // the stream knows of it
		}), omahaclient.WithFetcher("binary", fetchFunc(func(_ context.Context, job fetcher.Job) (fetcher.Payload, error) {
			if !failed {
				failed = true
				return fetcher.Payload{}, errors.New("cut off")
			}
			return fetcher.Payload{Name: job.Source.Name, Path: filepath.Join(job.Dir, "nothing")}, nil
		})))
		must(t, w.updates(c).next().Ack(nil))
	})
}
