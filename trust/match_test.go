package trust_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

// What is offered, against what is released.
func TestVerify_payloads(t *testing.T) {
	a, b, more, one, two := file("a", "AA"), file("b", "BBB"), file("more", "C"), image("one"), image("two")
	said := func(name string) trust.Payload { return trust.Payload{Name: name} }
	tag := trust.Payload{Name: "registry.example/app:2", Image: true}
	evil := trust.Payload{Name: one.Name, Image: true, Digest: sum("evil")}
	for _, tc := range []struct {
		name            string
		listed, offered []trust.Payload
		want            string // the digests that are vouched for, "-" for none; "" for a refusal
	}{
		{"all that is said is right", []trust.Payload{a, b}, []trust.Payload{a, b}, a.Digest + b.Digest},
		{"nothing but names is said", []trust.Payload{a, b}, []trust.Payload{said("a"), said("b")}, a.Digest + b.Digest},
		{"others in another order", []trust.Payload{a, b, more}, []trust.Payload{a, more, b}, a.Digest + more.Digest + b.Digest},
		{"another one first", []trust.Payload{a, b, more}, []trust.Payload{b, a, more}, ""},
		{"an image before the main file", []trust.Payload{a, one}, []trust.Payload{one, a}, ""},
		{"a file before the main image", []trust.Payload{one, a}, []trust.Payload{said("x"), a, one}, ""},
		{"a digest in capitals", []trust.Payload{a}, []trust.Payload{{Name: "a", Digest: strings.ToUpper(a.Digest)}}, a.Digest},
		{"not listed", []trust.Payload{a}, []trust.Payload{said("x"), a, evil}, "-" + a.Digest + "-"},
		{"left out", []trust.Payload{a, b}, []trust.Payload{a}, ""},
		{"nothing offered", []trust.Payload{a}, nil, ""},
		{"twice", []trust.Payload{a}, []trust.Payload{a, a}, ""},
		{"name of another case", []trust.Payload{a}, []trust.Payload{said("A")}, ""},
		{"another digest", []trust.Payload{a}, []trust.Payload{{Name: "a", Digest: b.Digest}}, ""},
		{"another size", []trust.Payload{a}, []trust.Payload{{Name: "a", Size: 3}}, ""},
		{"an image called like a file", []trust.Payload{a}, []trust.Payload{{Name: "a", Image: true, Digest: a.Digest}}, ""},
		{"a file called like an image", []trust.Payload{one}, []trust.Payload{said(one.Name)}, ""},
		{"image by digest", []trust.Payload{one}, []trust.Payload{one}, one.Digest},
		{"image by tag", []trust.Payload{one}, []trust.Payload{tag}, one.Digest},
		{"image of another digest", []trust.Payload{one}, []trust.Payload{evil}, ""},
		{"another image before it", []trust.Payload{one}, []trust.Payload{evil, one}, ""},
		{"another image after it", []trust.Payload{one}, []trust.Payload{one, evil}, one.Digest + "-"},
		{"images in order", []trust.Payload{one, a, two}, []trust.Payload{tag, two, a}, one.Digest + two.Digest + a.Digest},
		{"images out of order", []trust.Payload{one, two}, []trust.Payload{two, one}, ""},
		{"an image left out", []trust.Payload{one, two}, []trust.Payload{one}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := claim(t.TempDir(), sign(t, with(release(), func(s *trust.Statement) { s.Payloads = tc.listed }), "a"))
			c.Payloads = tc.offered
			got, err := verifier(t, "a").Verify(t.Context(), c)
			if tc.want == "" {
				wantErr(t, err, trust.ErrMismatch)
				return
			}
			must(t, err)
			var digests strings.Builder
			for i, p := range got.Payloads {
				digests.WriteString(p.Digest)
				if p.Digest == "" {
					digests.WriteString("-")
				}
				want(t, "name", p.Name, tc.offered[i].Name)
				want(t, "image", p.Image, tc.offered[i].Image)
				for _, l := range tc.listed {
					if !l.Image && l.Name == p.Name && p.Digest != "" {
						want(t, "size", p.Size, l.Size)
					}
				}
			}
			want(t, "digests", digests.String(), tc.want)
		})
	}
}

// A server that offers thousands of payloads costs no more than their number.
func TestVerify_manyPayloads(t *testing.T) {
	c := claim(t.TempDir(), sign(t, release(), "a"))
	for i := range 20000 {
		c.Payloads = append(c.Payloads, trust.Payload{Name: fmt.Sprint(i)})
	}
	got, err := verifier(t, "a").Verify(t.Context(), c)
	must(t, err)
	want(t, "payloads", len(got.Payloads), 20001)
}
