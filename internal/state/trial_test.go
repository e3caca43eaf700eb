package state_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

func TestTrial_isKeptUntilItEnds(t *testing.T) {
	dir := t.TempDir()
	got, err := state.LoadTrial(dir)
	must(t, err)
	if got != nil {
		t.Fatalf("trial %+v in an empty directory", got)
	}
	saved := state.Trial{AppID: appA, Version: "2.0.0", Path: "/p", Old: "/o", Digest: "sha256:0", Starts: 2, RolledBack: true}
	must(t, saved.Save(dir))
	got, err = state.LoadTrial(dir)
	must(t, err)
	want(t, "trial", *got, saved)
	must(t, state.DropTrial(dir))
	must(t, state.DropTrial(dir))
	got, err = state.LoadTrial(dir)
	must(t, err)
	if got != nil {
		t.Errorf("trial %+v after its end", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "trial.json"), []byte("{"), 0o600))
	if _, err := state.LoadTrial(dir); err == nil {
		t.Error("a damaged trial gave no error")
	}
}

// Marks are written over those from before, so that they need no room on the disk.
func TestTrial_isMarkedInPlace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "trial.json")
	trial := state.Trial{AppID: appA, Version: "2.0.0", Path: "/p", Old: "/o", Digest: "sha256:0"}
	must(t, trial.Save(dir))
	before, err := os.Stat(name)
	must(t, err)
	for trial.Starts = range 10 {
		must(t, trial.Mark(dir))
		got, err := state.LoadTrial(dir)
		must(t, err)
		want(t, "trial", *got, trial)
	}
	trial.RolledBack = true
	must(t, trial.Mark(dir))
	got, err := state.LoadTrial(dir)
	must(t, err)
	want(t, "trial", *got, trial)
	after, err := os.Stat(name)
	must(t, err)
	want(t, "the same file", os.SameFile(before, after), true)
	want(t, "size", after.Size(), before.Size())
}

// A file of another form is replaced; one that is gone is made again.
func TestTrial_isMarkedWhereItHasNoPlaceForThat(t *testing.T) {
	for name, content := range map[string]string{"of an older version": `{"app_id":"x","version":"2.0.0","path":"/p","old":"/o"}`, "short": "{}", "none": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if content != "" {
				must(t, os.WriteFile(filepath.Join(dir, "trial.json"), []byte(content), 0o600))
			}
			trial := state.Trial{AppID: appA, Version: "2.0.0", Path: "/p", Starts: 2}
			must(t, trial.Mark(dir))
			got, err := state.LoadTrial(dir)
			must(t, err)
			want(t, "trial", *got, trial)
		})
	}
	trial := state.Trial{}
	if trial.Mark(filepath.Join(t.TempDir(), "none")) == nil {
		t.Error("marked in a directory that is not there")
	}
}

func TestLockFile_isHeldUntilItsRelease(t *testing.T) {
	name := filepath.Join(t.TempDir(), "own.lock")
	release, err := state.LockFile(name)
	must(t, err)
	_, err = state.LockFile(name)
	wantErr(t, err, state.ErrLocked)
	release()
	release, err = state.LockFile(name)
	must(t, err)
	release()
}

func TestLock_isRefusedWhileAClientUsesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	release, err := state.Lock(dir)
	must(t, err)
	release()
	open(t, dir)
	_, err = state.Lock(dir)
	wantErr(t, err, state.ErrLocked)
}

func TestCandidates_followResolve(t *testing.T) {
	base := t.TempDir()
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", base)
	must(t, os.MkdirAll(filepath.Join(base, "omahaclient", appA), 0o700))
	must(t, os.MkdirAll(filepath.Join(base, "omahaclient", appB), 0o700))
	for _, tc := range []struct {
		name, explicit, env string
		want                int
	}{{"all apps", "", "", 2}, {"given", base, "", 1}, {"systemd's", "", base, 1}} {
		t.Setenv("STATE_DIRECTORY", tc.env)
		got, err := state.Candidates(tc.explicit)
		must(t, err)
		want(t, tc.name, len(got), tc.want)
	}
}
