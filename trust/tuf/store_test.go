package tuf_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

// A machine that restarts while the repository is down goes on with what it has, until that expires.
func TestRestart_repositoryDown(t *testing.T) {
	r := newRepo(t)
	r.delegate("app", appID+"/*/*/*/*")
	r.delegated["app"].Signed.Targets[path("2.0.0", "app.bin")] = r.list("2.0.0", "app.bin", []byte("version two"))
	delete(r.targets.Signed.Targets, path("2.0.0", "app.bin"))
	r.nextRoot()
	r.publish()
	first := r.client()
	first.accepts("2.0.0")
	r.server.Close()

	second := r.client()
	second.dir = first.dir
	want := first.accepts("2.0.0")
	if got := second.accepts("2.0.0"); !got.Expires.Equal(want.Expires) || got.Payloads[0] != want.Payloads[0] {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !strings.Contains(second.log.String(), "cannot be reached") {
		t.Errorf("logged: %s", second.log)
	}
	second.wonders("3.0.0", "refused") // it may be listed by now
	second.now = epoch.Add(25 * 3600e9)
	second.wonders("2.0.0", "refused")
	r.client().wonders("2.0.0", "refused")
}

// An error of the server's, too, is no reason to forget what was signed; nor to refuse what may have been signed since.
func TestRestart_repositoryBroken(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	c.accepts("1.0.0")
	r.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	c.accepts("1.0.0")
	c.wonders("2.0.0", "502")
}

// Each file of the cache may be lost, cut or spoilt: it is fetched again, and what is left protects as before.
func TestCache_damaged(t *testing.T) {
	for _, name := range []string{
		"metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json", "metadata/app.json", "metadata/root.json", "roots/2.root.json",
	} {
		for how, spoil := range map[string]func(string) string{
			"empty":   func(string) string { return "" },
			"cut":     func(s string) string { return s[:len(s)/2] },
			"zeros":   func(s string) string { return strings.Repeat("\x00", len(s)) },
			"null":    func(string) string { return "null" },
			"changed": func(s string) string { return strings.Replace(s, `"sig":"`, `"sig":"00`, 1) },
			"odd":     func(s string) string { return strings.Replace(s, `"keyid"`, `"keyid":"x","y"`, 2) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				r := newRepo(t)
				r.delegate("app", appID+"/*/*/*/*")
				r.nextRoot()
				r.publish()
				c := r.client()
				_, err := c.verify("1.0.0", file("app.bin"), file("other"))
				must(t, err)
				file := filepath.Join(c.dir, filepath.FromSlash(name))
				data, err := os.ReadFile(file)
				must(t, err)
				must(t, os.WriteFile(file, []byte(spoil(string(data))), 0o600))
				c.accepts("1.0.0")
				c.accepts("1.0.0")
			})
		}
	}
}

// With a damaged timestamp the other versions still count.
func TestCache_damagedTimestampStillProtects(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	old := r.saved()
	r.publish()
	c.accepts("1.0.0")
	must(t, os.WriteFile(filepath.Join(c.dir, "metadata", "timestamp.json"), nil, 0o600))
	r.serveAgain(old)
	c.refuses(trust.ErrRollback)
	if !strings.Contains(c.log.String(), "damaged") {
		t.Errorf("logged: %s", c.log)
	}
}

// A program that pins another repository's root is not held to what the old one said.
func TestCache_ofAnotherRepository(t *testing.T) {
	old := newRepo(t)
	old.nextRoot()
	old.nextRoot()
	for range 5 {
		old.publish()
	}
	before := old.client()
	before.accepts("1.0.0")
	r := newRepo(t)
	after := r.client()
	after.dir = before.dir
	after.accepts("1.0.0")
}

// A program may pin a newer root than the chain on disk begins with, or an older one again.
func TestCache_pinnedRootMoves(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	r.nextRoot()
	c.accepts("1.0.0")
	r.nextRoot()
	newer := r.client(func(config *tuf.Config) { config.Root = r.files["3.root.json"] })
	newer.dir = c.dir
	r.nextRoot()
	newer.accepts("1.0.0")
	c.accepts("1.0.0")
}

// A folder that cannot be written to leaves the question open, as a full disk does.
func TestCache_unwritable(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	c.dir = filepath.Join(c.dir, "file")
	must(t, os.WriteFile(c.dir, nil, 0o600))
	c.wonders("1.0.0", "open the cached metadata")
	c.dir = ""
	c.wonders("1.0.0", "names no folder")
}

// A role that is named like a file of ours takes nothing away.
func TestCache_roleNames(t *testing.T) {
	for _, role := range []string{metadata.ROOT, "2.root", "../roots/2.root", "timestamp", "a/b ?#"} {
		t.Run(role, func(t *testing.T) {
			r := newRepo(t)
			c := r.client()
			for range 7 {
				r.nextRoot()
			}
			c.accepts("1.0.0")
			roots := map[string]string{}
			for name, data := range r.files {
				roots[name] = string(data)
			}
			r.delegate(role, appID+"/*/*/*/*")
			r.publish()
			_, _ = c.verify("1.0.0", file("app.bin"), file("other")) // which may be refused
			for version := 2; version <= 8; version++ {
				name := fmt.Sprintf("%d.root.json", version)
				data, err := os.ReadFile(filepath.Join(c.dir, "roots", name))
				must(t, err)
				if string(data) != roots[name] {
					t.Errorf("%s is %s", name, data)
				}
			}
		})
	}
}
