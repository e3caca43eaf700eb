//go:build unix

package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// walk is docs/publishing.md, followed to the letter by somebody who has a Nebraska and a host for files.
type walk struct {
	*testing.T

	dir      string
	env      []string
	nebraska *nebraska
	log      bytes.Buffer
}

var runnable = regexp.MustCompile("(?ms)^<!-- run -->\n```sh\n(.*?)^```$")

// commands returns what a part of a page says should be run.
func commands(part string) string {
	var script strings.Builder
	for _, match := range runnable.FindAllStringSubmatch(part, -1) {
		script.WriteString(match[1])
	}
	return script.String()
}

func newWalk(t *testing.T) *walk {
	t.Helper()
	w := &walk{T: t, dir: t.TempDir(), nebraska: newNebraska("s3cret")}
	if err := w.nebraska.omaha.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nebraska.omaha.Close)
	api := httptest.NewServer(w.nebraska)
	t.Cleanup(api.Close)
	files := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(w.dir, "release"))))
	t.Cleanup(files.Close)
	w.env = append(os.Environ(), "PATH="+w.tools()+":"+os.Getenv("PATH"), "NEBRASKA="+api.URL, "NEBRASKA_TOKEN=s3cret", "FILES="+files.URL,
		"APP="+demoApp, "VERSION=2.0.0")
	w.put("release/2.0.0/app-linux-"+runtime.GOARCH, "the new one")
	return w
}

const demoApp = "io.example.App"

func (w *walk) put(name, content string) {
	w.Helper()
	name = filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
}

// tools makes a folder of programs: sign, and this test in place of those that a machine may lack (see TestMain).
func (w *walk) tools() string {
	w.Helper()
	bin := w.TempDir()
	if out, err := exec.CommandContext(w.Context(), "go", "build", "-buildvcs=false", "-o", filepath.Join(bin, "sign.real"), root+"/examples/sign").CombinedOutput(); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	// Encrypting a key takes 1 GiB and, under the race detector, minutes.
	wrapper := "#!/bin/sh\nif [ \"$1\" = keygen ]; then shift; set -- keygen -no-password \"$@\"; fi\nexec sign.real \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "sign"), []byte(wrapper), 0o700); err != nil {
		w.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	for name := range stand {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			w.Fatal(err)
		}
	}
	return bin
}

// follow runs commands in one shell, on this machine's architecture.
func (w *walk) follow(script string) string {
	w.Helper()
	if script == "" {
		w.Fatal("there is nothing to run")
	}
	cmd := exec.CommandContext(w.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, "amd64", runtime.GOARCH))
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return string(out)
}

// machine does one round of updates, on a new machine that trusts a key, and returns the version that runs then.
func (w *walk) machine(key string) string {
	w.Helper()
	public, err := os.ReadFile(filepath.Join(w.dir, key))
	if err != nil {
		w.Fatal(err)
	}
	client, err := omahaclient.New(w.nebraska.omaha.URL(), omahaclient.WithStateDir(w.TempDir()),
		omahaclient.WithApp(demoApp, "", omahaclient.WithChannel("stable"), omahaclient.WithTrustedKeys(string(public))),
		omahaclient.WithLogger(slog.New(slog.NewTextHandler(&w.log, nil))))
	if err != nil {
		w.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for offer := range client.UpdatesOnce(ctx) {
		content, err := os.ReadFile(offer.Payloads[0].Path)
		if err != nil || string(content) != "the new one" {
			w.Errorf("%q, %v", content, err)
		}
		if err := offer.Ack(nil); err != nil {
			w.Error(err)
		}
	}
	if err := client.Err(); err != nil {
		w.Error(err)
	}
	return client.Status()[0].Version
}

func TestPublishing_worksAsWritten(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/publishing.md")
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(page), "\n## What the machines do\n")
	if !ok {
		t.Fatal("the page has another structure")
	}
	w := newWalk(t)
	if out := w.follow(commands(before)); !strings.Contains(out, "accepted: io.example.App 2.0.0") {
		t.Errorf("the look from outside:\n%s", out)
	}
	if version := w.machine("release.pub"); version != "2.0.0" {
		t.Errorf("a machine runs %s", version)
	}
	checkLog(t, after, w.log.String())

	out := w.follow(commands(after))
	for _, want := range []string{"oras attach", "accepted: an index with sequence 1", "go on signing with the old key"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	for _, key := range []string{"release.pub", "next.pub"} {
		if version := w.machine(key); version != "2.0.0" {
			t.Errorf("after the change of keys, a machine that trusts %s runs %s", key, version)
		}
	}
}

// checkLog compares the lines of the log that the page shows with those of a client: messages, fields and their order, and the values, addresses aside.
func checkLog(t *testing.T, page, log string) {
	t.Helper()
	shown := regexp.MustCompile("(?ms)^<!-- log -->\n```text\n(.*?)^```$").FindStringSubmatch(page)
	if shown == nil {
		t.Fatal("the page shows no log")
	}
	address := regexp.MustCompile(`https?://[^/ ]+(/app)?/`)
	strip := func(s string) string {
		return strings.ReplaceAll(address.ReplaceAllString(s, "HOST/"), runtime.GOARCH, "amd64")
	}
	for line := range strings.Lines(shown[1]) {
		if !strings.Contains(strip(log), strip(line)) {
			t.Errorf("the page shows\n%swhich is not in\n%s", strip(line), strip(log))
		}
	}
}

// stand are the programs whose place this test takes, as far as the page uses them.
var stand = map[string]func(args []string) error{"curl": curl, "jq": jq, "openssl": openssl}

func TestMain(m *testing.M) {
	if program := stand[filepath.Base(os.Args[0])]; program != nil {
		if err := program(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, os.Args, err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// curl -sS --fail-with-body [-X METHOD] [-H HEADER]... [--data-binary @-] [-o FILE] URL.
func curl(args []string) error {
	method, out, body, header := http.MethodGet, "/dev/stdout", io.Reader(nil), http.Header{}
	for len(args) > 1 {
		value := args[1]
		switch args[0] {
		case "-sS", "--fail-with-body":
			args = args[1:]
			continue
		case "-X":
			method = value
		case "-o":
			out = value
		case "-H":
			name, text, _ := strings.Cut(value, ": ")
			header.Set(name, text)
		case "--data-binary":
			body = os.Stdin
		default:
			return fmt.Errorf("the page uses a flag that is unknown here: %s", args[0])
		}
		args = args[2:]
	}
	req, err := http.NewRequest(method, args[0], body)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, args[0], resp.Status, content)
	}
	if out == "/dev/stdout" {
		_, err = os.Stdout.Write(content)
		return err
	}
	return os.WriteFile(out, content, 0o600)
}

// jq -r .id.
func jq(args []string) error {
	if strings.Join(args, " ") != "-r .id" {
		return errors.New("the page uses more of jq than .id")
	}
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	fields, err := object(content)
	if err != nil {
		return err
	}
	_, err = fmt.Println(fields["id"])
	return err
}

// openssl dgst -sha1 -binary FILE.
func openssl(args []string) error {
	if len(args) != 4 || strings.Join(args[:3], " ") != "dgst -sha1 -binary" {
		return errors.New("the page uses more of openssl than SHA-1")
	}
	content, err := os.ReadFile(args[3])
	if err != nil {
		return err
	}
	sum := sha1Of(content)
	_, err = os.Stdout.Write(sum)
	return err
}

// A page that says something else than Nebraska wants is found out.
func TestNebraska_isStrict(t *testing.T) {
	n := newNebraska("s3cret")
	t.Cleanup(n.omaha.Close)
	post := func(path, body, token string) int {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		return w.Code
	}
	for _, tc := range []struct {
		name, path, body, token string
		want                    int
	}{
		{"an app", "/api/apps", `{"name": "x", "product_id": "io.example.X"}`, "s3cret", http.StatusOK},
		{"no token", "/api/apps", `{"name": "x"}`, "", http.StatusUnauthorized},
		{"no name", "/api/apps", `{"product_id": "io.example.X"}`, "s3cret", http.StatusBadRequest},
		{"an unknown field", "/api/apps", `{"name": "x", "id": "y"}`, "s3cret", http.StatusBadRequest},
		{"a number for a text", "/api/apps", `{"name": 1}`, "s3cret", http.StatusBadRequest},
		{"no JSON", "/api/apps", `{"name": "x",}`, "s3cret", http.StatusBadRequest},
		{"an unknown path", "/api/app", `{"name": "x"}`, "s3cret", http.StatusNotFound},
		{"an unknown app", "/api/apps/nowhere/channels", `{"application_id": "nowhere", "name": "s", "arch": 1, "color": ""}`, "s3cret", http.StatusNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := post(tc.path, tc.body, tc.token); got != tc.want {
				t.Errorf("status %d, want %d", got, tc.want)
			}
		})
	}
}

func newNebraska(token string) *nebraska {
	return &nebraska{token: token, omaha: testserver.New(), apps: map[string]bool{}, packages: map[string]map[string]any{}}
}

// What the page says about refusals is what the client says.
func TestPublishing_quotesTheClient(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/publishing.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, refusal := range []error{
		trust.ErrNoStatement, trust.ErrSignature, trust.ErrMismatch, trust.ErrRollback, trust.ErrExpired, fetcher.ErrDigest,
	} {
		if words := strings.TrimPrefix(refusal.Error(), "not trusted: "); !strings.Contains(string(page), "| "+words) {
			t.Errorf("%q is not in the table", words)
		}
	}
}
