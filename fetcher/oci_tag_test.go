package fetcher_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

func TestOCI_refusesATagAlone(t *testing.T) {
	h := newHub(t)
	_, err := quickOCI().Fetch(t.Context(), newImageJob(t, h.host()+"/ns/app:1.0"))
	if !errors.Is(err, fetcher.ErrBadReference) || !strings.Contains(err.Error(), h.host()+"/ns/app@sha256:") {
		t.Error(err)
	}
	if len(h.Gets("")) != 0 {
		t.Errorf("it asked for %q", h.asked(""))
	}
}

func TestOCI_pinsATagOnce(t *testing.T) {
	h := newHub(t)
	push := func(seed byte) testregistry.Image {
		img := h.PushImage("ns/app", "linux/amd64", noise(seed, 1000))
		for _, tag := range []string{"1.0", "latest"} {
			if d := h.PushManifest("ns/app", tag, img.Manifest.MediaType, map[string]any{
				"schemaVersion": 2, "mediaType": img.Manifest.MediaType, "config": img.Config, "layers": img.Layers,
			}); d.Size == 0 {
				t.Fatal("nothing pushed")
			}
		}
		return img
	}
	first := push(1)
	o := quickOCI()
	o.AllowTags = true
	for _, ref := range []string{"/ns/app:1.0", "/ns/app"} {
		first, job := push(1), newImageJob(t, h.host()+ref)
		p := mustPull(t, o, job)
		push(2)
		h.Spoil(nil)
		if again := mustPull(t, o, job); again != p || len(h.Gets("")) != 0 {
			t.Errorf("it was %+v, then %+v, and asked for %q", p, again, h.asked(""))
		}
		if !strings.HasPrefix(p.Reference, h.host()+"/ns/app@sha256:") || p.Digest == "" || len(first.Layers) != 1 {
			t.Errorf("got %+v", p)
		}
		elsewhere := newImageJob(t, h.host()+ref)
		if moved := mustPull(t, o, elsewhere); moved.Digest == p.Digest {
			t.Error("the tag did not move")
		}
	}
	// A digest beside the tag decides, whatever the tag says now.
	job := newImageJob(t, h.host()+"/ns/app:1.0@"+first.Manifest.Digest.String())
	if p := mustPull(t, o, job); p.Digest != first.Manifest.Digest.String() {
		t.Errorf("got %+v", p)
	}
}

func TestOCI_tagIsHashedNotBelieved(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	h.Spoil(testregistry.Edit(func(header http.Header, b []byte) []byte {
		header.Set("Docker-Content-Digest", img.Manifest.Digest.String())
		return append(b, ' ')
	}))
	o := quickOCI()
	o.AllowTags = true
	o.Tries = 1
	if p, err := o.Fetch(t.Context(), newImageJob(t, h.host()+"/ns/app:1.0")); err == nil {
		t.Errorf("got %+v", p)
	}
}

func TestOCI_plainHTTPOnlyWhereItMayBe(t *testing.T) {
	for _, ref := range []string{"http://registry.example/ns/app@" + digestA, "http://192.0.2.1:5000/ns/app@" + digestA} {
		if _, err := quickOCI().Fetch(t.Context(), newImageJob(t, ref)); !errors.Is(err, fetcher.ErrBadReference) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	var asked []string
	o := quickOCI()
	o.Tries = 1
	o.PlainHTTP = []string{"registry.lan:5000"}
	o.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Scheme+"://"+r.URL.Host)
		return nil, errors.New("no network here")
	})}
	for ref, want := range map[string]string{
		"registry.example/app@" + digestA:         "https://registry.example",
		"registry.lan:5000/app@" + digestA:        "http://registry.lan:5000",
		"alpine@" + digestA:                       "https://registry-1.docker.io",
		"[::1]:5000/app@" + digestA:               "http://[::1]:5000",
		"127.9.9.9:5000/app@" + digestA:           "http://127.9.9.9:5000",
		"localhost:5000/app@" + digestA:           "http://localhost:5000",
		"https://localhost:5000/app@" + digestA:   "https://localhost:5000",
		"localhost:443/app@" + digestA:            "https://localhost:443",
		"localhost.example:5000/app@" + digestA:   "https://localhost.example:5000",
		"[2001:db8::1]:5000/ns/app:1@" + digestA:  "https://[2001:db8::1]:5000",
		"http://registry.lan:5000/app@" + digestA: "http://registry.lan:5000",
	} {
		asked = nil
		if _, err := o.Fetch(t.Context(), newImageJob(t, ref)); err == nil || len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: asked %q, %v", ref, asked, err)
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
