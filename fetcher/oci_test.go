package fetcher_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

func TestOCI_pullsThisPlatformOfAnIndex(t *testing.T) {
	h := newHub(t)
	arm := h.PushImage("ns/app", "linux/arm64", noise(1, 5000))
	amd := h.PushImage("ns/app", "linux/amd64", noise(2, 300_000), noise(3, 20_000))
	index := h.PushIndex("ns/app", arm.Manifest, amd.Manifest)
	h.Spoil(nil)

	job := newImageJob(t, h.ref("ns/app", index))
	var calls, last, total int64
	job.Progress = func(d, n int64) {
		if d < last || d > n || total != 0 && n != total {
			t.Errorf("progress %d of %d after %d of %d", d, n, last, total)
		}
		calls, last, total = calls+1, d, n
	}
	p := mustPull(t, quickOCI(), job)

	if p.Digest != amd.Manifest.Digest.String() || p.Reference != h.ref("ns/app", index) || p.Path != filepath.Join(job.Dir, "image") {
		t.Errorf("got %+v", p)
	}
	if want := amd.Size() + index.Size; p.Size != want || last != want || total != want || calls < 3 {
		t.Errorf("%d bytes, progress %d of %d in %d calls; want %d", p.Size, last, total, calls, want)
	}
	if n := len(h.asked("")); n != 5 {
		t.Errorf("%d requests: %v", n, h.asked(""))
	}
}

func TestOCI_secondReleaseMovesOnlyWhatChanged(t *testing.T) {
	h := newHub(t)
	first := h.PushImage("ns/app", "linux/amd64", noise(1, 100_000), noise(2, 200_000))
	second := h.PushImage("ns/app", "linux/amd64", noise(1, 100_000), noise(3, 50_000))
	job := newImageJob(t, h.ref("ns/app", first.Manifest))
	mustPull(t, quickOCI(), job)
	h.Spoil(nil)

	var report fetcher.Pull
	o := quickOCI()
	o.Report = func(p fetcher.Pull) { report = p }
	job.Source.URLs[0] = h.ref("ns/app", second.Manifest)
	job.Dir = filepath.Join(filepath.Dir(job.Dir), "1")
	mustPull(t, o, job)

	if got, want := h.Bytes(""), second.Manifest.Size+second.Config.Size+50_000; got != want {
		t.Errorf("%d bytes moved, want %d: %v", got, want, h.asked(""))
	}
	reused := slices.IndexFunc(report.Blobs, func(b fetcher.PulledBlob) bool { return b.Reused })
	if len(report.Blobs) != 4 || reused < 0 || report.Blobs[reused].Digest != first.Layers[0].Digest.String() || report.Blobs[reused].Received != 0 {
		t.Errorf("report %+v", report)
	}
}

func TestOCI_finishedImageNeedsNoRegistry(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 100_000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	first := mustPull(t, quickOCI(), job)
	h.server.Close()
	if again := mustPull(t, quickOCI(), job); again != first {
		t.Errorf("got %+v, then %+v", first, again)
	}
	if err := os.RemoveAll(job.Shared); err != nil { // the layout has links of its own
		t.Fatal(err)
	}
	mustPull(t, quickOCI(), job)
}
