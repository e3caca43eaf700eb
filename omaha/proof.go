package omaha

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ErrUnsigned: the answer has no valid proof (see [CUPKey]). It counts as no answer at all.
var ErrUnsigned = errors.New("answer without valid proof")

// unsignedError says why an answer is not believed. Like an outage, it may pass.
type unsignedError struct {
	keyID  string
	why    error
	advice string
}

func (e *unsignedError) Error() string {
	return fmt.Sprintf("%v (CUP key %q): %v", ErrUnsigned, e.keyID, e.why)
}
func (e *unsignedError) Is(target error) bool { return target == ErrUnsigned }
func (e *unsignedError) Unwrap() error        { return e.why }

// unsignedStatusError is an answer with a status that is none of success, or a redirect that is not followed, for a client that wants
// proof: there is none for a status.
type unsignedStatusError struct{ err error }

func (e *unsignedStatusError) Error() string {
	return e.err.Error() + ", unsigned: it need not be the server that says so"
}
func (e *unsignedStatusError) Is(target error) bool { return target == ErrUnsigned }
func (e *unsignedStatusError) Unwrap() error        { return e.err }

// question is what one attempt asks to be signed, beside the answer.
type question struct {
	key     CUPKey
	cup2key string            // KEYID:NONCE, as it is signed
	hash    [sha256.Size]byte // of the request's body
}

func newQuestion(key CUPKey, body []byte) *question {
	var nonce [32]byte
	rand.Read(nonce[:]) // never fails, see crypto/rand
	return &question{key, key.ID + ":" + base64.RawURLEncoding.EncodeToString(nonce[:]), sha256.Sum256(body)}
}

// addTo puts the question into a URL's query, behind what is there, and instead of another question.
func (q *question) addTo(u *url.URL) {
	pairs := strings.Split(u.RawQuery, "&")
	pairs = slices.DeleteFunc(pairs, func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "" || name == "cup2key" || name == "cup2hreq"
	})
	u.RawQuery = strings.Join(append(pairs, "cup2key="+q.cup2key, "cup2hreq="+hex.EncodeToString(q.hash[:])), "&")
}

// check verifies the proof of an answer. Of the header it reads nothing else.
func (q *question) check(header http.Header, body []byte) error {
	refuse := func(why, advice string) error { return &unsignedError{q.key.ID, errors.New(why), advice} }
	if len(body) == 0 {
		return refuse("it is empty", adviceUnsigned)
	}
	proof := findProof(header)
	if proof == "" {
		return refuse("it has none", adviceUnsigned)
	}
	signature, observed, ok := parseProof(proof)
	switch {
	case !ok:
		return refuse("it has a malformed one", adviceUnsigned)
	case observed != q.hash: // a quick test only: what is signed decides
		return refuse("the server saw another request than was sent", adviceRequest)
	case !q.verify(signature, body):
		return refuse("the signature is wrong", adviceSignature)
	}
	return nil
}

const (
	adviceUnsigned  = "does the endpoint lead to the server, or proxy, that signs? else the proof is taken off underway"
	adviceRequest   = "something underway changes requests, or this answers an older one"
	adviceSignature = "is this key the one that the server has under this id? else the answer was changed underway, or it answers " +
		"an older request"
)

// verify builds the message from the hash of the request that was sent, not of the one that the server says to have seen. What is
// signed with ECDSA and SHA-256 is the SHA-256 of the message: it is hashed twice (Chromium's ecdsa.cc).
func (q *question) verify(signature, body []byte) bool {
	answer := sha256.Sum256(body)
	message := slices.Concat(q.hash[:], answer[:], []byte(q.cup2key))
	once := sha256.Sum256(message)
	twice := sha256.Sum256(once[:])
	return ecdsa.VerifyASN1(q.key.Key, twice[:], signature)
}

// findProof returns the header that carries the proof, without the dress of an ETag. Proxies may drop headers that they do not
// know, and weaken ETags.
func findProof(header http.Header) string {
	if proof := header.Get("X-Cup-Server-Proof"); proof != "" {
		return proof
	}
	tags := header.Values("ETag")
	if i := slices.IndexFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "W/") }); i >= 0 {
		return undress(strings.TrimPrefix(tags[i], "W/"))
	}
	return undress(header.Get("ETag"))
}

func undress(tag string) string {
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}

// An ECDSA signature on P-256 in DER: two integers of at most 33 bytes, each with two bytes before it, and two around both.
const (
	minSignature = 8
	maxSignature = 72
)

// parseProof reads HEX_DER_SIGNATURE:HEX_REQUEST_HASH.
func parseProof(proof string) (signature []byte, observed [sha256.Size]byte, ok bool) {
	sigHex, hashHex, found := strings.Cut(proof, ":")
	if !found || len(sigHex) < 2*minSignature || len(sigHex) > 2*maxSignature || len(hashHex) != 2*sha256.Size {
		return nil, observed, false
	}
	signature, err := hex.DecodeString(sigHex)
	if err != nil {
		return nil, observed, false
	}
	if _, err := hex.Decode(observed[:], []byte(hashHex)); err != nil {
		return nil, observed, false
	}
	return signature, observed, true
}

// memoryless is a cookie jar that hands out what is in it and takes nothing new: cookies are headers, which no proof covers.
type memoryless struct{ http.CookieJar }

func (memoryless) SetCookies(*url.URL, []*http.Cookie) {}
