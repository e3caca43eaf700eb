package state_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

func tryOpen(path string) error {
	d, err := state.Open(path, machine, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return d.Close()
}

// holdDir is a process that opens a directory, says so, and keeps it until its input ends.
func holdDir(args []string) error {
	d, err := state.Open(args[0], machine, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return d.Close()
}

// holding starts a process that holds the directory, and returns how to end it.
func holding(t *testing.T, dir string) (release, kill func()) {
	t.Helper()
	cmd := child(t, "hold", dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	want(t, "child says", strings.TrimSpace(line), "ready")
	release = func() {
		must(t, in.Close())
		must(t, cmd.Wait())
	}
	kill = func() {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	}
	return release, kill
}

func TestOpen_lockedByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	release, _ := holding(t, dir)
	wantErr(t, tryOpen(dir), state.ErrLocked)
	release()
	must(t, tryOpen(dir))

	_, kill := holding(t, dir)
	wantErr(t, tryOpen(dir), state.ErrLocked)
	kill()
	must(t, tryOpen(dir))
	want(t, "files set aside", len(setAside(t, dir)), 0)
}

func TestOpen_lockedByThisProcess(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	wantErr(t, tryOpen(dir), state.ErrLocked)
	take(t, d.Journal, appA, sendInfo) // the refused start did no harm
	must(t, d.Close())
	must(t, tryOpen(dir))
}

// The journal's own lock holds where somebody has deleted the directory's.
func TestOpen_lockFileDeleted(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, os.Remove(filepath.Join(dir, "lock")))
	wantErr(t, tryOpen(dir), state.ErrLocked)
	take(t, d.Journal, appA, sendInfo)
}

// A process whose start finds the journal damaged does not set aside what another one has put in its place.
func TestOpen_lockedWhileAJournalIsSetAside(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "journal.db"), []byte("junk"), 0o600))
	d := open(t, dir)
	want(t, "files set aside", len(setAside(t, dir)), 1)
	must(t, os.Truncate(filepath.Join(dir, "journal.db"), 100)) // so that it looks damaged to others too
	wantErr(t, tryOpen(dir), state.ErrLocked)
	want(t, "files set aside by another start", len(setAside(t, dir)), 1)
	take(t, d.Journal, appA, sendInfo) // finds the damage, and heals it
	sameRecords(t, "after a crash", all(t, crashed(t, dir).Journal), all(t, d.Journal))
}

// raceForDir is a process that opens a directory as soon as its input ends, adds one report, and says whether it could.
func raceForDir(args []string) error {
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for {
		d, err := state.Open(args[0], "", slog.New(slog.DiscardHandler))
		if errors.Is(err, state.ErrLocked) {
			continue
		}
		if err != nil {
			return err
		}
		fmt.Println(d.MachineID)
		return errors.Join(d.Journal.Do(appA, sendInfo.do), d.Close())
	}
}

// Processes that start at once, on a damaged journal and without a machine id yet, take turns: one id, one file set
// aside, every report kept.
func TestOpen_raceOfProcesses(t *testing.T) {
	const racers = 4
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "journal.db"), []byte("junk"), 0o600))
	var start, wait []func() error
	var ids [racers]strings.Builder
	for i := range racers {
		cmd := child(t, "race", dir)
		in, err := cmd.StdinPipe()
		must(t, err)
		cmd.Stdout = &ids[i]
		must(t, cmd.Start())
		start, wait = append(start, in.Close), append(wait, cmd.Wait)
	}
	for _, fn := range append(start, wait...) {
		must(t, fn())
	}
	d, err := state.Open(dir, "", slog.New(slog.DiscardHandler))
	must(t, err)
	want(t, "reports", len(d.Journal.Get(appA).Outbox), racers)
	must(t, d.Close())
	want(t, "files set aside", len(setAside(t, dir)), 1)
	for i := range ids {
		want(t, "machine id", strings.TrimSpace(ids[i].String()), d.MachineID)
	}
}

// All that is written is for the owner's eyes alone.
func TestOpen_permissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("no such permissions on windows")
		return
	}
	dir := filepath.Join(t.TempDir(), "some", "state")
	must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	d, err := state.Open(dir, "", slog.New(slog.DiscardHandler))
	must(t, err)
	take(t, d.Journal, appA, toOffered...)
	file, err := d.PayloadDir(appA, identity("2.0.0"), "0")
	must(t, err)
	_, err = d.SharedDir("application/vnd.oci.image")
	must(t, err)
	must(t, os.Truncate(filepath.Join(dir, "journal.db"), 0))
	take(t, d.Journal, appA, succeed)
	must(t, d.Close())
	seen := map[string]bool{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		seen[e.Name()] = true
		mode := fs.FileMode(0o600)
		if e.IsDir() {
			mode = 0o700 | fs.ModeDir
		}
		want(t, "mode of "+path, info.Mode(), mode)
		return nil
	}))
	for _, name := range []string{"journal.db", "machine-id", "lock", filepath.Base(file), "shared", filepath.Base(setAside(t, dir)[0])} {
		want(t, "there is "+name, seen[name], true)
	}
}

func TestOpen_directoryOfOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("no such permissions on windows")
		return
	}
	for _, tc := range []struct {
		name  string
		mode  fs.FileMode
		files []string
		want  fs.FileMode // 0: refused
	}{
		{"empty", 0o755, nil, 0o700},
		{"ours from before", 0o777, []string{"journal.db"}, 0o700},
		{"private with other files", 0o700, []string{"other"}, 0o700},
		{"readable with other files", 0o755, []string{"other"}, 0o755},
		{"writable with other files", 0o775, []string{"other"}, 0},
		{"like /tmp", 0o1777, []string{"other"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range tc.files {
				must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			}
			must(t, os.Chmod(dir, tc.mode))
			err := tryOpen(dir)
			if tc.want == 0 {
				if err == nil {
					t.Error("taken")
				}
				return
			}
			must(t, err)
			info, err := os.Stat(dir)
			must(t, err)
			want(t, "mode", info.Mode().Perm(), tc.want)
		})
	}
}

// Who owns a directory can change what is in it, whatever its mode: one that somebody else made first is not taken.
func TestOpen_directoryOfAnotherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give a directory away")
		return
	}
	for _, tc := range []struct {
		name  string
		mode  fs.FileMode
		files []string
	}{
		{"empty", 0o755, nil},
		{"empty and private", 0o700, nil},
		{"as if ours", 0o755, []string{"journal.db"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range tc.files {
				must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			}
			must(t, os.Chmod(dir, tc.mode))
			must(t, os.Chown(dir, 4711, -1))
			if err := tryOpen(dir); err == nil || !strings.Contains(err.Error(), "chown") {
				t.Errorf("taken, or not explained: %v", err)
			}
			info, err := os.Stat(dir)
			must(t, err)
			want(t, "mode", info.Mode().Perm(), tc.mode)
		})
	}
}

func TestOpen_notADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := tryOpen(path); err == nil {
			t.Errorf("opened %s", path)
		}
	}
}

func TestResolve_order(t *testing.T) {
	for _, tc := range []struct {
		name     string
		explicit string
		env      map[string]string
		want     string
	}{
		{"explicit", "/explicit", map[string]string{"STATE_DIRECTORY": "/systemd"}, "/explicit"},
		{"systemd", "", map[string]string{"STATE_DIRECTORY": "/first:/second", "XDG_STATE_HOME": "/xdg"}, "/first"},
		{"xdg", "", map[string]string{"XDG_STATE_HOME": "/xdg", "HOME": "/home/u"}, "/xdg/omahaclient/app"},
		{"relative xdg", "", map[string]string{"XDG_STATE_HOME": "xdg", "HOME": "/home/u"}, "/home/u/.local/state/omahaclient/app"},
		{"home", "", map[string]string{"HOME": "/home/u"}, "/home/u/.local/state/omahaclient/app"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Log("paths of unix")
				return
			}
			for _, name := range []string{"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"} {
				t.Setenv(name, tc.env[name])
			}
			got, err := state.Resolve(tc.explicit, "app")
			must(t, err)
			want(t, "directory", got, tc.want)
		})
	}
}

func TestResolve_withoutAHome(t *testing.T) {
	for _, name := range []string{"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "USERPROFILE", "home"} {
		t.Setenv(name, "")
	}
	got, err := state.Resolve("", "app")
	if os.Geteuid() == 0 {
		must(t, err)
		want(t, "directory", got, filepath.FromSlash("/var/lib/omahaclient/app"))
	} else if err == nil {
		t.Errorf("directory %s out of nothing", got)
	}
}
