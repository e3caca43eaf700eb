//go:build unix

package state_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// fullDisk is a process whose disk is full for a while: its files may not grow beyond a limit, or not be written at all.
// A process of its own, since the limit holds for the test's log too.
func fullDisk(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	before := limit.Cur
	disk := func(bytes uint64) {
		limit.Cur = bytes
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			panic(err)
		}
	}
	d, err := state.Open(args[0], machine, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	j := d.Journal
	for _, s := range toOffered {
		if err := j.Do(appA, s.do); err != nil {
			return err
		}
	}
	big := send(state.Report{Type: 1, Result: 1, Previous: strings.Repeat("x", 5000)})
	// Failing to grow (when the file must), in the middle of the pages, and at every write.
	for _, size := range []uint64{32 << 10, 4 * 4096, 2*4096 + 100, 4096 + 10, 1, 0} {
		disk(size)
		failed := 0
		for range 20 { // until it must grow
			if err := j.Do(appB, big.do); err != nil {
				failed++
				if !errors.Is(err, syscall.EFBIG) && !strings.Contains(err.Error(), "file too large") {
					return fmt.Errorf("limit %d: %w", size, err)
				}
			}
		}
		err := j.Do(appA, offer.do)
		if failed == 0 || err == nil || errors.Is(err, state.ErrTransition) {
			return fmt.Errorf("limit %d: %d transitions failed, then %w", size, failed, err)
		}
		if err := j.Sync(); err == nil {
			return fmt.Errorf("limit %d: synced", size)
		}
		if n := j.Get(appB).LastSeq; n%20 != 0 {
			return fmt.Errorf("limit %d: report %d is the last in memory", size, n)
		}
		disk(before)
		if err := j.Sync(); err != nil {
			return err
		}
	}
	disk(0)
	if err := j.Do(appA, succeed.do); err == nil {
		return errors.New("written to a full disk")
	}
	if len(args) > 1 { // killed before there is space again
		return nil
	}
	disk(before)
	return d.Close()
}

func TestDo_fullDisk(t *testing.T) {
	dir := t.TempDir()
	must(t, child(t, "full", dir).Run())
	want(t, "files set aside", len(setAside(t, dir)), 0)
	d := open(t, dir)
	want(t, "version", d.Journal.Get(appA).Version, "2.0.0")
	want(t, "reports", d.Journal.Get(appB).LastSeq, 120)
	must(t, d.Close())
}

// A process that dies before its disk has space again leaves the journal as it was.
func TestDo_fullDiskThenDeath(t *testing.T) {
	dir := t.TempDir()
	must(t, child(t, "full", dir, "die").Run())
	want(t, "files set aside", len(setAside(t, dir)), 0)
	a := open(t, dir).Journal.Get(appA)
	want(t, "phase", a.Update.Phase, state.Offered)
	want(t, "times handed over", a.Tried.Handed, 7)
}

// A start on a full disk works where a journal is there already, and says what is wrong where not.
func TestOpen_fullDisk(t *testing.T) {
	full := func(dir string) error {
		cmd := child(t, "full-start", dir)
		out, err := cmd.Output()
		t.Logf("%s", out)
		return err
	}
	dir := t.TempDir()
	take(t, open(t, dir).Journal, appA, toOffered...)
	copied := snapshot(t, dir)
	must(t, full(copied))
	want(t, "files set aside", len(setAside(t, copied)), 0)
	if err := full(t.TempDir()); err == nil {
		t.Error("started with a journal that could not be written")
	}
}

// startFull is a process that starts on a full disk.
func startFull(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	d, err := state.Open(args[0], machine, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if d.Journal.Get(appA).Update == nil {
		return os.ErrNotExist
	}
	return d.Close()
}

// diskChildren are the processes of these tests.
func diskChildren() map[string]func([]string) error {
	return map[string]func([]string) error{"full": fullDisk, "full-start": startFull}
}
