package omahaclient_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// mirrored lets the honest server name the attacker's host as its only mirror, or as the first of two.
func (s *siege) mirrored(alone bool, serve http.HandlerFunc) {
	bases := []string{s.host(serve), s.Payloads.URL() + strings.TrimSuffix(fileOf(appA, "2.0.0"), "app.bin")}
	if alone {
		bases = bases[:1]
	}
	s.group.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{file(s.files["app.bin"])}, Codebases: bases})
}

// honest is a mirror of release 2.0.0.
func (s *siege) honest() http.HandlerFunc {
	document, signatures := s.documents()
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, trust.ReleaseSignatureSuffix):
			serves(signatures)(w, r)
		case strings.HasSuffix(r.URL.Path, trust.ReleaseSuffix):
			serves(document)(w, r)
		default:
			serves(s.files["app.bin"])(w, r)
		}
	}
}

// instead is an honest mirror but for addresses that end so.
func (s *siege) instead(suffix string, serve http.HandlerFunc) http.HandlerFunc {
	honest := s.honest()
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, suffix) {
			serve(w, r)
			return
		}
		honest(w, r)
	}
}

// counted counts requests.
func (s *siege) counted(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		serve(w, r)
	}
}

// stalls sends some bytes and then nothing.
func stalls(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "30")
	_, _ = w.Write([]byte("pay"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func answers(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = w.Write([]byte("<!DOCTYPE html><title>Sign in</title>"))
}

// transferAttacks want the disk filled, the client kept busy, or a release kept away.
func transferAttacks() []attack {
	const (
		without   = "endless data"
		slow      = "slow retrieval"
		signature = trust.ReleaseSignatureSuffix
		document  = trust.ReleaseSuffix
		payload   = "app.bin"
	)
	// at is one mirror, or the first of two, that misbehaves under some addresses.
	at := func(alone bool, suffix string, serve http.HandlerFunc) func(s *siege) {
		return func(s *siege) { s.mirrored(alone, s.instead(suffix, serve)) }
	}
	forever := endless("", nil)
	// unproved is what comes of a release whose proof is kept away for ever.
	unproved := func(with outcome) []outcome { return []outcome{harmless, harmless, with, alarm, alarm} }
	return []attack{
		{threat: without, who: "mirror", does: "a file without end", do: at(true, payload, forever), want: everywhere(givenBack(11))},
		{
			threat: without, who: "server and mirror", does: "a file without end, of no announced size",
			do: func(s *siege) {
				host := s.host(s.instead(payload, forever))
				s.group.Publish(testserver.Release{
					Version: "2.0.0", Codebases: []string{host},
					Files: []testserver.File{{Name: "app.bin", Content: s.files["app.bin"], Size: testserver.SizeUnknown}},
				})
			},
			want: everywhere(givenBack(11)),
		},
		{threat: without, who: "mirror", does: "a statement without end", do: at(true, document, forever), want: unless(harmless, putOff)},
		{threat: without, who: "mirror", does: "signatures without end", do: at(true, signature, forever), want: unless(harmless, putOff)},
		{threat: without, who: "mirror", does: "redirects without end", do: at(true, document, answers(302, "Location", "?")), want: unless(harmless, putOff)},
		{
			threat: without, who: "server", does: "an answer without end",
			do: func(s *siege) { s.Fail(-1, testserver.Huge(2<<20)) }, want: everywhere(unbelieved),
		},
		{
			threat: without, who: "server", does: "1,000 mirrors, with nothing there",
			do: func(s *siege) {
				host := s.host(s.counted(http.NotFound))
				var bases []string
				for i := range 1000 {
					bases = append(bases, fmt.Sprintf("%s%d/", host, i))
				}
				s.group.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{file(s.files["app.bin"])}, Codebases: bases})
			},
			want: unless(putOff, givenBack(18)),
			then: func(s *siege) {
				if n := int(s.hits.Load()); n > 32*len(s.codes()) {
					s.t.Errorf("%d requests for %d attempts", n, len(s.codes()))
				}
			},
		},
		{threat: slow, who: "mirror", does: "stops amid the file", stops: true, do: at(true, payload, stalls), want: everywhere(putOff)},
		{threat: slow, who: "one of two mirrors", does: "stops amid the file", stops: true, do: at(false, payload, stalls), want: everywhere(harmless)},
		{threat: slow, who: "mirror", does: "stops amid the statement", stops: true, do: at(true, document, stalls), want: unless(harmless, putOff)},
		{
			threat: slow, who: "mirror", does: "a byte of the file a second", drip: true,
			do: func(s *siege) {
				big := bytes.Repeat([]byte("a long file"), 1000)
				s.version, s.files["app.bin"] = "3.0.0", big
				s.offers("3.0.0", file(big))
				doc := s.key.sign(s.key.statement(appA, "3.0.0", 7, vouchesFor(big)))
				s.lay("3.0.0", doc.Document, doc.Signatures)
				s.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault { return drip(r, payload) })
			},
			want: everywhere(putOff),
		},
		{
			threat: slow, who: "mirror", does: "a byte of the statement a second", drip: true,
			do: func(s *siege) {
				s.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault { return drip(r, document) })
			},
			want: unless(harmless, putOff),
		},
		{
			threat: slow, who: "mirror", does: "as slow as is still allowed, for hours", drip: true,
			do: func(s *siege) {
				big := bytes.Repeat([]byte("a long file"), 18_000)
				s.version, s.files["app.bin"] = "3.0.0", big
				s.offers("3.0.0", file(big))
				doc := s.key.sign(s.key.statement(appA, "3.0.0", 7, vouchesFor(big)))
				s.lay("3.0.0", doc.Document, doc.Signatures)
				s.key.announces(s.world, "3.0.0", 7)
				s.limit = 2 * time.Hour
				s.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault {
					slow := drip(r, payload)
					slow.Rate *= 12
					return slow
				})
			},
			want: []outcome{harmless, harmless, harmless, alarm, alarm},
		},
		{
			threat: "freeze", who: "mirror", does: "stops amid the file for ever", stops: true, do: at(true, payload, stalls),
			want: []outcome{putOff, putOff, putOff, alarm, alarm},
		},
		{
			threat: "freeze", who: "mirror", does: "another file for ever",
			do: func(s *siege) {
				at(true, payload, serves(evil(s.files[payload])))(s)
				s.limit = time.Second
			},
			want: []outcome{givenBack(10), givenBack(10), givenBack(10), alarm, alarm},
		},
		{threat: "freeze", who: "mirror", does: "no statement", do: at(true, document, http.NotFound), want: unproved(givenBack(18))},
		{threat: "freeze", who: "mirror", does: "no signatures", do: at(true, signature, http.NotFound), want: unproved(givenBack(18))},
		{threat: "freeze", who: "mirror", does: "errors in place of the statement", do: at(true, document, answers(500)), want: unproved(putOff)},
		{threat: "freeze", who: "mirror", does: "a page for people in place of the signatures", do: at(true, signature, page), want: unproved(givenBack(18))},
		{threat: "freeze", who: "one of two mirrors", does: "no statement", do: at(false, document, http.NotFound), want: everywhere(harmless)},
		{threat: "freeze", who: "one of two mirrors", does: "pages for people in place of everything", do: at(false, "", page), want: everywhere(harmless)},
		{
			threat: "freeze", who: "mirror", does: "leads from the statement to a file of this machine",
			do: at(true, document, answers(302, "Location", "file:///etc/hostname")), want: unproved(putOff),
		},
		{
			threat: "freeze", who: "mirror", does: "leads from the statement to another host, which has it",
			do: func(s *siege) {
				host := s.host(s.honest())
				s.mirrored(true, s.instead(document, answers(302, "Location", host+payload+document)))
			},
			want: everywhere(harmless),
		},
	}
}

// drip sends one byte at a time, too slowly.
func drip(r testserver.FileRequest, suffix string) testserver.FileFault {
	if strings.HasSuffix(r.Path, suffix) {
		return testserver.FileFault{Rate: 1}
	}
	return testserver.FileFault{}
}
