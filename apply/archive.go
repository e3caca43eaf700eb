package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
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
// link goes back to the version from before, Activate runs again, the new version is removed, and the update fails with
// code 44. The last Keep versions stay. Whoever follows Dir/current once, and works in what it finds, sees one version.
//
// # Crashes
//
// At every step Dir/current leads to the old version or the new one, whole. Killed, or without power, while unpacking: a
// folder .unpacking is left in versions, which the next Apply removes. All files are on disk before the folder gets its
// name, and that is before the link is switched, by an atomic rename. After the switch: the new version is current, and the
// next Apply of the same offer goes on with Activate and Probe; it knows which version to go back to from a file
// beside the folder (.VERSION.json).
type Archive struct {
	Dir      string // made where it is missing
	Payload  string // name of the payload; "": the first one
	Keep     int    // versions that stay, the current one included; 0: 2, the least that can be rolled back to
	Activate func(ctx context.Context) error
	Probe    Probe

	MaxSize  int64 // bytes of all files; 0: 10 GiB
	MaxFiles int   // files, folders and links; 0: 100,000
	MaxRatio int   // bytes unpacked for each one packed; 0: 200. It counts from 16 MiB on
	MaxDepth int   // folders within each other; 0: 32

	steps steps
}

const (
	versionsDir  = "versions"
	currentLink  = "current"
	unpackingDir = ".unpacking"
	nextLink     = ".current-next"
)

// unpacked is what is remembered of a version, in a file beside its folder.
type unpacked struct {
	Digest   string    `json:"digest"` // of the payload
	At       time.Time `json:"at"`
	Previous string    `json:"previous"` // folder to go back to; "" for none
}

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
	root, err := os.OpenRoot(a.Dir)
	if err != nil {
		return refused(fmt.Errorf("unpack archive: %w", err))
	}
	defer root.Close()
	t := &tree{root: root, dir: a.Dir, steps: a.steps}
	folder, err := a.unpack(ctx, t, payload.Path, offer.Version)
	if err != nil {
		return refused(fmt.Errorf("unpack archive into %s: %w", a.Dir, advised(err)))
	}
	if err := t.point(folder); err != nil {
		return refused(fmt.Errorf("switch %s to version %s: %w", a.Dir, offer.Version, advised(err)))
	}
	if err := activate(ctx, a.steps, a.Activate, a.Probe); err != nil {
		if ctx.Err() != nil {
			return err // it comes again, finds its folder and goes on here
		}
		return a.rollBack(t, folder, err) //nolint:contextcheck // whatever ends the update
	}
	t.prune(max(a.Keep, minKeep), folder)
	return nil
}

const minKeep = 2

func plainVersion(version string) error {
	if version == "" || !filepath.IsLocal(version) || strings.ContainsAny(version, `/\:~`) || strings.HasPrefix(version, ".") {
		return fmt.Errorf("version %q cannot name a folder", version)
	}
	return nil
}

// rollBack goes back to the version from before because of cause.
func (a Archive) rollBack(t *tree, folder string, cause error) error {
	note, _ := t.note(folder)
	if err := t.point(note.Previous); err != nil {
		return refused(errors.Join(cause, fmt.Errorf("the old version could not be put back: %w", err)))
	}
	back := note.Previous
	if back == "" {
		back = "nothing"
	}
	return rolledBack(fmt.Errorf("%s is back at %s: %w", a.Dir, back, errors.Join(activateOld(a.steps, a.Activate, cause), t.remove(folder))))
}

// unpack makes sure that the archive is unpacked, and returns the name of its folder.
func (a Archive) unpack(ctx context.Context, t *tree, archive, version string) (folder string, err error) {
	digest, err := digestOf(archive)
	if err != nil {
		return "", err
	}
	current := t.current()
	for n := 1; ; n++ { // a version that was published twice with different content gets folders of its own
		if folder = version; n > 1 {
			folder = fmt.Sprintf("%s~%d", version, n)
		}
		note, known := t.note(folder)
		_, err := t.root.Lstat(t.path(folder))
		if err == nil && known && note.Digest == digest {
			if current != folder && current != note.Previous {
				note.Previous = current
				return folder, t.remember(folder, note)
			}
			return folder, nil
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
	if err := a.extract(ctx, t.root, tmp, archive); err != nil {
		return "", err
	}
	if err := t.remember(folder, unpacked{Digest: digest, At: time.Now(), Previous: current}); err != nil {
		return "", err
	}
	if err := t.steps.take("name folder", func() error { return t.root.Rename(tmp, t.path(folder)) }); err != nil {
		return "", err
	}
	return folder, t.sync(versionsDir)
}

// extract unpacks an archive into a new folder of root, durably.
func (a Archive) extract(ctx context.Context, root *os.Root, name, archive string) error {
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	into, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer into.Close()
	x := newExtraction(ctx, into, a)
	if err := a.steps.take("extract", func() error { return x.extract(archive) }); err != nil {
		return err
	}
	return a.steps.take("sync files", x.sync)
}

// tree is an Archive's folder.
type tree struct {
	root  *os.Root
	dir   string
	steps steps
}

func (t *tree) path(folder string) string { return filepath.Join(versionsDir, folder) }

func (t *tree) notePath(folder string) string {
	return filepath.Join(versionsDir, "."+folder+".json")
}

func (t *tree) note(folder string) (u unpacked, known bool) {
	content, err := t.root.ReadFile(t.notePath(folder))
	return u, err == nil && json.Unmarshal(content, &u) == nil
}

func (t *tree) remember(folder string, u unpacked) error {
	content, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return t.steps.take("note", func() error { return state.WriteDurably(filepath.Join(t.dir, t.notePath(folder)), content) })
}

// sync makes the names in a folder of the tree durable.
func (t *tree) sync(folder string) error {
	return t.steps.take("sync "+folder, func() error { return state.SyncDir(filepath.Join(t.dir, folder)) })
}

// current returns the folder that the link leads to; "" for none of ours.
func (t *tree) current() string {
	to, err := t.root.Readlink(currentLink)
	if err != nil || filepath.Dir(filepath.FromSlash(to)) != versionsDir {
		return ""
	}
	return filepath.Base(filepath.FromSlash(to))
}

// point switches the link; to nothing for "".
func (t *tree) point(folder string) error {
	if t.current() == folder {
		return t.sync(".") // where a crash came before that
	}
	if info, err := t.root.Lstat(currentLink); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is no symbolic link: move it away", filepath.Join(t.dir, currentLink))
	}
	if folder == "" {
		return errors.Join(t.steps.take("unlink", func() error { return t.root.Remove(currentLink) }), t.sync("."))
	}
	if err := t.root.Remove(nextLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.steps.take("link", func() error { return t.root.Symlink(t.path(folder), nextLink) }); err != nil {
		return fmt.Errorf("make symbolic link (on Windows: in developer mode, or as administrator): %w", err)
	}
	if err := t.steps.take("switch", func() error { return t.root.Rename(nextLink, currentLink) }); err != nil {
		return err
	}
	return t.sync(".")
}

// remove removes a version. Its folder first loses its name, in one step: what a crash leaves is never taken for a version.
func (t *tree) remove(folder string) error {
	tmp := filepath.Join(versionsDir, unpackingDir)
	err := t.root.RemoveAll(tmp)
	if err == nil {
		err = t.steps.take("unname folder", func() error { return t.root.Rename(t.path(folder), tmp) })
	}
	if err == nil {
		err = t.sync(versionsDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(
		t.steps.take("remove files", func() error { return t.root.RemoveAll(tmp) }),
		t.steps.take("remove note", func() error { return t.root.RemoveAll(t.notePath(folder)) }),
	)
}

// prune removes all but the newest versions and the current one; what has no note is not ours.
func (t *tree) prune(keep int, current string) {
	entries, err := fs.ReadDir(t.root.FS(), versionsDir)
	if err != nil {
		return
	}
	at := map[string]time.Time{}
	var folders []string
	for _, e := range entries {
		if note, known := t.note(e.Name()); known && e.IsDir() && e.Name() != current {
			at[e.Name()] = note.At
			folders = append(folders, e.Name())
		}
	}
	if note, _ := t.note(current); note.Previous != "" {
		at[note.Previous] = time.Now() // to go back to
	}
	slices.SortFunc(folders, func(a, b string) int { return at[b].Compare(at[a]) })
	for i, folder := range folders {
		if i >= keep-1 {
			_ = t.remove(folder) // once more after the next update
		}
	}
}
