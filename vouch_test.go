package omahaclient_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

// A statement is found wherever it may travel, and the offer then has the publisher's hash although Nebraska knew SHA-1 alone.
func TestTrustedKeys_statementTravels(t *testing.T) {
	for _, tt := range []struct {
		name string
		put  func(w *world, r *testserver.Release, s trust.Signed)
	}{
		{"beside the payload", func(w *world, _ *testserver.Release, s trust.Signed) { w.beside(appA, "2.0.0", s) }},
		{"as extra files", func(_ *world, r *testserver.Release, s trust.Signed) {
			r.Files = append(r.Files,
				testserver.File{Name: "app.bin" + trust.ReleaseSuffix, Content: s.Document},
				testserver.File{Name: "app.bin" + trust.ReleaseSignatureSuffix, Content: s.Signatures})
		}},
		{"in the metadata", func(_ *world, r *testserver.Release, s trust.Signed) {
			r.Files[0].Metadata = string(trust.Metadata(s.Document, s.Signatures))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := newPublisher(t)
				g := w.group(appA)
				r := release(appA, "2.0.0")
				tt.put(w, &r, p.sign(p.statement(appA, "2.0.0", 7)))
				g.Publish(r)
				c := w.client(p.trusted(appA))
				o := w.updates(c).next()
				want(t, "payloads", len(o.Payloads), 1)
				want(t, "digest", o.Payloads[0].Digest, filePayload("", content(appA, "2.0.0")).Digest)
				must(t, o.Ack(nil))
				synctest.Wait()
				want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
			})
		})
	}
}

// An offer without a statement goes back with code 18 and nothing of it is fetched: at once more at the next scheduled check,
// then pings, and a look once in eight mean intervals, which takes a statement that has come since.
func TestTrustedKeys_noStatement(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		p := newPublisher(t)
		c := w.client(p.trusted(appA))
		s := w.updates(c)
		s.silent(4 * time.Hour)
		want(t, "history", w.history(appA), "granted, error 18, granted, error 18")
		want(t, "payload requests", w.Payloads.Stats(fileOf(appA, "2.0.0")).Requests, 0)
		st := status(t, c, appA)
		want(t, "phase", st.Phase, omahaclient.BackingOff)
		if !strings.Contains(st.Reason, "no signed statement") {
			t.Errorf("reason %q", st.Reason)
		}
		var e *omahaclient.Error
		if !errors.As(st.LastError, &e) || e.Op != "verify" || e.Code != omaha.ExitPublicKey || !errors.Is(e, trust.ErrNoStatement) {
			t.Errorf("last error %+v", st.LastError)
		}
		w.beside(appA, "2.0.0", p.sign(p.statement(appA, "2.0.0", 7)))
		since := time.Now()
		o := s.next()
		if d := time.Since(since); d < 4*time.Hour || d > 12*time.Hour {
			t.Errorf("offered after %v; want it at the check after eight mean intervals", d)
		}
		must(t, o.Ack(nil))
	})
}

// What is signed but wrong is refused at once for good; CheckNow looks again.
func TestTrustedKeys_checkNowLiftsARefusal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p, other := newPublisher(t), newPublisher(t)
		w.offering(appA, "2.0.0")
		w.beside(appA, "2.0.0", other.sign(other.statement(appA, "2.0.0", 7)))
		c := w.client(p.trusted(appA))
		s := w.updates(c)
		s.silent(4 * time.Hour)
		want(t, "history", w.history(appA), "granted, error 18")
		w.beside(appA, "2.0.0", p.sign(p.statement(appA, "2.0.0", 7)))
		must(t, c.CheckNow(t.Context()))
		want(t, "version", s.next().Version, "2.0.0")
	})
}

// A host that cannot be asked refuses nothing: the transfer is tried again.
func TestTrustedKeys_statementHostDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.group(appA)
		p.releases(w, g, appA, "2.0.0", 7)
		w.Payloads.Fail(fileOf(appA, "2.0.0")+trust.ReleaseSignatureSuffix, 2, testserver.FileFault{Status: 503})
		c := w.client(p.trusted(appA))
		o := w.updates(c).next()
		want(t, "version", o.Version, "2.0.0")
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, error 9, granted, downloading, downloaded")
	})
}

// Files that the statement does not list are neither fetched nor handed over.
func TestTrustedKeys_unlistedFileIsNotFetched(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.group(appA)
		r := release(appA, "2.0.0")
		r.Files = append(r.Files, testserver.File{Name: "evil.sh", Content: []byte("rm -rf")})
		w.beside(appA, "2.0.0", p.sign(p.statement(appA, "2.0.0", 7)))
		g.Publish(r)
		o := w.updates(w.client(p.trusted(appA))).next()
		want(t, "payloads", len(o.Payloads), 1)
		want(t, "requests", w.Payloads.Stats(testserver.FilePath(appA, "2.0.0", "evil.sh")).Requests, 0)
	})
}

// An offer that was not settled comes again after a restart: verified from what is remembered, although no host answers.
func TestTrustedKeys_restartNeedsNoHost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.group(appA)
		p.releases(w, g, appA, "2.0.0", 7)
		c := w.client(p.trusted(appA))
		first := w.updates(c).next()
		must(t, c.Close())
		w.Payloads.Offline(true)
		again := w.updates(w.client(p.trusted(appA))).next()
		want(t, "attempt", again.Attempt, 2)
		want(t, "digest", again.Payloads[0].Digest, first.Payloads[0].Digest)
		must(t, again.Ack(nil))
	})
}

// A rollback is noticed even though the journal is gone; without the whole directory, by the compiled-in minimum.
func TestTrustedKeys_rollback(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before bool
		opts   []omahaclient.AppOption
	}{
		{"seen before", true, []omahaclient.AppOption{omahaclient.WithDowngrades()}},
		{"below the minimum", false, []omahaclient.AppOption{omahaclient.WithDowngrades(), omahaclient.WithMinSequence(7)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := newPublisher(t)
				g := w.group(appA)
				if tt.before {
					p.releases(w, g, appA, "2.0.0", 7)
					c := w.client(p.trusted(appA, tt.opts...))
					must(t, w.updates(c).next().Ack(nil))
					must(t, c.Close())
				}
				r := release(appA, "1.5.0")
				r.AnyVersion = true
				w.beside(appA, "1.5.0", p.sign(p.statement(appA, "1.5.0", 6)))
				g.Publish(r)
				c := w.client(appAt(appA, "", append([]omahaclient.AppOption{omahaclient.WithTrustedKeys(p.public)}, tt.opts...)...))
				w.updates(c).silent(3 * time.Hour)
				if h := w.history(appA); !strings.HasSuffix(h, "granted, error 18") {
					t.Errorf("history %q", h)
				}
				if e := status(t, c, appA).LastError; !errors.Is(e, trust.ErrRollback) {
					t.Errorf("last error %v", e)
				}
			})
		})
	}
}

// careless is a fetcher that does not look at hashes.
type careless struct{ fetcher.HTTP }

func (f careless) Fetch(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
	f.AllowUnverified = true
	job.Source.SHA1, job.Source.SHA256, job.Source.Size = nil, nil, 0
	return f.HTTP.Fetch(ctx, job)
}

// liar is one that says it brought what it was asked for.
type liar struct{ careless }

func (f liar) Fetch(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
	p, err := f.careless.Fetch(ctx, job)
	p.Digest = "sha256:" + hex.EncodeToString(job.Source.SHA256)
	return p, err
}

func TestTrustedKeys_fetcherOfTheProgramsOwn(t *testing.T) {
	for name, f := range map[string]fetcher.Fetcher{"careless": careless{}, "liar": liar{}} {
		t.Run(name, func(t *testing.T) {
			w := onSockets(t)
			p := newPublisher(t)
			g := w.group(appA)
			p.releases(w, g, appA, "2.0.0", 7)
			w.Payloads.Put(fileOf(appA, "2.0.0"), []byte("something else"))
			w.updates(w.client(p.trusted(appA), quick(), omahaclient.WithFetcher("binary", f)))
			w.wait("the wrong payload is reported", func() bool { return strings.HasPrefix(w.history(appA), "granted, downloading, error 10") })
		})
	}
}

// verifier is one of the program's own.
type verifier func(ctx context.Context, claim trust.Claim) (trust.Release, error)

func (f verifier) Verify(ctx context.Context, claim trust.Claim) (trust.Release, error) {
	return f(ctx, claim)
}

// A verifier sees what is offered, and what it does wrong harms nobody else.
func TestWithVerifier(t *testing.T) {
	listed := func(p ...trust.Payload) trust.Release { return trust.Release{Version: "2.0.0", Payloads: p} }
	good := filePayload("app.bin", content(appA, "2.0.0"))
	for _, tt := range []struct {
		name, history string
		verify        verifier
	}{
		{"accepts", "granted, downloading, downloaded", func(_ context.Context, claim trust.Claim) (trust.Release, error) {
			b, err := json.Marshal([]any{claim.AppID, claim.Channel, claim.Version, claim.Payloads})
			if want := `["io.example.A","stable","2.0.0",[{"Name":"app.bin","Image":false,"Size":30,"Digest":""}]]`; err != nil || !bytes.Equal(b, []byte(want)) {
				return trust.Release{}, errors.New("claim " + string(b))
			}
			return listed(good), nil
		}},
		{"refuses", "granted, error 18", func(context.Context, trust.Claim) (trust.Release, error) {
			return trust.Release{}, trust.ErrExpired
		}},
		{"panics", "granted, error 9", func(context.Context, trust.Claim) (trust.Release, error) { panic("no") }},
		{"blocks", "granted, error 9", func(ctx context.Context, _ trust.Claim) (trust.Release, error) {
			<-ctx.Done()
			return trust.Release{}, context.Cause(ctx)
		}},
		{"vouches for nothing", "granted, error 18", func(context.Context, trust.Claim) (trust.Release, error) { return listed(trust.Payload{}), nil }},
		{"counts wrongly", "granted, error 18", func(context.Context, trust.Claim) (trust.Release, error) { return listed(good, good), nil }},
		{"speaks of another version", "granted, error 18", func(context.Context, trust.Claim) (trust.Release, error) {
			return trust.Release{Version: "3.0.0", Payloads: []trust.Payload{good}}, nil
		}},
		{"knows no SHA-256", "granted, error 18", func(context.Context, trust.Claim) (trust.Release, error) {
			return listed(trust.Payload{Name: "app.bin", Digest: "md5:00"}), nil
		}},
		{"is wrong", "granted, downloading, error 10", func(context.Context, trust.Claim) (trust.Release, error) {
			return listed(filePayload("app.bin", []byte(strings.Repeat("x", 30)))), nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				w.offering(appB, "2.0.0")
				c := w.client(app(appA, omahaclient.WithVerifier(tt.verify)), app(appB))
				s := w.updates(c)
				o := s.next()
				if o.AppID == appA { // may come first; the other one is not held up
					o = s.next()
				}
				want(t, "other app", o.AppID, appB)
				time.Sleep(6 * time.Minute) // the longest that a verification may take, and some
				want(t, "history", w.history(appA), tt.history)
			})
		})
	}
}

// wrapped is a fetcher of a program's own around ours.
type wrapped struct{ fetcher.HTTP }

// Statements are read with the client and the credentials that payloads are fetched with, also where those are in a wrapper.
func TestTrustedKeys_wrappedFetcher(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		p.releases(w, w.group(appA), appA, "2.0.0", 7)
		c := w.client(p.trusted(appA), omahaclient.WithFetcher("binary", wrapped{fetcher.HTTP{Client: w.Client()}}))
		must(t, w.updates(c).next().Ack(nil))
	})
}
