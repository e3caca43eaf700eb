package omaha_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// BenchmarkDo_signed is a whole exchange over loopback with a signed answer, server and its signature included, against the same
// exchange without. verify-ns and sign-ns are one of each, alone, in the same run; rest-ns is what signing adds beyond both.
func BenchmarkDo_signed(b *testing.B) {
	key := newKey(b)
	for _, n := range sizes {
		b.Run(fmt.Sprint("apps=", n), func(b *testing.B) {
			req, body := batch(n)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "text/xml")
				if cup2key := r.URL.Query().Get("cup2key"); cup2key != "" {
					w.Header().Set("X-Cup-Server-Proof", testserver.Proof(key, cup2key, sent, body))
				}
				w.Write(body)
			}))
			defer srv.Close()
			plain, signed := asking(b, srv.URL), asking(b, srv.URL, key)
			once := func(c *omaha.Client) {
				if _, err := c.Do(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				once(signed)
			}
			hash := sha256.Sum256(nil)
			header := http.Header{"X-Cup-Server-Proof": {testserver.Proof(key, "1:n", hash[:], body)}}
			ours := best(func() { once(signed) })
			without := best(func() { once(plain) })
			sign := best(func() { testserver.Proof(key, "1:n", hash[:], body) })
			verify := best(func() {
				if err := omaha.CheckProof(signed.CUPKeys[0], "1:n", hash[:], body, header); err != nil {
					b.Fatal(err)
				}
			})
			b.ReportMetric(float64(ours)/float64(without), "x-unsigned")
			b.ReportMetric(float64(sign), "sign-ns")
			b.ReportMetric(float64(verify), "verify-ns")
			b.ReportMetric(float64(ours-without-sign-verify), "rest-ns")
		})
	}
}

// best is the least time of many, which other work on the machine changes least.
func best(do func()) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range 300 {
		start := time.Now()
		do()
		least = min(least, time.Since(start))
	}
	return least
}
