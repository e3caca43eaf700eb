package secrets_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// No text shows a secret once it was hidden.
func FuzzSet(f *testing.F) {
	f.Add("GET /x?sig=s3cr%2Bt HTTP/1.1", "s3cr+t")
	f.Add("Authorization: Basic am9lOnMzY3I6dA==", "Basic am9lOnMzY3I6dA==")
	f.Add("a=abcd; b=efgh", "a=abcd; b=\"efgh\"")
	f.Add("https://joe:pw@h.example/x", "https://joe:pw@h.example")
	f.Fuzz(func(t *testing.T, text, secret string) {
		var s secrets.Set
		s.AddHeaders(http.Header{"X-Token": {secret}})
		s.Add(secret)
		got := s.Hide(text + secret)
		if len(secret) >= 4 && strings.Trim(secret, "…") != "" && strings.Contains(got, secret) {
			t.Errorf("%q in %q became %q", secret, text, got)
		}
	})
}
