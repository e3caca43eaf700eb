package tuf_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
)

// refuses fails the test unless version 1.0.0, which is listed, is refused for that reason.
func (c *client) refuses(want error) {
	c.t.Helper()
	if _, err := c.verify("1.0.0", file("app.bin")); !errors.Is(err, want) || !errors.Is(err, trust.ErrUntrusted) {
		c.t.Errorf("got %v, want %v", err, want)
	}
}

// Older metadata than those seen before, each rightly signed, are refused for as long as they come.
func TestRollback(t *testing.T) {
	for _, tt := range []struct {
		name string
		back func(r *repo, oldTargets metadata.MetaFiles)
	}{
		{"all", func(*repo, metadata.MetaFiles) {}},
		{"snapshot", func(r *repo, _ metadata.MetaFiles) { // a stolen timestamp key names the old snapshot
			r.timestamp.Signed.Version += 10
			r.snapshot.Signed.Version -= 2
			r.publishSnapshot()
			r.publishTimestamp()
		}},
		{"targets", func(r *repo, oldTargets metadata.MetaFiles) { // stolen timestamp and snapshot keys name the old targets
			r.snapshot.Signed.Meta["targets.json"] = &oldTargets
			r.publishSnapshot()
			r.publishTimestamp()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			c := r.client()
			c.accepts("1.0.0")
			old, oldTargets := r.saved(), *r.snapshot.Signed.Meta["targets.json"]
			r.list("2.0.0", "app.bin", []byte("version two"))
			r.publish()
			r.publish()
			c.accepts("2.0.0")
			r.serveAgain(old)
			tt.back(r, oldTargets)
			c.refuses(trust.ErrRollback)
			c.refuses(trust.ErrRollback)
		})
	}
}

// A role that was in a snapshot may not vanish from it: it could come back older.
func TestRollback_vanishedRole(t *testing.T) {
	r := newRepo(t)
	r.delegate("app", appID+"/*/*/*/*")
	r.publish()
	c := r.client()
	c.accepts("1.0.0")
	delete(r.snapshot.Signed.Meta, "app.json")
	r.publishSnapshot()
	r.publishTimestamp()
	c.refuses(trust.ErrUntrusted)
}

// What is authentic, but was not renewed in time, is refused; so is a clock's wish to be earlier.
func TestFreeze(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration
		renew func(r *repo)
	}{
		{"timestamp", 25 * time.Hour, func(*repo) {}},
		{"snapshot", 8 * day, func(r *repo) { r.timestamp.Signed.Expires = epoch.Add(400 * day) }},
		{"targets", 31 * day, func(r *repo) {
			r.timestamp.Signed.Expires = epoch.Add(400 * day)
			r.snapshot.Signed.Expires = epoch.Add(400 * day)
		}},
		{"root", 366 * day, func(r *repo) {
			r.timestamp.Signed.Expires = epoch.Add(400 * day)
			r.snapshot.Signed.Expires = epoch.Add(400 * day)
			r.targets.Signed.Expires = epoch.Add(400 * day)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			seen, fresh := r.client(), r.client()
			tt.renew(r)
			r.publish()
			seen.accepts("1.0.0")
			seen.now, fresh.now = epoch.Add(tt.after), epoch.Add(tt.after)
			seen.refuses(trust.ErrExpired)
			fresh.refuses(trust.ErrExpired)
		})
	}
}

// Metadata of two moments do not go together.
func TestMixAndMatch(t *testing.T) {
	for _, name := range []string{"snapshot", "targets"} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			old := r.files[fmt.Sprintf("%d.%s.json", r.snapshot.Signed.Version, name)]
			r.list("2.0.0", "app.bin", []byte("version two"))
			r.publish()
			r.put(fmt.Sprintf("%d.%s.json", r.snapshot.Signed.Version, name), old)
			r.client().refuses(trust.ErrMismatch)
		})
	}
}

// Whoever lacks the keys of one role cannot speak for it.
func TestArbitraryMetadata(t *testing.T) {
	for _, role := range []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		t.Run(role, func(t *testing.T) {
			r := newRepo(t)
			evil, _ := newKey(t)
			r.keys[role] = []ed25519.PrivateKey{evil}
			r.publish()
			r.client().refuses(trust.ErrSignature)
		})
	}
	t.Run("none", func(t *testing.T) {
		r := newRepo(t)
		r.keys[metadata.TIMESTAMP] = nil
		r.publish()
		r.client().refuses(trust.ErrSignature)
	})
}

// Some need no key at all: they are met before any signature is looked at.
func TestMalformed(t *testing.T) {
	const targets = `{"signatures":[],"signed":{"_type":"targets","version":1,"expires":"2030-01-01T00:00:00Z","targets":{"a":null}}}`
	for _, tt := range []struct{ name, file, data string }{
		{"a page of HTML", "timestamp.json", "<html>log in</html>"},
		{"nothing", "timestamp.json", ""},
		{"null", "timestamp.json", "null"},
		{"another role", "timestamp.json", targets},
		{"a root that is a list", "2.root.json", "[]"},
		{"a root with null keys", "2.root.json", `{"signatures":[],"signed":{"_type":"root","keys":{"a":null},"roles":{"root":null}}}`},
		{"a target that is null", "targets", targets},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			if tt.file == "targets" {
				r.snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(r.snapshot.Signed.Version)
				r.publishSnapshot()
				r.publishTimestamp()
				tt.file = fmt.Sprintf("%d.targets.json", r.snapshot.Signed.Version-1)
			}
			r.put(tt.file, []byte(tt.data))
			r.client().refuses(trust.ErrUntrusted)
		})
	}
}

// A stolen online key's odd metadata cannot make a machine useless for ever.
func TestMalformed_isNoLastingHarm(t *testing.T) {
	for _, oddity := range []map[string]*metadata.MetaFiles{{}, {"snapshot.json": nil}} {
		r := newRepo(t)
		c := r.client()
		c.accepts("1.0.0")
		good := r.timestamp.Signed.Meta
		r.timestamp.Signed.Meta = oddity
		r.put("timestamp.json", nil)
		func() {
			defer func() { _ = recover() }() // go-tuf cannot write nil
			r.publishTimestamp()
		}()
		fresh := r.client()
		fresh.refuses(trust.ErrMalformed)
		r.timestamp.Signed.Meta = good
		r.publishTimestamp()
		fresh.accepts("1.0.0")
		c.accepts("1.0.0")
	}
}

// A root that too few of the old keys signed, or too few of its own, is no root.
func TestRoot_threshold(t *testing.T) {
	t.Run("one of the old keys", func(t *testing.T) {
		r := newRepo(t)
		r.keys[metadata.ROOT] = r.keys[metadata.ROOT][:1]
		r.nextRoot()
		r.client().refuses(trust.ErrSignature)
	})
	t.Run("two of the old keys", func(t *testing.T) {
		r := newRepo(t)
		r.keys[metadata.ROOT] = r.keys[metadata.ROOT][1:]
		r.nextRoot()
		r.client().accepts("1.0.0")
	})
	t.Run("one key twice", func(t *testing.T) {
		r := newRepo(t)
		r.keys[metadata.ROOT] = r.keys[metadata.ROOT][:1]
		r.nextRoot()
		twice := string(r.files["2.root.json"])
		sig := twice[strings.Index(twice, `"signatures":[`)+len(`"signatures":[`):]
		sig = sig[:strings.Index(sig, "}")+1]
		r.put("2.root.json", []byte(strings.Replace(twice, sig, sig+","+sig, 1)))
		r.client().refuses(trust.ErrUntrusted)
	})
	t.Run("only the new keys", func(t *testing.T) {
		r := newRepo(t)
		r.replaceKeys(metadata.ROOT)
		r.addRootKey(metadata.ROOT)
		r.nextRoot()
		c := r.client()
		c.refuses(trust.ErrSignature)
		if kept, err := os.ReadDir(filepath.Join(c.dir, "roots")); err != nil || len(kept) > 0 {
			t.Errorf("kept %v, %v", kept, err)
		}
	})
	t.Run("a version left out", func(t *testing.T) {
		r := newRepo(t)
		r.root.Signed.Version = 3
		r.publishRoot()
		r.put("2.root.json", r.files["3.root.json"])
		r.client().refuses(trust.ErrRollback)
	})
}

// A key that a root revoked is worth nothing, on a new machine and on one that knew it. The thief may hide that root: whoever has
// seen it once, remembers.
func TestRevocation(t *testing.T) {
	r := newRepo(t)
	old, fresh := r.client(), r.client()
	old.accepts("1.0.0")
	stolen := map[string][]ed25519.PrivateKey{}
	for _, role := range []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		stolen[role] = r.replaceKeys(role)
	}
	r.nextRoot()
	r.nextRoot()
	r.publish()
	old.accepts("1.0.0")
	fresh.accepts("1.0.0")

	maps.Copy(r.keys, stolen)
	r.list("2.0.0", "app.bin", []byte("evil"))
	r.publish()
	old.refuses(trust.ErrSignature)
	fresh.refuses(trust.ErrSignature)

	delete(r.files, "2.root.json")
	delete(r.files, "3.root.json")
	old.refuses(trust.ErrSignature)
	fresh.refuses(trust.ErrSignature)
}

// After a new timestamp key, the versions that the thief of the old one used up count no longer.
func TestRevocation_endsFastForward(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	before := r.timestamp.Signed.Version
	r.timestamp.Signed.Version = 1 << 40
	r.publishTimestamp()
	c.accepts("1.0.0")
	r.timestamp.Signed.Version = before
	r.publish()
	c.refuses(trust.ErrRollback)
	r.replaceKeys(metadata.TIMESTAMP)
	r.nextRoot()
	r.publish()
	c.accepts("1.0.0")
}
