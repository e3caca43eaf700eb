package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

const (
	versionsDir  = "versions"
	currentLink  = "current"
	unpackingDir = ".unpacking"
	nextLink     = ".current-next"
)

// tree is an Archive's folder.
type tree struct {
	root  *os.Root
	dir   string
	steps steps
}

func (a Archive) tree() (*tree, error) {
	root, err := os.OpenRoot(a.Dir)
	return &tree{root: root, dir: a.Dir, steps: a.steps}, err
}

// unpacked is what is remembered of a version, in a file beside its folder.
type unpacked struct {
	Digest string    `json:"digest"` // of the payload
	At     time.Time `json:"at"`
	Before string    `json:"before,omitempty"` // where the link led before, word for word; "" where there was none
	Proved bool      `json:"proved,omitempty"` // it has been current, and well
	Back   bool      `json:"back,omitempty"`   // the link is to go back, and the version to be removed
}

func (t *tree) path(folder string) string { return filepath.Join(versionsDir, folder) }

const noteSuffix = ".json"

func (t *tree) notePath(folder string) string {
	return filepath.Join(versionsDir, "."+folder+noteSuffix)
}

func (t *tree) note(folder string) (u unpacked, known bool) {
	content, err := t.root.ReadFile(t.notePath(folder))
	known = err == nil && json.Unmarshal(content, &u) == nil && u.Digest != ""
	return u, known
}

// notes returns all notes, by folder.
func (t *tree) notes() map[string]unpacked {
	entries, _ := fs.ReadDir(t.root.FS(), versionsDir) // none where there is no such folder yet
	notes := map[string]unpacked{}
	for _, e := range entries {
		folder, is := strings.CutSuffix(e.Name(), noteSuffix)
		folder, hidden := strings.CutPrefix(folder, ".")
		if note, known := t.note(folder); is && hidden && known {
			notes[folder] = note
		}
	}
	return notes
}

func (t *tree) remember(folder string, u unpacked) error {
	content, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return t.steps.take("note", func() error { return state.WriteDurably(filepath.Join(t.dir, t.notePath(folder)), content) })
}

// again makes a version that was unpacked before one to be switched to, unless it is current.
func (t *tree) again(folder string, note unpacked) error {
	before := t.before()
	if t.current() == folder || t.ours(before) == folder { // or was, before one that has never been well
		return nil
	}
	now := unpacked{Digest: note.Digest, At: note.At, Before: before}
	if now == note {
		return nil // by an Apply that was interrupted before the switch
	}
	now.At = time.Now()
	return t.remember(folder, now)
}

// sync makes the names in a folder of the tree durable.
func (t *tree) sync(folder string) error {
	return t.steps.take("sync "+folder, func() error { return state.SyncDir(filepath.Join(t.dir, folder)) })
}

// link returns where the link leads, word for word; "" for none.
func (t *tree) link() string {
	to, err := t.root.Readlink(currentLink)
	if err != nil {
		return ""
	}
	return to
}

// ours returns the folder of versions that a link leads to; "" for none.
func (t *tree) ours(link string) string {
	clean := filepath.Clean(filepath.FromSlash(link))
	if filepath.Dir(clean) != versionsDir {
		return ""
	}
	return filepath.Base(clean)
}

// current returns the folder that the link leads to; "" for none of ours.
func (t *tree) current() string { return t.ours(t.link()) }

// before returns where a version that becomes current now is to go back to: to the one before it that was well, or that is
// not for us to judge.
func (t *tree) before() string {
	link := t.link()
	note, known := t.note(t.ours(link))
	if known && !note.Proved && t.wayBack(note, known) == nil {
		return note.Before
	}
	return link
}

// wayBack reports why the link cannot go back to where it led before a version.
func (t *tree) wayBack(note unpacked, known bool) error {
	switch {
	case !known:
		return errors.New("the file that tells what was before it is gone")
	case note.Before == "" && note.Proved:
		return errors.New("there was none before it")
	case note.Before == "":
		return nil
	}
	target := filepath.FromSlash(note.Before)
	if !filepath.IsAbs(target) {
		target = filepath.Join(t.dir, target)
	}
	if _, err := os.Stat(target); err != nil {
		return fmt.Errorf("what was before it is gone: %w", err)
	}
	return nil
}

// point switches the link to a target; to nothing for "".
func (t *tree) point(target string) error {
	if t.link() == target {
		return t.sync(".") // where a crash came before that
	}
	if info, err := t.root.Lstat(currentLink); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is no symbolic link: move it away", filepath.Join(t.dir, currentLink))
	}
	if target == "" {
		return errors.Join(t.steps.take("unlink", func() error { return t.root.Remove(currentLink) }), t.sync("."))
	}
	if err := t.root.Remove(nextLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.steps.take("link", func() error { return t.root.Symlink(target, nextLink) }); err != nil {
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

// prune removes all but the newest versions, the current one and the one that it goes back to; what has no note is not ours.
func (t *tree) prune(keep int, current string) {
	notes := t.notes()
	others := keep - 1
	back := t.ours(notes[current].Before)
	if _, ours := notes[back]; ours {
		others--
	}
	delete(notes, current)
	delete(notes, back)
	folders := slices.SortedFunc(maps.Keys(notes), func(a, b string) int { return notes[b].At.Compare(notes[a].At) })
	for _, folder := range folders {
		if _, err := t.root.Lstat(t.path(folder)); err == nil && others > 0 {
			others--
			continue
		}
		_ = t.remove(folder) // once more after the next update
	}
}
