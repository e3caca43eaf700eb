package omaha_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestParseCUPKey(t *testing.T) {
	key := newKey(t)
	line := omaha.CUPKey{ID: "1", Key: &key.PublicKey}.String()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	wide := strings.Join([]string{line[:40], line[40:]}, "\n")
	for _, s := range []string{line, "\n" + line + "\n", wide, "1:" + text, "1: \n" + text + "\n"} {
		got, err := omaha.ParseCUPKey(s)
		if err != nil || got.ID != "1" || !got.Key.Equal(&key.PublicKey) || got.String() != line {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
}

func TestParseCUPKey_mistakes(t *testing.T) {
	key := newKey(t)
	line := omaha.CUPKey{ID: "1", Key: &key.PublicKey}.String()
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(der)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}))
	for _, tt := range []struct{ name, key, says string }{
		{"empty", "", "ID:KEY"},
		{"no id", line[2:], "ID:KEY"},
		{"empty id", ":" + line[2:], "id of 1 to 32"},
		{"id with a space", "a b:" + line[2:], "id of 1 to 32"},
		{"long id", strings.Repeat("1", 33) + ":" + line[2:], "id of 1 to 32"},
		{"no key", "1:", "no public key"},
		{"junk", "1:???", "neither base64 nor PEM"},
		{"half a key", line[:58], "no public key"},
		{"private key", "1:" + secret, "private half"},
		{"another PEM", "1:" + strings.ReplaceAll(block, "PUBLIC KEY", "CERTIFICATE"), "PUBLIC KEY"},
		{"two PEM blocks", "1:" + block + block, "one PEM block"},
		{"broken PEM", "1:-----BEGIN", "broken PEM"},
		{"another curve", "1:" + public(&p384.PublicKey), "P-256"},
		{"another kind of key", "1:" + public(edKey), "ECDSA on P-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := omaha.ParseCUPKey(tt.key)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v; want %q in it", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(private)[20:40]) {
				t.Errorf("the message shows the key: %v", err)
			}
		})
	}
}

func TestClient_CUPKeys_mistakes(t *testing.T) {
	key := newKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	off := ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	good := omaha.CUPKey{ID: "1", Key: &key.PublicKey}
	for _, tt := range []struct {
		name string
		keys []omaha.CUPKey
		says []string
	}{
		{"good", []omaha.CUPKey{good, {ID: "2", Key: &key.PublicKey}}, nil},
		{"twice", []omaha.CUPKey{good, good}, []string{"given twice"}},
		{"all at once", []omaha.CUPKey{{}, {ID: "3"}}, []string{`""`, `"3"`}},
		{"another curve", []omaha.CUPKey{{ID: "1", Key: &p384.PublicKey}}, []string{"P-256"}},
		{"off the curve", []omaha.CUPKey{{ID: "1", Key: &off}}, []string{"not on the curve"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := (&omaha.Client{Endpoint: endpoint, CUPKeys: tt.keys}).Validate()
			if (err == nil) != (tt.says == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v; want %q in it", err, want)
				}
			}
			for _, k := range tt.keys {
				if err != nil && tt.name != "twice" && k.String() != "" {
					t.Errorf("an invalid key is written as %q", k)
				}
			}
		})
	}
}

// FuzzParseCUPKey reads anything as a key. What is taken is a key that a Client takes, too, and comes back from its text.
func FuzzParseCUPKey(f *testing.F) {
	der, err := base64.StdEncoding.DecodeString(chromiumKey[2:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chromiumKey)
	f.Add("a-B_9:" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	f.Add("1:-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")
	f.Add("1:" + base64.StdEncoding.EncodeToString(der[:40]))
	f.Add("::\n")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := omaha.ParseCUPKey(s)
		if err != nil {
			return
		}
		if err := (&omaha.Client{Endpoint: endpoint, CUPKeys: []omaha.CUPKey{key}}).Validate(); err != nil {
			t.Error(err)
		}
		if again, err := omaha.ParseCUPKey(key.String()); err != nil || again.ID != key.ID || !again.Key.Equal(key.Key) {
			t.Errorf("%q came back as %v, %v", key, again, err)
		}
	})
}
