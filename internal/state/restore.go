package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// restore puts back what stands beside the journal, should somebody have deleted the directory under our hands: the lock that keeps other
// processes out, and the id that the journal is written for, without which the next start would take it for another machine's. What another
// process has put there meanwhile stays as it is. Called before the journal is written again, by whoever writes it.
func (d *Dir) restore() error {
	if !d.holdsLock() {
		if err := makeDir(d.Path); err != nil {
			return fmt.Errorf("make state directory again: %w", err)
		}
		lock, err := takeLock(filepath.Join(d.Path, lockName))
		if err != nil {
			return fmt.Errorf("the lock was deleted, and cannot be taken again: %w", err)
		}
		_ = d.lock.Close() // of a file that has no name any more
		d.lock = lock
	}
	if d.host == nil {
		return nil
	}
	return restoreMachineID(d.Path, d.MachineID, *d.host)
}

// holdsLock reports whether the lock that other processes find is the one that this process has taken.
func (d *Dir) holdsLock() bool {
	ours, err := d.lock.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(filepath.Join(d.Path, lockName))
	return err == nil && os.SameFile(ours, found)
}

// restoreMachineID writes the id that the directory kept again, unless it has another one by now.
func restoreMachineID(dir, id, host string) error {
	path := filepath.Join(dir, machineIDFile)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read machine id: %w", err)
	}
	switch found, _ := parseMachineID(content); {
	case found == id:
		return nil
	case isUUID(found):
		return fmt.Errorf("machine id file %s was replaced by one with another id: restart the program", path)
	default:
		return writeMachineID(path, id, host)
	}
}
