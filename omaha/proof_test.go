package omaha_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// The vectors of Chromium's components/client_update_protocol/ecdsa_unittest.cc: its test key, and answers to "Request_A" and
// "Request_B" under key 8 with the nonces 12345 and 67890.
const (
	chromiumKey = "8:MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJNOjKyN6UHyUGkGow+xCmQthQXUo9sd7RIXSpVIM768UlbGb/5JrnISjSYejCc/pxQooI6mJTzWL3pZb5TA1DA=="
	vectorHashA = "2727bc2b3c33feb6800a830f4055901dd87d65a84184c5fbeb3f816db0a243f5"
	vectorHashB = "80e3ef1b373efe5f2a8383a0cf9c89fb2e0cbb8e85db4813655ff5dc05009e7e"
	vectorR1    = "02207fb15d24e66c168ac150458c7ae51f843c4858e27d41be3f9396d4919bbd5656"
	vectorS1    = "02202291bae598e4a41118ea1df24ce8494d4055b2842dc046e0223f5e17e86bd10e"
	vectorSigA  = "3045022077a2d004f1643a92af5d356877c3434c46519ce32882d6e30ef6d154ee9775e3022100aca63c77d34152bdc0918ae0629e82b59314e5459f607cdc5ac95f1a4b7c31a2"
	vectorSigB  = "304402206289a7765f0371c7c48796779747f1166707d5937a99af518845f44af958768c0220139fe935fde3e6b416ee742f91c6a480113762d78d889a2661de37576866d21c"
	vectorOther = "3046022100d3bbb1fb4451c8e04a07fe95404cc39121ed0e0bc084f87de19d52eee50a97bf022100dd7d41d467be2af98d9116b0c7ba09740d54578c02a02f74da5f089834be3403"
)

func mustKey(t testing.TB, s string) omaha.CUPKey {
	t.Helper()
	key, err := omaha.ParseCUPKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProof_chromiumsVectors(t *testing.T) {
	key := mustKey(t, chromiumKey)
	good := "3044" + vectorR1 + vectorS1
	for _, tt := range []struct {
		name, answer, proof string
		valid               bool
	}{
		{"valid", "Response_A", vectorSigA + ":" + vectorHashA, true},
		{"valid, another signature", "Response_A", good + ":" + vectorHashA, true},
		{"upper case", "Response_A", strings.ToUpper(good + ":" + vectorHashA), true},
		{"changed answer", "Response_B", vectorSigA + ":" + vectorHashA, false},
		{"changed request, fast", "Response_B", vectorSigB + ":" + vectorHashB, false},
		{"changed request, by the signature", "Response_B", vectorSigB + ":" + vectorHashA, false},
		{"another nonce", "Response_A", vectorOther + ":" + vectorHashA, false},
		{"empty answer", "", vectorSigA + ":" + vectorHashA, false},
		{"nothing", "Response_A", "", false},
		{"a colon", "Response_A", ":", false},
		{"no hash", "Response_A", good + ":", false},
		{"no signature", "Response_A", ":" + vectorHashA, false},
		{"no colon", "Response_A", good + vectorHashA, false},
		{"a part too many", "Response_A", good + ":" + vectorHashA + ":", false},
		{"signature not in hex", "Response_A", strings.Replace(good, "7ae5", "__e5", 1) + ":" + vectorHashA, false},
		{"hash not in hex", "Response_A", good + ":" + strings.Replace(vectorHashA, "d8", "__", 1), false},
		{"odd signature", "Response_A", good[:len(good)-1] + ":" + vectorHashA, false},
		{"odd hash", "Response_A", good + ":" + vectorHashA[1:], false},
		{"short hash", "Response_A", good + ":" + vectorHashA[2:], false},
		{"long hash", "Response_A", good + ":" + vectorHashA + "ff", false},
		{"NULL", "Response_A", "0500:" + vectorHashA, false},
		{"both numbers too large", "Response_A", "3048" + strings.Repeat("202207"+strings.Repeat("f", 62), 2) + ":" + vectorHashA, false},
		{"an octet string", "Response_A", "0406020100020100:" + vectorHashA, false},
		{"octet strings within", "Response_A", "3044" + strings.Repeat("0620"+strings.Repeat("0123456789abcdef", 4), 2) + ":" + vectorHashA, false},
		{"a negative number", "Response_A", "302602047fffffff0220" + strings.Repeat("f", 64) + ":" + vectorHashA, false},
		{"a tag alone", "Response_A", "30:" + vectorHashA, false},
		{"an empty sequence", "Response_A", "3000:" + vectorHashA, false},
		{"a number too short", "Response_A", "30440220" + strings.Repeat("7f", 31) + vectorR1 + ":" + vectorHashA, false},
		{"a number too long", "Response_A", "30440220" + strings.Repeat("7f", 33) + vectorR1 + ":" + vectorHashA, false},
		{"padded with zeros", "Response_A", "3044022000007f24e66c168ac150458c7ae51f843c4858e27d41be3f9396d4919bbd5656" + vectorS1 + ":" + vectorHashA, false},
		{"bytes behind the signature", "Response_A", good + "00:" + vectorHashA, false},
		{"length in two bytes", "Response_A", "308144" + vectorR1 + vectorS1 + ":" + vectorHashA, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := omaha.CheckProof(key, "8:12345", []byte("Request_A"), []byte(tt.answer), http.Header{"X-Cup-Server-Proof": {tt.proof}})
			if (err == nil) != tt.valid || err != nil && !errors.Is(err, omaha.ErrUnsigned) {
				t.Errorf("got %v; want valid %v", err, tt.valid)
			}
		})
	}
}

// What Chromium signs is hashed twice: one hash less, or the request's hash as its text, does not verify its vector.
func TestProof_hashedTwice(t *testing.T) {
	key := mustKey(t, chromiumKey)
	req, ans := sha256.Sum256([]byte("Request_A")), sha256.Sum256([]byte("Response_A"))
	message := slices.Concat(req[:], ans[:], []byte("8:12345"))
	once := sha256.Sum256(message)
	twice := sha256.Sum256(once[:])
	signature, err := hex.DecodeString(vectorSigA)
	if err != nil {
		t.Fatal(err)
	}
	if ecdsa.VerifyASN1(key.Key, once[:], signature) || !ecdsa.VerifyASN1(key.Key, twice[:], signature) {
		t.Error("want the double hash, and that alone, to be what was signed")
	}
	private, err := ecdsa.GenerateKey(key.Key.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	single, err := ecdsa.SignASN1(rand.Reader, private, once[:])
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"X-Cup-Server-Proof": {hex.EncodeToString(single) + ":" + hex.EncodeToString(req[:])}}
	own := omaha.CUPKey{ID: "8", Key: &private.PublicKey}
	if err := omaha.CheckProof(own, "8:12345", []byte("Request_A"), []byte("Response_A"), header); err == nil {
		t.Error("a signature over the single hash was taken")
	}
}

// The proof comes in the first of three places that has one.
func TestProof_places(t *testing.T) {
	key := mustKey(t, chromiumKey)
	good, bad := vectorSigA+":"+vectorHashA, vectorSigB+":"+vectorHashA
	for _, tt := range []struct {
		name   string
		header http.Header
		valid  bool
	}{
		{"header", http.Header{"X-Cup-Server-Proof": {good}}, true},
		{"header before ETag", http.Header{"X-Cup-Server-Proof": {good}, "Etag": {`W/"` + bad + `"`}}, true},
		{"bad header before ETag", http.Header{"X-Cup-Server-Proof": {bad}, "Etag": {`W/"` + good + `"`}}, false},
		{"weak ETag", http.Header{"Etag": {`W/"` + good + `"`}}, true},
		{"strong ETag", http.Header{"Etag": {`"` + good + `"`}}, true},
		{"bare ETag", http.Header{"Etag": {good}}, true},
		{"weak ETag before another", http.Header{"Etag": {`"` + bad + `"`, `W/"` + good + `"`}}, true},
		{"ETag of something else", http.Header{"Etag": {`"abc"`}}, false},
		{"ETag of a quote", http.Header{"Etag": {`"`}}, false},
		{"ETag of a compressing proxy", http.Header{"Etag": {`"` + good + `-gzip"`}}, false},
		{"none", http.Header{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := omaha.CheckProof(key, "8:12345", []byte("Request_A"), []byte("Response_A"), tt.header)
			if (err == nil) != tt.valid {
				t.Errorf("got %v; want valid %v", err, tt.valid)
			}
		})
	}
}

// Each attempt asks under the key's id with 32 new random bytes, and with Chromium's hash of its request.
func TestProof_query(t *testing.T) {
	key := mustKey(t, chromiumKey)
	seen := map[string]bool{}
	for range 10 {
		query := omaha.SignedQuery(key, "token=a%2Fb&cup2key=1:x&&cup2hreq", []byte("TestSequenceForCupEcdsaUnitTest"))
		rest, found := strings.CutPrefix(query, "token=a%2Fb&cup2key=8:")
		nonce, hash, _ := strings.Cut(rest, "&cup2hreq=")
		random, err := base64.RawURLEncoding.DecodeString(nonce)
		if !found || err != nil || len(random) != 32 || hash != "cde1f7dc1311ed96813057ca321c2f5a17ea2c9c776ee0eb31965f7985a3074a" {
			t.Fatalf("query %q, %v", query, err)
		}
		if seen[nonce] {
			t.Error("a nonce came twice")
		}
		seen[nonce] = true
	}
	if values, err := url.ParseQuery(omaha.SignedQuery(key, "", nil)); err != nil || len(values) != 2 {
		t.Errorf("query %v, %v", values, err)
	}
}

// FuzzProof gives anything as the headers and body of an answer. Only what the key signed is taken, and that wherever it stands.
func FuzzProof(f *testing.F) {
	good := vectorSigA + ":" + vectorHashA
	f.Add(good, "", []byte("Response_A"))
	f.Add("", `W/"`+good+`"`, []byte("Response_A"))
	f.Add("", `"`+good+`"`, []byte("Response_A"))
	f.Add("", good, []byte("Response_A"))
	f.Add(vectorSigB+":"+vectorHashB, good, []byte("Response_B"))
	f.Add(vectorOther+":"+vectorHashA, `W/"`, []byte("Response_A"))
	f.Add("3044"+vectorR1+vectorS1+":"+vectorHashA, "", []byte("Response_A"))
	f.Add("308144"+vectorR1+vectorS1+":"+vectorHashA, `"W/"`, []byte("Response_A"))
	f.Add(":", `""`, []byte{0})
	key := mustKey(f, chromiumKey)
	private, err := ecdsa.GenerateKey(key.Key.Curve, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	own := omaha.CUPKey{ID: "f", Key: &private.PublicKey}
	f.Fuzz(func(t *testing.T, proof, tag string, answer []byte) {
		header := http.Header{}
		if proof != "" {
			header.Set("X-Cup-Server-Proof", proof)
		}
		if tag != "" {
			header.Set("ETag", tag)
		}
		err := omaha.CheckProof(key, "8:12345", []byte("Request_A"), answer, header)
		if err != nil {
			checkMessage(t, err, "")
			if !errors.Is(err, omaha.ErrUnsigned) {
				t.Errorf("unknown kind of error: %v", err)
			}
		} else if string(answer) != "Response_A" {
			t.Errorf("answer %q was taken", answer) // nobody has the private key
		}
		if len(answer) == 0 {
			return
		}
		made := testserver.Proof(private, "f:"+tag, []byte(proof), answer)
		if err := omaha.CheckProof(own, "f:"+tag, []byte(proof), answer, http.Header{"X-Cup-Server-Proof": {made}}); err != nil {
			t.Errorf("own proof: %v", err)
		}
		if err := omaha.CheckProof(own, "f:"+tag+"x", []byte(proof), answer, http.Header{"X-Cup-Server-Proof": {made}}); err == nil {
			t.Error("a proof for another nonce was taken")
		}
	})
}
