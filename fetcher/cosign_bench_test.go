package fetcher_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/nebraska/omahaclient/fetcher"
)

// BenchmarkCosign is what a signature costs: beside the bare ECDSA check, and beside a Fetch that verifies none, of an image of 1 MiB.
func BenchmarkCosign(b *testing.B) {
	mine := newSigner(b)
	content := []byte(`{"a":"manifest"}`)
	d := digest.FromBytes(content).String()
	sum := sha256.Sum256(content)
	sig := mine.sign(content)
	bare := timed(b, "bare ECDSA", 0, func(int) {
		if !ecdsa.VerifyASN1(&mine.key.PublicKey, sum[:], sig) {
			b.Fatal("wrong signature")
		}
	})
	c := mine.cosign(b)
	bundle := claimOf(content, found{layers(bundleType, mine.bundle(d))}, nil)
	old := claimOf(content, nil, found{fetcher.Attachment{Layers: []fetcher.AttachedLayer{mine.old(simple(simpleKind, d))}}})
	for _, claim := range []struct {
		name string
		fetcher.ImageClaim
	}{{"bundle", bundle}, {"old tag", old}} {
		timed(b, claim.name, bare, func(int) {
			if err := c.VerifyImage(b.Context(), claim.ImageClaim); err != nil {
				b.Fatal(err)
			}
		})
	}

	h := newHub(b)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1<<20))
	mine.attach(h, "ns/app", img.Manifest)
	plain := quickOCI()
	signed := quickOCI()
	signed.Verifier = c
	dir := b.TempDir()
	fetch := func(o fetcher.OCI, name string, fresh bool) func(int) {
		return func(i int) {
			at := filepath.Join(dir, name)
			if fresh {
				at += strconv.Itoa(i)
			}
			_, err := o.Fetch(b.Context(), fetcher.Job{
				Source: fetcher.Source{URLs: []string{h.ref("ns/app", img.Manifest)}}, Dir: filepath.Join(at, "dir"), Shared: filepath.Join(at, "shared"),
				Progress: func(int64, int64) {},
			})
			if err != nil {
				b.Fatal(err)
			}
			if fresh {
				b.StopTimer()
				_ = os.RemoveAll(at)
				b.StartTimer()
			}
		}
	}
	without := timed(b, "fetch, no verifier", 0, fetch(plain, "a", true))
	timed(b, "fetch, cosign", without, fetch(signed, "b", true))
	without = timed(b, "again from disk, no verifier", 0, fetch(plain, "c", false))
	timed(b, "again from disk, cosign", without, fetch(signed, "d", false))
}

// timed runs a benchmark and returns its time per operation; it reports the ratio to that of its baseline, if it has one.
func timed(b *testing.B, name string, baseline time.Duration, f func(i int)) (each time.Duration) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			f(i)
			i++
		}
		each = b.Elapsed() / time.Duration(i)
		if baseline > 0 {
			b.ReportMetric(float64(each)/float64(baseline), "x")
		}
	})
	return each
}
