package fetcher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

const statementType = "application/vnd.example.statement.v1+json"

// paper is an artifact with one layer.
func paper(text string) testregistry.Artifact {
	return testregistry.Artifact{
		Type: statementType, Annotations: map[string]string{"a": "b"},
		Layers: []testregistry.Layer{{MediaType: "text/plain", Content: []byte(text), Annotations: map[string]string{"c": "d"}}},
	}
}

// texts lists what the attachments say, sorted.
func texts(list []fetcher.Attachment) []string {
	all := []string{}
	for _, a := range list {
		for _, l := range a.Layers {
			all = append(all, string(l.Data))
		}
	}
	slices.Sort(all)
	return all
}

// app is an image in a hub, and the source that names it.
func app(t *testing.T) (*hub, testregistry.Image, fetcher.Source) {
	t.Helper()
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	return h, img, fetcher.Source{URLs: []string{h.ref("ns/app", img.Manifest)}}
}

func TestOCI_Attached(t *testing.T) {
	for _, c := range []struct {
		name string
		api  bool
	}{{"by the referrers API", true}, {"by the fallback tag", false}} {
		t.Run(c.name, func(t *testing.T) {
			h, img, src := app(t)
			if !c.api {
				h.WithoutReferrers()
			}
			if got, err := quickOCI().Attached(t.Context(), src, statementType, 1000); err != nil || len(got) != 0 {
				t.Errorf("nothing attached: got %+v, %v", got, err)
			}
			first := h.Attach("ns/app", img.Manifest, paper("one"))
			h.Attach("ns/app", img.Manifest, paper("two"))
			other := paper("other")
			other.Type = "application/vnd.example.other"
			h.Attach("ns/app", img.Manifest, other)
			h.Attach("ns/app", h.PushImage("ns/app", "linux/amd64", noise(2, 10)).Manifest, paper("of another image"))

			got, err := quickOCI().Attached(t.Context(), src, statementType, 1000)
			if want := []string{"one", "two"}; err != nil || !slices.Equal(texts(got), want) {
				t.Fatalf("got %q, %v", texts(got), err)
			}
			i := slices.IndexFunc(got, func(a fetcher.Attachment) bool { return a.Digest == first.Digest.String() })
			if i < 0 || got[i].ArtifactType != statementType || got[i].Annotations["a"] != "b" || got[i].Where != h.ref("ns/app", first) ||
				got[i].Layers[0].MediaType != "text/plain" || got[i].Layers[0].Annotations["c"] != "d" {
				t.Errorf("got %+v", got)
			}
			if all, err := quickOCI().Attached(t.Context(), src, "", 1000); err != nil || len(all) != 3 {
				t.Errorf("of all types: %q, %v", texts(all), err)
			}
		})
	}
}

func TestOCI_Attached_findsTheDigest(t *testing.T) {
	h, img, _ := app(t)
	h.PushManifest("ns/app", "1.0", img.Manifest.MediaType, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: img.Manifest.MediaType, Config: img.Config, Layers: img.Layers,
	})
	h.Attach("ns/app", img.Manifest, paper("one"))
	tagged := []string{h.host() + "/ns/app:1.0"}
	raw := img.Manifest.Digest.Encoded()
	sum := make([]byte, 32)
	if _, err := fmt.Sscanf(raw, "%x", &sum); err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]fetcher.Source{
		"reference":      {URLs: []string{h.ref("ns/app", img.Manifest)}},
		"SHA-256":        {URLs: tagged, SHA256: sum},
		"metadata":       {URLs: tagged, Metadata: []byte("sha256:" + raw)},
		"what a tag has": {URLs: tagged},
	} {
		if got, err := quickOCI().Attached(t.Context(), src, statementType, 1000); err != nil || !slices.Equal(texts(got), []string{"one"}) {
			t.Errorf("%s: got %q, %v", name, texts(got), err)
		}
	}
	for name, src := range map[string]fetcher.Source{
		"a tag that is not there": {URLs: []string{h.host() + "/ns/app:2.0"}},
		"no reference":            {URLs: []string{"::"}},
	} {
		if got, err := quickOCI().Attached(t.Context(), src, statementType, 1000); err == nil {
			t.Errorf("%s: got %q", name, texts(got))
		}
	}
}

// The newest come first, and no more than 16: whoever can push can attach any number.
func TestOCI_Attached_isBounded(t *testing.T) {
	h, img, src := app(t)
	for i := range 40 {
		a := paper(fmt.Sprintf("%02d", i))
		a.Annotations = map[string]string{ocispec.AnnotationCreated: time.Unix(int64(i), 0).UTC().Format(time.RFC3339)}
		h.Attach("ns/app", img.Manifest, a)
	}
	h.Spoil(nil)
	got, err := quickOCI().Attached(t.Context(), src, statementType, 1000)
	if err != nil || len(got) != 16 || string(got[0].Layers[0].Data) != "39" || string(got[15].Layers[0].Data) != "24" {
		t.Errorf("got %q, %v", texts(got), err)
	}
	if n := len(h.Gets("")); n != 33 {
		t.Errorf("%d requests", n)
	}
}

// What one attacker can do at a registry: honest artifacts are found all the same where the registry still lists them, and what is
// wrong is never returned.
func TestOCI_Attached_underAttack(t *testing.T) {
	type attack struct {
		name  string
		front func(h *hub, img testregistry.Image) testregistry.Front
		want  []string // found
		is    error    // of what is wrong beside it; errSome: any
	}
	errSome := errors.New("any")
	list := func(entries ...ocispec.Descriptor) testregistry.Front {
		return testregistry.Always("/referrers/", testregistry.Index(entries...))
	}
	always := func(part string, f testregistry.Front) func(*hub, testregistry.Image) testregistry.Front {
		return func(*hub, testregistry.Image) testregistry.Front { return testregistry.Always(part, f) }
	}
	for _, c := range []attack{
		{"of another image in the list", func(h *hub, img testregistry.Image) testregistry.Front {
			other := h.PushImage("ns/app", "linux/amd64", noise(2, 10))
			return list(h.Attach("ns/app", other.Manifest, paper("moved")), h.Attach("ns/app", img.Manifest, paper("honest")))
		}, []string{"honest"}, fetcher.ErrBadImage},
		{"without a subject", func(h *hub, img testregistry.Image) testregistry.Front {
			d := h.Tag("ns/app", "x", testregistry.Layer{MediaType: "text/plain", Content: []byte("loose")})
			d.ArtifactType = statementType
			return list(d)
		}, []string{}, nil}, // it is of another type, too
		{"of another type than listed", func(h *hub, img testregistry.Image) testregistry.Front {
			a := paper("disguised")
			a.Type = "application/vnd.example.other"
			d := h.Attach("ns/app", img.Manifest, a)
			d.ArtifactType = statementType
			return list(d)
		}, []string{}, nil},
		{"what is listed is no manifest", func(h *hub, img testregistry.Image) testregistry.Front {
			d := h.PushManifest("ns/app", "x", ocispec.MediaTypeImageManifest, []byte(`["x"]`))
			d.ArtifactType = statementType
			return list(d)
		}, []string{}, fetcher.ErrBadImage},
		{"a manifest of another size", func(h *hub, img testregistry.Image) testregistry.Front {
			d := h.Attach("ns/app", img.Manifest, paper("x"))
			d.Size++
			return list(d)
		}, []string{}, fetcher.ErrSize},
		{"a manifest said to be huge", func(h *hub, img testregistry.Image) testregistry.Front {
			d := h.Attach("ns/app", img.Manifest, paper("x"))
			d.Size = 1 << 40
			return list(d)
		}, []string{}, nil}, // it is not even asked for
		{"a path as digest", func(h *hub, img testregistry.Image) testregistry.Front {
			return list(ocispec.Descriptor{Digest: "../../x", Size: 3, ArtifactType: statementType})
		}, []string{}, nil},
		{"huge annotations", func(h *hub, img testregistry.Image) testregistry.Front {
			a := paper("x")
			a.Annotations = map[string]string{"a": strings.Repeat("x", 2<<20)}
			d := h.Attach("ns/app", img.Manifest, a)
			d.Annotations = nil
			return list(d)
		}, []string{}, nil},
		{"a huge layer", func(h *hub, img testregistry.Image) testregistry.Front {
			return list(h.Attach("ns/app", img.Manifest, paper(strings.Repeat("x", 2000))))
		}, []string{}, fetcher.ErrSize},
		{"many layers", func(h *hub, img testregistry.Image) testregistry.Front {
			a := paper("first")
			for range 40 {
				a.Layers = append(a.Layers, testregistry.Layer{Content: []byte("x")})
			}
			return list(h.Attach("ns/app", img.Manifest, a))
		}, slices.Repeat([]string{"x"}, 32), nil},
		{"layers too large together", func(h *hub, img testregistry.Image) testregistry.Front {
			a := paper("first")
			for range 3 {
				a.Layers = append(a.Layers, testregistry.Layer{Content: noise(1, 400_000)})
			}
			return list(h.Attach("ns/app", img.Manifest, a))
		}, []string{}, fetcher.ErrSize},
		{"a corrupt layer", always("/blobs/", testregistry.Corrupt()), []string{}, fetcher.ErrDigest},
		{"a corrupt manifest", always("/manifests/", testregistry.Corrupt()), []string{}, fetcher.ErrDigest},
		{"a layer that goes on", always("/blobs/", testregistry.Edit(func(h http.Header, b []byte) []byte {
			h.Del("Content-Length")
			return append(b, make([]byte, 100_000)...)
		})), []string{}, fetcher.ErrSize},
		{"a list that never ends", always("/referrers/", testregistry.Endless()), []string{}, fetcher.ErrSize},
		{"a list that says to be huge", always("/referrers/", testregistry.Edit(func(h http.Header, b []byte) []byte {
			h.Set("Content-Length", "5000000")
			return append(b, bytes.Repeat([]byte(" "), 5_000_000-len(b))...)
		})), []string{}, fetcher.ErrSize},
		{"a list that is no JSON", always("/referrers/", testregistry.Edit(func(h http.Header, _ []byte) []byte {
			h.Del("Content-Length")
			return []byte("[")
		})), []string{}, fetcher.ErrBadImage},
		{"a list of entries without end", func(h *hub, img testregistry.Image) testregistry.Front {
			var entries []ocispec.Descriptor
			for i := range 3000 {
				entries = append(entries, ocispec.Descriptor{Digest: img.Manifest.Digest[:64] + "0" + img.Manifest.Digest[65:], Size: int64(i), ArtifactType: statementType})
			}
			return list(entries...)
		}, []string{}, errSome},
		{"pages without end", func(h *hub, img testregistry.Image) testregistry.Front {
			return testregistry.Always("/referrers/", testregistry.Paged(testregistry.Index(h.Attach("ns/app", img.Manifest, paper("one")))))
		}, []string{"one"}, nil},
		{"a page for people", always("/referrers/", testregistry.Edit(func(h http.Header, _ []byte) []byte {
			h.Del("Content-Length")
			h.Set("Content-Type", "text/html")
			return []byte("<html>")
		})), []string{}, nil}, // as if it had no referrers API
		{"401", always("/referrers/", testregistry.Answer(http.StatusUnauthorized, "Www-Authenticate", `Basic realm="x"`)), []string{}, errSome},
		{"403", always("/referrers/", testregistry.Answer(http.StatusForbidden)), []string{}, errSome},
		{"500", always("/referrers/", testregistry.Answer(http.StatusInternalServerError)), []string{}, errSome},
		{"redirects in a circle", always("/referrers/", testregistry.Answer(http.StatusFound, "Location", "/v2/ns/app/referrers/x")), []string{}, errSome},
		{"a redirect to a file", always("/referrers/", testregistry.Answer(http.StatusFound, "Location", "file:///etc/passwd")), []string{}, errSome},
		{"a cut answer", always("/referrers/", testregistry.Cut(10, true)), []string{}, errSome},
		{"slow", always("/referrers/", testregistry.Slow(50)), []string{}, fetcher.ErrTooSlow},
		{"stalled", always("/blobs/", testregistry.Stall(1)), []string{}, fetcher.ErrTooSlow},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, img, src := app(t)
			h.Attach("ns/app", img.Manifest, paper("corruptible"))
			h.Spoil(c.front(h, img))
			o := quickOCI()
			o.Tries, o.StallTimeout = 2, time.Minute
			if errors.Is(c.is, fetcher.ErrTooSlow) {
				o.StallTimeout = 300 * time.Millisecond
			}
			limit := int64(1000)
			if c.name == "layers too large together" {
				limit = 500_000
			}
			got, err := o.Attached(t.Context(), src, statementType, limit)
			if !slices.Equal(texts(got), c.want) {
				t.Errorf("got %q", texts(got))
			}
			if (err == nil) != (c.is == nil) || !errors.Is(c.is, errSome) && !errors.Is(err, c.is) {
				t.Errorf("got %v", err)
			}
			if n := len(h.Gets("")); n > 40 {
				t.Errorf("%d requests", n)
			}
			if n := h.Bytes(""); n > 16<<20 {
				t.Errorf("%d bytes", n)
			}
		})
	}
}

func TestOCI_Attached_triesAgain(t *testing.T) {
	h, img, src := app(t)
	h.Attach("ns/app", img.Manifest, paper("one"))
	for _, part := range []string{"/referrers/", "/manifests/", "/blobs/"} {
		for name, f := range map[string]testregistry.Front{
			"503": testregistry.Answer(http.StatusServiceUnavailable), "an RST": testregistry.Cut(1, true), "429": testregistry.Answer(http.StatusTooManyRequests),
		} {
			h.Spoil(testregistry.Times(1, part, f))
			if got, err := quickOCI().Attached(t.Context(), src, statementType, 1000); err != nil || len(got) != 1 {
				t.Errorf("%s in %s: got %q, %v", name, part, texts(got), err)
			}
		}
	}
}

// A mirror that hides or spoils what the registry has does not keep it from being found; one that is down neither.
func TestOCI_Attached_asksEveryPlace(t *testing.T) {
	h, img, _ := app(t)
	h.Attach("ns/app", img.Manifest, paper("one"))
	mirror := newHub(t)
	layer := testregistry.Layer{MediaType: "text/plain", Content: []byte("x")}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "registry.lan"), 0o700); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = %q\n[host.%q]\n", h.server.URL, mirror.server.URL)
	if err := os.WriteFile(filepath.Join(dir, "registry.lan", "hosts.toml"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	o := quickOCI()
	o.MirrorsDir, o.Tries = dir, 1
	src := fetcher.Source{URLs: []string{"registry.lan/ns/app@" + img.Manifest.Digest.String()}}
	look := func(name string, wrong bool, want ...string) {
		t.Helper()
		got, err := o.Attached(t.Context(), src, statementType, 1000)
		if (err != nil) != wrong || !slices.Equal(texts(got), want) {
			t.Errorf("%s: got %q, %v", name, texts(got), err)
		}
	}
	look("an empty mirror", false, "one")
	mirror.PushBlob("ns/app", "x", layer.Content)
	mirror.Attach("ns/app", img.Manifest, paper("two"))
	look("a mirror that has more", false, "one", "two")
	mirror.Attach("ns/app", img.Manifest, paper("one"))
	look("both have it", false, "one", "two")
	mirror.Spoil(testregistry.Always("/blobs/", testregistry.Corrupt()))
	look("a mirror that spoils it", true, "one")
	if asked := mirror.Gets("/referrers/"); len(asked) != 1 || asked[0].URL.Query().Get("ns") != "registry.lan" {
		t.Errorf("the mirror was asked %v", asked)
	}
	h.server.Close()
	mirror.Spoil(nil)
	look("the registry is down", true, "one", "two")
	mirror.server.Close()
	look("all are down", true)
}

// Credentials go to the registry, and not where it redirects to.
func TestOCI_Attached_keepsCredentials(t *testing.T) {
	h, img, src := app(t)
	h.Attach("ns/app", img.Manifest, paper("one"))
	elsewhere := newHub(t)
	elsewhere.PushBlob("ns/app", "text/plain", []byte("one"))
	asks := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, password, ok := r.BasicAuth(); !ok || password != "secret" {
			testregistry.Answer(http.StatusUnauthorized, "Www-Authenticate", `Basic realm="x"`)(w, r, next)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, elsewhere.server.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, r)
	}
	h.Spoil(asks)
	o := quickOCI()
	o.Credentials = func(context.Context, string) (fetcher.Credential, error) {
		return fetcher.Credential{Username: "robot", Password: "secret"}, nil
	}
	if got, err := o.Attached(t.Context(), src, statementType, 1000); err != nil || !slices.Equal(texts(got), []string{"one"}) {
		t.Errorf("got %q, %v", texts(got), err)
	}
	asked := elsewhere.Gets("")
	if len(asked) != 1 || asked[0].Header.Get("Authorization") != "" || asked[0].Header.Get("Referer") != "" {
		t.Errorf("elsewhere saw %+v", asked)
	}
}

func TestOCI_Attached_stopsWithItsContext(t *testing.T) {
	h, _, src := app(t)
	h.Spoil(testregistry.Stall(0))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go cancel(why)
	if got, err := quickOCI().Attached(ctx, src, statementType, 1000); !errors.Is(err, why) || !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("got %q, %v", texts(got), err)
	}
}

func FuzzReferrers(f *testing.F) {
	f.Add([]byte(index(entry(dig(1), ""), entry(dig(2), "linux/amd64"))), statementType)
	f.Add([]byte(`{"manifests":[{"digest":"`+dig(1)+`","size":7,"artifactType":"x","annotations":{"org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}]}`), "x")
	f.Add([]byte(`{"schemaVersion":2,"artifactType":"x","config":{"digest":"`+dig(1)+`","size":2},"layers":[{"digest":"`+dig(2)+`","size":1}],"subject":{"digest":"`+dig(3)+`"}}`), "x")
	f.Fuzz(func(t *testing.T, content []byte, artifactType string) {
		list, err := fetcher.ParseReferrers(content, artifactType)
		if err != nil {
			if !errors.Is(err, fetcher.ErrBadImage) || list != nil {
				t.Errorf("got %v, %v", list, err)
			}
			return
		}
		if len(list) > 16 || !json.Valid(content) {
			t.Errorf("%d entries", len(list))
		}
		for _, d := range list {
			if err := d.Digest.Validate(); err != nil || d.Size < 0 || d.Size > 1<<20 {
				t.Errorf("took %+v", d)
			}
		}
	})
}
