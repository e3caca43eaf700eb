package tuf_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestVerify(t *testing.T) {
	r := newRepo(t)
	image := digest("an index")
	r.list("1.0.0", "app.conf", []byte("key = value"))
	r.listCustom("1.0.0", "app", `{"image":"`+image+`","theirs":7}`)
	r.publish()
	c := r.client()
	got, err := c.verify("1.0.0",
		trust.Payload{Name: "app.conf", Size: 11, Digest: digest("key = value")}, file("unlisted"), file("app.bin"), trust.Payload{Name: "app:1.0.0", Image: true})
	want := trust.Release{
		Version: "1.0.0", Expires: epoch.Add(day), Where: r.server.URL + "/metadata",
		Payloads: []trust.Payload{
			{Name: "app.conf", Size: 11, Digest: digest("key = value")},
			{Name: "unlisted"},
			{Name: "app.bin", Size: 11, Digest: digest("version one")},
			{Name: "app:1.0.0", Image: true, Digest: image},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v;\nwant %+v", got, err, want)
	}
}

func TestVerify_refuses(t *testing.T) {
	r := newRepo(t)
	r.listCustom("1.0.0", "app", `{"image":"`+digest("an index")+`"}`)
	r.listCustom("1.0.0", "odd", `{"image":"sha256:ABC"}`)
	r.listCustom("1.0.0", "odder", `{"image":[1]}`)
	r.list("1.0.0", "only512", nil).Hashes = metadata.Hashes{"sha512": make([]byte, 64)}
	r.list("1.0.0", "negative", nil).Length = -1
	r.list("2.0.0", "app.bin", []byte("version two"))
	r.listCustom("2.0.0", tuf.ReleaseName, `{"payloads":["app.bin","app.conf"]}`)
	r.publish()
	for _, tt := range []struct {
		name    string
		version string
		change  func(*trust.Claim)
		p       trust.Payload
		want    error
	}{
		{"unlisted", "1.0.0", nil, file("other.bin"), trust.ErrNoStatement},
		{"another version's", "1.0.1", nil, file("app.bin"), trust.ErrNoStatement},
		{"another channel's", "1.0.0", func(c *trust.Claim) { c.Channel = "edge" }, file("app.bin"), trust.ErrNoStatement},
		{"no channel's", "1.0.0", func(c *trust.Claim) { c.Channel = "" }, file("app.bin"), trust.ErrNoStatement},
		{"another architecture's", "1.0.0", func(c *trust.Claim) { c.Arch = "arm64" }, file("app.bin"), trust.ErrNoStatement},
		{"another app's", "1.0.0", func(c *trust.Claim) { c.AppID = "io.example.Other" }, file("app.bin"), trust.ErrNoStatement},
		{"a name that climbs", "9.9.9", nil, file("../1.0.0/app.bin"), trust.ErrNoStatement},
		{"a version that climbs", "9.9.9/../1.0.0", nil, file("app.bin"), trust.ErrNoStatement},
		{"nothing", "1.0.0", func(c *trust.Claim) { c.Payloads = nil }, file(""), trust.ErrNoStatement},
		{"another digest", "1.0.0", nil, trust.Payload{Name: "app.bin", Digest: digest("evil")}, trust.ErrMismatch},
		{"another size", "1.0.0", nil, trust.Payload{Name: "app.bin", Size: 12}, trust.ErrMismatch},
		{"another image", "1.0.0", nil, trust.Payload{Name: "app", Image: true, Digest: digest("evil")}, trust.ErrMismatch},
		{"a file as an image", "1.0.0", nil, trust.Payload{Name: "app.bin", Image: true}, trust.ErrMismatch},
		{"an image as a file", "1.0.0", nil, file("app"), trust.ErrMismatch},
		{"an image with an odd digest", "1.0.0", nil, trust.Payload{Name: "odd", Image: true}, trust.ErrMalformed},
		{"an odd custom part", "1.0.0", nil, trust.Payload{Name: "odder", Image: true}, trust.ErrMalformed},
		{"no SHA-256", "1.0.0", nil, file("only512"), trust.ErrMalformed},
		{"a negative length", "1.0.0", nil, file("negative"), trust.ErrMalformed},
		{"a payload left out", "2.0.0", nil, file("app.bin"), trust.ErrMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.client()
			claim := c.claim(tt.version, tt.p)
			if tt.change != nil {
				tt.change(&claim)
			}
			got, err := c.verifier.Verify(t.Context(), claim)
			if !errors.Is(err, tt.want) || !errors.Is(err, trust.ErrUntrusted) || !reflect.DeepEqual(got, trust.Release{}) {
				t.Errorf("got %+v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestVerify_completeRelease(t *testing.T) {
	r := newRepo(t)
	r.list("2.0.0", "app.bin", []byte("version two"))
	r.list("2.0.0", "app.conf", []byte("key = value"))
	r.listCustom("2.0.0", tuf.ReleaseName, `{"payloads":["app.bin","app.conf"]}`)
	r.publish()
	if _, err := r.client().verify("2.0.0", file("app.conf"), file("app.bin"), file("extra")); err != nil {
		t.Error(err)
	}
}

func TestVerify_delegations(t *testing.T) {
	r := newRepo(t)
	r.delegate("app", appID+"/*/*/*/*")
	r.delegate("other", "io.example.Other/*/*/*/*")
	// The other app's role lists a release of this app: outside its paths, so nobody looks there.
	r.delegated["app"].Signed.Targets[path("2.0.0", "app.bin")] = r.list("2.0.0", "app.bin", []byte("version two"))
	r.delegated["other"].Signed.Targets[path("3.0.0", "app.bin")] = r.list("3.0.0", "app.bin", []byte("evil"))
	delete(r.targets.Signed.Targets, path("2.0.0", "app.bin"))
	delete(r.targets.Signed.Targets, path("3.0.0", "app.bin"))
	r.publish()
	c := r.client()
	c.accepts("1.0.0")
	if got := c.accepts("2.0.0"); got.Payloads[0].Digest != digest("version two") {
		t.Errorf("got %+v", got)
	}
	if _, err := c.verify("3.0.0", file("app.bin")); !errors.Is(err, trust.ErrNoStatement) {
		t.Errorf("the other app's role: %v, want ErrNoStatement", err)
	}

	t.Run("not signed by the role's key", func(t *testing.T) {
		_, key := newKey(t)
		id, err := key.ID()
		must(t, err)
		d := r.targets.Signed.Delegations
		d.Keys[id], d.Roles[0].KeyIDs = key, []string{id}
		r.publish()
		if _, err := c.verify("2.0.0", file("app.bin")); !errors.Is(err, trust.ErrSignature) {
			t.Errorf("got %v, want ErrSignature", err)
		}
	})
}

// What is withdrawn is no longer vouched for.
func TestVerify_withdrawn(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	c.accepts("1.0.0")
	delete(r.targets.Signed.Targets, path("1.0.0", "app.bin"))
	r.publish()
	if _, err := c.verify("1.0.0", file("app.bin")); !errors.Is(err, trust.ErrNoStatement) {
		t.Errorf("got %v, want ErrNoStatement", err)
	}
}

func TestVerify_targetPath(t *testing.T) {
	r := newRepo(t)
	r.targets.Signed.Targets[""] = r.targets.Signed.Targets[path("1.0.0", "app.bin")]
	r.publish()
	c := r.client(func(config *tuf.Config) {
		config.TargetPath = func(claim trust.Claim, p trust.Payload) string {
			if p.Name != "any name" {
				return ""
			}
			return path(claim.Version, "app.bin")
		}
	})
	got, err := c.verify("1.0.0", file("any name"), file("app.bin"))
	if err != nil || got.Payloads[0].Digest != digest("version one") || got.Payloads[1].Digest != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTargetPath(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct{ app, channel, arch, version, name, want string }{
		{appID, "stable", "amd64", "1.0.0", "app.bin", "io.example.App/stable/amd64/1.0.0/app.bin"},
		{appID, "", "amd64", "1.0.0-rc.1+7", "app", "io.example.App/-/amd64/1.0.0-rc.1+7/app"},
		{appID, "-", "amd64", "1.0.0", "..", "io.example.App/%2D/amd64/1.0.0/%2E%2E"},
		{"{a}", ".", "a/b", `1\2`, "ä *?[", "%7Ba%7D/%2E/a%2Fb/1%5C2/%C3%A4%20%2A%3F%5B"},
		{"a", "b/c", "d", "e", "f", "a/b%2Fc/d/e/f"},
		{"a", "b", "c/d", "e", "f", "a/b/c%2Fd/e/f"},
		{"a", "b%2Fc", "d", "e", "f", "a/b%252Fc/d/e/f"},
	} {
		claim := trust.Claim{AppID: tt.app, Channel: tt.channel, Arch: tt.arch, Version: tt.version}
		got := tuf.TargetPath(claim, file(tt.name))
		if got != tt.want || seen[got] != "" {
			t.Errorf("%+v: got %s, as of %q", tt, got, seen[got])
		}
		seen[got] = tt.version
	}
}

func TestNew_refuses(t *testing.T) {
	root := newRepo(t).pinned
	const url = "https://updates.example.com/metadata"
	for _, tt := range []struct {
		name   string
		config tuf.Config
		want   string
	}{
		{"no root", tuf.Config{MetadataURL: url}, "no Root"},
		{"no JSON", tuf.Config{Root: []byte("root"), MetadataURL: url}, "the Root is no root.json"},
		{"unsigned", tuf.Config{Root: []byte(strings.Replace(string(root), `"sig":"`, `"sig":"00`, 3)), MetadataURL: url}, "the Root is no root.json"},
		{"null", tuf.Config{Root: []byte(`{"signed":{"_type":"root","roles":{"root":null}}}`), MetadataURL: url}, "cannot read the metadata"},
		{"no URL", tuf.Config{Root: root}, "neither http nor https"},
		{"another scheme", tuf.Config{Root: root, MetadataURL: "file:///metadata"}, "neither http nor https"},
		{"a query", tuf.Config{Root: root, MetadataURL: url + "?secret"}, "a query"},
		{"no URL at all", tuf.Config{Root: root, MetadataURL: "https://u:secret@h:x/"}, "is no URL"},
		{"a negative limit", tuf.Config{Root: root, MetadataURL: url, Timeout: -1}, "a limit is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tuf.New(tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// However a server refers to an image, its target is the same one; a file's name is taken as it is.
func TestTargetPath_images(t *testing.T) {
	claim := trust.Claim{AppID: "a", Channel: "b", Arch: "c", Version: "d"}
	for name, want := range map[string]string{
		"app": "a/b/c/d/app", "app:2.0.0": "a/b/c/d/app", "app@" + digest(""): "a/b/c/d/app", "app:2@" + digest(""): "a/b/c/d/app", ":2": "a/b/c/d/-",
	} {
		if got := tuf.TargetPath(claim, trust.Payload{Name: name, Image: true}); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := tuf.TargetPath(claim, file("app:2.0.0")); got != "a/b/c/d/app:2.0.0" {
		t.Errorf("of a file: %s", got)
	}
}

// All that is written is the user's alone, and nothing temporary is left.
func TestVerify_permissions(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	r.nextRoot()
	c.dir = filepath.Join(c.dir, "new")
	c.accepts("1.0.0")
	var names []string
	must(t, filepath.Walk(c.dir, func(path string, info os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		} else {
			names = append(names, info.Name())
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode())
		}
		return err
	}))
	if got := strings.Join(names, " "); got != "root.json snapshot.json targets.json timestamp.json 2.root.json" {
		t.Errorf("files: %s", got)
	}
}

// Claims without a clock are judged by the machine's.
func TestVerify_clock(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	c.now = time.Time{}
	r.timestamp.Signed.Expires = time.Now().Add(-time.Minute)
	r.publishTimestamp()
	if _, err := c.verify("1.0.0", file("app.bin")); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("got %v, want ErrExpired", err)
	}
}
