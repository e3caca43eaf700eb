package download_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/internal/download"
)

// Whatever a few mirrors do, and whatever is left on the disk: a finished file is the right one, a failed fetch leaves none, and when the
// mirrors behave again the next fetch succeeds.
func TestFetch_anyTroubleEndsWell(t *testing.T) {
	steps := func(n int) *rapid.Generator[step] {
		return rapid.SampledFrom([]step{
			honest, cut(0), cut(n / 3), cut(n / 2), corrupt, whole(n / 2), endless, raw(""), raw("HTTP/1.1 200 OK\r\n\r\nshort"),
			status(404), status(500), status(503, "Retry-After", "0"), status(416), status(302, "Location", "elsewhere"),
			status(206, "Content-Range", "bytes 0-0/1"), chunked(blob(n / 2)), chunked(blob(n + 1)), tooFar(0, "bytes */1"), otherETag,
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(rt, "size")
		data := blob(n)
		dir, err := os.MkdirTemp(t.TempDir(), "") //nolint:usetesting // one for each of rapid's checks
		if err != nil {
			rt.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		sum := sha256.Sum256(data)
		job := download.Job{
			Root: root, Name: "blob.bin", SHA256: sum[:], Size: int64(n),
			Limits: download.Limits{BufferSize: 100, RetryWait: time.Microsecond, RetryWaitMax: time.Microsecond},
		}
		if rapid.Bool().Draw(rt, "unknown size") {
			job.Size = 0
			job.Limits.MaxSize = 10_000
		}
		client, end := serveInMemory(newHost(data, rapid.SliceOfN(steps(n), 0, 20).Draw(rt, "script")...))
		defer end()
		job.Client = client
		for i := range rapid.IntRange(1, 3).Draw(rt, "mirrors") {
			job.URLs = append(job.URLs, fmt.Sprintf("http://mirror%d.example/", i))
		}
		left := rapid.SampledFrom([]string{"", "half", "junk", "all", "more"}).Draw(rt, "left")
		b := map[string][]byte{"half": data[:n/2], "junk": make([]byte, n/2), "all": data, "more": append(bytes.Clone(data), 1)}[left]
		if err := root.WriteFile(download.PartialName(job), b, 0o600); err != nil {
			rt.Fatal(err)
		}
		for i := range 50 { // each fetch uses up a step at least
			_, err = download.Fetch(t.Context(), job)
			got, readErr := fs.ReadFile(root.FS(), job.Name)
			if err == nil && !bytes.Equal(got, data) || err != nil && readErr == nil {
				rt.Fatalf("fetch %d: %d bytes are finished, error %v", i, len(got), err)
			}
			if err == nil {
				return
			}
		}
		rt.Fatalf("it never ends well: %v", err)
	})
}
