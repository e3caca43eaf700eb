package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
)

// Binary replaces one executable by the offer's first payload: the file itself, or that compressed by gzip, zstd or xz.
//
// The new file is written beside the old one, with its mode and owner (not its capabilities or other attributes), and
// executed once before it takes the old one's place (see Try). A hard link keeps the old one. Then Activate, where given,
// makes the new one run, and Probe tells whether it is well; where not, the old one is put back, activated again, and the
// update fails with code 44. Whatever is refused before the replacement fails with code 5.
//
// # A program that replaces itself
//
// With the Path of the running program, or none, Apply ends with omahaclient.ErrRestartRequired, and Restart says how the
// new version comes to run. Its main calls Recover first, and gives its own version to omahaclient.WithApp. With
// omahaclient.WithManualConfirm the new process confirms itself: Serve asks Probe, and calls Client.Confirm; where Probe
// fails, the old version is put back and the program restarts once more. Without, the new version is confirmed by New.
// One that crashes three times before that is rolled back by Recover.
//
// # Crashes
//
// At every step Path is the old executable or the new one, whole. Before the rename the new file is on disk but for its
// name; the rename is atomic, and the directory is synced after it. Killed, or without power, before the rename: the old
// one stays, and a file .NAME.omahaclient-new may be left, which the next Apply replaces. After it: the new one runs, and
// the next Apply of the same offer finds it in place and goes on with Activate and Probe; .NAME.omahaclient-old is the old
// one. During a rollback: the same, for the old one is put back by an atomic rename, too. On Windows, where a running
// executable cannot be replaced, there are two renames, and the loss of power between them leaves the old one under
// .NAME.omahaclient-away alone.
type Binary struct {
	Path     string                          // executable to replace, links are followed; "": this program's own
	Payload  string                          // name of the payload; "": the first one
	Activate func(ctx context.Context) error // after a replacement; nil: nothing. Such as Exec("systemctl", "restart", "agent").Probe
	Probe    Probe                           // nil: well as soon as it is in place
	Restart  Restart                         // of this program, where it replaces itself
	Try      []string                        // arguments of the new file's first execution, which must exit with 0 within 30 s; nil: --version
	NoTry    bool                            // do not execute the new file before it is in place
	MaxSize  int64                           // bytes of the executable; 0: 1 GiB
	Mode     fs.FileMode                     // where there is no executable yet; 0: 0755

	steps steps
}

const defaultMaxBinary = 1 << 30

// Apply replaces the executable.
func (b Binary) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	x, err := b.executable()
	if err != nil {
		return refused(fmt.Errorf("replace executable: %w", err))
	}
	if err := b.install(ctx, x, offer); err != nil {
		return err
	}
	if x.self {
		return &restartError{how: b.Restart, path: x.path, version: offer.Version}
	}
	if err := activate(ctx, b.steps, b.Activate, b.Probe); err != nil {
		if ctx.Err() != nil {
			return err // it comes again, finds the executable in place and goes on here
		}
		return b.rollBack(x, err) //nolint:contextcheck // whatever ends the update
	}
	return nil
}

// activate makes what is in place run, and asks the probe.
func activate(ctx context.Context, s steps, fn func(context.Context) error, p Probe) error {
	if fn != nil {
		if err := s.take("activate", func() error { return safely(func() error { return fn(ctx) }) }); err != nil {
			return fmt.Errorf("activate: %w", err)
		}
	}
	return s.take("probe", func() error { return healthy(ctx, p) })
}

// activateOld makes the version from before run again, and adds to cause what went wrong with that.
func activateOld(s steps, fn func(context.Context) error, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), rollBackTime) // whatever ends the update
	defer cancel()
	if err := activate(ctx, s, fn, nil); err != nil {
		return errors.Join(cause, fmt.Errorf("the version from before: %w", err))
	}
	return cause
}

// rollBack puts the old executable back because of cause.
func (b Binary) rollBack(x executable, cause error) error {
	if err := x.putBack(); err != nil {
		return refused(errors.Join(cause, fmt.Errorf("the old executable could not be put back: %w", err)))
	}
	return rolledBack(fmt.Errorf("%s is put back: %w", x.path, activateOld(b.steps, b.Activate, cause)))
}

const rollBackTime = 2 * time.Minute

// executable is what is to be replaced.
type executable struct {
	path  string // without links
	self  bool   // this program's own
	steps steps
}

func (b Binary) executable() (executable, error) {
	own, ownErr := os.Executable()
	if ownErr == nil {
		own, ownErr = resolved(own)
	}
	if b.Path == "" {
		return executable{own, true, b.steps}, ownErr
	}
	path, err := filepath.Abs(b.Path)
	if err == nil {
		path, err = resolved(path)
	}
	return executable{path, ownErr == nil && path == own, b.steps}, err
}

// resolved follows links, up to the directory where there is no such file yet.
func resolved(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link to nowhere", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("%w: make the directory first", err)
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

func (x executable) beside(what string) string {
	return filepath.Join(filepath.Dir(x.path), "."+filepath.Base(x.path)+".omahaclient-"+what)
}

// install puts the offer's executable in place, unless it is there.
func (b Binary) install(ctx context.Context, x executable, offer omahaclient.UpdateOffer) error {
	payload, err := pick(offer.Payloads, b.Payload)
	if err != nil {
		return refused(fmt.Errorf("replace %s: %w", x.path, err))
	}
	var digest string
	err = b.steps.take("unpack", func() (err error) { digest, err = b.unpack(ctx, x, payload.Path); return err })
	defer os.Remove(x.beside("new")) //nolint:errcheck // gone where all went well
	if err != nil {
		return refused(fmt.Errorf("replace %s: %w", x.path, advised(err)))
	}
	if now, err := digestOf(x.path); err == nil && now == digest && offer.Attempt > 1 {
		return nil // by an Apply that was interrupted after the replacement
	}
	if err := b.steps.take("try", func() error { return b.try(ctx, x, offer.Version) }); err != nil {
		return refused(fmt.Errorf("replace %s: the new executable does not run: %w", x.path, advised(err)))
	}
	if x.self {
		if err := b.steps.take("begin trial", func() error { return beginTrial(x, offer, digest) }); err != nil {
			return refused(err)
		}
	}
	if err := errors.Join(x.keepOld(), ctx.Err()); err != nil {
		return refused(fmt.Errorf("replace %s: %w", x.path, advised(err)))
	}
	if err := x.place("new"); err != nil {
		return refused(fmt.Errorf("replace %s: %w", x.path, advised(err)))
	}
	return x.sync()
}

func beginTrial(x executable, offer omahaclient.UpdateOffer, digest string) error {
	t := state.Trial{AppID: offer.AppID, Version: offer.Version, Path: x.path, Old: x.beside("old"), Digest: digest}
	if offer.StateDir() == "" {
		return fmt.Errorf("replace %s: %w", x.path, omahaclient.ErrUnbound)
	}
	return t.Save(offer.StateDir())
}

// pick returns the payload with a name; the first one for none.
func pick(payloads []fetcher.Payload, name string) (fetcher.Payload, error) {
	for _, p := range payloads {
		if name == "" || p.Name == name {
			return p, nil
		}
	}
	if name == "" {
		return fetcher.Payload{}, errors.New("the offer has no payload")
	}
	return fetcher.Payload{}, fmt.Errorf("the offer has no payload %q", name)
}
