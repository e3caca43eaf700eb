package apply_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// stateRoom is enough, in KiB, for a client with its small payload: 16 MiB are to be spare.
const stateRoom = 20 << 10

// fill leaves no room on the disk of a directory. It returns how to make room again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name, err := fillDisk(dir)
	wantErr(t, err, syscall.ENOSPC)
	return func() { must(t, os.Remove(name)) }
}

// onTrial makes a self-update whose new version, 2.0.0, is never confirmed, with its state on a small disk.
func onTrial(t *testing.T) (path, stateDir string, ok bool) {
	stateDir, ok = smallDisk(t, 64)
	path = filepath.Join(t.TempDir(), "agent")
	old := filepath.Join(filepath.Dir(path), ".agent.omahaclient-old")
	must(t, os.WriteFile(path, agentOf(t, "2.0.0", "crash"), 0o755))
	must(t, os.WriteFile(old, agentOf(t, "1.0.0", "well"), 0o755))
	if ok {
		trial := state.Trial{AppID: appA, Version: "2.0.0", Path: path, Old: old, Digest: digest(t, path)}
		must(t, trial.Save(stateDir))
		release, err := state.Lock(stateDir) // as a Client has
		must(t, err)
		release()
	}
	return path, stateDir, ok
}

// recovers starts a program that recovers, and returns the version that runs in the end.
func recovers(t *testing.T, path, stateDir string) string {
	t.Helper()
	cmd := child(t, "recovering", stateDir)
	cmd.Path = path
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// A release that fills the disk and crashes does not stay: its starts are counted all the same.
func TestRecover_countsOnAFullDisk(t *testing.T) {
	path, dir, ok := onTrial(t)
	if !ok {
		return
	}
	free := fill(t, dir)
	for n := range 3 {
		want(t, "version", recovers(t, path, dir), "2.0.0")
		want(t, "starts", starts(t, dir), n+1)
	}
	want(t, "version in the end", recovers(t, path, dir), "1.0.0")
	trial, err := state.LoadTrial(dir)
	must(t, err)
	want(t, "the next Client is told", trial.RolledBack, true)
	free()
}

// Where nothing can be counted, the version that is known to be good runs.
func TestRecover_rollsBackWhatItCannotCount(t *testing.T) {
	path, dir, ok := onTrial(t)
	if !ok {
		return
	}
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	want(t, "version", recovers(t, path, dir), "1.0.0")
	want(t, "version of the next start", recovers(t, path, dir), "1.0.0")
}

// A lock whose note does not fit on the disk is not asked for.
func TestFleetLock_diskFull(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	var ok bool
	if w.dir, ok = smallDisk(t, stateRoom); !ok {
		return
	}
	w.offering(appA, "2.0.0", []byte("x"))
	l := m.around(apply.Func(func(context.Context, omahaclient.UpdateOffer) error {
		t.Error("applied without the lock")
		return nil
	}))
	var free func()
	err := w.outcome(apply.Func(func(ctx context.Context, o omahaclient.UpdateOffer) error {
		free = fill(t, w.dir)
		err := l.Apply(ctx, o)
		free()
		return err
	}))
	wantErr(t, err, syscall.ENOSPC)
	want(t, "code", code(err), 5)
	want(t, "times asked", len(m.asked), 0)
}

// A version whose trial cannot be written down is not put in place.
func TestBinary_noTrialOnAFullDisk(t *testing.T) {
	w := onSockets(t)
	var ok bool
	if w.dir, ok = smallDisk(t, stateRoom); !ok {
		return
	}
	path := filepath.Join(t.TempDir(), "agent")
	must(t, os.WriteFile(path, agentOf(t, "1.0.0", "fills"), 0o755))
	w.offering(appA, "2.0.0", []byte("x"))
	out := w.supervised(path, w.reached(appA, testserver.Error), agentLogs+"=1")
	want(t, "code", w.instance(appA).ErrorCode, 5)
	version, _, err := who(path)
	must(t, err)
	want(t, "version in place", version, "1.0.0")
	wantText(t, errors.New(out), "write trial of version 2.0.0")
}
