package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// CNCF's registry has no referrers API: what is attached is found by the tag that clients keep up to date, whoever may read it.
func TestAttached(t *testing.T) {
	const statementType = "application/vnd.example.statement.v1+json"
	s := newStore(t)
	img, path := s.pushed()
	_, index, _ := strings.Cut(path, "@")
	top := s.PushManifest(repo, "1.0", "application/vnd.oci.image.index.v1+json", s.Manifest(repo, index))
	for _, text := range []string{"one", "two"} {
		s.Attach(repo, top, testregistry.Artifact{Type: statementType, Layers: []testregistry.Layer{{MediaType: "text/plain", Content: []byte(text)}}})
	}
	s.Attach(repo, top, testregistry.Artifact{Type: "application/vnd.example.other", Layers: []testregistry.Layer{{Content: []byte("three")}}})
	find := func(t *testing.T, host, ref string, want int) {
		t.Helper()
		got, err := oci().Attached(t.Context(), fetcher.Source{URLs: []string{host + ref}}, statementType, 1000)
		if err != nil || len(got) != want {
			t.Fatalf("got %+v, %v", got, err)
		}
		if want == 2 && string(got[0].Layers[0].Data)+string(got[1].Layers[0].Data) != "twoone" {
			t.Errorf("got %+v: the newest comes first", got)
		}
	}
	anonymous := serve(t, distribution(s.dir, nil))
	t.Run("by digest", func(t *testing.T) { find(t, anonymous, path, 2) })
	t.Run("by tag", func(t *testing.T) { find(t, anonymous, "/"+repo+":1.0", 2) })
	t.Run("of an image without any", func(t *testing.T) { find(t, anonymous, "/"+repo+"@"+img.Manifest.Digest.String(), 0) })
	t.Run("with a password", func(t *testing.T) { find(t, serve(t, distribution(s.dir, withPassword(t))), path, 2) })
	t.Run("with a token", func(t *testing.T) { find(t, serve(t, distribution(s.dir, newTokens(t, time.Hour).auth(t))), path, 2) })
}
