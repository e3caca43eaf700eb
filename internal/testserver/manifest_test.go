package testserver_test

import (
	"reflect"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// published returns the check's answer to a release of app A.
func published(t *testing.T, r testserver.Release) *answerCheck {
	t.Helper()
	b := newBench(t)
	r.Version = "2.0.0"
	b.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{}).Publish(r)
	a := b.one(both)
	if a.offered() != "2.0.0" {
		t.Fatalf("offered %s", a.offered())
	}
	return a.Check
}

func TestManifest_announcesAsNebraska(t *testing.T) {
	content := []byte("content")
	c := published(t, testserver.Release{Files: []testserver.File{{Name: "main", Content: content}, {Name: "extra", Content: content}}})
	want := []answerPackage{
		{Name: "main", SHA1: testserver.SHA1Base64(content), Size: 7, Required: true},
		{Name: "extra", SHA1: testserver.SHA1Base64(content), SHA256: testserver.SHA256Hex(content), Size: 7},
	}
	if got := c.Manifests[0].Packages; !reflect.DeepEqual(got, want) {
		t.Errorf("packages %+v, want %+v", got, want)
	}
	if c.URLs[0].Codebase != "http://payloads.test/io.example.A/2.0.0/" || len(c.URLs) != 1 {
		t.Errorf("codebases %+v", c.URLs)
	}
}

func TestManifest_announcesWhatItIsTold(t *testing.T) {
	content := []byte("content")
	c := published(t, testserver.Release{
		Codebases: []string{"http://a.test/dir", "oci://b.test/x"},
		Mirrors:   []string{"one"},
		Action:    &testserver.Action{SHA256: testserver.SHA256Base64(content)},
		Files: []testserver.File{
			{Name: "none", Content: content, SHA1: testserver.None, Size: testserver.SizeUnknown},
			{Name: "lies", Content: content, SHA1: "junk", SHA256: testserver.SHA256Base64(content), Size: 9},
			{Name: "image", ContentType: "application/vnd.oci.image", Metadata: `{"a":"<b>"}`, SHA256: testserver.None},
		},
		More: []testserver.Release{{Version: "3.0.0", Files: []testserver.File{{Name: "x"}}}},
	})
	want := []answerPackage{
		{Name: "none", Required: true},
		{Name: "lies", SHA1: "junk", SHA256: testserver.SHA256Base64(content), Size: 9},
		{Name: "image"},
	}
	got := c.Manifests[0].Packages
	if m := got[2].Metadata; m == nil || m.ContentType != "application/vnd.oci.image" || m.Text != `{"a":"<b>"}` {
		t.Errorf("metadata %+v", m)
	}
	got[2].Metadata = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("packages %+v, want %+v", got, want)
	}
	if a := c.Manifests[0].Actions; len(a) != 1 || a[0].Event != "postinstall" || a[0].SHA256 != testserver.SHA256Base64(content) {
		t.Errorf("actions %+v", a)
	}
	if len(c.Manifests) != 2 || c.Manifests[1].Version != "3.0.0" {
		t.Errorf("manifests %+v", c.Manifests)
	}
	var urls []string
	for _, u := range c.URLs {
		urls = append(urls, u.Codebase)
	}
	if want := []string{"http://a.test/dir", "oci://b.test/x", "http://payloads.test/m/one/io.example.A/2.0.0/"}; !reflect.DeepEqual(urls, want) {
		t.Errorf("codebases %q, want %q", urls, want)
	}
}

func TestManifest_withoutName(t *testing.T) {
	c := published(t, testserver.Release{Files: []testserver.File{{Content: []byte("x")}}})
	if got := c.URLs[0].Codebase; got != "http://payloads.test/io.example.A/2.0.0/payload" || c.Manifests[0].Packages[0].Name != "" {
		t.Errorf("codebase %s", got)
	}
}

func TestManifest_ofImageWithExtraFile(t *testing.T) {
	c := published(t, testserver.Release{Image: "registry.example/ns/app:1", Files: []testserver.File{{Name: "http://files.test/x", Size: 3}}})
	want := []answerPackage{{Required: true}, {Name: "http://files.test/x", Size: 3}}
	if got := c.Manifests[0].Packages; !reflect.DeepEqual(got, want) || c.URLs[0].Codebase != "registry.example/ns/app:1" {
		t.Errorf("%+v of %+v", got, c.URLs)
	}
}

func TestPublish_refusesWhatNebraskaWould(t *testing.T) {
	ts := testserver.New()
	g := ts.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{})
	for name, misuse := range map[string]func(){
		"version":  func() { g.Publish(testserver.Release{Version: "v1.0.0"}) },
		"group":    func() { ts.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{}) },
		"instance": func() { ts.PutInstance(testserver.Instance{AppID: appB, Track: "stable"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse()
		}()
	}
}
