package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	journalFile   = "journal.db"
	journalFormat = "omahaclient-1"
	bucketFile    = "file" // about the file itself
	bucketApps    = "apps" // the records
	keyFormat     = "format"
	keyMachine    = "machine"
	keyTotal      = "total"
	freshMark     = ".new"           // of a new file that is to replace one that broke
	lockPatience  = time.Millisecond // a lock that is taken stays so: its owner is a running program
)

var (
	errBroken  = errors.New("journal file is damaged")
	errForeign = errors.New("journal file belongs to something else")
	errPanic   = errors.New("panic")
	errOther   = errors.New("another file was put in its place: restart the program")
)

// store is the journal's file: bbolt with a bucket for the file itself and one for the apps. It is not safe for
// concurrent use.
type store struct {
	path    string
	machine string // the machine id that the file is written for
	log     *slog.Logger
	total   total
	db      *bolt.DB     // nil when the file cannot be used any more
	file    *os.File     // db's own
	mark    mark         // of file
	beside  func() error // puts back what stands beside the file; nil for nothing
}

// openStore opens machine's journal and returns the records in it. A file that is damaged or somebody else's is set aside.
// The caller owns the directory.
func openStore(path, machine string, log *slog.Logger) (opened *store, apps map[string]*App, err error) {
	s := &store{path: path, machine: machine, log: log}
	defer func() {
		if opened == nil { // after a panic (of the log handler's) as well
			err = errors.Join(err, s.close())
		}
	}()
	apps, err = s.load()
	if err == nil {
		err = s.open()
	}
	if errors.Is(err, errBroken) || errors.Is(err, errForeign) {
		apps, s.total = nil, total{}
		cause := err
		var name string
		if name, err = s.setAside(); err == nil {
			log.Warn("journal set aside, starting afresh from the server's copy", "path", path, "set_aside", name, "cause", cause)
			err = s.open()
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if apps == nil {
		apps = map[string]*App{}
		if err := s.initialize(nil); err != nil {
			return nil, nil, fmt.Errorf("write journal %s: %w", path, err)
		}
	}
	return s, apps, nil
}

// read reads the whole file without trusting it. A file that does not exist, or holds nothing yet, has nil apps.
func (s *store) read() (map[string]*App, error) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: not a regular file", errForeign)
	case info.Size() == 0:
		return nil, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.readFrom(f, info.Size())
}

func (s *store) readFrom(file io.ReaderAt, size int64) (map[string]*App, error) {
	content := map[string]map[string][]byte{}
	err := walk(file, size, func(bucket string, key, value []byte) error {
		if content[bucket] == nil {
			content[bucket] = map[string][]byte{}
		}
		content[bucket][string(key)] = value
		return nil
	})
	if err != nil || len(content) == 0 {
		return nil, err
	}
	about, values := content[bucketFile], content[bucketApps]
	if format := string(about[keyFormat]); format != journalFormat {
		return nil, fmt.Errorf("%w: format %q, not %q", errForeign, format, journalFormat)
	}
	if owner := string(about[keyMachine]); owner != s.machine {
		return nil, fmt.Errorf("%w: machine id %q, not %q", errForeign, owner, s.machine)
	}
	apps := make(map[string]*App, len(values))
	for id, v := range values {
		if apps[id], err = decode(id, v); err != nil {
			return nil, broken("app %q: %w", id, err)
		}
	}
	s.total.written(values)
	if should := s.total.with(nil); string(about[keyTotal]) != string(should) {
		return nil, broken("%s, though it says %q", should, about[keyTotal])
	}
	return apps, nil
}

// open opens the file, which was read before or is new. The lock that bbolt takes on it is a second one: it holds should
// somebody have deleted the directory's.
func (s *store) open() error {
	err := guard(func() (err error) {
		s.db, err = bolt.Open(s.path, 0o600, &bolt.Options{
			Timeout: lockPatience, FreelistType: bolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
				s.file, err = os.OpenFile(name, flag, perm)
				return s.file, err
			},
		})
		return err
	})
	if err == nil {
		s.mark, _, err = look(s.path)
	}
	switch {
	case errors.Is(err, errPanic):
		s.abandon()
		return broken("%w", err)
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case err != nil && s.db != nil:
		return errors.Join(err, s.close())
	}
	return err
}

// initialize makes a new file this machine's journal, with these records.
func (s *store) initialize(values map[string][]byte) error {
	err := s.update(values, func(tx *bolt.Tx) error {
		file, err := tx.CreateBucketIfNotExists([]byte(bucketFile))
		if err != nil {
			return err
		}
		_, err = tx.CreateBucketIfNotExists([]byte(bucketApps))
		return errors.Join(err, file.Put([]byte(keyFormat), []byte(journalFormat)), file.Put([]byte(keyMachine), []byte(s.machine)))
	})
	return errors.Join(err, syncDir(filepath.Dir(s.path)))
}

// put writes the records in one transaction; nil deletes. An error that wraps errBroken says that nothing can be written
// any more until rebuild.
func (s *store) put(values map[string][]byte) error {
	if s.db == nil {
		return errBroken
	}
	now, size, err := look(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = broken("it was deleted")
	case err == nil && !now.is(s.mark):
		return errOther
	case err == nil:
		err = s.update(values, func(tx *bolt.Tx) error {
			if size < tx.Size() {
				return broken("it was cut off")
			}
			return nil
		})
	}
	if errors.Is(err, errBroken) {
		s.abandon()
	}
	return err
}

// update writes the records and the new total in one transaction that begins with fn. The log tells when: the crash tests
// kill their child at these lines.
func (s *store) update(values map[string][]byte, fn func(*bolt.Tx) error) error {
	s.log.Debug("journal transaction begins", "records", len(values))
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			file, apps := tx.Bucket([]byte(bucketFile)), tx.Bucket([]byte(bucketApps))
			if file == nil || apps == nil {
				return broken("it was overwritten")
			}
			return errors.Join(putAll(apps, values), file.Put([]byte(keyTotal), s.total.with(values)))
		})
	})
	if err == nil {
		s.total.written(values)
		s.log.Debug("journal transaction written", "records", len(values))
	} else if errors.Is(err, errPanic) || errors.Is(err, berrors.ErrInvalidMapping) {
		err = broken("%w", err)
	}
	return err
}

func putAll(b *bolt.Bucket, values map[string][]byte) error {
	var errs []error
	for id, v := range values {
		if v == nil {
			errs = append(errs, b.Delete([]byte(id)))
		} else {
			errs = append(errs, b.Put([]byte(id), v))
		}
	}
	return errors.Join(errs...)
}

// rebuild puts a new file with these records in the place of one that broke under our hands. The old one stays until the
// new one is complete.
func (s *store) rebuild(values map[string][]byte, cause error) error {
	if s.beside != nil {
		if err := s.beside(); err != nil {
			return err
		}
	}
	if now, _, err := look(s.path); err == nil && !now.is(s.mark) {
		return errOther
	}
	fresh := &store{path: s.path + freshMark, machine: s.machine, log: s.log}
	if err := fresh.create(values); err != nil {
		return errors.Join(err, os.Remove(fresh.path))
	}
	name, err := s.setAside()
	if err != nil {
		return err
	}
	s.log.Warn("journal broke while it was open, writing what it held again from memory", "path", s.path, "set_aside", name, "cause", cause)
	if err := os.Rename(fresh.path, s.path); err != nil {
		return err
	}
	mark, _, err := look(s.path)
	if err != nil {
		return err
	}
	s.mark, s.total = mark, fresh.total
	return errors.Join(syncDir(filepath.Dir(s.path)), s.open())
}

// create makes a new file with these records, in the place of what an interrupted attempt left.
func (s *store) create(values map[string][]byte) (err error) {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }() // after a panic as well: its lock would be in the next one's way
	return s.initialize(values)
}

// abandon lets go of a file in which bbolt may hold its own locks for ever: its memory stays mapped.
func (s *store) abandon() {
	s.db = nil
	if s.file != nil {
		_ = s.file.Close()
	}
}

func (s *store) close() error {
	if s.db == nil {
		return nil
	}
	err := guard(s.db.Close)
	s.db = nil
	return err
}

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
