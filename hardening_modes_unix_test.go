//go:build unix

package omahaclient_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// Whatever a client writes is its owner's alone, even under a umask that forbids nothing: the state directory with the journal, the
// machine's id, payloads and images, before, while and after they are fetched, and what is set aside.
func TestModes_stateIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	w := onSockets(t)
	above := t.TempDir()
	w.dir = filepath.Join(above, "a", "state")
	reg, host := w.registry()
	img := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000), layer(2, 100_000))
	files := w.offering(appA, "2.0.0")
	w.group(appB).Publish(testserver.Release{Version: "2.0.0", Image: "oci://" + host + "/ns/app@" + img.Manifest.Digest.String()})
	w.Payloads.Fail(fileOf(appA, "2.0.0"), 2, testserver.FileFault{Cut: true, After: 5}) // leaves a partial file and its tag for a while
	seen := map[string]bool{}
	var mu sync.Mutex // guards seen
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		modes(t, filepath.Join(above, "a"), 0o077, seen)
	}
	opts := w.options(app(appA), app(appB), quick(), images(), omahaclient.WithProgress(func(omahaclient.Progress) { look() }))
	opts = slices.Delete(opts, 1, 2) // its WithMachineID: the id is to be kept in the directory
	for _, version := range []string{"2.0.0", "3.0.0"} {
		c, err := omahaclient.New(w.URL(), opts...)
		must(t, err)
		s := w.updates(c)
		files.Publish(release(appA, version))
		for range map[string]int{"2.0.0": 2, "3.0.0": 1}[version] {
			o := s.next()
			look()
			must(t, o.Ack(nil))
		}
		w.flush(c)
		s.stop()
		must(t, c.Close())
		look()
		// The next start finds a journal that it sets aside.
		must(t, os.WriteFile(filepath.Join(w.dir, "journal.db"), []byte("damaged"), 0o600))
	}
	for _, part := range []string{"journal.db", "journal.db.", "machine-id", "lock", "app.bin", ".partial", "index.json", "blobs"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(path string) bool { return strings.Contains(filepath.Base(path), part) }) {
			t.Errorf("nothing like %s was looked at: this test cannot fail", part)
		}
	}
}

// What is applied has the modes that it must have to be run and read by others. None but its owner may change it.
func TestModes_whatIsAppliedIsWrittenByItsOwnerOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	var tarred bytes.Buffer
	tw := tar.NewWriter(&tarred)
	for name, mode := range map[string]int64{"run": 0o755, "page": 0o644, "key": 0o600, "deep/er/page": 0o644} {
		must(t, tw.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: 1}))
		_, err := tw.Write([]byte("x"))
		must(t, err)
	}
	must(t, tw.Close())
	dir := filepath.Join(t.TempDir(), "assets")
	bin := filepath.Join(t.TempDir(), "bin")
	must(t, os.Mkdir(bin, 0o700))
	payload := filepath.Join(t.TempDir(), "payload")
	must(t, os.WriteFile(payload, tarred.Bytes(), 0o600))
	offer := omahaclient.UpdateOffer{AppID: appA, Version: "2.0.0", Attempt: 1, Payloads: []fetcher.Payload{{Name: "payload", Path: payload}}}
	must(t, apply.Archive{Dir: dir}.Apply(t.Context(), offer))
	seen := map[string]bool{}
	modes(t, dir, 0o022, seen)
	for name, mode := range map[string]fs.FileMode{"run": 0o755, "page": 0o644, "key": 0o600, "deep/er": 0o755} {
		info, err := os.Stat(filepath.Join(dir, "current", name))
		must(t, err)
		want(t, name, info.Mode().Perm(), mode)
	}
	self, err := os.Executable()
	must(t, err)
	offer.Payloads[0].Path = self
	must(t, apply.Binary{Path: filepath.Join(bin, "app"), NoTry: true}.Apply(t.Context(), offer))
	modes(t, bin, 0o022, seen)
	if len(seen) < 10 {
		t.Errorf("%d files and folders were looked at: this test cannot fail", len(seen))
	}
}

// modes fails for what has any of the forbidden bits below dir, and remembers what was there.
func modes(t *testing.T, dir string, forbidden fs.FileMode, seen map[string]bool) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is gone meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return nil //nolint:nilerr // as above
		}
		seen[path] = true
		if info.Mode().Perm()&forbidden != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}
