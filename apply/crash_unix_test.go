//go:build unix

package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func init() { children["updater"] = updater } //nolint:gochecknoinits // before TestMain

// updater is a program that keeps one app up to date, until it is killed. Its arguments are the server's URL, the state
// directory, the kind of Applier, and its path.
func updater(args []string) error {
	a := updating(args[2], args[3], stepping())
	client, err := omahaclient.New(args[0], omahaclient.WithStateDir(args[1]), omahaclient.WithMachineID(machine),
		omahaclient.WithSchedule(quick), omahaclient.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		appAt(appA, ""))
	if err != nil {
		return err
	}
	defer client.Close()
	return apply.Serve(context.Background(), client, a)
}

// updating is an Applier of a kind, of what is at a path.
func updating(kind, path string, told func(point string)) applier {
	nothing := func(context.Context) error { return nil }
	if kind == "binary" {
		return apply.Binary{Path: path, Activate: nothing, Probe: apply.Exec(path, "probe")}.Stepped(told)
	}
	return apply.Archive{Dir: path, Activate: nothing, Probe: apply.ProbeFunc(func(context.Context) error {
		_, err := os.Stat(filepath.Join(path, "current", "well"))
		return err
	})}.Stepped(told)
}

// kills is how often a crash test kills its child.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("OMAHACLIENT_CRASH_KILLS")
	if text == "" {
		return 30 // and one at each step: see TestCrash_everyStep
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// crashing kills an updater again and again, wherever it is, while releases follow each other. content makes a release;
// version tells, from outside, which version is in place, and fails where that is not a whole one.
func crashing(t *testing.T, kind string, content func(version string) []byte, path string, version func() (string, error)) {
	w := onSockets(t)
	latest := 2
	release := func() string { return fmt.Sprintf("%d.0.0", latest) }
	group := w.offering(appA, release(), content(release()))
	before := "1.0.0" // the version in place at the last look
	updates, inPlaceUnsettled := 0, 0
	began := time.Now()
	typical := 200 * time.Millisecond // of one update, from the start of the child
	for n := range kills(t) {
		var out bytes.Buffer
		cmd := child(t, "updater", w.URL(), w.dir, kind, path)
		cmd.Stderr = &out
		started := time.Now()
		must(t, cmd.Start())
		var exited sync.WaitGroup
		dead := make(chan struct{})
		exited.Go(func() { cmd.Wait(); close(dead) })
		settled := func() bool { i := w.instance(appA); return i.Status == testserver.Complete && i.Version == release() }
		ctx, cancel := context.WithTimeout(t.Context(), typical/2+rand.N(typical/2)+time.Millisecond) // before that it only starts
		err := w.WaitFor(ctx, func(*testserver.Server) bool { return settled() })
		cancel()
		cmd.Process.Signal(syscall.SIGKILL)
		<-dead
		exited.Wait()
		if err == nil {
			typical = (typical + time.Since(started)) / 2
		} else {
			typical += typical / 10 // a busy machine needs more
		}
		now, err := version()
		if err != nil {
			t.Fatalf("kill %d: neither the old nor the new version: %v\n%s", n, err, &out)
		}
		if now != release() && now != before {
			t.Fatalf("kill %d: version %s is in place; want %s or %s\n%s", n, now, before, release(), &out)
		}
		if now == release() && !settled() {
			inPlaceUnsettled++
		}
		if before = now; settled() {
			want(t, "in place when the server is told so", now, release())
			updates++
			latest++
			group.Publish(testserver.Release{Version: release(), Files: []testserver.File{{Name: "app.bin", Content: content(release())}}})
		}
	}
	t.Logf("%d kills, %d updates, %d times in place and not settled, in %v", kills(t), updates, inPlaceUnsettled, time.Since(began))

	// The next start settles it with the server.
	cmd := child(t, "updater", w.URL(), w.dir, kind, path)
	var out bytes.Buffer
	cmd.Stderr = &out
	must(t, cmd.Start())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := w.WaitFor(ctx, func(*testserver.Server) bool {
		i := w.instance(appA)
		return i.Status == testserver.Complete && i.Version == release()
	})
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatalf("%v: %+v\n%s", err, w.instance(appA), &out)
	}
	now, err := version()
	must(t, err)
	want(t, "in the end", now, release())
}

func TestCrash_Binary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent")
	filler := strings.Repeat("# a long program\n", 1<<14)
	source := func(version string) []byte {
		return []byte("#!/bin/sh\necho " + version + "\nexit 0\n" + filler + "# end of " + version + "\n")
	}
	runs := func(version string) error {
		out, err := exec.Command(path).Output()
		if err == nil && strings.TrimSpace(string(out)) != version {
			err = fmt.Errorf("it says %q; want %s", out, version)
		}
		return err
	}
	must(t, os.WriteFile(path, source("1.0.0"), 0o755))
	crashing(t, "binary", source, path, func() (string, error) {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		version, _, _ := strings.Cut(strings.TrimPrefix(string(content), "#!/bin/sh\necho "), "\n")
		if !bytes.Equal(content, source(version)) {
			return "", fmt.Errorf("%d bytes that begin with %.40q", len(content), content)
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm() != 0o755 {
			err = fmt.Errorf("mode %v", info.Mode())
		}
		return version, errors.Join(err, runs(version))
	})
	want(t, "files", names(t, dir), ".agent.omahaclient-old .agent.omahaclient-swap agent")
}

func TestCrash_Archive(t *testing.T) {
	dir := t.TempDir()
	files := func(version string) (list []item) {
		for n := range 20 {
			list = append(list, item{name: fmt.Sprintf("folder%d/file%d", n%4, n), content: strings.Repeat(version+"\n", 500)})
		}
		return append(list, item{name: "well", content: version})
	}
	content := func(version string) []byte { return packed(t, "gzip", tarOf(t, files(version)...)) }
	must(t, apply.Archive{Dir: dir}.Apply(t.Context(), offer(t, "1.0.0", string(content("1.0.0")))))
	crashing(t, "archive", content, dir, func() (string, error) {
		to, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
		if err != nil {
			return "", err
		}
		version := filepath.Base(to)
		for _, f := range files(version) {
			got, err := os.ReadFile(filepath.Join(to, filepath.FromSlash(f.name)))
			if err != nil || string(got) != f.content {
				return "", fmt.Errorf("%s of %s: %.20q, %w", f.name, version, got, err)
			}
		}
		return version, nil
	})
	left := names(t, filepath.Join(dir, "versions"))
	if strings.Contains(left, ".unpacking") {
		t.Errorf("left: %s", left)
	}
}
