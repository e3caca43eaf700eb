package testserver

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const proofHeader = "X-Cup-Server-Proof"

// WithSigner makes the server sign its answers with key (CUP-ECDSA, P-256)
// wherever it is asked for a proof under this id, in the header
// X-Cup-Server-Proof and in a weak ETag. It can be given several times, for
// several ids. A request that asks for another id is answered 400 and does
// nothing, as Chromium's docs/updater/cup.md wants it; one that asks for none
// is answered without proof.
func WithSigner(id string, key *ecdsa.PrivateKey) Option {
	return func(s *Server) { s.signers[id] = key }
}

// Proof signs an answer as a server does: key is the private one, cup2key the
// parameter of that name in the request's URL.
func Proof(key *ecdsa.PrivateKey, cup2key string, request, answer []byte) string {
	req, ans := sha256.Sum256(request), sha256.Sum256(answer)
	h := sha256.New()
	h.Write(req[:])
	h.Write(ans[:])
	h.Write([]byte(cup2key))
	digest := sha256.Sum256(h.Sum(nil)) // hashed twice: what is signed with SHA-256 is a hash
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return ""
	}
	return hex.EncodeToString(signature) + ":" + hex.EncodeToString(req[:])
}

// asked returns the parameter cup2key of a request, and the id in it.
func asked(r Request) (cup2key, id string) {
	u, err := url.ParseRequestURI(r.Path)
	if err != nil {
		return "", ""
	}
	cup2key = u.Query().Get("cup2key")
	id, _, _ = strings.Cut(cup2key, ":")
	return cup2key, id
}

// refusesKey tells that a server with keys was asked for another one.
func (s *Server) refusesKey(r Request) bool {
	cup2key, id := asked(r)
	return len(s.signers) > 0 && cup2key != "" && s.signers[id] == nil
}

// sign puts the proof into the header, where it is asked for.
func (s *Server) sign(r Request, header http.Header, body []byte) {
	cup2key, id := asked(r)
	if key := s.signers[id]; key != nil && len(body) > 0 {
		setProof(header, Proof(key, cup2key, r.Body, body))
	}
}

func setProof(header http.Header, proof string) {
	header.Set(proofHeader, proof)
	header.Set("ETag", `W/"`+proof+`"`)
}

// Unsigned takes the proof off the answer.
func Unsigned() Fault {
	return Fault{Underway: func(_ Request, header http.Header, body []byte) []byte {
		header.Del(proofHeader)
		header.Del("ETag")
		return body
	}}
}

// SignedBy signs the answer with another key, under the id that was asked for;
// or under id, if it is not "".
func SignedBy(key *ecdsa.PrivateKey, id string) Fault {
	return Fault{Underway: func(r Request, header http.Header, body []byte) []byte {
		cup2key, _ := asked(r)
		if id != "" {
			_, nonce, _ := strings.Cut(cup2key, ":")
			cup2key = id + ":" + nonce
		}
		setProof(header, Proof(key, cup2key, r.Body, body))
		return body
	}}
}

// ProofInETag takes the proof's own header off, as some proxies do; weak leaves
// a weak ETag, else a strong one.
func ProofInETag(weak bool) Fault {
	return Fault{Underway: func(_ Request, header http.Header, body []byte) []byte {
		header.Del(proofHeader)
		if !weak {
			header.Set("ETag", strings.TrimPrefix(header.Get("ETag"), "W/"))
		}
		return body
	}}
}

// Changed replaces a text in the signed answer.
func Changed(text, by string) Fault {
	return Fault{Underway: func(_ Request, _ http.Header, body []byte) []byte {
		return []byte(strings.ReplaceAll(string(body), text, by))
	}}
}

// Invented answers with a body of its own and no proof, and keeps the request
// from the server.
func Invented(body string) Fault {
	return Fault{Unseen: true, ContentType: "text/xml", Replace: func([]byte) []byte { return []byte(body) }}
}

// Tape keeps an answer with its proof, to be played again. The zero Tape is
// empty.
type Tape struct {
	mu     sync.Mutex // guards what follows
	header http.Header
	body   []byte
}

// Record keeps the answer and lets it pass.
func (t *Tape) Record() Fault {
	return Fault{Underway: func(_ Request, header http.Header, body []byte) []byte {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.header, t.body = header.Clone(), body
		return body
	}}
}

// Play gives the answer that was recorded last, and keeps the request from the
// server.
func (t *Tape) Play() Fault {
	return Fault{Unseen: true, Underway: func(_ Request, header http.Header, _ []byte) []byte {
		t.mu.Lock()
		defer t.mu.Unlock()
		maps.Copy(header, t.header)
		return t.body
	}}
}
