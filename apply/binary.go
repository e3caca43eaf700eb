package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
)

// Binary replaces one executable by the offer's first payload: the file itself, or that compressed by gzip, zstd or xz.
//
// The new file is written beside the old one, with its mode and owner (not its capabilities or other attributes), and
// executed once before it takes the old one's place (see Try). A hard link keeps the old one. Then Activate, where given,
// makes the new one run, and Probe tells whether it is well; where not, the old one is put back, activated again, and the
// update fails with code 44. Whatever is refused before the replacement fails with code 5. Where the old one cannot be put
// back (somebody has removed what was kept of it) the new one stays, and the update fails with code 1.
//
// An executable that is the offered one already is not replaced: Activate and Probe are asked about it, and it stays
// whatever they say, unless it was an Apply that put it there.
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
// name; the rename is atomic, and the directory is synced after it. What is about to happen is written down before, in
// .NAME.omahaclient-swap, and .NAME.omahaclient-old is the old one. Killed, or without power, before the rename: the old
// one stays, and a file .NAME.omahaclient-new may be left, which the next Apply replaces. After it: the new one runs, and
// the next start of Serve goes on with Activate and Probe (see Restore), whether its offer comes again or was withdrawn
// meanwhile. Until they have found it well, the old one is kept: it is what another update goes back to, too. During a
// rollback: the same, for the old one is put back by an atomic rename, too. On Windows, where a running executable cannot
// be replaced, there are two renames, and the loss of power between them leaves the old one under .NAME.omahaclient-old
// and .NAME.omahaclient-away alone.
type Binary struct {
	Path     string                          // executable to replace, links are followed; "": this program's own
	Payload  string                          // name of the payload; "": the first one
	Activate func(ctx context.Context) error // after a replacement, perhaps once more after a crash; nil: nothing. Such as Run("systemctl", "restart", "agent")
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
	s, err := b.install(ctx, x, offer)
	if err != nil {
		return refused(fmt.Errorf("replace %s: %w", x.path, advised(err)))
	}
	if err := x.sync(); err != nil {
		return b.rollBack(x, s, fmt.Errorf("replace %s: %w", x.path, advised(err))) //nolint:contextcheck // whatever ends the update
	}
	if x.self {
		return &restartError{how: b.Restart, path: x.path, version: offer.Version}
	}
	return b.prove(ctx, x, s)
}

// install puts the offer's executable in place, unless it is there, and returns what is written down of that: nil where no
// Apply has put it there.
func (b Binary) install(ctx context.Context, x executable, offer omahaclient.UpdateOffer) (*swap, error) {
	payload, err := pick(offer.Payloads, b.Payload)
	if err != nil {
		return nil, err
	}
	var digest string
	err = b.steps.take("unpack", func() (err error) { digest, err = b.unpack(ctx, x, payload.Path); return err })
	defer os.Remove(x.beside("new")) //nolint:errcheck // gone where all went well
	if err != nil {
		return nil, err
	}
	now, err := x.present()
	if err != nil {
		return nil, err
	}
	s, err := x.loadSwap()
	if err != nil || now == digest {
		return s.about(digest), err
	}
	if err := b.steps.take("try", func() error { return b.try(ctx, x, offer.Version) }); err != nil {
		return nil, fmt.Errorf("the new executable does not run: %w", err)
	}
	if x.self {
		if err := b.steps.take("begin trial", func() error { return beginTrial(x, offer, digest) }); err != nil {
			return nil, err
		}
	}
	s, err = x.begin(s, now, digest)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, err
	}
	return s, x.place("new")
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
