package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/wait"
)

// fleetKey is what a lock manager tells locks by.
type fleetKey struct {
	URL   string `json:"url"` // without user and query
	Group string `json:"group"`
	ID    string `json:"id"`
}

// fleetNote is a file of the state directory, one for each app and lock: the app may hold the lock.
type fleetNote struct {
	fleetKey

	AppID   string `json:"app_id"`
	Version string `json:"version"`
	path    string
}

const (
	fleetPrefix = "fleetlock-"
	fleetSuffix = ".json"
	fleetMutex  = "fleetlock.lock" // held while a note is made, and while a lock is released
)

// lock returns the lock that l asks for.
func (l FleetLock) lock() (fleetKey, error) {
	id, group := l.ID, l.Group
	if id == "" {
		id, _ = os.Hostname()
	}
	if group == "" {
		group = "default"
	}
	base, err := url.Parse(l.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || id == "" {
		return fleetKey{}, errors.New("FleetLock needs an absolute http(s) URL and the machine's ID")
	}
	return fleetKey{(&url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path}).String(), group, id}, nil
}

// hold notes that the offer's app may hold the lock.
func (l FleetLock) hold(ctx context.Context, offer omahaclient.UpdateOffer) (fleetNote, error) {
	dir := offer.StateDir()
	if dir == "" {
		return fleetNote{}, omahaclient.ErrUnbound
	}
	key, err := l.lock()
	if err != nil {
		return fleetNote{}, err
	}
	n := fleetNote{key, offer.AppID, offer.Version, notePath(dir, offer.AppID, key)}
	content, err := json.Marshal(n)
	if err != nil {
		return n, err
	}
	// Not while another app releases the same lock: its request would take ours.
	unlock, err := lockNotes(ctx, dir)
	if err != nil {
		return n, err
	}
	defer unlock()
	return n, state.WriteDurably(n.path, content)
}

// release gives the lock back, unless another app holds it, too: that one does. It does nothing where needed says so.
func (l FleetLock) release(ctx context.Context, n fleetNote, needed func() bool) error {
	dir := filepath.Dir(n.path)
	unlock, err := lockNotes(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	if needed != nil && needed() {
		return nil
	}
	notes, err := fleetNotes(dir)
	if err != nil {
		return err
	}
	shared := false
	for _, other := range notes {
		shared = shared || other.fleetKey == n.fleetKey && other.path != n.path
	}
	if !shared {
		if err := l.ask(ctx, steadyState); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(n.path), state.SyncDir(dir)) // or it is released again
}

// lockNotes waits for the lock on the notes of a state directory.
func lockNotes(ctx context.Context, dir string) (unlock func(), err error) {
	const turn = 20 * time.Millisecond
	for {
		unlock, err = state.LockFile(filepath.Join(dir, fleetMutex))
		if !errors.Is(err, state.ErrLocked) {
			return unlock, err
		}
		if err := wait.For(ctx, turn); err != nil {
			return nil, fmt.Errorf("another update asks the lock manager: %w", err)
		}
	}
}

// fleetNotes reads all notes of a state directory. Beside an error it returns those that can be read.
func fleetNotes(dir string) (notes []fleetNote, err error) {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fleetPrefix) || filepath.Ext(e.Name()) != fleetSuffix {
			continue
		}
		n := fleetNote{path: filepath.Join(dir, e.Name())}
		content, err := os.ReadFile(n.path)
		if err == nil {
			err = json.Unmarshal(content, &n)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read note of a fleet lock: %w: remove the file, and release the lock by hand", err))
			continue
		}
		notes = append(notes, n)
	}
	return notes, errors.Join(errs...)
}

func notePath(dir, appID string, key fleetKey) string {
	return filepath.Join(dir, fleetPrefix+hashed(strings.ToLower(appID))+"-"+hashed(key.URL, key.Group, key.ID)+fleetSuffix)
}

func hashed(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
