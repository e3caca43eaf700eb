package state_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nebraska/omahaclient/internal/state"
)

// bare is bbolt with the same bytes and nothing around it.
type bare struct {
	db    *bolt.DB
	write func(*bolt.DB, func(*bolt.Tx) error) error
}

func newBare(b *testing.B, write func(*bolt.DB, func(*bolt.Tx) error) error) bare {
	b.Helper()
	db, err := bolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoStatistics: true})
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	must(b, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("apps"))
		return err
	}))
	return bare{db, write}
}

func (s bare) put(id string, v []byte) error {
	return s.write(s.db, func(tx *bolt.Tx) error { return tx.Bucket([]byte("apps")).Put([]byte(id), v) })
}

// verdict is the transition that is measured: a success that is queued beside a delivered one, as of an app that is
// updated again and again.
func verdict(j *state.Journal, id string) error {
	return j.Do(id, func(a *state.App) error {
		if err := a.Grant(update("2.0.0")); err != nil {
			return err
		}
		a.Outbox = nil
		return a.Succeed(a.LastSeq, complete)
	})
}

// each runs do in as many goroutines as there are apps, n times in all, and returns how long that took.
func each(b *testing.B, apps, n int, do func(id string) error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range apps {
		wg.Go(func() {
			id := fmt.Sprintf("io.example.app-%02d", i)
			for range (n + apps - 1) / apps {
				if err := do(id); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// Durable verdicts a second, beside bbolt with the same bytes: Update for one app; for 16 at a time Batch, as it comes and
// with its batches as large as there are goroutines (its best).
func BenchmarkVerdicts(b *testing.B) {
	batch := func(size int) func(*bolt.DB, func(*bolt.Tx) error) error {
		return func(db *bolt.DB, fn func(*bolt.Tx) error) error {
			if size > 0 {
				db.MaxBatchSize = size
			}
			return db.Batch(fn)
		}
	}
	for _, bc := range []struct {
		name  string
		apps  int
		write func(*bolt.DB, func(*bolt.Tx) error) error
	}{
		{"apps=1/beside=Update", 1, (*bolt.DB).Update},
		{"apps=16/beside=Update", 16, (*bolt.DB).Update},
		{"apps=16/beside=Batch", 16, batch(0)},
		{"apps=16/beside=Batch of 16", 16, batch(16)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			d := open(b, b.TempDir())
			other := newBare(b, bc.write)
			must(b, verdict(d.Journal, "io.example.app-00"))
			bytes, err := state.Encode("io.example.app-00", d.Journal.Get("io.example.app-00"))
			must(b, err)
			slice := 64 * min(bc.apps, 8) // of each in turn, so that both see the same disk
			var ours, theirs time.Duration
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				ours += each(b, bc.apps, slice, func(id string) error { return verdict(d.Journal, id) })
				theirs += each(b, bc.apps, slice, func(id string) error { return other.put(id, bytes) })
				n += slice
			}
			b.ReportMetric(float64(n)/ours.Seconds(), "verdicts/s")
			b.ReportMetric(float64(n)/theirs.Seconds(), "bbolt/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// From Open to a journal that is ready, with 1,000 apps in it, beside reading the file's bytes.
func BenchmarkOpen(b *testing.B) {
	for _, apps := range []int{1, 1000} {
		b.Run("apps="+strconv.Itoa(apps), func(b *testing.B) {
			dir := b.TempDir()
			d := open(b, dir)
			var wg sync.WaitGroup
			for i := range apps {
				wg.Go(func() {
					for _, s := range toOffered {
						must(b, d.Journal.Do(fmt.Sprint("io.example.app-", i), s.do))
					}
				})
			}
			wg.Wait()
			must(b, d.Close())
			var read time.Duration
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				_, err := os.ReadFile(filepath.Join(dir, "journal.db"))
				must(b, err)
				read += time.Since(begin)
				d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
				must(b, err)
				must(b, d.Close())
			}
			b.ReportMetric(float64(read.Nanoseconds())/float64(b.N), "ns-reading/op")
		})
	}
}
