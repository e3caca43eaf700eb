package omahaclient_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The disk of these children is full for a while, or damages their journal between two lives.

// shareOfKills is what part of the kills each of these tests has.
const shareOfKills = 5

func someKills(t *testing.T) int {
	t.Helper()
	return max(int(number(t, "OMAHACLIENT_CRASH_KILLS", defaultKills))/shareOfKills, killsPerStory)
}

// Transactions fail since no file may be written (EFBIG, which is handled like ENOSPC): what a verdict returned nil for is kept, and
// nothing is wedged at the end.
func TestCrash_fullDisk(t *testing.T) {
	unwritten := 0
	stories(t, newCrashPlan(crashPatience), someKills(t), func(s *story, kills int) {
		s.full = true
		for s.kills < kills {
			s.untilKilled(func(life *crashLife) {
				life.FullAt, life.FullFor = 1+s.rng.IntN(12), 1+s.rng.IntN(6)
			})
		}
		s.settle()
		s.check()
		s.plan.count(&unwritten, strings.Count(s.errs.String(), "file too large"))
	})
	if unwritten == 0 {
		t.Error("every transaction could be written; want a full disk")
	}
}

// The same on a small disk that is really full. Where this machine lets nobody mount one, TestCrash_fullDisk is all there is, and the
// log says so.
func TestCrash_smallDisk(t *testing.T) {
	if err := smallDisk(t, t.TempDir()); err != nil {
		t.Log("this machine mounts no small disk:", err)
		return
	}
	unwritten := 0
	stories(t, newCrashPlan(crashPatience), someKills(t), func(s *story, kills int) {
		s.full = true
		disk := s.dir
		if err := smallDisk(t, disk); err != nil {
			s.fatalf("%v", err)
		}
		s.dir = filepath.Join(disk, "state")
		for s.kills < kills {
			s.untilKilled(func(life *crashLife) {
				if s.lives == 0 || s.rng.IntN(3) > 0 {
					s.fill(filepath.Join(disk, "filler"))
					life.Event, life.EventSize, life.Waits = "0.0.1", 30_000, false // for the journal to grow
				}
			})
			s.empty(filepath.Join(disk, "filler"))
			s.untilKilled(nil)
		}
		s.settle()
		s.check()
		s.plan.count(&unwritten, strings.Count(s.errs.String(), "no space left on device"))
	})
	if unwritten == 0 {
		t.Error("every transaction could be written; want a full disk")
	}
}

// fill leaves no space on a small disk.
func (s *story) fill(name string) {
	f, err := os.Create(name)
	if err != nil {
		s.fatalf("%v", err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for junk := make([]byte, size); err == nil; {
			_, err = f.Write(junk)
		}
		err = nil
	}
}

func (s *story) empty(name string) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.fatalf("%v", err)
	}
}

// The journal's file is cut off, or overwritten in part, between two lives: nothing panics, work goes on from the server's copy under
// the same machine id, and nothing is wedged at the end.
func TestCrash_cutJournal(t *testing.T) {
	aside := 0
	stories(t, newCrashPlan(crashPatience), someKills(t), func(s *story, kills int) {
		s.cut = true
		for s.kills < kills {
			s.untilKilled(nil)
			if s.rng.IntN(2) == 0 {
				s.damage(filepath.Join(s.dir, "journal.db"))
			}
		}
		s.settle()
		s.check()
		s.said(func(crashLine, []string) { s.plan.count(&aside, 1) }, "aside")
	})
	if aside == 0 {
		t.Error("no journal was set aside")
	}
}

// damage cuts a file off somewhere, or writes junk into it.
func (s *story) damage(name string) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return // killed before it made one
	}
	if err == nil && (s.rng.IntN(4) > 0 || info.Size() == 0) {
		err = os.Truncate(name, s.rng.Int64N(info.Size()+1))
	} else if err == nil {
		junk := make([]byte, 1+s.rng.IntN(5000))
		_, _ = rand.NewChaCha8([32]byte{byte(s.rng.Uint32())}).Read(junk) // never fails
		var f *os.File
		if f, err = os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			_, err = f.WriteAt(junk, s.rng.Int64N(info.Size()))
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		s.fatalf("%v", err)
	}
}

// crashPatience is how long a life lasts at most.
const crashPatience = 900 * time.Millisecond
