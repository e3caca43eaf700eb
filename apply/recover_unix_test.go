//go:build unix

package apply_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/state"
)

func init() { children["recovering"] = recovering } //nolint:gochecknoinits // before TestMain

// recovering is a program that does nothing but recover, and tells its version on standard output. Its argument is the state directory.
func recovering(args []string) error {
	recovered := apply.Recover(args[0])
	path, err := os.Executable()
	if err != nil {
		return err
	}
	version, _, err := who(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(version + "\n")
	if recovered != nil {
		return recovered
	}
	return err
}

// fillDisk writes a file until its disk is full.
func fillDisk(dir string) (name string, err error) {
	name = filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		return name, err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	return name, err
}

// digest is of a file, as a trial has it.
func digest(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}

// ownTrial is a trial of the program that runs: this test.
func ownTrial(t *testing.T) state.Trial {
	t.Helper()
	path, err := os.Executable()
	must(t, err)
	path, err = filepath.EvalSymlinks(path)
	must(t, err)
	return state.Trial{AppID: appA, Version: "1.0.0", Path: path, Old: path, Digest: digest(t, path)}
}

// starts are what Recover has counted.
func starts(t *testing.T, dir string) int {
	t.Helper()
	trial, err := state.LoadTrial(dir)
	must(t, err)
	if trial == nil {
		t.Fatal("no trial")
	}
	return trial.Starts
}

func TestRecover_countsNoStartBesideARunningClient(t *testing.T) {
	w := onSockets(t)
	c := w.client(app(appA, omahaclient.WithManualConfirm()))
	trial := ownTrial(t)
	must(t, trial.Save(w.dir))
	for range 5 {
		must(t, apply.Recover(w.dir))
	}
	want(t, "starts beside it", starts(t, w.dir), 0)
	must(t, c.Close())
	must(t, apply.Recover(w.dir))
	want(t, "starts after it", starts(t, w.dir), 1)
	must(t, apply.Recover(t.TempDir()))
}

// What is wrong in another app's directory stops nothing.
func TestRecover_goesOnAfterADirectoryOfAnotherApp(t *testing.T) {
	base := t.TempDir()
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", base)
	for _, id := range []string{"a", "b", "c"} {
		must(t, os.MkdirAll(filepath.Join(base, "omahaclient", id), 0o700))
	}
	for _, id := range []string{"a", "c"} {
		write(t, filepath.Join(base, "omahaclient", id, "trial.json"), "{"+id, 0o600)
	}
	own := filepath.Join(base, "omahaclient", "b")
	trial := ownTrial(t)
	must(t, trial.Save(own))
	err := apply.Recover("")
	want(t, "starts", starts(t, own), 1)
	if err == nil || strings.Count(err.Error(), "recover: ") != 2 {
		t.Errorf("error %v; want one for each directory", err)
	}
}
