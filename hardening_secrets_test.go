package omahaclient_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"html"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a program may be given in secret, and where it turns up again.

// secretOf is a secret that looks otherwise in every encoding, of which no piece is in another one.
func secretOf(what string) string {
	sum := sha256.Sum256([]byte(what))
	h := base64.RawURLEncoding.EncodeToString(sum[:])
	return "zq~" + h[:5] + "+&" + h[5:10] + "=" + h[10:15] + "/9"
}

// piece is how much of a secret is too much, in bytes.
const piece = 8

// forms are a text as it may be written: as it is, escaped for URLs and for HTML, in hexadecimal, and in base64 at any offset.
func forms(text string) []string {
	list := []string{
		text, url.QueryEscape(text), url.PathEscape(text), html.EscapeString(text), hex.EncodeToString([]byte(text)),
		(&url.URL{Path: text}).EscapedPath(), strings.Trim(strings.ReplaceAll(url.UserPassword("", text).String(), ":", ""), "@"),
		strings.ReplaceAll(text, "&", `\u0026`), // as encoding/json does it
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for pad := range 3 {
			b := encoding.EncodeToString(append(make([]byte, pad), text...))
			whole := len(b) - len(b)%4
			if pad > 0 {
				b = b[4:] // its first characters belong to what comes before as well
				whole -= 4
			}
			if (pad+len(text))%3 != 0 && whole == len(b) {
				whole -= 4
			}
			list = append(list, b[:min(whole, len(b))])
		}
	}
	return list
}

// betrayal looks for secrets in whatever a client leaves behind.
type betrayal struct {
	t       *testing.T
	secrets map[string]string // what they are for → the secret

	mu     sync.Mutex // guards what follows
	pieces map[string][]shownPiece
	seen   map[string]bool
	bytes  int
}

// shownPiece is one way to write a piece of a secret, in lower case. In the map it stands under its first bytes.
type shownPiece struct{ what, text string }

// find returns which pieces of which secrets are in text, in upper or lower case, and where. mu is held.
func (b *betrayal) find(text string, found func(p shownPiece, at int)) {
	if b.pieces == nil {
		b.pieces = map[string][]shownPiece{}
		for what, secret := range b.secrets {
			for i := range len(secret) - piece + 1 {
				for _, form := range forms(secret[i : i+piece]) {
					p := shownPiece{what, lowerASCII(form)}
					if key := p.text[:piece]; !slices.Contains(b.pieces[key], p) {
						b.pieces[key] = append(b.pieces[key], p)
					}
				}
			}
		}
	}
	text = lowerASCII(text)
	for i := range max(0, len(text)-piece+1) {
		for _, p := range b.pieces[text[i:i+piece]] {
			if strings.HasPrefix(text[i:], p.text) {
				found(p, i)
			}
		}
	}
}

func lowerASCII(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// in fails for a piece of a secret in text, but for those that are allowed there.
func (b *betrayal) in(where, text string, allowed ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += len(text)
	b.find(text, func(p shownPiece, at int) {
		if key := where + p.what; !slices.Contains(allowed, p.what) && !b.seen[key] {
			b.seen[key] = true
			b.t.Errorf("%s shows the secret %s, as %q: …%q…", where, p.what, p.text, text[max(0, at-200):min(len(text), at+len(p.text)+100)])
		}
	})
}

// under looks into every file below dir, and at its name. Those in the journal are allowed there and in what it sets aside.
func (b *betrayal) under(dir string, inJournal ...string) {
	b.t.Helper()
	files := 0
	must(b.t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b.in("a name in the state directory", path)
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		var allowed []string
		if strings.HasPrefix(d.Name(), "journal") {
			allowed = inJournal
		}
		b.in("the file "+d.Name(), string(content), allowed...)
		return nil
	}))
	if files == 0 {
		b.t.Error("the state directory is empty: this test cannot fail")
	}
}

// A test that finds nothing must be able to.
func TestBetrayal_findsEveryForm(t *testing.T) {
	secret := secretOf("it")
	texts := []string{
		"Bearer " + secret, "?a=1&sig=" + url.QueryEscape(secret), "/v1/update/" + url.PathEscape(secret),
		url.UserPassword("joe", secret).String(), hex.EncodeToString([]byte(secret)),
	}
	for pad := range 4 {
		both := bytes.Repeat([]byte("j"), pad)
		texts = append(texts, base64.StdEncoding.EncodeToString(append(append(both, secret...), both...)))
		texts = append(texts, base64.URLEncoding.EncodeToString([]byte(string(both)+":"+secret)))
	}
	b := &betrayal{t: t, secrets: map[string]string{"it": secret}}
	for _, text := range append(texts, strings.ToLower(secret), strings.ToUpper(secret), secret[:piece], secret[9:], secret[:17]+"…") {
		found := false
		b.find("<"+text+">", func(shownPiece, int) { found = true })
		if !found {
			t.Errorf("not found in %s", text)
		}
	}
	b.find(secret[:piece-1]+" or "+secret[len(secret)-piece+1:], func(p shownPiece, _ int) { t.Errorf("%s in what is no piece", p.text) })
}

// A piece tells of which secret it is: some are allowed where others are not.
func TestBetrayal_secretsShareNoPiece(t *testing.T) {
	b := &betrayal{t: t, secrets: map[string]string{}}
	for _, what := range slices.Concat(given, received) {
		b.secrets[what] = secretOf(what)
	}
	for what, secret := range b.secrets {
		for _, form := range forms(secret) {
			b.find(form, func(p shownPiece, _ int) {
				if p.what != what {
					t.Errorf("%s of %s is in %s, %q", p.text, p.what, what, form)
				}
			})
		}
	}
}
