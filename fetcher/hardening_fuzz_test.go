package fetcher_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

// FuzzSource reads what an update server announces for an image: the digest that is pinned is one, or there is none.
func FuzzSource(f *testing.F) {
	f.Add("registry.example/ns/app:1.5.0", []byte(nil), []byte(digestA))
	f.Add("registry.example/ns/app@"+digestA, make([]byte, 32), []byte(`{"digest":"`+digestA+`","size":7,"mediaType":"x"}`))
	f.Add("oci://u:p@h/x?y", []byte{1}, []byte(`{"digest":7}`))
	f.Add(strings.Repeat("\xff", 1000)+"://h/x", []byte(nil), []byte("sha256:"+strings.Repeat("\x00", 1000)))
	f.Add("h.example/"+strings.Repeat("\xff", 1000), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, url string, sum, metadata []byte) {
		got, err := fetcher.SourceDigest(fetcher.Source{URLs: []string{url}, SHA256: sum, Metadata: metadata})
		switch {
		case err != nil && !errors.Is(err, fetcher.ErrBadReference):
			t.Errorf("another error: %v", err)
		case err != nil && len(err.Error()) > 5000:
			t.Errorf("a message of %d bytes", len(err.Error()))
		case err == nil && got != "" && (!strings.HasPrefix(got, "sha256:") || len(got) != 71 || strings.Trim(got[7:], "0123456789abcdef") != ""):
			t.Errorf("pinned %q", got)
		}
	})
}
