package omahaclient_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

func now() time.Time { return time.Now() }

// remove deletes what matches below the state directory.
func (s *siege) remove(pattern string) {
	for _, path := range s.found(pattern) {
		must(s.t, os.RemoveAll(path))
	}
}

// found lists what matches below the state directory.
func (w *world) found(pattern string) []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, filepath.FromSlash(pattern)))
	must(w.t, err)
	return found
}

// loseJournal forgets what version is installed.
func (s *siege) loseJournal() { s.remove("journal*") }

// upgraded is a client that has been given 3.0.0 already, and the server then offers 2.0.0, as it was released.
func (s *siege) upgraded(between func(), edit ...func(*trust.Statement)) {
	s.releases("3.0.0", 7, edit...)
	s.installs()
	if between != nil {
		between()
	}
	s.offers("2.0.0", file(content(appA, "2.0.0")))
}

// rollbackAttacks want an older release installed, which has known faults.
func rollbackAttacks() []attack {
	const threat = "rollback"
	return []attack{
		{threat: threat, who: "server", does: "an older release", do: func(s *siege) { s.upgraded(nil) }, want: everywhere(givenBack(36))},
		{
			threat: threat, who: "network", does: "an old offer once more",
			do: func(s *siege) {
				tape := &record{}
				if !s.tls {
					s.between(s.URL(), tape.meddle)
				}
				s.installs()
				s.releases("3.0.0", 7)
				s.installs()
				if s.tls {
					s.between(s.URL(), tape.meddle)
				}
				tape.replay()
			},
			want: []outcome{givenBack(36), unbelieved, givenBack(36), givenBack(36), unbelieved},
		},
		{
			threat: threat, who: "server", does: "an older release, and the journal is lost",
			do: func(s *siege) { s.upgraded(s.loseJournal) }, want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "an older release, and the memory of statements is damaged",
			do: func(s *siege) {
				s.upgraded(func() {
					if s.keys {
						must(s.t, os.Truncate(s.memory(), 100))
					}
				})
			},
			want: everywhere(givenBack(36)),
		},
		{
			threat: threat, who: "server", does: "an older release, and the whole state directory is lost",
			do: func(s *siege) { s.upgraded(func() { s.remove("*") }) }, want: everywhere(taken),
		},
		{
			threat: threat, who: "server", does: "the same, with `WithMinSequence` compiled in",
			do: func(s *siege) {
				s.upgraded(func() { s.remove("*") })
				if s.keys {
					s.options = append(s.options, omahaclient.WithMinSequence(7))
				}
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "an old release whose statement has expired",
			do: func(s *siege) {
				doc := s.key.sign(s.key.statement(appA, "2.0.0", 5, func(st *trust.Statement) {
					st.Issued, st.Expires = now().Add(-30*day), now().Add(-time.Minute)
				}))
				s.lay("2.0.0", doc.Document, doc.Signatures)
				s.version = "3.0.0" // this is what it should be
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "another release that was signed under the number of the installed one",
			do: func(s *siege) {
				s.releases("3.0.0", 7)
				s.installs()
				doc := s.key.sign(s.key.statement(appA, "3.0.1", 7))
				s.offers("3.0.1", file(content(appA, "3.0.1")))
				s.lay("3.0.1", doc.Document, doc.Signatures)
			},
			want: unless(taken, givenBack(18)),
		},
	}
}

func (s *siege) memory() string {
	found := s.found("*/*/trust.json")
	if len(found) != 1 {
		s.t.Fatalf("%d memories: %q", len(found), found)
	}
	return found[0]
}

// freezeAttacks want a release kept away, without anybody seeing it.
func freezeAttacks() []attack {
	const threat = "freeze"
	// quiet is an honest server that has nothing new, while something is wrong with the index.
	quiet := func(wrong func(s *siege)) func(s *siege) {
		return func(s *siege) {
			s.runs = "2.0.0"
			wrong(s)
		}
	}
	index := []outcome{none, none, none, alarm, alarm}
	withheld := func(s *siege) {
		s.runs = "1.0.0"
		s.group.Publish(release(appA, "1.0.0"))
	}
	return []attack{
		{threat: threat, who: "server", does: "has nothing new for ever", do: withheld, want: []outcome{unnoticed, unnoticed, unnoticed, alarm, alarm}},
		{
			threat: threat, who: "network", does: "answers “nothing new” for ever",
			do: func(s *siege) {
				s.between(s.URL(), rewrite(func([]byte) []byte {
					return []byte(answerWith(`<ping status="ok"/><updatecheck status="noupdate"/>`))
				}))
				s.limit = time.Second
			},
			want: []outcome{unnoticed, unbelieved, unnoticed, alarm, alarm},
		},
		{
			threat: threat, who: "server", does: "something else each time that `WithMinAge` is about to be over", drip: true,
			do: func(s *siege) {
				withheld(s)
				s.limit = 12 * time.Hour
				s.options = append(s.options, omahaclient.WithMinAge(6*time.Hour))
				s.every(5*time.Hour, func(n int) { s.offers(fmt.Sprintf("1.9.%d", n), file(content(appA, "1.9.0"))) })
			},
			want: []outcome{givenBack(36), givenBack(36), givenBack(36), alarm, alarm},
		},
		{
			threat: threat, who: "network", does: "lets nobody reach the server",
			do:   func(s *siege) { s.Offline(true) },
			want: []outcome{unbelieved, unbelieved, unbelieved, alarm, alarm},
		},
		{
			threat: threat, who: "server and index host", does: "have nothing new, and an index that has expired",
			do: func(s *siege) {
				withheld(s)
				s.key.announces(s.world, "1.0.0", 4, func(x *trust.Index) { x.Issued, x.Expires = now().Add(-day), now().Add(-time.Minute) })
			},
			want: []outcome{unnoticed, unnoticed, unnoticed, alarm, alarm},
		},
		{
			threat: threat, who: "server and index host", does: "have nothing new, and an old index that has not expired",
			do: func(s *siege) {
				withheld(s)
				s.key.announces(s.world, "1.0.0", 4)
				s.limit = time.Minute
			},
			want: []outcome{unnoticed, unnoticed, unnoticed, unnoticed, unnoticed},
		},
		{
			threat: threat, who: "index host", does: "an older index than it had before",
			do: quiet(func(s *siege) {
				s.runs, s.reads = "", true
				s.installs()
				s.runs = "2.0.0"
				s.key.announces(s.world, "1.0.0", 4)
			}),
			want: index,
		},
		{threat: threat, who: "index host", does: "no index", do: quiet(func(s *siege) { s.Payloads.Remove(indexPath) }), want: index},
		{
			threat: threat, who: "index host", does: "an index that it signed itself",
			do: quiet(func(s *siege) { newPublisher(s.t).announces(s.world, "2.0.0", 9) }), want: index,
		},
		{
			threat: threat, who: "index host", does: "the publisher's statement in place of the index",
			do: quiet(func(s *siege) {
				document, signatures := s.documents()
				s.Payloads.Put(indexPath, document)
				s.Payloads.Put(indexPath+trust.IndexSignatureSuffix, signatures)
			}),
			want: index,
		},
		{
			threat: "endless data", who: "index host", does: "an index without end",
			do: quiet(func(s *siege) {
				s.Payloads.Fail(indexPath, -1, testserver.FileFault{IgnoreRange: true, Chunked: true, Content: make([]byte, 1<<20)})
			}),
			want: index,
		},
		{
			threat: "slow retrieval", who: "index host", does: "stops amid the index", stops: true,
			do: quiet(func(s *siege) {
				s.Payloads.Fail(indexPath, -1, testserver.FileFault{Stall: true, After: 3})
			}),
			want: index,
		},
	}
}

// every does something again and again, at once for the first time, until the attack is over. On virtual time.
func (s *siege) every(d time.Duration, do func(n int)) {
	var done sync.WaitGroup
	s.t.Cleanup(done.Wait)
	do(0)
	done.Go(func() {
		again := time.NewTicker(d)
		defer again.Stop()
		for n := 1; ; n++ {
			select {
			case <-again.C:
				do(n)
			case <-s.t.Context().Done():
				return
			}
		}
	})
}

// keyAttacks come with a key that was stolen, or are the day after one was lost.
func keyAttacks() []attack {
	const threat = "key compromise"
	steals := func(s *siege, sequence uint64) {
		bad := evil(content(appA, "4.0.0"))
		doc := s.key.sign(s.key.statement(appA, "4.0.0", sequence, vouchesFor(bad)))
		s.offers("4.0.0", file(bad))
		s.lay("4.0.0", doc.Document, doc.Signatures)
	}
	steal := func(s *siege) { steals(s, 9) }
	// rotated is a client that has seen the release by which the publisher went over to another key.
	rotated := func(s *siege) *publisher {
		next := newPublisher(s.t)
		st := s.key.statement(appA, "3.0.0", 7, func(st *trust.Statement) { st.Keys = []string{next.public} })
		s.releases("3.0.0", 7)
		doc := s.key.sign(st, next)
		s.lay("3.0.0", doc.Document, doc.Signatures)
		s.installs()
		return next
	}
	return []attack{
		{threat: threat, who: "key thief, and server", does: "a release of his own, signed by the stolen key", do: steal, want: everywhere(taken)},
		{
			threat: threat, who: "key thief, and server", does: "the same, after the publisher has changed keys",
			do: func(s *siege) {
				rotated(s)
				steal(s)
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "key thief, and server", does: "the same, and shows the former change of keys again",
			do: func(s *siege) {
				first, second := s.key, rotated(s)
				third := newPublisher(s.t)
				st := second.statement(appA, "3.0.1", 8, func(st *trust.Statement) { st.Keys = []string{third.public} })
				s.key = second
				s.releases("3.0.1", 8)
				doc := second.sign(st, third)
				s.lay("3.0.1", doc.Document, doc.Signatures)
				s.installs()
				s.options = append(s.options, omahaclient.WithDowngrades())
				bad := evil(content(appA, "4.0.0"))
				doc = first.sign(first.statement(appA, "4.0.0", 9, vouchesFor(bad), func(st *trust.Statement) { st.Keys = []string{second.public} }), second)
				s.offers("4.0.0", file(bad))
				s.lay("4.0.0", doc.Document, doc.Signatures)
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "key thief, and server", does: "a release of his own, signed by one of two keys that the program trusts",
			do: func(s *siege) {
				s.pinned = append(s.pinned, newPublisher(s.t).public)
				steal(s)
			},
			want: everywhere(taken),
		},
		{
			threat: threat, who: "key thief, and server", does: "a release of his own with the highest sequence of all (fast-forward), before a build with a new key",
			do: func(s *siege) {
				s.reads = s.index
				s.key.announces(s.world, "4.0.0", trust.MaxSequence)
				steals(s, trust.MaxSequence)
				s.takes(taken)
				s.key = newPublisher(s.t)
				s.pinned = []string{s.key.public}
				s.releases("5.0.0", 10)
			},
			want: everywhere(harmless),
		},
		{
			threat: threat, who: "key thief, server and index host", does: "the same, and nothing new is offered after it",
			do: func(s *siege) {
				s.reads = s.index
				s.key.announces(s.world, "4.0.0", trust.MaxSequence)
				steals(s, trust.MaxSequence)
				s.takes(taken)
				s.key = newPublisher(s.t)
				s.pinned = []string{s.key.public}
				s.key.announces(s.world, "5.0.0", 10)
				s.reason = "version 5.0.0 is released, and the update server does not offer it" // so the new key's index was read
			},
			want: []outcome{unnoticed, unnoticed, unnoticed, alarm, alarm},
		},
		{
			threat: threat, who: "nobody", does: "one of two keys that the program trusts is lost, and the publisher signs with the other",
			do: func(s *siege) {
				s.key = newPublisher(s.t)
				s.pinned = append(s.pinned, s.key.public)
				s.releases("3.0.0", 7)
			},
			want: everywhere(harmless),
		},
	}
}
