//go:build unix

package apply_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/apply"
)

// versioned makes an Archive's folder with versions in it, the last one current.
func versioned(t *testing.T, a apply.Archive, versions ...string) apply.Archive {
	t.Helper()
	a.Dir = t.TempDir()
	for _, v := range versions {
		must(t, a.Apply(t.Context(), offer(t, v, tarOf(t, site(v)...))))
	}
	return a
}

// cut applies a version, and is killed before its verdict; then its probe fails.
func cut(t *testing.T, a apply.Archive, version string, meanwhile func()) error {
	t.Helper()
	next := offer(t, version, tarOf(t, site(version)...))
	_, lived := living(func() error { return a.Faulty(killAt("after: switch", 1)).Apply(t.Context(), next) })
	want(t, "lived", lived, false)
	meanwhile()
	next.Attempt = 2
	a.Probe = bad
	return a.Apply(t.Context(), next)
}

func TestArchive_staysWhereTheVersionFromBeforeIsGone(t *testing.T) {
	a := versioned(t, apply.Archive{}, "1.0.0")
	err := cut(t, a, "2.0.0", func() { must(t, os.RemoveAll(filepath.Join(a.Dir, "versions", "1.0.0"))) })
	wantErr(t, err, errDone)
	want(t, "code", code(err), 1)
	wantText(t, err, "stays at version 2.0.0")
	wantSite(t, a.Dir, "2.0.0")
}

func TestArchive_staysWhereItsNoteIsGone(t *testing.T) {
	a := versioned(t, apply.Archive{})
	a.Probe = apply.ProbeFunc(func(context.Context) error {
		must(t, os.Remove(filepath.Join(a.Dir, "versions", ".2.0.0.json")))
		return errDone
	})
	err := a.Apply(t.Context(), offer(t, "2.0.0", tarOf(t, site("2.0.0")...)))
	want(t, "code", code(err), 1)
	wantSite(t, a.Dir, "2.0.0")
}

// A first version that was found well stays, for there is none to go back to.
func TestArchive_keepsAFirstOneThatWasWell(t *testing.T) {
	a := versioned(t, apply.Archive{}, "1.0.0")
	a.Probe = bad
	want(t, "code", code(a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...)))), 1)
	wantSite(t, a.Dir, "1.0.0")
}

// A clock that was ahead makes an old version look like the newest.
func TestArchive_keepsTheOneToGoBackToWhateverTheClockSays(t *testing.T) {
	a := versioned(t, apply.Archive{}, "1.0.0")
	path := filepath.Join(a.Dir, "versions", ".1.0.0.json")
	var note map[string]any
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, json.Unmarshal(content, &note))
	note["at"] = time.Now().Add(24 * time.Hour)
	content, err = json.Marshal(note)
	must(t, err)
	must(t, os.WriteFile(path, content, 0o600))
	for _, v := range []string{"2.0.0", "3.0.0"} {
		must(t, a.Apply(t.Context(), offer(t, v, tarOf(t, site(v)...))))
	}
	want(t, "versions", names(t, filepath.Join(a.Dir, "versions")), ".2.0.0.json .3.0.0.json 2.0.0 3.0.0")
	err = cut(t, a, "4.0.0", func() {})
	want(t, "code", code(err), 44)
	wantSite(t, a.Dir, "3.0.0")
}

// An old version that becomes current again goes back to the one it replaced, however old it is itself.
func TestArchive_goesBackFromAnOldVersion(t *testing.T) {
	a := versioned(t, apply.Archive{Keep: 3}, "1.0.0", "2.0.0")
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
	wantSite(t, a.Dir, "1.0.0")
	a.Probe = bad
	want(t, "code", code(a.Apply(t.Context(), offer(t, "3.0.0", tarOf(t, site("3.0.0")...)))), 44)
	wantSite(t, a.Dir, "1.0.0")
	err := cut(t, a, "2.0.0", func() {})
	want(t, "code", code(err), 44)
	wantSite(t, a.Dir, "1.0.0")

	// Killed with one that was never well, and back to the one before: that stays whatever is said of it now.
	a = versioned(t, apply.Archive{}, "1.0.0")
	_, _ = living(func() error {
		return a.Faulty(killAt("after: switch", 1)).Apply(t.Context(), offer(t, "2.0.0", tarOf(t, site("2.0.0")...)))
	})
	activated := false
	a.Activate, a.Probe = func(context.Context) error { activated = true; return nil }, bad
	want(t, "code", code(a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...)))), 1)
	want(t, "activated", activated, true)
	wantSite(t, a.Dir, "1.0.0")
}

// The owner has a link of the same name, as Capistrano makes it.
func TestArchive_restoresTheOwnersLink(t *testing.T) {
	for _, absolute := range []bool{false, true} {
		a := versioned(t, apply.Archive{Probe: bad})
		must(t, os.MkdirAll(filepath.Join(a.Dir, "releases", "2024"), 0o755))
		write(t, filepath.Join(a.Dir, "releases", "2024", "index.html"), "mine", 0o644)
		to := "releases/2024"
		if absolute {
			to = filepath.Join(a.Dir, to)
		}
		link := filepath.Join(a.Dir, "current")
		must(t, os.Symlink(to, link))
		err := a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...)))
		want(t, "code", code(err), 44)
		wantText(t, err, "back at "+to)
		wantFile(t, filepath.Join(link, "index.html"), "mine")
		is, err := os.Readlink(link)
		must(t, err)
		want(t, "link", is, to)

		err = cut(t, a, "2.0.0", func() { must(t, os.RemoveAll(filepath.Join(a.Dir, "releases"))) })
		want(t, "code", code(err), 1)
		wantSite(t, a.Dir, "2.0.0")
	}
}

func TestArchive_refusesToReplaceAFolder(t *testing.T) {
	a := versioned(t, apply.Archive{})
	must(t, os.Mkdir(filepath.Join(a.Dir, "current"), 0o755))
	err := a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...)))
	wantText(t, err, "no symbolic link: move it away")
	want(t, "code", code(err), 5)
}

func TestArchive_aFailedSyncIsRolledBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first bool
		point string
		nth   int // from which it fails; the one alone for a positive one
		code  int
	}{
		{"after the switch", false, "before: sync .", 1, 44},
		{"after the switch, and after the way back", false, "before: sync .", -1, 44},
		{"after the first one came", true, "before: sync .", 1, 44},
		{"before the switch", false, "before: sync versions", 1, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := versioned(t, apply.Archive{}, "1.0.0")
			if tc.first {
				a = versioned(t, apply.Archive{})
			}
			n := 0
			err := a.Faulty(func(point string) error {
				if point == tc.point {
					if n++; n == tc.nth || tc.nth < 0 {
						return syscall.EIO
					}
				}
				return nil
			}).Apply(t.Context(), offer(t, "2.0.0", tarOf(t, site("2.0.0")...)))
			wantErr(t, err, syscall.EIO)
			want(t, "code", code(err), tc.code)
			if tc.first {
				want(t, "files", names(t, a.Dir), "versions")
				return
			}
			wantSite(t, a.Dir, "1.0.0")
			must(t, a.Restore(t.Context(), nil, ""))
			wantSite(t, a.Dir, "1.0.0")
		})
	}
}

// All that is unpacked is synced before the folder gets its name, that before the switch, and the switch after it.
func TestArchive_syncsWhatItUnpacks(t *testing.T) {
	a := versioned(t, apply.Archive{})
	var points []string
	must(t, a.Faulty(recording(&points)).Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
	want(t, "steps", strings.Join(points, ", "), "clean, sync file, sync file, sync file, extract, "+ // of its three files
		"sync folder, sync folder, sync folder, sync folder, sync files, "+ // bin, a/b, a, and its own
		"note, name folder, sync versions, link, switch, sync ., probe, note")
}

func TestArchive_limitsEntriesNotNames(t *testing.T) {
	var global bytes.Buffer // extended headers
	w := tar.NewWriter(&global)
	for range 60 {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "none"}}))
	}
	must(t, w.Close())
	for name, content := range map[string]string{
		"folder": tarOf(t, repeated("folder/", 60)...), "dot": tarOf(t, repeated("./", 60)...), "dot in a zip": zipOf(t, repeated("./", 60)...),
		"headers": global.String(),
	} {
		t.Run(name, func(t *testing.T) {
			err := apply.Archive{Dir: t.TempDir(), MaxFiles: 50}.Apply(t.Context(), offer(t, "1.0.0", content))
			wantText(t, err, "more than 50 files")
		})
	}
	enough := apply.Archive{Dir: t.TempDir(), MaxFiles: 62}
	must(t, enough.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, append(repeated("folder/", 60), item{name: "other/f"})...))))
}

func repeated(name string, n int) (list []item) {
	for range n {
		list = append(list, item{name: name, kind: tar.TypeDir, mode: 0o755})
	}
	return list
}

// The last mode of a folder counts, once all that is in it is there.
func TestArchive_keepsOneModeOfAFolder(t *testing.T) {
	dir := t.TempDir()
	must(t, apply.Archive{Dir: dir}.Apply(t.Context(), offer(t, "1.0.0", tarOf(t,
		item{name: "d/", kind: tar.TypeDir, mode: 0o777}, item{name: "d/f"}, item{name: "d/", kind: tar.TypeDir, mode: 0o550}, item{name: "d/g"}))))
	wantMode(t, filepath.Join(dir, "current", "d"), os.ModeDir|0o750)
	want(t, "files", names(t, filepath.Join(dir, "current", "d")), "f g")
}
