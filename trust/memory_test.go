package trust_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

const memory = "trust.json"

// remembered is a directory in which sequence 5 was verified.
func remembered(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := verifier(t, "a").Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	must(t, err)
	return dir
}

// writeMemory puts a memory into its file, with its sum.
func writeMemory(t *testing.T, path string, inner []byte) {
	t.Helper()
	must(t, os.WriteFile(path, fmt.Appendf(nil, `{"format":1,"sha256":%q,"memory":%s}`, strings.TrimPrefix(sum(string(inner)), "sha256:"), inner), 0o600))
}

// showOld shows a release from before.
func showOld(t *testing.T, v *trust.Statements, dir string) error {
	t.Helper()
	c := claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Sequence, s.Version = 4, "1.9.0" }), "a"))
	c.Version = "1.9.0"
	_, err := v.Verify(t.Context(), c)
	return err
}

func TestMemory_permissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "apps", "one")
	_, err := verifier(t, "a").Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	must(t, err)
	for path, mode := range map[string]fs.FileMode{dir: 0o700, filepath.Dir(dir): 0o700, filepath.Join(dir, memory): 0o600} {
		info, err := os.Stat(path)
		must(t, err)
		if runtime.GOOS != "windows" {
			want(t, "mode of "+filepath.Base(path), info.Mode().Perm(), mode)
		}
	}
}

// Flash wears: what is known already is not written again.
func TestMemory_writtenWhenChangedOnly(t *testing.T) {
	dir := remembered(t)
	_, err := verifier(t, "a").Index(claim(dir), sign(t, index(), "a"))
	must(t, err)
	before, err := os.Stat(filepath.Join(dir, memory))
	must(t, err)
	for i := range 3 {
		c := claim(dir, sign(t, release(), "x", "a"))
		c.Now = day(i + 1)
		_, err := verifier(t, "a").Verify(t.Context(), c)
		must(t, err)
		_, err = verifier(t, "a").Index(c, sign(t, index(), "a"))
		must(t, err)
		wantErr(t, showOld(t, verifier(t, "a"), dir), trust.ErrRollback)
	}
	after, err := os.Stat(filepath.Join(dir, memory))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("it was written")
	}
}

// A memory that was cut off, changed or replaced is kept under another name and told of; updates go on, the built-in minimum holds.
func TestMemory_damaged(t *testing.T) {
	for name, damage := range map[string]func(path string, content []byte) error{
		"empty":   func(path string, b []byte) error { return os.WriteFile(path, nil, 0o600) },
		"cut off": func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)/2], 0o600) },
		"zeros":   func(path string, b []byte) error { return os.WriteFile(path, make([]byte, len(b)), 0o600) },
		"null":    func(path string, b []byte) error { return os.WriteFile(path, []byte("null"), 0o600) },
		"one bit": func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"a number": func(path string, b []byte) error {
			return os.WriteFile(path, bytes.Replace(b, []byte(`e":5,`), []byte(`e":4,`), 1), 0o600)
		},
		"a later one": func(path string, b []byte) error {
			return os.WriteFile(path, bytes.Replace(b, []byte(`at":1`), []byte(`at":2`), 1), 0o600)
		},
		"too large": func(path string, b []byte) error {
			return os.WriteFile(path, append(b, bytes.Repeat([]byte(" "), 2<<20)...), 0o600)
		},
		"a directory": func(path string, b []byte) error {
			return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "full"), 0o700))
		},
		"a link": func(path string, b []byte) error {
			return errors.Join(os.Rename(path, path+".elsewhere"), os.Symlink(path+".elsewhere", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := remembered(t)
			path := filepath.Join(dir, memory)
			wantErr(t, showOld(t, verifier(t, "a"), dir), trust.ErrRollback)
			for range 2 { // the second damage replaces the first's remains
				content, err := os.ReadFile(path)
				must(t, err)
				must(t, damage(path, content))
				var log bytes.Buffer
				v, err := trust.NewStatements(public("a"), trust.WithMinimumSequence(5), trust.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				must(t, err)
				wantErr(t, showOld(t, v, dir), trust.ErrRollback) // the minimum
				want(t, "told", strings.Contains(log.String(), "damaged"), true)
				_, err = v.Verify(t.Context(), claim(dir, sign(t, release(), "a")))
				must(t, err)
				_, err = os.Lstat(path + ".damaged")
				must(t, err)
				wantErr(t, showOld(t, verifier(t, "a"), dir), trust.ErrRollback)
			}
		})
	}
}

// What cannot be remembered is not taken, and is no refusal: the disk may have room again later.
func TestMemory_cannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, memory+".new", "full"), 0o700))
	v := verifier(t, "a")
	_, err := v.Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	if err == nil || errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("error %v", err)
	}
	_, err = v.Index(claim(dir), sign(t, index(), "a"))
	if err == nil || errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("error %v", err)
	}
	must(t, os.RemoveAll(filepath.Join(dir, memory+".new")))
	_, err = v.Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	must(t, err)

	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err = v.Verify(t.Context(), claim(filepath.Join(file, "below"), sign(t, release(), "a")))
	if err == nil || errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("error %v", err)
	}
}

// A crash in the midst of a write leaves what was known.
func TestMemory_afterACrash(t *testing.T) {
	dir := remembered(t)
	must(t, os.WriteFile(filepath.Join(dir, memory+".new"), []byte(`{"format":1,"sha2`), 0o600))
	wantErr(t, showOld(t, verifier(t, "a"), dir), trust.ErrRollback)
	_, err := verifier(t, "a").Index(claim(dir), sign(t, index(), "a"))
	must(t, err)
	wantErr(t, showOld(t, verifier(t, "a"), dir), trust.ErrRollback)
}

// However many channels come and go, the memory stays small, and the latest are in it.
func TestMemory_bounded(t *testing.T) {
	dir, v := t.TempDir(), verifier(t, "a")
	var channels []string
	for n := range 20 {
		channels = nil
		for i := range 64 {
			channels = append(channels, strings.Repeat("c", 200)+string(rune('A'+n))+string(rune('0'+i)))
		}
		c := claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Channels = channels }), "a"))
		c.Channel = channels[0]
		_, err := v.Verify(t.Context(), c)
		must(t, err)
	}
	info, err := os.Stat(filepath.Join(dir, memory))
	must(t, err)
	if info.Size() > 256<<10 { // 512 lines, and a statement
		t.Errorf("%d bytes", info.Size())
	}
	c := claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Channels, s.Sequence, s.Version = channels, 4, "1.9.0" }), "a"))
	c.Channel, c.Version = channels[63], "1.9.0"
	_, err = v.Verify(t.Context(), c)
	wantErr(t, err, trust.ErrRollback)
}
