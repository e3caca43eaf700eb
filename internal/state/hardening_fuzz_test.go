package state_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// Whatever the file of the machine's id holds: the id that is used can be sent, and is used again.
func FuzzMachineID(f *testing.F) {
	f.Add([]byte("123e4567-e89b-42d3-a456-426614174000 0123456789abcdef\n"))
	f.Add([]byte("123e4567-e89b-42d3-a456-426614174000\n"))
	f.Add([]byte("\"><app/>\x00"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "machine-id"), content, 0o600))
		open := func() string {
			d, err := state.Open(dir, "", slog.New(slog.DiscardHandler))
			must(t, err)
			defer d.Close()
			return d.MachineID
		}
		id := open()
		for _, c := range id {
			if len(id) > 50 || len(id) == 0 || c <= ' ' || c > '~' || c == '<' || c == '"' {
				t.Fatalf("%q became the id %q", content, id)
			}
		}
		want(t, "the id of the next start", open(), id)
	})
}
