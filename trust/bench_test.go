package trust_test

import (
	"fmt"
	"testing"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

// What a check costs: a statement that comes over the network for the first time (with its durable write), one that is remembered, and
// one that is refused; beside the bare signature.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 20} {
		st := release()
		st.Payloads = nil
		for i := range n {
			st.Payloads = append(st.Payloads, file(fmt.Sprintf("file-%d", i), "content"))
		}
		doc, old := sign(b, st, "a"), sign(b, with(st, func(s *trust.Statement) { s.Sequence, s.Version = 4, "1.0.0" }), "a")
		offer := func(dir string, places ...any) trust.Claim {
			c := claim(dir, places...)
			c.Payloads = st.Payloads
			return c
		}
		v := verifier(b, "a")
		b.Run(fmt.Sprintf("payloads=%d/new", n), func(b *testing.B) {
			base := b.TempDir()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, err := v.Verify(b.Context(), offer(fmt.Sprintf("%s/%d", base, i), doc))
				must(b, err)
			}
		})
		dir := b.TempDir()
		_, err := v.Verify(b.Context(), offer(dir, doc))
		must(b, err)
		b.Run(fmt.Sprintf("payloads=%d/remembered", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := v.Verify(b.Context(), offer(dir))
				must(b, err)
			}
		})
		b.Run(fmt.Sprintf("payloads=%d/refused", n), func(b *testing.B) {
			c := offer(dir, old)
			c.Version = "1.0.0"
			b.ReportAllocs()
			for b.Loop() {
				_, err := v.Verify(b.Context(), c)
				wantErr(b, err, trust.ErrRollback)
			}
		})
		b.Run(fmt.Sprintf("payloads=%d/signature", n), func(b *testing.B) {
			public := key("a").Public().(minisign.PublicKey)
			b.ReportAllocs()
			for b.Loop() {
				if !minisign.Verify(public, doc.Document, doc.Signatures) {
					b.Fatal("not good")
				}
			}
		})
	}
}
