//go:build unix

package apply_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nebraska/omahaclient/apply"
)

// always looks at path as fast as it can while fn runs: it must be there each time.
func always(t *testing.T, path string, fn func()) {
	t.Helper()
	var watching sync.WaitGroup
	end := make(chan struct{})
	watching.Go(func() {
		for {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("neither old nor new: %v", err)
				return
			}
			select {
			case <-end:
				return
			default:
			}
		}
	})
	fn()
	close(end)
	watching.Wait()
}

func TestArchive_currentIsAlwaysThere(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir, Keep: 60} // a look that is held up may end in a version that would be gone by then
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1")...))))
	always(t, filepath.Join(dir, "current", "index.html"), func() {
		for n := range 50 {
			v := fmt.Sprintf("%d.0.0", n+2)
			must(t, a.Apply(t.Context(), offer(t, v, tarOf(t, site(v)...))))
		}
	})
}

func TestBinary_anExecutableIsAlwaysThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	write(t, path, program("1", 0), 0o755)
	failing := apply.Exec("false")
	always(t, path, func() {
		for n := range 50 {
			v := fmt.Sprint(n + 2)
			b := apply.Binary{Path: path, NoTry: true}
			if n%2 == 1 {
				b.Probe = failing // and back
			}
			err := b.Apply(t.Context(), offer(t, v+".0.0", program(v, 0)))
			want(t, "code", code(err), 44*(n%2))
		}
	})
}
