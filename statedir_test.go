package omahaclient_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestNew_sendsNothingAndStartsNoGoroutine(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0")
	hc := &http.Client{Transport: roundTripFunc(func(*http.Request) (*http.Response, error) {
		t.Error("a request by New")
		return nil, errDone
	})}
	before := goleak.IgnoreCurrent()
	c, err := omahaclient.New(w.URL(), w.options(app(appA), omahaclient.WithHTTPClient(hc))...)
	must(t, err)
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	must(t, c.Close())
	want(t, "requests", len(w.Requests()), 0)
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Where the state directory is, by the environment.
func TestStateDir_resolution(t *testing.T) {
	base := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{base}, parts...)...) }
	for _, tc := range []struct {
		name string
		env  map[string]string
		dir  string // WithStateDir
		want string
	}{
		{
			"WithStateDir wins", map[string]string{"STATE_DIRECTORY": at("systemd"), "XDG_STATE_HOME": at("xdg"), "HOME": at("home")},
			at("given"), at("given"),
		},
		{
			"first entry of STATE_DIRECTORY", map[string]string{"STATE_DIRECTORY": at("one") + ":" + at("two"), "XDG_STATE_HOME": at("xdg"), "HOME": at("home")},
			"", at("one"),
		},
		{"XDG_STATE_HOME", map[string]string{"XDG_STATE_HOME": at("xdg"), "HOME": at("home")}, "", at("xdg", "omahaclient", appB)},
		{"home", map[string]string{"HOME": at("home")}, "", at("home", ".local", "state", "omahaclient", appB)},
		{
			"relative XDG_STATE_HOME counts as none", map[string]string{"XDG_STATE_HOME": "xdg", "HOME": at("home")},
			"", at("home", ".local", "state", "omahaclient", appB),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cleanEnv(t)
			for key, value := range tc.env {
				t.Setenv(key, value)
				if key == "HOME" && runtime.GOOS == "windows" {
					t.Setenv("USERPROFILE", value)
				}
			}
			opts := []omahaclient.Option{app(appB), app(appA)}
			if tc.dir != "" {
				opts = append(opts, omahaclient.WithStateDir(tc.dir))
			}
			c, err := omahaclient.New("https://updates.example.com", opts...)
			must(t, err)
			defer c.Close()
			if _, err := os.Stat(filepath.Join(tc.want, "machine-id")); err != nil {
				t.Errorf("the state is not in %s: %v", tc.want, err)
			}
			if info, err := os.Stat(tc.want); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
				t.Errorf("mode %v (%v); want private", info.Mode(), err)
			}
		})
	}
}

// Without any home there is /var/lib for root (which is not touched here), and an error for others.
func TestStateDir_withoutAHome(t *testing.T) {
	cleanEnv(t)
	path, err := state.Resolve("", appA)
	if runtime.GOOS != "windows" && os.Geteuid() == 0 {
		must(t, err)
		want(t, "directory", path, "/var/lib/omahaclient/"+appA)
		return
	}
	if err == nil {
		t.Errorf("directory %q; want an error", path)
	}
	_, err = omahaclient.New("https://updates.example.com", app(appA))
	wantErr(t, err, omahaclient.ErrInvalidOption)
	if !strings.Contains(err.Error(), "WithStateDir") {
		t.Errorf("%q does not say what to do", err)
	}
}

func cleanEnv(t *testing.T) {
	t.Helper()
	for _, key := range []string{"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "USERPROFILE"} {
		t.Setenv(key, "")
	}
}

func TestNew_stateLockedNamesTheDirectoryAndAWayOut(t *testing.T) {
	w := onSockets(t)
	w.client(app(appA))
	_, err := omahaclient.New(w.URL(), w.options(app(appA))...)
	wantErr(t, err, omahaclient.ErrStateLocked)
	for _, word := range []string{w.dir, "another Client of this program", "WithStateDir"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
}

// The state directory is deleted while an offer waits: the verdict is kept, for the server and for the next start.
func TestAck_stateDirDeleted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		opts := slices.Delete(w.options(appAt(appA, "")), 1, 2) // its WithMachineID
		open := func() *omahaclient.Client {
			c, err := omahaclient.New(w.URL(), opts...)
			must(t, err)
			return c
		}
		c := open()
		o := w.updates(c).next()
		synctest.Wait() // what was being reported is written
		must(t, os.RemoveAll(w.dir))
		must(t, o.Ack(nil))
		must(t, c.Close())
		c = open()
		want(t, "version at the next start", status(t, c, appA).Version, "2.0.0")
		w.flush(c)
		must(t, c.Close())
		machines := w.Instances(appA)
		want(t, "machines", len(machines), 1)
		want(t, "status", machines[0].Status, testserver.Complete)
	})
}

func TestNew_stateDirThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := omahaclient.New("https://updates.example.com", app(appA), omahaclient.WithStateDir(filepath.Join(file, "state")))
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v; want one that names %s", err, file)
	}
	var path *fs.PathError
	if !errors.As(err, &path) {
		t.Errorf("error %v hides its cause", err)
	}
}

// The machine id is a random UUID that the state directory keeps, unless one is given.
func TestWithMachineID(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		id := func(opts ...omahaclient.Option) string {
			all := slices.Delete(w.options(app(appA)), 1, 2) // its WithMachineID
			c, err := omahaclient.New(w.URL(), append(all, opts...)...)
			must(t, err)
			must(t, c.CheckNow(t.Context()))
			must(t, c.Close())
			contacts := w.contacts(appA)
			return contacts[len(contacts)-1].MachineID
		}
		first := id()
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(first) {
			t.Errorf("%q is no random UUID", first)
		}
		want(t, "the next process", id(), first)
		fifty := strings.Repeat("m", 50)
		want(t, "as given", id(omahaclient.WithMachineID(fifty)), fifty)
		w.dir = t.TempDir()
		if other := id(); other == first {
			t.Error("two directories share an id")
		}
	})
}

func TestWithMachineAlias(t *testing.T) {
	host, err := os.Hostname()
	must(t, err)
	for _, tc := range []struct {
		name string
		opts []omahaclient.Option
		want string
	}{
		{"default", nil, host},
		{"given", []omahaclient.Option{omahaclient.WithMachineAlias("Büro 3, <left>")}, "Büro 3, <left>"},
		{"none", []omahaclient.Option{omahaclient.WithMachineAlias("")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				must(t, w.client(append(tc.opts, app(appA))...).CheckNow(t.Context()))
				want(t, "alias", w.instance(appA).Alias, tc.want)
			})
		})
	}
}
