package state

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Dir is an open state directory. It belongs to this process until Close.
type Dir struct {
	Path      string
	MachineID string
	Journal   *Journal
}

// Resolve returns the directory that a client keeps its state in: explicit; else the first entry of $STATE_DIRECTORY
// (systemd's); else omahaclient/<firstApp> below $XDG_STATE_HOME, ~/.local/state or, for root without a home, /var/lib.
func Resolve(explicit, firstApp string) (string, error) {
	if explicit != "" {
		return filepath.Abs(explicit)
	}
	if first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); first != "" {
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
	if err := makeDir(path); err != nil {
		return nil, err
	}
	// The journal's lock comes first: two starts at once must not both make a machine id.
	s, err := openOrReplace(filepath.Join(path, journalFile), log)
	if err != nil {
		return nil, err
	}
	if machineID == "" {
		if machineID, err = keptMachineID(path, log); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	s, apps, err := s.claim(machineID, log)
	if err != nil {
		return nil, err
	}
	return &Dir{Path: path, MachineID: machineID, Journal: newJournal(s, apps, log)}, nil
}

// Close writes what is left to be written and releases the directory.
func (d *Dir) Close() error { return d.Journal.close() }

// makeDir makes the directory private to its owner, as all below it is.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory needs its x bit
			return fmt.Errorf("make state directory private: %w", err)
		}
	}
	return nil
}

// syncDir makes renames and new names in dir durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be opened for this there, nor need it be
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
