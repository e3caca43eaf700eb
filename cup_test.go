package omahaclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

func cupKey(t *testing.T) (key *ecdsa.PrivateKey, line string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key, omaha.CUPKey{ID: "1", Key: &key.PublicKey}.String()
}

// signed makes a world whose server signs its answers, by https: there X-Retry-After counts, and the attackers sit in a proxy that
// ends TLS.
func signed(t *testing.T) (w *world, believe omahaclient.Option) {
	t.Helper()
	key, line := cupKey(t)
	w = &world{
		Server: testserver.New(testserver.WithSigner("1", key)), t: t, dir: t.TempDir(), log: &logbook{}, patience: time.Minute,
	}
	must(t, w.StartTLS())
	t.Cleanup(w.Close)
	return w, omahaclient.WithCUPKeys(line)
}

// answerWith is an answer of the attackers' own.
func answerWith(app string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><response protocol="3.0" server="nebraska"><app appid="` + appA + `" status="ok">` +
		app + `</app></response>`
}

const evilOffer = `<updatecheck status="ok"><urls><url codebase="https://evil.example.com/"></url></urls><manifest version="9.9.9">` +
	`<packages><package name="evil.bin" size="4" required="true"></package></packages></manifest></updatecheck>`

// both applies two faults underway, one after the other.
func both(a, b testserver.Fault) testserver.Fault {
	return testserver.Fault{Header: b.Header, Underway: func(r testserver.Request, header http.Header, body []byte) []byte {
		return b.Underway(r, header, a.Underway(r, header, body))
	}}
}

// headers lets an attacker set headers behind the signature.
func headers(pairs ...string) testserver.Fault {
	return testserver.Fault{Underway: func(_ testserver.Request, header http.Header, body []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			header.Set(pairs[i], pairs[i+1])
		}
		return body
	}}
}

// For as long as an attacker sits in the middle nothing is fetched and no check is put off; Status says why. When he goes, the
// update comes at the next check.
func TestWithCUPKeys_attackers(t *testing.T) {
	stranger, _ := cupKey(t)
	later := []string{"Retry-After", "86400", "X-Retry-After", "86400"}
	for _, tt := range []struct {
		name   string
		attack testserver.Fault
		says   string
	}{
		{"strips the proof", testserver.Unsigned(), "it has none"},
		{"changes the codebase", testserver.Changed(`codebase="`, `codebase="https://evil.example.com/?`), "the signature is wrong"},
		{"hides the update", testserver.Changed(`<updatecheck status="ok">`, `<updatecheck status="noupdate">`), "the signature is wrong"},
		{"downgrades to the ETag", both(testserver.ProofInETag(false), testserver.Changed("2.0.0", "0.1.0")), "the signature is wrong"},
		{"signs by himself", both(testserver.Changed("2.0.0", "9.9.9"), testserver.SignedBy(stranger, "")), "the signature is wrong"},
		{"signs under an id of his own", testserver.SignedBy(stranger, "0"), "the signature is wrong"},
		{"offers his own", testserver.Invented(answerWith(evilOffer)), "it has none"},
		{"has no update", testserver.Invented(answerWith(`<ping status="ok"/><updatecheck status="noupdate"/>`)), "it has none"},
		{"switches updates off", testserver.Invented(strings.Replace(answerWith(`<ping status="ok"/>`), `status="ok"`, `status="error-updatesDisabled"`, 1)), "it has none"},
		{"puts checks off, with an unsigned answer", both(testserver.Unsigned(), headers(later...)), "it has none"},
		{"puts checks off, with a status", testserver.StatusFault(503, later...), "HTTP 503"},
		{"says not found", testserver.StatusFault(404, later...), "HTTP 404"},
		{"leads away", testserver.StatusFault(307, append(later, "Location", "https://evil.example.com/")...), "redirected"},
		{"shows a page", testserver.HTMLPage(), "it has none"},
		{"empties the answer", testserver.EmptyBody(), "it is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, believe := signed(t)
			w.offering(appA, "2.0.0")
			w.Fail(-1, tt.attack)
			c := w.client(app(appA), quick(), believe)
			s := w.updates(c)
			w.wait("several checks under attack", func() bool { return len(w.checks(appA)) > 12 })

			st := status(t, c, appA)
			if st.Phase == omahaclient.Fetching || st.Phase == omahaclient.Offered || st.Target != "" || !st.LastCheck.IsZero() {
				t.Errorf("status %+v; want nothing believed", st)
			}
			if !strings.Contains(st.Reason, tt.says) || st.LastError == nil {
				t.Errorf("reason %q, error %v; want %q", st.Reason, st.LastError, tt.says)
			}
			if until := time.Until(st.NextCheck); until > time.Minute {
				t.Errorf("next check in %v", until)
			}
			want(t, "downloads", len(w.Payloads.Requests()), 0)

			w.Heal()
			o := s.next()
			want(t, "version", o.Version, "2.0.0")
			must(t, o.Ack(nil))
			w.reaches(appA, testserver.Complete)
			if st := status(t, c, appA); st.LastError != nil {
				t.Errorf("error %v after a finished update", st.LastError)
			}
		})
	}
}

// Yesterday's "no update" does not hide today's release.
func TestWithCUPKeys_replay(t *testing.T) {
	w, believe := signed(t)
	g := w.group(appA)
	tape := &testserver.Tape{}
	w.Fail(1, tape.Record())
	w.Fail(-1, tape.Play())
	c := w.client(app(appA), quick(), believe)
	s := w.updates(c)
	w.wait("an honest answer", func() bool { return !status(t, c, appA).LastCheck.IsZero() })
	g.Publish(release(appA, "2.0.0"))
	w.wait("a replayed answer", func() bool { return errors.Is(status(t, c, appA).LastError, omaha.ErrUnsigned) })
	st := status(t, c, appA)
	if !strings.Contains(st.Reason, "another request") {
		t.Errorf("reason %q", st.Reason)
	}
	n := len(w.checks(appA))
	w.wait("more checks", func() bool { return len(w.checks(appA)) > n+6 })
	if now := status(t, c, appA); !now.LastCheck.Equal(st.LastCheck) {
		t.Errorf("last check %v; want %v, as before the replays", now.LastCheck, st.LastCheck)
	}
	w.Heal()
	want(t, "version", s.next().Version, "2.0.0")
}

// A signed answer's headers are nobody's word either.
func TestWithCUPKeys_headersOfASignedAnswer(t *testing.T) {
	w, believe := signed(t)
	g := w.group(appA)
	w.Fail(-1, headers("Retry-After", "86400", "X-Retry-After", "86400"))
	s := w.updates(w.client(app(appA), quick(), believe))
	w.wait("several checks", func() bool { return len(w.checks(appA)) > 4 })
	g.Publish(release(appA, "2.0.0"))
	want(t, "version", s.next().Version, "2.0.0")
}

// A report counts as delivered by a signed answer alone, and is kept until then.
func TestWithCUPKeys_reportsAreKept(t *testing.T) {
	taken := answerWith(strings.Repeat(`<event status="ok"/>`, 4) + `<ping status="ok"/><updatecheck status="noupdate"/>`)
	for _, tt := range []struct {
		name   string
		attack testserver.Fault
	}{
		{"taken by somebody else", testserver.Invented(taken)},
		{"taken, but not provably", func() testserver.Fault {
			f := testserver.Unsigned()
			f.Edit = testserver.DropEvents().Edit // the server itself takes them: only the answer differs
			return f
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, believe := signed(t)
			w.offering(appA, "2.0.0")
			c := w.client(app(appA), quick(), believe)
			o := w.updates(c).next()
			w.Fail(-1, tt.attack)
			n := len(w.Requests())
			must(t, o.Ack(nil))
			w.wait("several deliveries under attack", func() bool { return len(w.Requests()) > n+6 })
			st := status(t, c, appA)
			if st.PendingEvents == 0 {
				t.Errorf("no pending reports: %+v", st)
			}
			ctx, cancel := shortly()
			defer cancel()
			if err := c.CheckNow(ctx); !errors.Is(err, omaha.ErrUnsigned) {
				t.Errorf("CheckNow: %v; want ErrUnsigned", err)
			}
			if st := status(t, c, appA); !strings.Contains(st.Reason, "without valid proof") {
				t.Errorf("reason %q", st.Reason)
			}
			w.Heal()
			w.flush(c)
			w.reaches(appA, testserver.Complete)
			want(t, "pending reports", status(t, c, appA).PendingEvents, 0)
		})
	}
}

func TestWithCUPKeys_mistakes(t *testing.T) {
	_, line := cupKey(t)
	for _, tt := range []struct {
		name     string
		keys     []string
		mistakes int
		says     string
	}{
		{"none", nil, 1, "no key"},
		{"junk", []string{"1:junk", line, "x"}, 2, "ID:KEY"},
		{"twice", []string{line, line}, 1, "given twice"},
		{"good", []string{line}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := omahaclient.New(endpoint, omahaclient.WithStateDir(t.TempDir()), app(appA), omahaclient.WithCUPKeys(tt.keys...))
			if err == nil {
				c.Close()
			}
			want(t, "mistakes", len(joined(err)), tt.mistakes)
			if err != nil {
				wantErr(t, err, omahaclient.ErrInvalidOption)
			}
			if text := fmt.Sprint(err); !strings.Contains(text, tt.says) || err != nil && !strings.Contains(text, "WithCUPKeys: ") {
				t.Errorf("%q does not say %q", text, tt.says)
			}
		})
	}
}
