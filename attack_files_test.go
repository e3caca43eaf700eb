package omahaclient_test

import (
	"bytes"
	"net/http"
	"regexp"
	"runtime"
	"strings"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// fileSetups are the columns of the table: http to everybody but in the second one, and each later one has what those before it have.
func fileSetups() []setup {
	return []setup{
		{name: "nothing"},
		{name: "TLS", tls: true},
		{name: "keys", keys: true},
		{name: "keys, index", keys: true, index: true},
		{name: "keys, index, CUP", keys: true, index: true, cup: true},
	}
}

// everywhere is the same outcome in each setup; unless is another one without keys, and with.
func everywhere(o outcome) []outcome         { return []outcome{o, o, o, o, o} }
func unless(without, with outcome) []outcome { return []outcome{without, without, with, with, with} }

// installAttacks want something installed that is not the publisher's release.
func installAttacks() []attack {
	// own is the server's offer of its own file, beside which lies what the publisher, or somebody else, has signed.
	own := func(edit func(s *siege)) func(s *siege) {
		return func(s *siege) {
			genuine := s.files["app.bin"]
			document, signatures := s.documents()
			s.offers("2.0.0", file(evil(genuine)))
			s.lay("2.0.0", document, signatures)
			if edit != nil {
				edit(s)
			}
		}
	}
	const threat = "arbitrary install"
	return []attack{
		{
			threat: threat, who: "network", does: "its own file and its hash in the server's answer",
			do: func(s *siege) {
				bad := evil(s.files["app.bin"])
				host := s.host(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/app.bin") {
						serves(bad)(w, r)
						return
					}
					http.NotFound(w, r)
				})
				s.between(s.URL(), rewrite(func(body []byte) []byte {
					body = regexp.MustCompile(`codebase="[^"]*"`).ReplaceAll(body, []byte(`codebase="`+host+`"`))
					return regexp.MustCompile(`hash="[^"]*"`).ReplaceAll(body, []byte(`hash="`+testserver.SHA1Base64(bad)+`"`))
				}))
			},
			want: []outcome{taken, unbelieved, givenBack(18), givenBack(18), unbelieved},
		},
		{
			threat: threat, who: "network", does: "another file on its way",
			do: func(s *siege) {
				s.between(s.Payloads.URL(), func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if strings.HasSuffix(r.URL.Path, "/app.bin") {
						serves(evil(s.files["app.bin"]))(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			},
			want: []outcome{givenBack(10), putOff, givenBack(10), givenBack(10), givenBack(10)},
		},
		{
			threat: threat, who: "mirror", does: "another file",
			do: func(s *siege) {
				s.Payloads.Fail(fileOf(appA, "2.0.0"), -1, testserver.FileFault{Content: evil(s.files["app.bin"])})
			},
			want: everywhere(givenBack(10)),
		},
		{
			threat: threat, who: "server", does: "its own file with its hash",
			do: own(func(s *siege) { s.unproved("2.0.0") }), want: unless(taken, givenBack(18)),
			then: func(s *siege) { want(s.t, "fetches", s.Payloads.Stats(fileOf(appA, "2.0.0")).Requests, 0) },
		},
		{threat: threat, who: "server", does: "the same, under the publisher's statement", do: own(nil), want: unless(taken, givenBack(10))},
		{
			threat: threat, who: "server", does: "the same, with the file's own SHA-256",
			do: func(s *siege) {
				bad := evil(s.files["app.bin"])
				s.group.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: bad, SHA256: testserver.SHA256Hex(bad)}}})
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "a statement that it signed itself",
			do: own(func(s *siege) {
				thief := newPublisher(s.t)
				doc := thief.sign(thief.statement(appA, "2.0.0", 6, vouchesFor(evil(s.files["app.bin"]))))
				s.lay("2.0.0", doc.Document, doc.Signatures)
			}),
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "a statement without its signature",
			do: own(func(s *siege) { s.Payloads.Remove(s.proof("2.0.0") + ".minisig") }), want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "a statement that was changed after it was signed",
			do: own(func(s *siege) {
				document, signatures := s.documents()
				good, bad := filePayload("", s.files["app.bin"]).Digest[7:], filePayload("", evil(s.files["app.bin"])).Digest[7:]
				s.lay("2.0.0", bytes.ReplaceAll(document, []byte(good), []byte(bad)), signatures)
			}),
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "the publisher's signature of something else",
			do: own(func(s *siege) {
				document, _ := s.documents()
				s.lay("2.0.0", document, s.key.sign(rawText("a file of the publisher's")).Signatures)
			}),
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "the publisher's signed index in place of a statement",
			do: own(func(s *siege) {
				doc := s.key.sign(trust.Index{Sequence: 9, Issued: now(), Expires: now().Add(day), Heads: []trust.Head{{
					App: appA, Channel: track, Arch: trust.AnyArch, Version: "2.0.0", Sequence: 9,
				}}})
				s.lay("2.0.0", doc.Document, doc.Signatures)
			}),
			want: unless(taken, givenBack(18)),
		},
		{
			threat: threat, who: "server", does: "a payload that the publisher signed, as a statement",
			do: own(func(s *siege) {
				doc := s.key.sign(rawText(`{"app": "` + appA + `", "version": "2.0.0", "payloads": []}`))
				s.lay("2.0.0", doc.Document, doc.Signatures)
			}),
			want: unless(taken, givenBack(18)),
		},
		{
			threat: "extraneous files", who: "server", does: "a file that nobody released beside the release",
			do: func(s *siege) {
				s.offers("2.0.0", file(s.files["app.bin"]), testserver.File{Name: "extra.bin", Content: []byte("EVIL")})
			},
			want: unless(taken, harmless),
			then: func(s *siege) {
				want(s.t, "fetches", s.Payloads.Stats(testserver.FilePath(appA, "2.0.0", "extra.bin")).Requests, 0)
			},
		},
	}
}

// swapAttacks make something else of what the publisher did release.
func swapAttacks() []attack {
	// elsewhere is the server's offer of another release of the publisher's, with the statement that belongs to it.
	elsewhere := func(edit func(*trust.Statement)) func(s *siege) {
		return func(s *siege) {
			other := content(appB, "2.0.0")
			s.offers("2.0.0", file(other))
			doc := s.key.sign(s.key.statement(appA, "2.0.0", 6, vouchesFor(other), edit))
			s.lay("2.0.0", doc.Document, doc.Signatures)
		}
	}
	arch := "riscv64"
	if runtime.GOARCH == arch {
		arch = "amd64"
	}
	// pair is a release of two files.
	pair := func(s *siege) (program, data testserver.File) {
		program, data = file(content(appA, "3.0.0")), testserver.File{Name: "data.bin", Content: content(appA, "3.0.0")}
		s.version, s.files = "3.0.0", map[string][]byte{"app.bin": program.Content, "data.bin": data.Content}
		doc := s.key.sign(s.key.statement(appA, "3.0.0", 7, func(st *trust.Statement) {
			st.Payloads = []trust.Payload{filePayload("app.bin", program.Content), filePayload("data.bin", data.Content)}
		}))
		s.lay("3.0.0", doc.Document, doc.Signatures)
		return program, data
	}
	return []attack{
		{threat: "wrong software", who: "server", does: "another app's release", do: elsewhere(func(st *trust.Statement) { st.App = appB }), want: unless(taken, givenBack(18))},
		{threat: "wrong software", who: "server", does: "another channel's", do: elsewhere(func(st *trust.Statement) { st.Channels = []string{"nightly"} }), want: unless(taken, givenBack(18))},
		{threat: "wrong software", who: "server", does: "another architecture's", do: elsewhere(func(st *trust.Statement) { st.Arch = arch }), want: unless(taken, givenBack(18))},
		{threat: "wrong software", who: "server", does: "another version under this one's number", do: elsewhere(func(st *trust.Statement) { st.Version = "1.9.0" }), want: unless(taken, givenBack(18))},
		{
			threat: "mix and match", who: "server", does: "an older file under the newest statement",
			do: func(s *siege) {
				doc := s.key.sign(s.key.statement(appA, "3.0.0", 7))
				s.version, s.files["app.bin"] = "3.0.0", content(appA, "3.0.0")
				s.offers("3.0.0", file(content(appA, "2.0.0")))
				s.lay("3.0.0", doc.Document, doc.Signatures)
			},
			want: unless(taken, givenBack(10)),
		},
		{
			threat: "mix and match", who: "server", does: "one of two files from an older release",
			do: func(s *siege) {
				program, data := pair(s)
				data.Content = content(appA, "2.0.0")
				s.offers("3.0.0", program, data)
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: "mix and match", who: "server", does: "one of two files alone",
			do: func(s *siege) {
				program, _ := pair(s)
				s.offers("3.0.0", program)
			},
			want: unless(taken, givenBack(18)),
		},
		{
			threat: "mix and match", who: "mirror", does: "the older file at the newer address",
			do: func(s *siege) {
				s.releases("3.0.0", 7)
				s.Payloads.Fail(fileOf(appA, "3.0.0"), -1, testserver.FileFault{Content: content(appA, "2.0.0")})
			},
			want: everywhere(givenBack(10)),
		},
	}
}

// vouchesFor makes a statement one for a file app.bin.
func vouchesFor(content []byte) func(*trust.Statement) {
	return func(st *trust.Statement) { st.Payloads = []trust.Payload{filePayload("app.bin", content)} }
}

// rawText is something to be signed that is no document.
type rawText string

func (r rawText) Marshal() ([]byte, error) { return []byte(r), nil }

// lay puts a statement and its signatures where those of a version belong.
func (s *siege) lay(version string, document, signatures []byte) {
	s.beside(appA, version, trust.Signed{Document: document, Signatures: signatures})
}

// documents are the publisher's statement of 2.0.0, and its signature.
func (s *siege) documents() (document, signatures []byte) {
	if s.statement.Document == nil {
		s.statement = s.key.sign(s.key.statement(appA, "2.0.0", 5))
	}
	return s.statement.Document, s.statement.Signatures
}
