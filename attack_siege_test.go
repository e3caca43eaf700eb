package omahaclient_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

// outcome is what came of an attack, in the words of docs/trust.md.
type outcome string

const (
	none       outcome = "–"               // there is nothing to attack
	taken      outcome = "**installed**"   // the program was offered what the attacker wanted
	harmless   outcome = "no effect"       // the program was offered the publisher's release all the same
	unbelieved outcome = "no answer"       // what the server is said to have said counts as nothing: as in an outage
	putOff     outcome = "put off"         // nothing was offered; the transfer is tried again
	alarm      outcome = "alarm"           // nothing was offered, and WithMaxStaleness told of it
	unnoticed  outcome = "**not noticed**" // nothing was offered, and nobody knows that something should have been
)

// givenBack is an offer that goes back to the server with a code.
func givenBack(code omaha.ExitCode) outcome { return outcome(fmt.Sprintf("refused (%d)", code)) }

// stopped reports whether the attacker has achieved nothing, or at least not without being seen.
func (o outcome) stopped() bool { return o != none && o != taken && o != unnoticed }

// setup is a way to configure the client.
type setup struct {
	name             string
	tls              bool
	keys, index, cup bool
	image            bool
	cosign           bool
}

// attack is one attacker.
type attack struct {
	threat string // of TUF's list
	who    string
	does   string
	do     func(s *siege)
	then   func(s *siege) // looks closer, where nothing was taken
	drip   bool           // takes minutes: on virtual time, without sockets
	stops  bool           // something stops in the middle: the program waits a second for it to go on, and not a minute
	want   []outcome      // for each setup
}

// siege is one attack on one client.
type siege struct {
	*world
	setup

	group   *testserver.Group
	key     *publisher
	pinned  []string // keys that the program trusts
	answers string   // key of the server's signed answers
	runs    string   // version that the program gives for itself
	options []omahaclient.AppOption
	limit   time.Duration     // WithMaxStaleness
	stall   time.Duration     // how long the program waits for the next byte
	reason  string            // what an alarm has to say; "" for anything
	detours map[string]string // where connections end up, by the address that they were meant for
	virtual bool              // time is
	reads   bool              // installs waits until the index is read, too
	raised  atomic.Int32      // alarms
	hits    atomic.Int32      // requests to the attacker's host

	version   string            // the publisher's release
	statement trust.Signed      // of version 2.0.0; see documents
	files     map[string][]byte // its files, or the image's digest under ""

	hub *hub
}

// evil is content of the attacker's, as long as what it stands for.
func evil(genuine []byte) []byte {
	return append([]byte("EVIL"), bytes.Repeat([]byte("!"), len(genuine)-4)...)
}

// besiege sets the scene: the publisher has released version 2.0.0.
func besiege(t *testing.T, w *world, set setup) *siege {
	t.Helper()
	s := &siege{
		world: w, setup: set, key: newPublisher(t), limit: 300 * time.Millisecond, stall: w.patience, detours: map[string]string{}, group: w.group(appA),
	}
	s.pinned = []string{s.key.public}
	if set.image {
		s.openHub()
		return s
	}
	s.releases("2.0.0", 5)
	return s
}

// begin makes a world for a setup and an attack, and lets both go at each other.
func (a *attack) begin(t *testing.T, set setup, want outcome) {
	t.Helper()
	key, line := cupKey(t)
	server := testserver.WithSigner("1", key)
	story := func(t *testing.T, w *world) {
		s := besiege(t, w, set)
		s.answers, s.virtual = line, a.drip
		switch {
		case a.drip:
			s.stall = 0 // the default
		case a.stops:
			s.stall = time.Second
		}
		a.do(s)
		s.endsIn(want)
		if a.then != nil && want != taken {
			a.then(s)
		}
	}
	if a.drip {
		inBubble(t, story, server)
		return
	}
	w := &world{Server: testserver.New(server), t: t, dir: t.TempDir(), log: &logbook{}, patience: time.Minute}
	start := w.Start
	if set.tls {
		start = w.StartTLS
	}
	must(t, start())
	t.Cleanup(w.Close)
	story(t, w)
}

// releases is the publisher's work: a release with its statement, and the index that names it.
func (s *siege) releases(version string, sequence uint64, edit ...func(*trust.Statement)) {
	s.version, s.files = version, map[string][]byte{"app.bin": content(appA, version)}
	s.key.releases(s.world, s.group, appA, version, sequence)
	s.beside(appA, version, s.key.sign(s.key.statement(appA, version, sequence, edit...)))
	s.key.announces(s.world, version, sequence)
}

// offers is a hostile server's work: files under a version, above or below what runs, and beside them whatever lies there.
func (s *siege) offers(version string, files ...testserver.File) {
	s.group.Publish(testserver.Release{Version: version, AnyVersion: true, Files: files})
}

func file(content []byte) testserver.File {
	return testserver.File{Name: "app.bin", Content: content}
}

// proof is the address of the statement of a version.
func (s *siege) proof(version string) string { return fileOf(appA, version) + trust.ReleaseSuffix }

// unproved takes the statement of a version away.
func (s *siege) unproved(version string) {
	s.Payloads.Remove(s.proof(version))
	s.Payloads.Remove(s.proof(version) + ".minisig")
}

// client is the program under attack.
func (s *siege) program() *omahaclient.Client {
	s.t.Helper()
	apps := append([]omahaclient.AppOption{omahaclient.WithChannel(track)}, s.options...)
	files := fetcher.HTTP{Client: s.http(), MaxSize: 1 << 20, StallTimeout: s.stall, Tries: 1, RetryWait: time.Millisecond}
	opts := []omahaclient.Option{
		omahaclient.WithStateDir(s.dir), omahaclient.WithMachineID(machine), omahaclient.WithHTTPClient(s.http()),
		omahaclient.WithLogger(slog.New(slog.NewTextHandler(s.log, nil))), omahaclient.WithFetcher("binary", files),
	}
	if !s.virtual {
		opts = append(opts, omahaclient.WithSchedule(omahaclient.Schedule{
			FirstMin: time.Millisecond, FirstMax: time.Millisecond, Min: 10 * time.Millisecond, Max: 15 * time.Millisecond,
		}))
	}
	if s.keys {
		apps = append(apps, omahaclient.WithTrustedKeys(s.pinned...))
	}
	if s.index {
		apps = append(apps, omahaclient.WithReleaseIndex(s.Payloads.URL()+indexPath))
		opts = append(opts, omahaclient.WithMaxStaleness(s.limit, func(omahaclient.Staleness) { s.raised.Add(1) }))
	}
	if s.cup {
		opts = append(opts, omahaclient.WithCUPKeys(s.answers))
	}
	if s.hub != nil {
		opts = append(opts, s.hub.fetcher(s))
	}
	c, err := omahaclient.New(s.URL(), append(opts, omahaclient.WithApp(appA, s.runs, apps...))...)
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// installs lets the client take the release that is offered, before the attack, and ends it.
func (s *siege) installs() { s.t.Helper(); s.takes(harmless) }

// takes does the same with a release that is the publisher's, or not.
func (s *siege) takes(what outcome) {
	s.t.Helper()
	c := s.program()
	stream := s.updates(c)
	o := stream.next()
	if s.judge(o) != what {
		s.t.Fatalf("offer %s before the attack", o.Version)
	}
	must(s.t, o.Ack(nil))
	s.flush(c)
	for s.reads && !bytes.Contains(s.remembered(), []byte(`"indexes":[`)) {
		select {
		case <-time.After(time.Millisecond):
		case <-s.t.Context().Done():
			s.t.Fatal("the index was not read")
		}
	}
	stream.stop()
	must(s.t, c.Close())
}

// remembered is what the client knows of statements and indexes.
func (s *siege) remembered() []byte {
	b, err := os.ReadFile(s.memory())
	must(s.t, err)
	return b
}

// judge says whether an offer is the publisher's release.
func (s *siege) judge(o omahaclient.UpdateOffer) outcome {
	if o.Version != s.version || len(o.Payloads) != len(s.files) {
		return taken
	}
	for _, p := range o.Payloads {
		if s.image {
			if p.Digest != string(s.files[""]) {
				return taken
			}
			continue
		}
		if got, err := os.ReadFile(p.Path); err != nil || !bytes.Equal(got, s.files[p.Name]) {
			return taken
		}
	}
	return harmless
}

// endsIn starts the program and waits for what comes of the attack.
func (s *siege) endsIn(want outcome) {
	s.t.Helper()
	c := s.program()
	stream := s.updates(c)
	before := len(s.codes())
	every := 5 * time.Millisecond
	if s.virtual {
		every = 10 * time.Second
	}
	look := time.NewTicker(every)
	defer look.Stop()
	late := time.After(s.patience)
	for got := outcome(""); got != want; {
		select {
		case o, ok := <-stream.ch:
			if !ok {
				s.t.Fatalf("the stream ended: %v", c.Err())
			}
			got = s.judge(o)
		case <-look.C:
			got = s.soFar(c, before, want)
		case <-late:
			s.t.Fatalf("not %s; status %+v, events %s\n%s", want, c.Status(), s.events(appA), s.log)
		}
		passing := want == alarm && got != taken && got != harmless
		if got != "" && got != want && !passing {
			s.t.Fatalf("%s; want %s; status %+v\n%s", got, want, c.Status(), s.log)
		}
	}
	s.remains(stream, want)
}

// remains looks whether it stays so: nothing more comes, and nothing of the attacker's lies where a payload would.
func (s *siege) remains(stream *stream, want outcome) {
	s.t.Helper()
	stream.end(errDone)
	for o := range stream.ch {
		if want != taken && s.judge(o) == taken {
			s.t.Errorf("offer %s after all", o.Version)
		}
	}
	must(s.t, stream.c.Close())
	if want == taken {
		return
	}
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if name := entry.Name(); err == nil && (name == "app.bin" || name == "extra.bin") {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("EVIL")) {
				s.t.Errorf("%s holds what the attacker sent", path)
			}
		}
		return nil
	})
	must(s.t, err)
}

// soFar says what the attack has come to, as far as that is seen without an offer.
func (s *siege) soFar(c *omahaclient.Client, before int, want outcome) outcome {
	st := status(s.t, c, appA)
	codes := s.codes()
	switch {
	case want == alarm && s.raised.Load() > 0 && st.Stale != "" && strings.Contains(st.Stale, s.reason) && len(s.log.lines("may be kept from updates")) > 0:
		return alarm
	case len(codes) > before && codes[before] == "9": // omaha.ExitTransfer
		return putOff
	case len(codes) > before:
		return outcome("refused (" + codes[before] + ")")
	case len(s.log.lines("check failed")) > 2 && st.LastError != nil:
		return unbelieved
	case want == unnoticed && st.LastError == nil && st.Stale == "" && len(s.checks(appA)) > 5:
		return unnoticed
	default:
		return ""
	}
}

// codes are those with which updates were given back.
func (s *siege) codes() (codes []string) {
	for _, m := range regexp.MustCompile(`msg="(?:update attempt ended|offered version given back)".* code=(\d+)`).FindAllStringSubmatch(s.log.String(), -1) {
		codes = append(codes, m[1])
	}
	return codes
}
