package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/nebraska/omahaclient/internal/durable"
)

const lockName = "lock"

// ErrLocked is returned by Open for a directory that another process (or Dir) uses.
var ErrLocked = errors.New("state directory is in use by another process, or by another Client of this program: " +
	"close it, or choose another directory by WithStateDir")

// Dir is an open state directory. It belongs to this process until Close.
type Dir struct {
	Path      string
	MachineID string
	Journal   *Journal
	lock      *os.File // while the Journal is open, whoever writes it may replace this
	host      *string  // what the machine id's file says of the host; nil if the id is not kept here
}

// Resolve returns the directory that a client keeps its state in: explicit; else the first entry of $STATE_DIRECTORY
// (systemd's); else omahaclient/<firstApp> below $XDG_STATE_HOME, ~/.local/state or, for root without a home, /var/lib.
func Resolve(explicit, firstApp string) (string, error) {
	if explicit != "" {
		return filepath.Abs(explicit)
	}
	if first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), string(os.PathListSeparator)); first != "" {
		return filepath.Abs(first)
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // the XDG specification: relative paths are to be ignored
		base = ""
	}
	if home, err := os.UserHomeDir(); base == "" && err == nil && home != "" && home != "/" {
		base = filepath.Join(home, ".local", "state")
	}
	if base == "" && os.Geteuid() == 0 {
		base = "/var/lib"
	}
	if base == "" {
		return "", errors.New("no place for the state directory: neither STATE_DIRECTORY, XDG_STATE_HOME nor a home directory is set; name one with WithStateDir")
	}
	return filepath.Join(base, "omahaclient", firstApp), nil
}

// Open takes the directory, creating what is missing. A machineID of "" means the one that the directory keeps.
// ErrLocked says that another process has it. A journal that is damaged, or that belongs to another machine id, is set
// aside under another name and logged.
func Open(path, machineID string, log *slog.Logger) (*Dir, error) {
	return openDir(path, machineID, hostHash("/", os.Getenv), log)
}

// openDir is Open on the machine that host stands for.
func openDir(path, machineID, host string, log *slog.Logger) (d *Dir, err error) {
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	// The lock comes first: two starts at once must not both make a machine id, or set the other's journal aside. It is
	// on a file of its own, since the journal's may be renamed.
	lock, err := takeLock(filepath.Join(path, lockName))
	if err != nil {
		return nil, err
	}
	defer func() {
		if d == nil { // after a panic (of the log handler's) as well
			err = errors.Join(err, lock.Close())
		}
	}()
	made := &Dir{Path: path, MachineID: machineID, lock: lock}
	if machineID == "" {
		made.host = new(string)
		if made.MachineID, *made.host, err = keptMachineID(path, host, log); err != nil {
			return nil, advise(err)
		}
	}
	s, apps, err := openStore(filepath.Join(path, journalFile), made.MachineID, log)
	if err != nil {
		return nil, advise(err)
	}
	s.beside = made.restore
	made.Journal = newJournal(s, apps)
	return made, nil
}

// advise adds to an error what can be done about it.
func advise(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: let this program's user write there, or choose another directory by WithStateDir", err)
	}
	return err
}

func takeLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", advise(err))
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close writes what is left to be written and releases the directory. It may be called more than once.
func (d *Dir) Close() error {
	defer func() { _ = d.lock.Close() }() // nothing was written to it
	return d.Journal.close()
}

// makeDir makes the directory private to its owner, as all below it is. One that others may look into, and that holds
// more than our own files, stays as it is: somebody may rely on that. One that belongs to another user is refused: its owner can
// change what is in it, and so what this program installs, whatever its mode.
func makeDir(path string) error {
	if err := durable.MkdirAll(path); err != nil {
		return advise(err)
	}
	info, err := os.Stat(path)
	if err == nil {
		err = checkOwner(path, info)
	}
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	ours, err := isOurs(path)
	switch {
	case err != nil:
		return err
	case ours:
		if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory needs its x bit
			return fmt.Errorf("make it private: %w: name a directory below it by WithStateDir", err)
		}
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write to %s (mode %v), and it holds files of theirs: name a directory of this program alone", path, info.Mode().Perm())
	}
	return nil
}

// isOurs reports whether the directory is empty or has been a state directory before.
func isOurs(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	return len(entries) == 0 || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == journalFile }), err
}

// syncDir makes renames and new names in dir durable.
func syncDir(dir string) error { return durable.SyncDir(dir) }
