package durable_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/internal/durable"
)

const childEnv = "OMAHACLIENT_DURABLE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		writeForEver(path)
	}
	goleak.VerifyTestMain(m)
}

// page is content that tells whether it is whole.
func page(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%08d\n", n), 4096) }

// writeForEver is the life of a child process: it is killed in the midst of it.
func writeForEver(path string) {
	for n := 0; ; n++ {
		if err := durable.Write(path, page(n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != content {
		t.Errorf("%s holds %.40q, want %.40q", filepath.Base(path), got, content)
	}
}

func TestWrite_replaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"one", "", "three"} {
		must(t, durable.Write(path, []byte(content)))
		wantContent(t, path, content)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	info, err := os.Stat(path)
	must(t, err)
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// What a crash left under the temporary name, of whatever mode and length, is in nobody's way.
func TestWrite_afterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path+".new", []byte("a longer one, cut off in the mid"), 0o400))
	must(t, durable.Write(path, []byte("new")))
	wantContent(t, path, "new")
}

// A link that somebody planted is replaced: what it points to keeps its content and mode.
func TestWrite_followsNoLink(t *testing.T) {
	for _, planted := range []string{"file", "file.new"} {
		for name, link := range map[string]func(string, string) error{"symbolic": os.Symlink, "hard": os.Link} {
			t.Run(name+" "+planted, func(t *testing.T) {
				dir := t.TempDir()
				victim := filepath.Join(dir, "victim")
				must(t, os.WriteFile(victim, []byte("precious"), 0o644))
				must(t, link(victim, filepath.Join(dir, planted)))
				must(t, durable.Write(filepath.Join(dir, "file"), []byte("new")))
				wantContent(t, victim, "precious")
				wantContent(t, filepath.Join(dir, "file"), "new")
				info, err := os.Lstat(filepath.Join(dir, "file"))
				must(t, err)
				if !info.Mode().IsRegular() {
					t.Errorf("it is a %v", info.Mode())
				}
			})
		}
	}
}

func TestWrite_dangling(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "file.new")))
	must(t, durable.Write(filepath.Join(dir, "file"), []byte("new")))
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("the link was followed")
	}
}

func TestWrite_fails(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "file"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "file", "inside"), nil, 0o600))
	if err := durable.Write(filepath.Join(dir, "file"), []byte("new")); err == nil {
		t.Error("a directory was replaced")
	}
	if _, err := os.Lstat(filepath.Join(dir, "file.new")); err == nil {
		t.Error("the temporary file is still there")
	}
	if err := durable.Write(filepath.Join(dir, "none", "file"), nil); err == nil {
		t.Error("written into no directory")
	}
	must(t, os.MkdirAll(filepath.Join(dir, "b.new", "full"), 0o700))
	if err := durable.Write(filepath.Join(dir, "b"), nil); err == nil {
		t.Error("a full directory in the way was removed")
	}
}

// A process that is killed while it writes leaves one content or the other, and what it said was written is written.
func TestWrite_killed(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	path := filepath.Join(t.TempDir(), "file")
	for kill := range 10 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var said int
		for range kill + 1 {
			_, err := fmt.Fscan(out, &said)
			must(t, err)
		}
		must(t, cmd.Process.Kill())
		for { // what it said before it died
			if _, err := fmt.Fscan(out, &said); err != nil {
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed
		got, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(got, page(said)) && !bytes.Equal(got, page(said+1)) {
			t.Fatalf("after %d was written, %d bytes that begin with %.8q are there", said, len(got), got)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		must(t, durable.MkdirAll(path))
	}
	info, err := os.Stat(path)
	must(t, err)
	if !info.IsDir() || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if err := durable.MkdirAll(filepath.Join(dir, "file", "below")); err == nil {
		t.Error("made below a file")
	}
	if err := durable.SyncDir(filepath.Join(dir, "none")); err == nil && runtime.GOOS != "windows" {
		t.Error("synced what is not there")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error(err)
	}
}
