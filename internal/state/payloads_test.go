package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// payload makes a payload folder with a file in it.
func payload(t *testing.T, d *state.Dir, app, version string) (dir string) {
	t.Helper()
	dir, err := d.PayloadDir(app, identity(version), "0")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(version), 0o600))
	return dir
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

func TestPayloadDir_staysWithinTheDirectory(t *testing.T) {
	d := open(t, t.TempDir())
	a := payload(t, d, appA, "2.0.0")
	b := payload(t, d, appB, "2.0.0")
	want(t, "two apps share a folder", a == b, false)
	for _, app := range []string{"../../../etc", "/etc", `..\..`, "", ".", "a/b"} {
		dir := payload(t, d, app, "2.0.0")
		rel, err := filepath.Rel(d.Path, dir)
		must(t, err)
		want(t, dir+" is within", strings.HasPrefix(rel, "payloads"+string(filepath.Separator)), true)
	}
	for _, name := range []string{"", ".", "..", "../x", "/x", "x/y", "x/../y"} {
		if dir, err := d.PayloadDir(appA, name, "0"); err == nil {
			t.Errorf("identity %q: %s", name, dir)
		}
		if dir, err := d.PayloadDir(appA, "x", name); err == nil {
			t.Errorf("payload %q: %s", name, dir)
		}
	}
	for _, mediaType := range []string{"binary", "../..", "application/vnd.oci.image"} {
		dir, err := d.SharedDir(mediaType)
		must(t, err)
		want(t, "folder above", filepath.Dir(dir), filepath.Join(d.Path, "shared"))
	}
}

func TestClean_keepsWhatIsNeeded(t *testing.T) {
	d := open(t, t.TempDir())
	old, open := payload(t, d, appA, "1.0.0"), payload(t, d, appA, "2.0.0")
	other := payload(t, d, appB, "1.0.0")
	must(t, d.Clean(appA, []string{identity("2.0.0")}))
	want(t, "old release", exists(t, old), false)
	want(t, "open release", exists(t, open), true)
	want(t, "another app's", exists(t, other), true)
	must(t, d.Clean(appA, nil))
	want(t, "the app's folder", exists(t, filepath.Dir(filepath.Dir(open))), false)
	must(t, d.Clean(appA, nil))
	must(t, d.Clean("io.example.unknown", []string{"x"}))
}

func TestCleanAll_keepsWhatOpenUpdatesNeed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps []step
		keep  bool
	}{
		{"granted", toGranted, true},
		{"fetched", toFetched, true},
		{"offered", toOffered, true},
		{"installed", toInstalled, true},
		{"failed, to be tried again", append(toOffered[:4:4], fail), true},
		{"complete", append(toOffered[:4:4], succeed), false},
		{"another release since", append(toOffered[:4:4], fail, grant("3.0.0")), false},
		{"nothing known", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			take(t, d.Journal, appA, tc.steps...)
			file, gone := payload(t, d, appA, "2.0.0"), payload(t, d, "io.example.gone", "2.0.0")
			must(t, d.CleanAll(nil))
			want(t, "payload kept", exists(t, file), tc.keep)
			want(t, "payload of an app that is gone kept", exists(t, gone), false)
			want(t, "journal", exists(t, filepath.Join(dir, "journal.db")), true)
		})
	}
}

// Links in the payload folders are removed, never followed. One in the place of all of them was put there by somebody,
// who is told.
func TestClean_followsNoLinks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		link    func(payloads, app string) string // what becomes a link, from the names of folders
		refused bool
	}{
		{"payload folder", func(payloads, app string) string { return filepath.Join(payloads, app, "link") }, false},
		{"app folder", func(payloads, app string) string { return filepath.Join(payloads, app) }, false},
		{"all payloads", func(payloads, app string) string { return payloads }, true},
	} {
		for _, target := range []string{"outside", "inside"} {
			t.Run(tc.name+" to the "+target, func(t *testing.T) {
				base := t.TempDir()
				d := open(t, filepath.Join(base, "state"))
				app := filepath.Base(filepath.Dir(filepath.Dir(payload(t, d, appA, "2.0.0"))))
				victim := filepath.Join(base, "victim")
				if target == "inside" {
					victim = filepath.Join(d.Path, "victim")
				}
				must(t, os.MkdirAll(filepath.Join(victim, app, identity("2.0.0")), 0o700))
				link := tc.link(filepath.Join(d.Path, "payloads"), app)
				must(t, os.RemoveAll(link))
				must(t, os.Symlink(victim, link))

				err := errors.Join(d.Clean(appA, nil), d.CleanAll(nil))
				want(t, "what it pointed to", exists(t, filepath.Join(victim, app, identity("2.0.0"))), true)
				want(t, "link", exists(t, link), tc.refused)
				if want(t, "refused", err != nil, tc.refused); !tc.refused {
					payload(t, d, appA, "2.0.0") // makes folders again
				}
			})
		}
	}
}

// What lies between the payload folders is removed, whatever it is.
func TestCleanAll_strangeFiles(t *testing.T) {
	d := open(t, t.TempDir())
	take(t, d.Journal, appA, toOffered...)
	file := payload(t, d, appA, "2.0.0")
	var strange []string
	for _, dir := range []string{filepath.Join(d.Path, "payloads"), filepath.Dir(filepath.Dir(file))} {
		for _, name := range []string{"file", ".hidden"} {
			strange = append(strange, filepath.Join(dir, name))
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
	}
	must(t, d.CleanAll(nil))
	want(t, "payload", exists(t, file), true)
	want(t, "strange files", slices.ContainsFunc(strange, func(path string) bool { return exists(t, path) }), false)
}

// What payloads of a media type shared is removed with its fetcher, though not from under an update that is still open.
func TestCleanAll_sharedOfATypeThatIsGone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps []step
		keep  bool
	}{
		{"nothing open", append(toOffered[:4:4], succeed), false},
		{"offered", toOffered, true},
		{"installed", toInstalled, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := open(t, t.TempDir())
			take(t, d.Journal, appA, tc.steps...)
			blob := func(mediaType string) string {
				dir, err := d.SharedDir(mediaType)
				must(t, err)
				path := filepath.Join(dir, "blobs", "x")
				must(t, os.MkdirAll(filepath.Dir(path), 0o700))
				must(t, os.WriteFile(path, nil, 0o600))
				return path
			}
			used, gone := blob("application/vnd.example.used"), blob("application/vnd.example.gone")
			must(t, d.CleanAll([]string{"binary", "application/vnd.example.used"}))
			want(t, "what is used", exists(t, used), true)
			want(t, "what is not", exists(t, gone), tc.keep)
			want(t, "its folder", exists(t, filepath.Dir(filepath.Dir(gone))), tc.keep)
		})
	}
}

// A link in the place of what is shared is not followed, and told of.
func TestCleanAll_sharedIsALink(t *testing.T) {
	base := t.TempDir()
	d := open(t, filepath.Join(base, "state"))
	victim := filepath.Join(base, "victim")
	must(t, os.MkdirAll(filepath.Join(victim, "x"), 0o700))
	must(t, os.Symlink(victim, filepath.Join(d.Path, "shared")))
	want(t, "told", d.CleanAll(nil) != nil, true)
	want(t, "what it pointed to", exists(t, filepath.Join(victim, "x")), true)
}
