package fetcher_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// stored lists the files of a store's blobs.
func stored(t *testing.T, job fetcher.Job) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(job.Shared, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

func collect(t *testing.T, job fetcher.Job) {
	t.Helper()
	if err := quickOCI().Collect(t.Context(), job.Shared); err != nil {
		t.Fatal(err)
	}
}

func TestCollect_removesWhatNoFolderNeeds(t *testing.T) {
	h := newHub(t)
	both := noise(1, 1000)
	old := h.PushImage("ns/app", "linux/amd64", both, noise(2, 2000))
	img := h.PushImage("ns/app", "linux/amd64", both, noise(3, 3000))
	first := newImageJob(t, h.ref("ns/app", old.Manifest))
	second := first
	second.Dir = filepath.Join(filepath.Dir(first.Dir), "1")
	second.Source.URLs = []string{h.ref("ns/app", img.Manifest)}
	mustPull(t, quickOCI(), first)
	p := mustPull(t, quickOCI(), second)

	collect(t, second)
	if n := len(stored(t, second)); n != 7 {
		t.Errorf("%d blobs while both are needed", n)
	}
	if err := os.RemoveAll(first.Dir); err != nil {
		t.Fatal(err)
	}
	collect(t, second)
	has := stored(t, second)
	if len(has) != 4 || has[old.Layers[1].Digest.Encoded()] || !has[old.Layers[0].Digest.Encoded()] {
		t.Errorf("left are %v", has)
	}
	checkLayout(t, p)
	if err := os.RemoveAll(second.Dir); err != nil {
		t.Fatal(err)
	}
	collect(t, second)
	if has := stored(t, second); len(has) != 0 {
		t.Errorf("left are %v", has)
	}
	entries, err := fs.ReadDir(os.DirFS(second.Shared), "claims")
	if err != nil || len(entries) != 0 {
		t.Errorf("claims left: %v, %v", entries, err)
	}
}

func TestCollect_keepsWhatAnInterruptedPullBrought(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 900_000), noise(2, 2000))
	path := img.Layers[0].Digest.String()
	h.Spoil(testregistry.Times(100, path, testregistry.Stall(600_000)))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	ctx, cancel := context.WithCancel(t.Context())
	job.Progress = func(done, _ int64) {
		if done > 500_000 {
			cancel()
		}
	}
	if _, err := quickOCI().Fetch(ctx, job); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	collect(t, job)
	h.Spoil(nil)
	job.Progress = func(int64, int64) {}
	mustPull(t, quickOCI(), job)
	if got := h.Bytes(""); got >= 500_000 {
		t.Errorf("%d bytes came again", got)
	}
}

// While a pull goes on where another one stopped, and does not know yet what its image is made of, nothing of it is collected.
func TestCollect_whileAPullGoesOn(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 900_000))
	path := img.Layers[0].Digest.String()
	h.Spoil(testregistry.Times(1, path, testregistry.Cut(600_000, false)))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	o := quickOCI()
	o.Tries = 1
	ctx, cancel := context.WithCancel(t.Context())
	job.Progress = func(done, _ int64) {
		if done > 500_000 {
			cancel()
		}
	}
	if _, err := o.Fetch(ctx, job); err == nil {
		t.Fatal("it was not cut")
	}
	if err := os.Remove(filepath.Join(job.Shared, "blobs", "sha256", img.Manifest.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	h.Spoil(testregistry.Times(1, "/manifests/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		collect(t, job)
		next.ServeHTTP(w, r)
	}))
	job.Progress = func(int64, int64) {}
	mustPull(t, o, job)
	if got := h.Bytes(path); got > 500_000 {
		t.Errorf("%d bytes came again", got)
	}
}

func TestCollect_survivesWhatIsNotOurs(t *testing.T) {
	job := newImageJob(t)
	collect(t, job) // nothing there
	if _, err := os.Lstat(job.Shared); err == nil {
		t.Error("it made a folder to clean it")
	}
	for name, content := range map[string]string{
		"claims/spoilt.json":     "{",
		"claims/none.json":       `{"dir":"","digests":["` + digestA + `"]}`,
		"claims/odd.json.new":    `{"dir":"../payloads","digests":["x"]}`,
		"blobs/sha256/" + hexA:   "x",
		"blobs/sha256/readme":    "x",
		"blobs/sha256/" + "dir/": "",
	} {
		file := filepath.Join(job.Shared, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(file, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	collect(t, job)
	if has := stored(t, job); len(has) != 0 {
		t.Errorf("left are %v", has)
	}
}

// Pulls into folders that come and go, beside a collector that never rests: nothing that is needed is ever removed.
func TestCollect_besidePulls(t *testing.T) {
	h := newHub(t)
	base := noise(1, 200_000)
	var refs []string
	for i := range 4 {
		refs = append(refs, h.ref("ns/app", h.PushImage("ns/app", "linux/amd64", base, noise(byte(10+i), 5000)).Manifest))
	}
	job := newImageJob(t)
	ctx, cancel := context.WithCancel(t.Context())
	var collector, pulls sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			if err := quickOCI().Collect(ctx, job.Shared); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for i, ref := range refs {
		job := job
		job.Source.URLs = []string{ref}
		pulls.Go(func() {
			for round := range 5 {
				job := job
				job.Dir = filepath.Join(job.Dir, fmt.Sprintf("%d-%d", i, round))
				p, err := quickOCI().Fetch(t.Context(), job)
				if err != nil {
					t.Error(err)
					return
				}
				checkLayout(t, p)
				if err := os.RemoveAll(job.Dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pulls.Wait()
	cancel()
	collector.Wait()
}

func TestOCI_layoutIsMadeOfLinks(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	p := mustPull(t, quickOCI(), job)
	for name := range stored(t, job) {
		a, err1 := os.Stat(filepath.Join(job.Shared, "blobs", "sha256", name))
		b, err2 := os.Stat(filepath.Join(p.Path, "blobs", "sha256", name))
		if err1 != nil || err2 != nil || !os.SameFile(a, b) {
			t.Errorf("%s: %v, %v", name, err1, err2)
		}
	}
}

// The state directory may be moved as a whole.
func TestCollect_afterAMove(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	mustPull(t, quickOCI(), job)
	from := filepath.Dir(job.Shared)
	to := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	job.Shared = filepath.Join(to, "shared")
	collect(t, job)
	if n := len(stored(t, job)); n != 3 {
		t.Errorf("%d blobs left", n)
	}
}

func TestOCI_staysInItsFolders(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	outside := t.TempDir()
	if err := os.MkdirAll(job.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(job.Dir, "image")); err != nil {
		t.Fatal(err)
	}
	if _, err := quickOCI().Fetch(t.Context(), job); err == nil {
		t.Error("it followed a link out of its folder")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("it wrote %v", entries)
	}
}

// Where no hard link can be made the layout has copies, which are looked at like everything else.
func TestOCI_copiesWhereItCannotLink(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 600_000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	o := fetcher.WithoutLinks(quickOCI())
	p := mustPull(t, o, job)
	h.Spoil(nil)
	for _, dir := range []string{p.Path, job.Shared} {
		file := filepath.Join(dir, "blobs", "sha256", img.Layers[0].Digest.Encoded())
		b := readFile(t, file)
		b[7] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		mustPull(t, o, job)
	}
	if got := h.asked(""); len(got) != 1 {
		t.Errorf("asked %q: a copy is mended from the store", got)
	}
}
