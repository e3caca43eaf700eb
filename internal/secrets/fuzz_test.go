package secrets_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// No text shows a secret once it was hidden, nor a piece of one; not even where the mark, with what stands beside it, would spell it.
func FuzzSet(f *testing.F) {
	f.Add("GET /x?sig=s3cr%2Bt HTTP/1.1", "s3cr+t")
	f.Add("Authorization: Basic am9lOnMzY3I6dA==", "Basic am9lOnMzY3I6dA==")
	f.Add("a=abcd; b=efgh", "a=abcd; b=\"efgh\"")
	f.Add("https://joe:pw@h.example/x", "https://joe:pw@h.example")
	f.Add("…bb", "…b")
	f.Add("…", "……")
	f.Add("\xa6\xa6\xa6", "\xa6\xa6\xa6\xa6")
	f.Add("\xa6abcabc", "\xa6abc")
	f.Add("abcabc\xe2", "abc\xe2")
	f.Add("s3cr3t-tO", "S3CR3T-TOKEN")
	f.Add("12345678…bcdefgh", "12345678\xa6bcdefgh")
	f.Fuzz(func(t *testing.T, text, secret string) {
		var s secrets.Set
		s.AddHeaders(http.Header{"X-Token": {secret}})
		s.Add(secret)
		for _, got := range []string{s.Hide(text + secret), s.Hide(secret + text), s.HideCut(text + secret), s.Text(text + secret)} {
			if len(secret) >= 4 && strings.Contains(lower(got), lower(secret)) {
				t.Errorf("%q in %q became %q", secret, text, got)
			}
			for i := range max(0, len(secret)-8+1) {
				if strings.Contains(lower(got), lower(secret[i:i+8])) {
					t.Errorf("%q, a piece of %q in %q, is in %q", secret[i:i+8], secret, text, got)
				}
			}
		}
	})
}

// lower is strings.ToLower for ASCII alone, byte by byte: that makes letters of others (the Kelvin sign) and of what is no UTF-8.
func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
