package tuf_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

const (
	appID = "io.example.App"
	day   = 24 * time.Hour
)

// epoch is when the tests' repositories are made; claims say what time it is.
var epoch = time.Date(2027, time.January, 4, 12, 0, 0, 0, time.UTC)

// repo is a TUF repository behind a web server. What is changed shows after publish.
type repo struct {
	t         testing.TB
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	delegated map[string]*metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	keys      map[string][]ed25519.PrivateKey // by role; those that sign
	pinned    []byte                          // the first root

	mu     sync.Mutex
	files  map[string][]byte // guarded by mu
	handle http.HandlerFunc  // guarded by mu; in place of the files
	asked  []string          // guarded by mu
	server *httptest.Server
}

// newRepo has one release of the app: 1.0.0 with app.bin. Two of its three root keys must sign a root.
func newRepo(t testing.TB) *repo {
	t.Helper()
	r := &repo{
		t: t, root: metadata.Root(epoch.Add(365 * day)), targets: metadata.Targets(epoch.Add(30 * day)),
		snapshot: metadata.Snapshot(epoch.Add(7 * day)), timestamp: metadata.Timestamp(epoch.Add(day)),
		delegated: map[string]*metadata.Metadata[metadata.TargetsType]{}, keys: map[string][]ed25519.PrivateKey{}, files: map[string][]byte{},
	}
	for _, role := range []string{metadata.ROOT, metadata.ROOT, metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		r.addRootKey(role)
	}
	r.root.Signed.Roles[metadata.ROOT].Threshold = 2
	r.list("1.0.0", "app.bin", []byte("version one"))
	r.publishRoot()
	r.pinned = r.files["1.root.json"]
	r.publish()
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	return r
}

func (r *repo) serve(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(req.URL.Path, "/metadata/")
	r.mu.Lock()
	r.asked = append(r.asked, name)
	data, ok := r.files[name]
	handle := r.handle
	r.mu.Unlock()
	switch {
	case handle != nil:
		handle(w, req)
	case !ok:
		http.NotFound(w, req)
	default:
		_, _ = w.Write(data)
	}
}

// answer has a handler answer instead; nil ends that.
func (r *repo) answer(handle http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle = handle
}

func (r *repo) put(name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = data
}

// saved is what is served now, to go back to.
func (r *repo) saved() map[string][]byte { return maps.Clone(r.files) }

func (r *repo) serveAgain(files map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = maps.Clone(files)
}

func newKey(t testing.TB) (ed25519.PrivateKey, *metadata.Key) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	key, err := metadata.KeyFromPublicKey(public)
	must(t, err)
	return private, key
}

func (r *repo) addRootKey(role string) (id string) {
	r.t.Helper()
	private, key := newKey(r.t)
	must(r.t, r.root.Signed.AddKey(key, role))
	r.keys[role] = append(r.keys[role], private)
	id, err := key.ID()
	must(r.t, err)
	return id
}

// replaceKeys revokes a role's keys for a new one.
func (r *repo) replaceKeys(role string) (revoked []ed25519.PrivateKey) {
	r.t.Helper()
	revoked = r.keys[role]
	for _, id := range append([]string(nil), r.root.Signed.Roles[role].KeyIDs...) {
		must(r.t, r.root.Signed.RevokeKey(id, role))
	}
	r.keys[role] = nil
	r.addRootKey(role)
	return revoked
}

// delegate makes a role that may list the paths.
func (r *repo) delegate(role string, paths ...string) {
	r.t.Helper()
	private, key := newKey(r.t)
	if r.targets.Signed.Delegations == nil {
		r.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	d := r.targets.Signed.Delegations
	d.Roles = append(d.Roles, metadata.DelegatedRole{Name: role, Threshold: 1, Paths: paths, KeyIDs: []string{}})
	must(r.t, r.targets.Signed.AddKey(key, role))
	r.keys[role] = []ed25519.PrivateKey{private}
	r.delegated[role] = metadata.Targets(epoch.Add(30 * day))
}

func path(version, name string) string { return appID + "/stable/amd64/" + version + "/" + name }

// list makes content a target of the app.
func (r *repo) list(version, name string, content []byte) *metadata.TargetFiles {
	r.t.Helper()
	target, err := metadata.TargetFile().FromBytes(path(version, name), content)
	must(r.t, err)
	r.targets.Signed.Targets[target.Path] = target
	return target
}

func (r *repo) listCustom(version, name, custom string) {
	raw := json.RawMessage(custom)
	r.list(version, name, []byte("beside the point")).Custom = &raw
}

// sign is a file of metadata.
func sign[T metadata.Roles](t testing.TB, m *metadata.Metadata[T], keys []ed25519.PrivateKey) []byte {
	t.Helper()
	m.ClearSignatures()
	for _, key := range keys {
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		must(t, err)
		_, err = m.Sign(signer)
		must(t, err)
	}
	data, err := m.ToBytes(false)
	must(t, err)
	return data
}

// publishRoot serves the root as it is, under its version.
func (r *repo) publishRoot() {
	r.t.Helper()
	r.put(fmt.Sprintf("%d.root.json", r.root.Signed.Version), sign(r.t, r.root, r.keys[metadata.ROOT]))
}

// nextRoot serves the root's next version.
func (r *repo) nextRoot() {
	r.t.Helper()
	r.root.Signed.Version++
	r.publishRoot()
}

// publish serves the next version of everything but the root.
func (r *repo) publish() {
	r.t.Helper()
	for name, role := range r.delegated {
		r.publishTargets(name, role)
	}
	r.publishTargets(metadata.TARGETS, r.targets)
	r.publishSnapshot()
	r.publishTimestamp()
}

func (r *repo) publishTargets(name string, m *metadata.Metadata[metadata.TargetsType]) {
	r.t.Helper()
	m.Signed.Version = r.snapshot.Signed.Version + 1
	data := sign(r.t, m, r.keys[name])
	r.put(fmt.Sprintf("%d.%s.json", m.Signed.Version, name), data)
	r.snapshot.Signed.Meta[name+".json"] = metaFile(r.t, m.Signed.Version, data)
}

func (r *repo) publishSnapshot() {
	r.t.Helper()
	r.snapshot.Signed.Version++
	data := sign(r.t, r.snapshot, r.keys[metadata.SNAPSHOT])
	r.put(fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version), data)
	r.timestamp.Signed.Meta["snapshot.json"] = metaFile(r.t, r.snapshot.Signed.Version, data)
}

func (r *repo) publishTimestamp() {
	r.t.Helper()
	r.timestamp.Signed.Version++
	r.put("timestamp.json", sign(r.t, r.timestamp, r.keys[metadata.TIMESTAMP]))
}

func metaFile(t testing.TB, version int64, data []byte) *metadata.MetaFiles {
	t.Helper()
	target, err := metadata.TargetFile().FromBytes("", data)
	must(t, err)
	m := metadata.MetaFile(version)
	m.Length, m.Hashes = target.Length, target.Hashes
	return m
}

// client is a machine: a verifier, its folder and its clock.
type client struct {
	t        testing.TB
	verifier *tuf.Verifier
	dir      string
	now      time.Time
	log      *bytes.Buffer
}

// client is one that pins the repository's first root.
func (r *repo) client(change ...func(*tuf.Config)) *client {
	r.t.Helper()
	c := &client{t: r.t, dir: r.t.TempDir(), now: epoch.Add(time.Hour), log: &bytes.Buffer{}}
	config := tuf.Config{Root: r.pinned, MetadataURL: r.server.URL + "/metadata", Logger: slog.New(slog.NewTextHandler(c.log, nil))}
	for _, change := range change {
		change(&config)
	}
	var err error
	c.verifier, err = tuf.New(config)
	must(r.t, err)
	return c
}

func (c *client) claim(version string, payloads ...trust.Payload) trust.Claim {
	return trust.Claim{
		AppID: appID, Channel: "stable", Arch: "amd64", Version: version, Payloads: payloads, Now: c.now, Dir: c.dir,
		Signed: func(context.Context) iter.Seq2[trust.Signed, error] { return func(func(trust.Signed, error) bool) {} },
	}
}

func (c *client) verify(version string, payloads ...trust.Payload) (trust.Release, error) {
	return c.verifier.Verify(c.t.Context(), c.claim(version, payloads...))
}

// accepts fails the test unless version's app.bin is vouched for.
func (c *client) accepts(version string) trust.Release {
	c.t.Helper()
	release, err := c.verify(version, file("app.bin"))
	if err != nil || release.Payloads[0].Digest == "" {
		c.t.Fatalf("version %s: %+v, %v; want it accepted", version, release, err)
	}
	return release
}

func file(name string) trust.Payload { return trust.Payload{Name: name} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
