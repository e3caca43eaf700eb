//go:build unix

package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// A child writes its steps to this file, one a line, and dies at the one that is named after the "@": "/path/steps@2 before: sync"
// for the second time. It dies once; the file FILE.died says so.
const stepsEnv = "OMAHACLIENT_STEPS"

// stepping is what a child tells of its steps; nil where no test asks.
func stepping() func(point string) {
	file, death, _ := strings.Cut(os.Getenv(stepsEnv), "@")
	if file == "" {
		return nil
	}
	var mu sync.Mutex
	return func(point string) {
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(f, point)
		f.Close()
		n := len(slices.DeleteFunc(steps(file), func(line string) bool { return line != point }))
		if fmt.Sprint(n, " ", point) != death {
			return
		}
		if f, err := os.OpenFile(file+".died", os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

func steps(file string) []string {
	content, _ := os.ReadFile(file)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

// crashStory is one update, from version 1.0.0 (or none) to 2.0.0, or back.
type crashStory struct {
	name    string
	well    bool // version 2.0.0 is
	runs    func(w *world, env string, until func() bool)
	prepare func(w *world) // version 1.0.0 in place, 2.0.0 on the server
	version func(w *world) (string, error)
	first   bool                // there is no version 1.0.0
	restore func(w *world) bool // ends what a death left, where the release is withdrawn, and reports whether that was bad; nil: not so
}

// tell tells the story with a death at a point, and returns the steps of all its lives.
func (s *crashStory) tell(t *testing.T, death string) (passed []string, died bool) {
	w := onSockets(t)
	s.prepare(w)
	file := filepath.Join(t.TempDir(), "steps")
	look := func(when string) string {
		version, err := s.version(w)
		if s.first && errors.Is(err, os.ErrNotExist) {
			return ""
		}
		if err != nil || version != "1.0.0" && version != "2.0.0" {
			t.Errorf("%s, killed at %q, %s: neither the old nor the new version: %q %v", s.name, death, when, version, err)
		}
		return version
	}
	isDead := func() bool { _, err := os.Stat(file + ".died"); return err == nil }
	settled := w.reached(appA, testserver.Complete)
	end := "2.0.0"
	if !s.well {
		settled, end = w.reached(appA, testserver.Error), "1.0.0"
		if s.first {
			end = ""
		}
	}
	env := stepsEnv + "=" + file + "@" + death
	if death != "" {
		s.runs(w, env, func() bool { return isDead() || settled() })
		look("at once")
		if s.restore != nil && len(death)%2 == 0 {
			wasBad := s.restore(w)
			if version := look("once restored"); version != end && (wasBad || version == "2.0.0") {
				t.Errorf("%s, killed at %q: version %q stays; want %q", s.name, death, version, end)
			}
		}
	}
	s.runs(w, env, settled)
	want(t, s.name+", killed at "+death+": in the end", look("in the end"), end)
	if code := w.instance(appA).ErrorCode; !s.well && code != 44 {
		t.Errorf("%s, killed at %q: code %d", s.name, death, code)
	}
	return steps(file), isDead()
}

// everyStep calls do for each step of a life, with the words for dying there.
func (s *crashStory) everyStep(points []string, do func(point, death string)) {
	seen := map[string]int{}
	for _, point := range points {
		seen[point]++
		do(point, fmt.Sprint(seen[point], " ", point))
	}
}

// lives runs a child until it dies or what is waited for has come; then it is killed.
func lives(w *world, cmd *exec.Cmd, until func() bool) {
	w.t.Helper()
	var out bytes.Buffer
	cmd.Stderr = &out
	must(w.t, cmd.Start())
	dead := make(chan struct{})
	go func() { cmd.Wait(); close(dead) }()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for !until() && ctx.Err() == nil {
		one, end := context.WithTimeout(ctx, 20*time.Millisecond)
		_ = w.WaitFor(one, func(*testserver.Server) bool { return until() })
		end()
		select {
		case <-dead:
			if !until() {
				w.t.Fatalf("child ended: %s", &out)
			}
		default:
		}
	}
	cmd.Process.Signal(syscall.SIGKILL)
	<-dead
	if ctx.Err() != nil {
		w.t.Fatalf("too long; record %+v\n%s", w.Instances(appA), &out)
	}
}

func crashStories(t *testing.T) []*crashStory {
	var list []*crashStory
	for _, kind := range []string{"binary", "archive"} {
		for _, well := range []bool{true, false} {
			for _, first := range []bool{false, true} {
				s := &crashStory{name: fmt.Sprintf("%s, well %v, first %v", kind, well, first), well: well, first: first}
				place := func(w *world) string { return filepath.Join(w.dir, "..", filepath.Base(w.dir)+"-place", "it") }
				s.runs = func(w *world, env string, until func() bool) {
					cmd := child(t, "updater", w.URL(), w.dir, kind, place(w))
					cmd.Env = append(cmd.Env, env)
					lives(w, cmd, until)
				}
				s.prepare = func(w *world) {
					must(t, os.MkdirAll(filepath.Dir(place(w)), 0o755))
					if kind == "binary" {
						if !first {
							write(t, place(w), stepProgram("1.0.0", true), 0o755)
						}
						w.offering(appA, "2.0.0", []byte(stepProgram("2.0.0", well)))
						return
					}
					for _, v := range []string{"0.8.0", "0.9.0", "1.0.0"} {
						if !first {
							must(t, apply.Archive{Dir: place(w), Keep: 3}.Apply(t.Context(), offer(t, v, tarOf(t, stepTree(v, true)...))))
						}
					}
					w.offering(appA, "2.0.0", []byte(tarOf(t, stepTree("2.0.0", well)...)))
				}
				s.version = func(w *world) (string, error) { return runsAs(place(w)) }
				s.restore = func(w *world) bool {
					err := updating(kind, place(w), nil).Restore(w.t.Context(), nil, "")
					if err != nil && code(err) != 44 {
						t.Errorf("%s: restore: %v", s.name, err)
					}
					return err != nil
				}
				if kind == "archive" {
					s.version = func(w *world) (string, error) { return wholeTree(place(w)) }
				}
				list = append(list, s)
			}
		}
	}
	for _, behaviour := range []string{"well", "sick", "crash"} {
		s := &crashStory{name: "self, " + behaviour, well: behaviour == "well"}
		path := func(w *world) string { return filepath.Join(w.dir, "..", filepath.Base(w.dir)+"-agent") }
		s.runs = func(w *world, env string, until func() bool) { w.supervised(path(w), until, env) }
		s.prepare = func(w *world) {
			must(t, os.WriteFile(path(w), agentOf(t, "1.0.0", "well"), 0o755))
			w.offering(appA, "2.0.0", agentOf(t, "2.0.0", behaviour))
		}
		s.version = func(w *world) (string, error) {
			version, _, err := who(path(w))
			if err == nil {
				cmd := exec.Command(path(w))
				cmd.Env = append(os.Environ(), childEnv+"=agent", "OMAHACLIENT_TRY=1")
				err = cmd.Run()
			}
			return version, err
		}
		list = append(list, s)
	}
	return list
}

// stepProgram is an executable that tells its version, and whether it is well.
func stepProgram(version string, well bool) string {
	status := 1
	if well {
		status = 0
	}
	return fmt.Sprintf("#!/bin/sh\necho %s\n[ \"$1\" != probe ] || exit %d\n", version, status)
}

func runsAs(path string) (string, error) {
	out, err := exec.Command(path).Output()
	return strings.TrimSpace(string(out)), err
}

func stepTree(version string, well bool) []item {
	list := site(version)
	if well {
		list = append(list, item{name: "well"})
	}
	return list
}

// wholeTree returns the version of a tree whose every file is there, in each version that an update may go back to.
func wholeTree(dir string) (string, error) {
	current, err := os.ReadFile(filepath.Join(dir, "current", "index.html"))
	if err != nil {
		return "", err
	}
	notes, err := filepath.Glob(filepath.Join(dir, "versions", ".*.json"))
	for _, note := range notes {
		folder := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(note), "."), ".json")
		if _, missing := os.Stat(filepath.Join(dir, "versions", folder)); missing != nil {
			continue // not yet, or no more
		}
		for _, i := range site(folder) {
			content, readErr := os.ReadFile(filepath.Join(dir, "versions", folder, i.name))
			if i.kind == 0 && (readErr != nil || string(content) != i.content) {
				err = errors.Join(err, fmt.Errorf("%s of version %s is not whole: %w", i.name, folder, readErr))
			}
		}
	}
	return strings.TrimPrefix(string(current), "version "), err
}

// A child is killed before and after each step of an update, and of its rollback. Afterwards the old version runs or the new
// one does, and the next start settles it with the server.
func TestCrash_everyStep(t *testing.T) {
	rounds := 0 // of every step of every story; without OMAHACLIENT_CRASH_KILLS, each step of a kind of Applier is enough
	if os.Getenv("OMAHACLIENT_CRASH_KILLS") != "" {
		rounds = max(kills(t)/1000, 1)
	}
	var mu sync.Mutex // guards what follows
	hits, taken := map[string]int{}, map[string]bool{}
	take := func(what string) bool {
		mu.Lock()
		defer mu.Unlock()
		defer func() { taken[what] = true }()
		return !taken[what]
	}
	var all errgroup.Group
	all.SetLimit(4)
	began := time.Now()
	for _, s := range crashStories(t) {
		all.Go(func() error {
			defer func() {
				if v := recover(); v != nil {
					t.Errorf("%s: %v", s.name, v)
				}
			}()
			points, _ := s.tell(t, "")
			for round := range max(rounds, 1) {
				s.everyStep(points, func(point, death string) {
					of, _, _ := strings.Cut(s.name, ",")
					if rounds > 0 {
						of = fmt.Sprint(s.name, round)
					}
					if !take(of + death) {
						return
					}
					if _, died := s.tell(t, death); !died {
						return
					}
					mu.Lock()
					hits[point]++
					mu.Unlock()
				})
			}
			return nil
		})
	}
	_ = all.Wait()
	total := 0
	for _, what := range slices.Sorted(maps.Keys(hits)) {
		t.Logf("%3d %s", hits[what], what)
		total += hits[what]
	}
	t.Logf("%d kills in %v", total, time.Since(began))
	for _, what := range []string{
		"unpack", "try", "begin trial", "write swap", "link old", "keep old", "place new", "sync", "activate", "probe",
		"link back", "place back", "remove first", "drop swap", "sync file", "sync folder",
		"count start", "mark rollback", "confirm",
		"clean", "extract", "sync files", "note", "name folder", "sync versions", "link", "switch", "sync .", "unlink", "unname folder", "remove files", "remove note",
	} {
		for _, when := range []string{"before: ", "after: "} {
			if hits[when+what] == 0 && when+what != "after: confirm" { // the server knows by then, and the test kills the child itself
				t.Errorf("no child died %s%s", when, what)
			}
		}
	}
}
