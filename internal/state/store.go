package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	journalFile   = "journal.db"
	journalFormat = "omahaclient-1"
	lockPatience  = time.Millisecond // a lock that is taken stays so: its owner is a running program
)

var (
	// ErrLocked is returned by Open for a directory that another process (or Client) uses.
	ErrLocked = errors.New("state directory is in use by another process")

	errBroken  = errors.New("journal file is damaged")
	errForeign = errors.New("journal file belongs to something else")
)

// Names within the file; constant, though Go has no constant slices.
var (
	bucketFile = []byte("file")
	bucketApps = []byte("apps")
	keyFormat  = []byte("format")
	keyMachine = []byte("machine")
)

// store is the journal's file: bbolt with a bucket for the file itself and one for the apps.
type store struct {
	path    string
	machine string // the machine id that the file was written for; "" in a new file
	db      *bolt.DB
	apps    map[string]*App // as read at the start
}

// openStore opens the file and reads all of it once, so that damage shows now.
func openStore(path string) (*store, error) {
	s := &store{path: path}
	err := guard(func() (err error) {
		s.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockPatience, FreelistType: bolt.FreelistMapType, NoStatistics: true})
		if err != nil {
			return err
		}
		if err := s.whole(); err != nil {
			return err
		}
		return s.db.View(s.load)
	})
	if err == nil {
		return s, nil
	}
	// After a panic bbolt may hold its own locks: closing could then wait for ever, and the lock on the file goes
	// with the file, which is about to be set aside.
	if s.db != nil && !errors.Is(err, errPanic) {
		err = errors.Join(err, s.db.Close())
	}
	return nil, classify(err)
}

// openOrReplace opens the file, or a new one in its place if it is damaged or foreign.
func openOrReplace(path string, log *slog.Logger) (*store, error) {
	s, err := openStore(path)
	if errors.Is(err, errBroken) || errors.Is(err, errForeign) {
		if err = setAside(path, log, err); err == nil {
			s, err = openStore(path)
		}
	}
	return s, err
}

// classify tells a file that others use and an answer of the system (no space, no permission) from a damaged file.
func classify(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil, errors.Is(err, errForeign), errors.Is(err, errBroken), errors.As(err, &errno):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	default:
		return fmt.Errorf("%w: %w", errBroken, err)
	}
}

// whole refuses a file that is shorter than its own header says: reading the missing end would fault.
func (s *store) whole() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: %d bytes long instead of %d", errBroken, info.Size(), tx.Size())
		}
		return nil
	})
}

// load reads what the file holds; a new one holds nothing.
func (s *store) load(tx *bolt.Tx) error {
	s.apps = map[string]*App{}
	file, apps := tx.Bucket(bucketFile), tx.Bucket(bucketApps)
	if file == nil || apps == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return fmt.Errorf("%w: no journal in it", errForeign)
		}
		return nil
	}
	if format := string(file.Get(keyFormat)); format != journalFormat {
		return fmt.Errorf("%w: format %q, not %q", errForeign, format, journalFormat)
	}
	s.machine = string(file.Get(keyMachine))
	return apps.ForEach(func(k, v []byte) error {
		a, err := decode(v)
		if err != nil {
			return fmt.Errorf("%w: app %q: %w", errBroken, k, err)
		}
		s.apps[string(k)] = a
		return nil
	})
}

// claim makes the file the journal of machine: a new one is initialized, another machine's is replaced.
func (s *store) claim(machine string, log *slog.Logger) (*store, map[string]*App, error) {
	if s.machine == machine {
		apps := s.apps
		s.apps = nil
		return s, apps, nil
	}
	if s.machine != "" {
		cause := fmt.Errorf("%w: machine id %q, not %q", errForeign, s.machine, machine)
		err := errors.Join(s.close(), setAside(s.path, log, cause))
		if err != nil {
			return nil, nil, err
		}
		if s, err = openStore(s.path); err != nil {
			return nil, nil, err
		}
	}
	if err := s.initialize(machine); err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	return s, map[string]*App{}, nil
}

func (s *store) initialize(machine string) error {
	s.machine, s.apps = machine, nil
	return classify(guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucketFile)
			if err != nil {
				return err
			}
			_, err = tx.CreateBucketIfNotExists(bucketApps)
			return errors.Join(err, b.Put(keyFormat, []byte(journalFormat)), b.Put(keyMachine, []byte(machine)))
		})
	}))
}

// put writes the records in one transaction; nil deletes.
func (s *store) put(records map[string]*App) error {
	return classify(guard(func() error {
		if s.db == nil {
			return errBroken
		}
		return s.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketApps)
			if b == nil {
				return errBroken
			}
			for id, a := range records {
				if err := putApp(b, id, a); err != nil {
					return err
				}
			}
			return nil
		})
	}))
}

func putApp(b *bolt.Bucket, id string, a *App) error {
	if a == nil {
		return b.Delete([]byte(id))
	}
	v, err := encode(a)
	if err != nil {
		return err
	}
	return b.Put([]byte(id), v)
}

// replace sets the present file aside and starts a new one. The broken database is abandoned, not closed: after a
// panic it may hold its own locks.
func (s *store) replace(log *slog.Logger, cause error) (*store, error) {
	if s.db != nil {
		if err := setAside(s.path, log, cause); err != nil {
			return nil, err
		}
		s.db = nil
	}
	fresh, err := openStore(s.path)
	if err != nil {
		return nil, err
	}
	return fresh, fresh.initialize(s.machine)
}

func (s *store) close() error {
	if s.db == nil {
		return nil
	}
	return guard(s.db.Close)
}

// setAside renames a file that cannot be used, so that it can be looked at and work goes on without it.
func setAside(path string, log *slog.Logger, cause error) error {
	name := fmt.Sprintf("%s.set-aside-%s", path, time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(path, name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set journal aside: %w", err)
	}
	log.Warn("journal set aside, starting afresh from the server's copy", "path", path, "set_aside", filepath.Base(name), "cause", cause)
	return syncDir(filepath.Dir(path))
}

var errPanic = errors.New("panic")

// guard turns what bbolt does on a damaged file, panics and memory faults, into errors.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// encode puts a checksum before the record's JSON: bbolt guards its header alone.
func encode(a *App) ([]byte, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	v := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(v, checksum(body))
	return append(v, body...), nil
}

func decode(v []byte) (*App, error) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != checksum(v[4:]) {
		return nil, errors.New("wrong checksum")
	}
	a := &App{}
	return a, json.Unmarshal(v[4:], a)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
