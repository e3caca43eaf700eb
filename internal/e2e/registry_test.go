package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/nebraska/omahaclient/internal/testregistry"
)

const user, password, repo = "robot", "s3cret", "ns/app"

// distribution is CNCF's registry on the images in dir, for everybody or as auth says.
func distribution(dir string, auth configuration.Auth) http.Handler {
	logrus.SetOutput(io.Discard)
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": dir},
			"redirect":   {"disable": true},
			"delete":     {"enabled": true},
		},
		Auth: auth,
	}
	config.HTTP.Secret = "secret"
	config.Log.AccessLog.Disabled = true
	config.Log.Level = "panic"
	config.Catalog.MaxEntries = 100
	return handlers.NewApp(context.Background(), config)
}

// store is a folder of images, pushed without asking for anything.
type store struct {
	*testregistry.Registry
	dir string
}

func newStore(tb testing.TB) *store {
	tb.Helper()
	dir := tb.TempDir()
	return &store{testregistry.In(distribution(dir, nil)), dir}
}

// serve serves a registry on loopback and returns its host.
func serve(tb testing.TB, h http.Handler) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// withPassword is the registry's htpasswd authentication.
func withPassword(tb testing.TB) configuration.Auth {
	tb.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return configuration.Auth{"htpasswd": {"realm": "registry", "path": file}}
}

// tokens is a token service whose tokens the registry trusts. They live for life; the registry adds a minute of leeway.
type tokens struct {
	*httptest.Server
	key  *ecdsa.PrivateKey
	life time.Duration

	mu     sync.Mutex // guards issued
	issued []time.Time
}

const leeway = time.Minute // registry/auth/token.Leeway

func newTokens(tb testing.TB, life time.Duration) *tokens {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	s := &tokens{key: key, life: life}
	s.Server = httptest.NewServer(s)
	tb.Cleanup(s.Close)
	return s
}

// auth is the registry's token authentication.
func (s *tokens) auth(tb testing.TB) configuration.Auth {
	tb.Helper()
	point, err := s.key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	keys := map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256", "x": b64(point[1:33]), "y": b64(point[33:]),
	}}}
	raw, err := json.Marshal(keys)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "jwks.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	return configuration.Auth{"token": {"realm": s.URL + "/token", "service": "registry", "issuer": "issuer", "jwks": file}}
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u, p, ok := r.BasicAuth(); !ok || u != user || p != password || r.URL.Query().Get("scope") != "repository:"+repo+":pull" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	now := time.Now()
	s.mu.Lock()
	s.issued = append(s.issued, now)
	s.mu.Unlock()
	claims := map[string]any{
		"iss": "issuer", "sub": user, "aud": "registry", "exp": now.Add(s.life - leeway).Unix(), "nbf": now.Add(-time.Hour).Unix(), "iat": now.Unix(),
		"jti": fmt.Sprint(now.UnixNano()), "access": []any{map[string]any{"type": "repository", "name": repo, "actions": []string{"pull"}}},
	}
	token, err := s.sign(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, `{"token":%q,"expires_in":60}`, token)
}

// sign makes a JWT (RFC 7519) signed with ES256 (RFC 7518, section 3.4).
func (s *tokens) sign(claims any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := b64([]byte(`{"typ":"JWT","alg":"ES256","kid":"k"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + b64(append(fixed(x), fixed(y)...)), nil
}

// expired waits until no token that was issued so far is good any more.
func (s *tokens) expired(ctx context.Context) {
	s.mu.Lock()
	last := s.issued[len(s.issued)-1]
	s.mu.Unlock()
	t := time.NewTimer(time.Until(last.Add(s.life + 2*time.Second))) // its times are whole seconds
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func fixed(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
