package fetcher_test

import (
	"errors"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

func TestPin(t *testing.T) {
	for in, want := range map[string]string{
		"registry.example/ns/app:1.0":                    "registry.example/ns/app@" + digestA,
		"registry.example:5000/ns/app":                   "registry.example:5000/ns/app@" + digestA,
		"oci://registry/app:2":                           "oci://registry/app@" + digestA,
		"docker://registry.example/app:2":                "docker://registry.example/app@" + digestA,
		"DOCKER://alpine:3":                              "docker://docker.io/library/alpine@" + digestA,
		"https://127.0.0.1:5000/app:1":                   "https://127.0.0.1:5000/app@" + digestA,
		" registry.example/app@" + digestA + "\n":        "registry.example/app@" + digestA,
		"registry.example/ns/app:1.0@" + digestA:         "registry.example/ns/app@" + digestA,
		"registry.example/ns/app/:1.0":                   "registry.example/ns/app@" + digestA,
		"REGISTRY/app:1":                                 "oci://registry/app@" + digestA,
		"user/app":                                       "docker.io/user/app@" + digestA,
		"oci://registry.example/ns/app/" + digestA:       "oci://registry.example/ns/app@" + digestA,
		"registry.example/" + "a/b/c:" + "x_y.z-1":       "registry.example/a/b/c@" + digestA,
		"[2001:db8::1]:5000/ns/app:1":                    "[2001:db8::1]:5000/ns/app@" + digestA,
		"http://localhost:5000/ns/app:1@" + digestA:      "http://localhost:5000/ns/app@" + digestA,
		"oci://[::1]:5000/app/@" + digestA + "         ": "oci://[::1]:5000/app@" + digestA,
	} {
		got, err := fetcher.Pin(in, digestA)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
		if again, err := fetcher.Pin(got, digestA); err != nil || again != got {
			t.Errorf("%q: pinned again it is %q, %v", got, again, err)
		}
	}
	for name, in := range map[string][2]string{
		"another digest":   {"registry.example/app@" + digestB, digestA},
		"no reference":     {"registry.example/APP", digestA},
		"no digest":        {"registry.example/app", ""},
		"a short digest":   {"registry.example/app", "sha256:abc"},
		"hexadecimal only": {"registry.example/app", hexA},
		"another hash":     {"registry.example/app", "sha512:" + hexA + hexA},
	} {
		if got, err := fetcher.Pin(in[0], in[1]); !errors.Is(err, fetcher.ErrBadReference) || got != "" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func FuzzPin(f *testing.F) {
	for _, s := range []string{"registry.example:5000/ns/app:1.5.0", "oci://[::1]:5000/app/@" + digestA, "alpine", "docker://a/b:c", "https://x/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pinned, err := fetcher.Pin(s, digestA)
		if err != nil {
			if !errors.Is(err, fetcher.ErrBadReference) {
				t.Error(err)
			}
			return
		}
		before, _, err1 := fetcher.ParseReference(s)
		after, _, err2 := fetcher.ParseReference(pinned)
		if before.Tag = ""; before.Digest == "" {
			before.Digest = digestA
		}
		if err1 != nil || err2 != nil || before != after || after.Digest != digestA {
			t.Errorf("%q became %q: %+v, %+v", s, pinned, before, after)
		}
	})
}
