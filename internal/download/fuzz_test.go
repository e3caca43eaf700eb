package download_test

import (
	"fmt"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string]string{
		"bytes 0-9/10": "0 9 10", "bytes 5-9/*": "5 9 -1", "bytes */10": "-1 -1 10", "Bytes 1-1/2": "1 1 2", " bytes 0-0/1": "0 0 1",
	} {
		first, last, total, err := download.ParseContentRange(in)
		if got := fmt.Sprint(first, last, total); err != nil || got != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "bytes", "bytes 0-9", "bytes */*", "bytes 9-0/10", "bytes 0-10/10", "bytes -1-2/10", "bytes +1-2/10", "bytes 0-9/+10", "bytes 0 - 9/10",
		"bytes 0-9/ 10", "items 0-9/10", "bytes 0-99999999999999999999/*", "bytes 0-9/10, bytes 1-2/10", "bytes 0x0-9/10", "bytes 1_0-20/30", "0-9/10",
	} {
		if first, last, total, err := download.ParseContentRange(in); err == nil {
			t.Errorf("%q was taken: %d %d %d", in, first, last, total)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes */10", "bytes 5-9/*", "bytes 9223372036854775807-9223372036854775807/*", "bytes --/-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := download.ParseContentRange(s)
		switch {
		case err != nil:
		case first == -1 && last == -1 && total >= 0: // "*"
		case first < 0 || last < first || total >= 0 && last >= total || total < -1:
			t.Errorf("%q: %d %d %d", s, first, last, total)
		default: // what was understood can be said again
			again := fmt.Sprintf("bytes %d-%d/*", first, last)
			if a, b, _, err := download.ParseContentRange(again); err != nil || a != first || b != last {
				t.Errorf("%q became %q: %d %d %v", s, again, a, b, err)
			}
		}
	})
}
