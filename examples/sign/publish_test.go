package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// A market is where releases meet a machine: an Omaha server, a host for files, and a client that starts again for each round.
type market struct {
	*publisher

	server *testserver.Server
	group  *testserver.Group
	state  string
}

func newMarket(p *publisher, start func(*testserver.Server)) *market {
	m := &market{publisher: p, server: testserver.New(), state: p.TempDir()}
	m.group = m.server.AddGroup(app, "stable", testserver.AnyArch, testserver.Policy{})
	start(m.server)
	p.Cleanup(m.server.Close)
	return m
}

func onSockets(s *testserver.Server) {
	if err := s.Start(); err != nil {
		panic(err)
	}
}

// sign signs a version of the payload with the present content.
func (m *market) sign(version, sequence string, keys ...string) {
	m.Helper()
	args := releaseOf("-version", version, "-arch", runtime.GOARCH, "-sequence", sequence)
	m.ok(append(args, keys...)...)
}

// upload puts what was written on the host for files, beside where the payload will be.
func (m *market) upload(version string, names ...string) {
	m.Helper()
	for _, name := range names {
		m.server.Payloads.Put(testserver.FilePath(app, version, name), m.get(name))
	}
}

// offer makes the server offer the payload.
func (m *market) offer(version string) {
	m.Helper()
	m.group.Publish(testserver.Release{Version: version, Files: []testserver.File{{Name: payload, Content: m.get(payload)}}})
}

func (m *market) options(running string, trusting ...omahaclient.AppOption) []omahaclient.Option {
	trusting = append(trusting, omahaclient.WithChannel("stable"))
	return []omahaclient.Option{
		omahaclient.WithApp(app, running, trusting...), omahaclient.WithStateDir(m.state), omahaclient.WithMachineID("machine"),
		omahaclient.WithHTTPClient(m.server.Client()), omahaclient.WithFetcher("binary", fetcher.HTTP{Client: m.server.Client()}),
	}
}

// round asks the server once, and installs what is offered. It returns the version that runs then, and why it is no other.
func (m *market) round(trusting ...omahaclient.AppOption) (string, error) {
	m.Helper()
	client, err := omahaclient.New(m.server.URL(), m.options("", trusting...)...)
	if err != nil {
		m.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	defer cancel()
	for offer := range client.UpdatesOnce(ctx) {
		m.got(offer)
	}
	return client.Status()[0].Version, client.Err()
}

func (m *market) got(offer omahaclient.UpdateOffer) {
	m.Helper()
	content, err := os.ReadFile(offer.Payloads[0].Path)
	if err != nil || string(content) != string(m.get(payload)) {
		m.Errorf("offered %s: %q, %v", offer.Version, content, err)
	}
	if err := offer.Ack(nil); err != nil {
		m.Error(err)
	}
}

func TestPublishing_isTakenByAWholeClient(t *testing.T) {
	m := newMarket(newPublisher(t), onSockets)
	old := m.key("old")
	trusting := omahaclient.WithTrustedKeys(old)

	m.put(payload, "one")
	m.sign("1.0.0", "1", "-key", "old.key", payload)
	m.upload("1.0.0", statement, statement+".minisig")
	m.offer("1.0.0")
	if version, err := m.round(trusting); version != "1.0.0" || err != nil {
		t.Fatalf("runs %s: %v", version, err)
	}

	// The key changes: from then on the new one alone counts, for clients that knew the old one alone, too.
	fresh := m.key("new")
	m.put(payload, "two")
	m.sign("2.0.0", "2", "-key", "old.key", payload)
	m.ok("rotate", "-key", "old.key", "-key", "new.key", "-trust", fresh, statement)
	m.upload("2.0.0", statement, statement+".minisig")
	m.offer("2.0.0")
	if version, err := m.round(trusting); version != "2.0.0" || err != nil {
		t.Fatalf("after the rotation %s runs: %v", version, err)
	}
	m.put(payload, "three")
	m.sign("3.0.0", "4", "-key", "new.key", payload)
	m.upload("3.0.0", statement, statement+".minisig")
	m.offer("3.0.0")
	if version, err := m.round(trusting); version != "3.0.0" || err != nil {
		t.Fatalf("signed by the new key alone: %s runs: %v", version, err)
	}
	m.put(payload, "four")
	m.sign("4.0.0", "5", "-key", "old.key", payload)
	m.upload("4.0.0", statement, statement+".minisig")
	m.offer("4.0.0")
	if version, err := m.round(trusting); version != "3.0.0" || !errors.Is(err, trust.ErrSignature) {
		t.Fatalf("signed by the old key alone: %s runs: %v", version, err)
	}
}

func TestPublishing_refusesWhatWasNotSigned(t *testing.T) {
	for _, tc := range []struct {
		name    string
		publish func(m *market)
		want    error
		code    int
	}{
		{"no statement", func(m *market) { m.offer("1.0.0") }, trust.ErrNoStatement, 18},
		{"a payload that was changed afterwards", func(m *market) {
			m.sign("1.0.0", "1", "-key", "k.key", payload)
			m.upload("1.0.0", statement, statement+".minisig")
			m.put(payload, "two")
			m.offer("1.0.0")
		}, fetcher.ErrDigest, 10},
		{"a statement of another version", func(m *market) {
			m.sign("1.0.0", "1", "-key", "k.key", payload)
			m.upload("1.1.0", statement, statement+".minisig")
			m.offer("1.1.0")
		}, trust.ErrMismatch, 18},
		{"a host that answers for the payload alone", func(m *market) {
			m.server.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault {
				if strings.HasSuffix(r.Path, trust.ReleaseSuffix) {
					return testserver.FileFault{Status: 500}
				}
				return testserver.FileFault{}
			})
			m.offer("1.0.0")
		}, nil, 9},
		{"a stranger's signature", func(m *market) {
			m.key("stranger")
			m.sign("1.0.0", "1", "-key", "stranger.key", payload)
			m.upload("1.0.0", statement, statement+".minisig")
			m.offer("1.0.0")
		}, trust.ErrSignature, 18},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMarket(newPublisher(t), onSockets)
			trusting := omahaclient.WithTrustedKeys(m.key("k"))
			m.put(payload, "one")
			tc.publish(m)
			if version, err := m.round(trusting); version != "0.0.0" || err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%s runs: %v, want %v", version, err, tc.want)
			}
			instance, _ := m.server.Instance(app, "machine")
			last := instance.History[len(instance.History)-1]
			if last.Status != testserver.Error || last.ErrorCode != tc.code {
				t.Errorf("the server was told %+v, want code %d", last, tc.code)
			}
		})
	}
}

// What attach's commands do, and a client that looks for it in the registry.
func TestPublishing_ofAnImage(t *testing.T) {
	m := newMarket(newPublisher(t), onSockets)
	m.key("k")
	registry := testregistry.New()
	host := httptest.NewServer(registry)
	defer host.Close()
	pushed := registry.PushImage("ns/app", "linux/amd64", []byte("a layer"))
	repository := strings.TrimPrefix(host.URL, "http://") + "/ns/app"
	reference := repository + "@" + pushed.Manifest.Digest.String()
	m.ok(releaseOf("-arch", "all", "-version", "1.5.0", "-sequence", "1", "-key", "k.key", "-image", reference)...)
	name := "app-1.5.0" + trust.ReleaseSuffix
	registry.Attach("ns/app", pushed.Manifest, testregistry.Artifact{Type: trust.ArtifactType, Layers: []testregistry.Layer{
		{MediaType: trust.MediaTypeRelease, Content: m.get(name)}, {MediaType: trust.MediaTypeSignature, Content: m.get(name + ".minisig")},
	}})
	m.group.Publish(testserver.Release{Version: "1.5.0", Image: reference})
	const imageType = "application/vnd.oci.image"
	options := append(m.options("", omahaclient.WithTrustedKeys(string(m.get("k.pub"))), omahaclient.WithPayloadType(imageType)),
		omahaclient.WithFetcher(imageType, fetcher.OCI{Platform: "linux/amd64", MirrorsDir: os.DevNull}))
	client, err := omahaclient.New(m.server.URL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for offer := range client.UpdatesOnce(ctx) {
		if got := offer.Payloads[0].Reference; got != reference {
			t.Errorf("offered: %s, want %s", got, reference)
		}
		_ = offer.Ack(nil)
	}
	if version := client.Status()[0].Version; version != "1.5.0" || client.Err() != nil {
		t.Errorf("%s runs: %v", version, client.Err())
	}
}

// The server goes on answering "no update", and a file on another host says otherwise.
func TestPublishing_showsThatAReleaseIsWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(newPublisher(t), func(s *testserver.Server) { s.StartMemory() })
		trusting := omahaclient.WithTrustedKeys(m.key("k"))
		m.put(payload, "one")
		m.sign("1.0.0", "1", "-key", "k.key", payload)
		m.ok("index", "-key", "k.key", "-sequence", "1", statement)
		m.server.Payloads.Put("index.json", m.get("index.json"))
		m.server.Payloads.Put("index.json.minisig", m.get("index.json.minisig"))

		m.offer("0.9.0") // still

		ctx, cancel := context.WithTimeout(t.Context(), 20*24*time.Hour)
		defer cancel()
		var alarm omahaclient.Staleness
		options := append(m.options("0.9.0", trusting, omahaclient.WithReleaseIndex(m.server.Payloads.URL()+"index.json")),
			omahaclient.WithMaxStaleness(7*24*time.Hour, func(s omahaclient.Staleness) { alarm = s; cancel() }))
		client, err := omahaclient.New(m.server.URL(), options...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for offer := range client.Updates(ctx) {
			t.Errorf("offered: %s", offer.Version)
		}
		if alarm.AppID != app || !strings.Contains(alarm.Reason, "1.0.0") {
			t.Errorf("alarm: %+v; status: %+v", alarm, client.Status())
		}
	})
}

// What this tool makes is what minisign makes: testdata/interop was made by minisign 0.11.
func TestInterop_minisignsOwnFiles(t *testing.T) {
	testdata, err := filepath.Abs(filepath.Join("testdata", "interop"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t)
	p.now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	key := filepath.Join(testdata, "minisign")
	p.ok("verify", "-pub", key+".pub", "-no-files", filepath.Join(testdata, "app.bin.release.json"))
	p.put(payload, "new")
	p.ok(releaseOf("-sequence", "1", "-key", key+".key", payload)...)
	p.ok("verify", "-pub", key+".pub", statement)
}

// What this tool writes is, byte for byte, what docs/trust.md shows, signatures included.
func TestInterop_trustsVectors(t *testing.T) {
	vectors, err := filepath.Abs(filepath.Join("..", "..", "trust", "testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t)
	p.now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	p.put("update.gz", "the update\n")
	p.put("notes.txt", "what is new\n")
	p.ok("release", "-app", "{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}", "-channel", "stable", "-channel", "beta", "-arch", "amd64", "-version", "2.0.0",
		"-sequence", "5", "-days", "30", "-key", filepath.Join(vectors, "a.key"), "update.gz", "notes.txt")
	for _, name := range []string{"update.gz.release.json", "update.gz.release.json.minisig"} {
		if got, want := string(p.get(name)), string(p.get(filepath.Join(vectors, name))); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
	}
	for name, key := range map[string]string{"update.gz": "a", "rotation": "a", "image": "b"} {
		p.ok("verify", "-no-files", "-pub", filepath.Join(vectors, key+".pub"), filepath.Join(vectors, name+trust.ReleaseSuffix))
	}
	p.ok("verify", "-pub", filepath.Join(vectors, "a.pub"), filepath.Join(vectors, "index.json"))
}
