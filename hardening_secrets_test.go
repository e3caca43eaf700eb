package omahaclient_test

import (
	"bytes"
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

// secretOf is a secret that looks otherwise in every encoding.
func secretOf(what string) string { return "zq~" + what + "+&T0k3n=" + what + "/9" }

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

	mu    sync.Mutex // guards seen
	seen  map[string]bool
	bytes int
}

// in fails for a secret in text, but for those that are allowed there.
func (b *betrayal) in(where, text string, allowed ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += len(text)
	for what, secret := range b.secrets {
		if slices.Contains(allowed, what) {
			continue
		}
		for _, form := range forms(secret) {
			i := strings.Index(text, form)
			if i < 0 {
				continue
			}
			if key := where + what; !b.seen[key] {
				b.seen[key] = true
				b.t.Errorf("%s shows the secret %s, as %q: …%q…", where, what, form, text[max(0, i-200):min(len(text), i+len(form)+100)])
			}
		}
	}
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
	for _, text := range texts {
		found := false
		for _, form := range forms(secret) {
			found = found || strings.Contains(text, form)
		}
		if !found {
			t.Errorf("not found in %s", text)
		}
	}
}
