package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
)

// Archive unpacks the offer's first payload, a tar (plain, or compressed by gzip, zstd or xz) or zip file, into
// Dir/versions/VERSION, and switches the symbolic link Dir/current to it.
//
// What an archive may hold is narrow: folders, files, hard links to files of its own, and symbolic links that stay within
// it. Devices, setuid and setgid files, names that leave the folder, names that are the same but for their case, and more
// than the limits allow refuse the whole archive with code 5, before anything is switched. Owners are not kept: all belongs
// to the program's user.
//
// After the switch Activate, where given, makes the new version used, and Probe tells whether it is well; where not, the
// link goes back to where it led before, Activate runs again, the new version is removed, and the update fails with
// code 44. Where what it led to is gone (somebody has removed it) the link stays at the new version, and the update fails
// with code 1. The last Keep versions stay, and the one to go back to. Whoever follows Dir/current once, and works in what
// it finds, sees one version.
//
// Dir/current may be a link of the owner's own at first (to releases/2024, say): the first update replaces it, a rollback
// restores it as it was, and what it leads to is never removed. Where Dir/current is no link, the update is refused.
//
// # Crashes
//
// At every step Dir/current leads to the old version or the new one, whole. Killed, or without power, while unpacking: a
// folder .unpacking is left in versions, which the next Apply removes. All files are on disk before the folder gets its
// name, and that is before the link is switched, by an atomic rename. After the switch: the new version is current, and the
// next start of Serve goes on with Activate and Probe (see Restore), whether its offer comes again or was withdrawn
// meanwhile; what to go back to, and whether a version was found well, is in a file beside its folder (.VERSION.json).
// Another update goes back to the last version that was found well, too.
type Archive struct {
	Dir      string                          // made where it is missing
	Payload  string                          // name of the payload; "": the first one
	Keep     int                             // versions that stay, the current one included; 0: 2, the least that can be rolled back to
	Activate func(ctx context.Context) error // after a switch, perhaps once more after a crash; nil: nothing. Such as Run("systemctl", "reload", "web")
	Probe    Probe                           // nil: well as soon as it is current

	MaxSize  int64 // bytes of all files; 0: 10 GiB
	MaxFiles int   // entries of the archive, and folders that it does not name; 0: 100,000
	MaxRatio int   // bytes unpacked for each one packed; 0: 200. It counts from 16 MiB on
	MaxDepth int   // folders within each other; 0: 32

	steps steps
}

const minKeep = 2

// Apply unpacks the archive and switches to it.
func (a Archive) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	payload, err := pick(offer.Payloads, a.Payload)
	if err == nil {
		err = plainVersion(offer.Version)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(a.Dir, versionsDir), 0o755) //nolint:gosec // what is published there is for others
	}
	if err != nil {
		return refused(fmt.Errorf("unpack archive into %s: %w", a.Dir, advised(err)))
	}
	t, err := a.tree()
	if err != nil {
		return refused(fmt.Errorf("unpack archive: %w", err))
	}
	defer t.root.Close()
	folder, err := a.unpack(ctx, t, payload.Path, offer.Version)
	if err != nil {
		return refused(fmt.Errorf("unpack archive into %s: %w", a.Dir, advised(err)))
	}
	fresh := t.current() != folder
	if err := t.point(t.path(folder)); err != nil {
		err = fmt.Errorf("switch %s to version %s: %w", a.Dir, offer.Version, advised(err))
		if t.current() == folder {
			return a.rollBack(t, folder, err) //nolint:contextcheck // whatever ends the update
		}
		return refused(err)
	}
	return a.prove(ctx, t, folder, fresh)
}

func plainVersion(version string) error {
	if version == "" || !filepath.IsLocal(version) || strings.ContainsAny(version, `/\:~`) || strings.HasPrefix(version, ".") {
		return fmt.Errorf("version %q cannot name a folder", version)
	}
	return nil
}

// unpack makes sure that the archive is unpacked, and returns the name of its folder.
func (a Archive) unpack(ctx context.Context, t *tree, archive, version string) (folder string, err error) {
	digest, err := digestOf(archive)
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ { // a version that was published twice with different content gets folders of its own
		if folder = version; n > 1 {
			folder = fmt.Sprintf("%s~%d", version, n)
		}
		note, known := t.note(folder)
		_, err := t.root.Lstat(t.path(folder))
		if err == nil && known && note.Digest == digest {
			return folder, t.again(folder, note)
		}
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	tmp := filepath.Join(versionsDir, unpackingDir)
	if err := t.steps.take("clean", func() error { return t.root.RemoveAll(tmp) }); err != nil {
		return "", err
	}
	defer t.root.RemoveAll(tmp) //nolint:errcheck // gone where all went well
	if err := a.extract(ctx, t, tmp, archive); err != nil {
		return "", err
	}
	if err := t.remember(folder, unpacked{Digest: digest, At: time.Now(), Before: t.before()}); err != nil {
		return "", err
	}
	if err := t.steps.take("name folder", func() error { return t.root.Rename(tmp, t.path(folder)) }); err != nil {
		return "", err
	}
	return folder, t.sync(versionsDir)
}

// extract unpacks an archive into a new folder of the tree, durably.
func (a Archive) extract(ctx context.Context, t *tree, name, archive string) error {
	if err := t.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	into, err := t.root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer into.Close()
	x := newExtraction(ctx, into, filepath.Join(t.dir, name), a)
	if err := a.steps.take("extract", func() error { return x.extract(archive) }); err != nil {
		return err
	}
	return a.steps.take("sync files", x.sync)
}
