package tuf_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

// renew moves the repository to the machine's time, which the client goes by.
func (r *repo) renew() {
	r.t.Helper()
	end := time.Now().Add(365 * day)
	r.root.Signed.Expires, r.targets.Signed.Expires, r.snapshot.Signed.Expires, r.timestamp.Signed.Expires = end, end, end, end
	r.nextRoot()
	r.publish()
}

// listHere makes content a target for machines like this one.
func (r *repo) listHere(version, name string, content []byte) {
	r.t.Helper()
	claim := trust.Claim{AppID: appID, Channel: "stable", Arch: runtime.GOARCH, Version: version}
	target, err := metadata.TargetFile().FromBytes(tuf.TargetPath(claim, file(name)), content)
	must(r.t, err)
	r.targets.Signed.Targets[target.Path] = target
}

// machine is a whole client in front of an Omaha server, with the repository as its authority.
type machine struct {
	*testserver.Server
	t      *testing.T
	client *omahaclient.Client
}

func (r *repo) machine(t *testing.T, release testserver.Release) *machine {
	t.Helper()
	m := &machine{Server: testserver.New(), t: t}
	m.AddGroup(appID, "stable", testserver.AnyArch, testserver.Policy{}).Publish(release)
	must(t, m.Start())
	t.Cleanup(m.Close)
	verifier, err := tuf.New(tuf.Config{Root: r.pinned, MetadataURL: r.server.URL + "/metadata"})
	must(t, err)
	m.client, err = omahaclient.New(m.URL(), omahaclient.WithStateDir(t.TempDir()), omahaclient.WithMachineID("m1"),
		omahaclient.WithApp(appID, "1.0.0", omahaclient.WithChannel("stable"), omahaclient.WithVerifier(verifier)))
	must(t, err)
	t.Cleanup(func() { must(t, m.client.Close()) })
	return m
}

// once does a round and returns what was offered in it, by name.
func (m *machine) once() map[string]string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	offered := map[string]string{}
	for offer := range m.client.UpdatesOnce(ctx) {
		for _, p := range offer.Payloads {
			content, err := os.ReadFile(p.Path)
			must(m.t, err)
			offered[p.Name] = string(content)
		}
		must(m.t, offer.Ack(nil))
	}
	return offered
}

func (m *machine) instance() testserver.Instance {
	i, _ := m.Instance(appID, "m1")
	return i
}

func TestClient_takesWhatIsListed(t *testing.T) {
	r := newRepo(t)
	r.listHere("2.0.0", "app.bin", []byte("version two"))
	r.renew()
	m := r.machine(t, testserver.Release{Version: "2.0.0", Files: []testserver.File{
		{Name: "app.bin", Content: []byte("version two")}, {Name: "extra.bin", Content: []byte("evil")},
	}})
	if got := m.once(); len(got) != 1 || got["app.bin"] != "version two" {
		t.Errorf("offered %q, want app.bin alone", got)
	}
	if i := m.instance(); i.Status != testserver.Complete || i.Version != "2.0.0" {
		t.Errorf("the server knows %+v", i)
	}
}

func TestClient_refuses(t *testing.T) {
	const name = "app.bin"
	for _, tt := range []struct {
		name    string
		release testserver.Release
		want    omaha.ExitCode
		fetched bool
	}{
		{"an unlisted file", testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "evil.bin", Content: []byte("version two")}}}, omaha.ExitPublicKey, false},
		{"an unlisted version", testserver.Release{Version: "3.0.0", Files: []testserver.File{{Name: name, Content: []byte("version two")}}}, omaha.ExitPublicKey, false},
		{"another size", testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: name, Content: []byte("evil")}}}, omaha.ExitPublicKey, false},
		{"other content", testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: name, Content: []byte("version 666")}}}, omaha.ExitHash, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t)
			r.listHere("2.0.0", name, []byte("version two"))
			r.renew()
			m := r.machine(t, tt.release)
			if got := m.once(); len(got) != 0 {
				t.Errorf("offered %q", got)
			}
			if i := m.instance(); i.Status != testserver.Error || i.ErrorCode != int(tt.want) {
				t.Errorf("status %v, code %d; want failed, %d", i.Status, i.ErrorCode, tt.want)
			}
			path := testserver.FilePath(appID, tt.release.Version, tt.release.Files[0].Name)
			if got := m.Payloads.Stats(path).Requests > 0; got != tt.fetched {
				t.Errorf("fetched: %t, want %t", got, tt.fetched)
			}
		})
	}
}
