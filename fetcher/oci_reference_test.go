package fetcher_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

const (
	hexA    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB    = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	digestA = "sha256:" + hexA
	digestB = "sha256:" + hexB
)

func TestParseReference(t *testing.T) {
	type parsed = fetcher.ParsedReference
	for _, c := range []struct {
		name, in string
		want     parsed
	}{
		{"with a digest", "registry.example/ns/app@" + digestA, parsed{"registry.example", "ns/app", "", digestA, ""}},
		{"with a tag", "registry.example/ns/app:1.5.0", parsed{"registry.example", "ns/app", "1.5.0", "", ""}},
		{"with both", "registry.example/ns/app:1.5.0@" + digestA, parsed{"registry.example", "ns/app", "1.5.0", digestA, ""}},
		{"with neither", "registry.example/ns/app", parsed{"registry.example", "ns/app", "", "", ""}},
		{"oci scheme", "oci://registry.example/ns/app@" + digestA, parsed{"registry.example", "ns/app", "", digestA, ""}},
		{"oci scheme, short host", "oci://registry/app:2", parsed{"registry", "app", "2", "", ""}},
		{"docker scheme", "docker://registry.example/ns/app:1", parsed{"registry.example", "ns/app", "1", "", ""}},
		{"https scheme", "https://127.0.0.1:5000/app:1", parsed{"127.0.0.1:5000", "app", "1", "", "https"}},
		{"scheme in capitals", "OCI://registry.example/app:1", parsed{"registry.example", "app", "1", "", ""}},
		{"host in capitals", "Registry.Example/app:1", parsed{"registry.example", "app", "1", "", ""}},
		{"space around", " registry.example/app:1\n", parsed{"registry.example", "app", "1", "", ""}},
		{"port", "registry.example:5000/app:1", parsed{"registry.example:5000", "app", "1", "", ""}},
		{"port, no tag", "registry.example:5000/app", parsed{"registry.example:5000", "app", "", "", ""}},
		{"IPv4", "192.0.2.1:5000/app:1", parsed{"192.0.2.1:5000", "app", "1", "", ""}},
		{"IPv6", "[2001:db8::1]:5000/app:1", parsed{"[2001:db8::1]:5000", "app", "1", "", ""}},
		{"IPv6, no port", "[::1]/ns/app@" + digestA, parsed{"[::1]", "ns/app", "", digestA, ""}},
		{"localhost", "localhost/app:1", parsed{"localhost", "app", "1", "", ""}},
		{"one short name", "alpine:3.20", parsed{"docker.io", "library/alpine", "3.20", "", ""}},
		{"one short name with a digest", "docker://alpine@" + digestA, parsed{"docker.io", "library/alpine", "", digestA, ""}},
		{"user's short name", "user/app:1", parsed{"docker.io", "user/app", "1", "", ""}},
		{"Docker Hub", "docker.io/alpine:1", parsed{"docker.io", "library/alpine", "1", "", ""}},
		{"Docker Hub's old name", "index.docker.io/user/app:1", parsed{"docker.io", "user/app", "1", "", ""}},
		{"Docker Hub's host", "registry-1.docker.io/library/alpine:1", parsed{"docker.io", "library/alpine", "1", "", ""}},
		{"joined with a name", "registry.example/ns/app/@" + digestA, parsed{"registry.example", "ns/app", "", digestA, ""}},
		{"joined with a tag", "registry.example/ns/app/:1.5.0", parsed{"registry.example", "ns/app", "1.5.0", "", ""}},
		{"joined with a digest", "registry.example/ns/app/" + digestA, parsed{"registry.example", "ns/app", "", digestA, ""}},
		{"separators", "registry.example/a.b/c_d/e__f/g--h:1", parsed{"registry.example", "a.b/c_d/e__f/g--h", "1", "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, again, err := fetcher.ParseReference(c.in)
			if err != nil || got != c.want {
				t.Fatalf("got %+v, %v", got, err)
			}
			if second, _, err := fetcher.ParseReference("oci://" + again); err != nil || second.Digest != got.Digest || second.Repository != got.Repository {
				t.Errorf("%q is read as %+v, %v", again, second, err)
			}
		})
	}
}

func TestParseReference_refuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":              "",
		"a scheme alone":       "oci://",
		"another scheme":       "ftp://registry.example/app:1",
		"a URL of a file":      "https://files.example/app.tar?x=1",
		"no repository":        "https://registry.example",
		"an empty repository":  "registry.example/",
		"capitals":             "registry.example/NS/app:1",
		"a path upwards":       "registry.example/../app:1",
		"an empty part":        "registry.example/ns//app:1",
		"a user":               "user:secret@registry.example/app:1",
		"a port out of range":  "registry.example:70000/app:1",
		"port 0":               "registry.example:0/app:1",
		"no port":              "registry.example:/app:1",
		"a bad IPv6":           "[::g]/app:1",
		"an IPv6 zone":         "[fe80::1%25eth0]/app:1",
		"an open bracket":      "[::1/app:1",
		"a long tag":           "registry.example/app:" + strings.Repeat("x", 129),
		"an empty tag":         "registry.example/app:",
		"a tag with a slash":   "registry.example/app:a/b",
		"a short digest":       "registry.example/app@sha256:abc",
		"a digest in capitals": "registry.example/app@sha256:" + strings.ToUpper(hexA),
		"sha512":               "registry.example/app@sha512:" + hexA + hexA,
		"two digests":          "registry.example/app@" + digestA + "@" + digestB,
		"a long repository":    "registry.example/" + strings.Repeat("a", 256),
		"a query":              "oci://registry.example/app?tag=1",
		"a control character":  "registry.example/app\x00:1",
		"a host with spaces":   "registry .example/app:1",
	} {
		t.Run(name, func(t *testing.T) {
			if got, _, err := fetcher.ParseReference(in); !errors.Is(err, fetcher.ErrBadReference) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"registry.example:5000/ns/app:1.5.0@" + digestA, "oci://[::1]:5000/app/@" + digestA, "alpine", "docker://a/b:c", "https://x/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, again, err := fetcher.ParseReference(s)
		if err != nil {
			if !errors.Is(err, fetcher.ErrBadReference) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		second, third, err := fetcher.ParseReference("oci://" + again)
		got.Scheme = ""
		if err != nil || third != again || second != got {
			t.Errorf("%q: %+v, read again from %q: %+v, %v", s, got, again, second, err)
		}
		if strings.Contains(got.Repository, "..") || strings.ContainsAny(again, " \t\n?#%\\") {
			t.Errorf("%q is taken: %+v", s, got)
		}
	})
}

func TestOCI_digestFromAnywhere(t *testing.T) {
	const tagged, pinned = "registry.example/ns/app:1", "registry.example/ns/app@" + digestA
	sum := func(b byte) []byte { return []byte(strings.Repeat(string([]byte{b}), 32)) }
	for _, c := range []struct {
		name string
		src  fetcher.Source
		want string
		bad  bool
	}{
		{name: "the reference", src: fetcher.Source{URLs: []string{pinned}}, want: digestA},
		{name: "another mirror's reference", src: fetcher.Source{URLs: []string{tagged, "mirror.example/ns/app@" + digestA}}, want: digestA},
		{name: "hash_sha256", src: fetcher.Source{URLs: []string{tagged}, SHA256: sum(0xaa)}, want: digestA},
		{name: "metadata", src: fetcher.Source{URLs: []string{tagged}, Metadata: []byte("\n " + digestA + " ")}, want: digestA},
		{name: "a descriptor in the metadata", src: fetcher.Source{URLs: []string{tagged}, Metadata: []byte(`{"digest":"` + digestA + `","size":7}`)}, want: digestA},
		{name: "all of them", src: fetcher.Source{URLs: []string{pinned}, SHA256: sum(0xaa), Metadata: []byte(digestA)}, want: digestA},
		{name: "none", src: fetcher.Source{URLs: []string{tagged}}},
		{name: "other metadata", src: fetcher.Source{URLs: []string{tagged}, Metadata: []byte(`{"notes":"none"}`)}},
		{name: "broken metadata", src: fetcher.Source{URLs: []string{tagged}, Metadata: []byte(`{"digest":`)}},
		{name: "a bad mirror beside a good one", src: fetcher.Source{URLs: []string{"ftp://x/y", pinned}}, want: digestA},
		{name: "reference and hash differ", src: fetcher.Source{URLs: []string{pinned}, SHA256: sum(0xbb)}, bad: true},
		{name: "reference and metadata differ", src: fetcher.Source{URLs: []string{pinned}, Metadata: []byte(digestB)}, bad: true},
		{name: "mirrors differ", src: fetcher.Source{URLs: []string{pinned, "mirror.example/ns/app@" + digestB}}, bad: true},
		{name: "a digest that is none in the metadata", src: fetcher.Source{URLs: []string{tagged}, Metadata: []byte(`{"digest":"sha256:x"}`)}, bad: true},
		{name: "a short hash", src: fetcher.Source{URLs: []string{tagged}, SHA256: sum(0xaa)[:20]}, bad: true},
		{name: "no URL", src: fetcher.Source{}, bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := fetcher.SourceDigest(c.src)
			if errors.Is(err, fetcher.ErrBadReference) != c.bad || !c.bad && (err != nil || got != c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
