//go:build unix

package omahaclient_test

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	"github.com/nebraska/omahaclient/trust"
)

// Whatever a client writes is its owner's alone, even under a umask that forbids nothing: the state directory with the journal, the
// machine's id, what verifiers remember, payloads and images, before, while and after they are fetched, and what is set aside.
func TestModes_stateIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	w := onSockets(t)
	above := t.TempDir()
	w.dir = filepath.Join(above, "a", "state")
	p, heads := newPublisher(t), newPublisher(t)
	files := w.group(appA)
	verifier, pull := w.signedImage(p)
	w.Payloads.Fail(fileOf(appA, "2.0.0"), 2, testserver.FileFault{Cut: true, After: 5}) // leaves a partial file and its tag for a while
	seen := map[string]bool{}
	var mu sync.Mutex // guards seen
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		modes(t, filepath.Join(above, "a"), 0o077, seen)
	}
	index := omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath, heads.public)
	opts := w.options(p.trusted(appA, index), app(appB, verifier), quick(), pull, omahaclient.WithProgress(func(omahaclient.Progress) { look() }))
	opts = slices.Delete(opts, 1, 2) // its WithMachineID: the id is to be kept in the directory
	damaged := []string{"journal.db", "trust/*/trust.json", "trust/*/index/trust.json"}
	for i, version := range []string{"2.0.0", "3.0.0"} {
		heads.announces(w, version, uint64(i+2))
		c, err := omahaclient.New(w.URL(), opts...)
		must(t, err)
		s := w.updates(c)
		p.releases(w, files, appA, version, uint64(i+2))
		for range map[string]int{"2.0.0": 2, "3.0.0": 1}[version] {
			o := s.next()
			look()
			must(t, o.Ack(nil))
		}
		w.flush(c)
		w.wait("the index is read", func() bool { return len(w.found("trust/*/index/trust.json")) > 0 })
		s.stop()
		must(t, c.Close())
		look()
		for _, pattern := range damaged { // The next start sets these aside.
			for _, path := range w.found(pattern) {
				must(t, os.WriteFile(path, []byte("damaged"), 0o600))
			}
		}
	}
	for _, part := range []string{
		"/journal.db", "/journal.db.", "/machine-id", "/lock", "/app.bin", ".partial", "/index.json", "/blobs", "/proof.json", "/trust.json", "/trust.json.damaged", "/index/trust.json",
	} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(path string) bool { return strings.Contains(path, part) }) {
			t.Errorf("nothing like %s was looked at: this test cannot fail", part)
		}
	}
}

// signedImage publishes an image as version 2.0.0 of appB, with p's statement and a signature of cosign's. It returns the app's verifier, and the fetcher that looks at the latter.
func (w *world) signedImage(p *publisher) (omahaclient.AppOption, omahaclient.Option) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(w.t, err)
	s := &siege{world: w, setup: setup{image: true, cosign: true}, key: p, hub: &hub{cosign: key}, group: w.group(appB)}
	s.hub.Registry, s.hub.host = w.registry()
	img := s.hub.image("of appB")
	s.attaches(img, p.sign(p.statement(appB, "2.0.0", 1, func(st *trust.Statement) {
		st.Payloads = []trust.Payload{{Name: repository, Image: true, Digest: img.Manifest.Digest.String()}}
	})))
	s.signs(img, img, key)
	s.names("2.0.0", "@"+img.Manifest.Digest.String())
	statements, err := trust.NewStatements([]string{p.public})
	must(w.t, err)
	return omahaclient.WithVerifier(statements), s.hub.fetcher(s)
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
