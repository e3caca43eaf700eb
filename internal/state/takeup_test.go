package state_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// A rebuild that a crash interrupts loses nothing, wherever it does. What it leaves besides is removed.
func TestOpen_afterAnInterruptedRebuild(t *testing.T) {
	for _, tc := range []struct {
		name    string
		old     string // what the crash left of the journal
		fresh   string // and of the new one
		machine string // that the new one is written for
		want    string // whose records are there then
		aside   int
	}{
		{"before the old one is set aside", "damaged", "sound", machine, "new", 1},
		{"between the two renames", "gone", "sound", machine, "new", 0},
		{"between the two renames, the old one made anew", "empty", "sound", machine, "new", 1},
		{"while the new one is written", "damaged", "damaged", machine, "none", 1},
		{"as it begins", "gone", "empty", machine, "none", 0},
		{"while the old one is sound", "sound", "sound", machine, "old", 0},
		{"on another machine", "gone", "sound", "machine-2", "none", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "journal.db")
			leave(t, path, tc.old, machine, "1.0.0")
			leave(t, path+".new", tc.fresh, tc.machine, "2.0.0")

			d := open(t, dir)
			records := map[string]string{"1.0.0": "old", "2.0.0": "new", "": "none"}
			want(t, "records", records[d.Journal.Get(appA).Version], tc.want)
			want(t, "set aside", len(setAside(t, dir)), tc.aside)
			want(t, "new file left", exists(t, path+".new"), false)
			take(t, d.Journal, appB, toOffered...)
			sameRecords(t, "after another crash", all(t, crashed(t, dir).Journal), all(t, d.Journal))
		})
	}
}

// leave puts a journal in which appA has that version at path, in that condition.
func leave(t *testing.T, path, condition, machine, version string) {
	t.Helper()
	if condition == "gone" {
		return
	}
	dir := t.TempDir()
	d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	prepare(t, d.Journal, appA, grant(version), succeed)
	must(t, d.Close())
	content, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	must(t, err)
	switch condition {
	case "empty":
		content = nil
	case "damaged":
		content = content[:len(content)/2]
	}
	must(t, os.WriteFile(path, content, 0o600))
}
