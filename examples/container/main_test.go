package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"
	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun_demoReusesLayers(t *testing.T) {
	temp := t.TempDir()
	for _, variable := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(variable, temp)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-size", "400000", "-rate", "0"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"io.example.App 1.0.0: 100 % of ",
		"  0 reused, 5 fetched: ",
		"io.example.App 1.0.0 is here: 127.0.0.1:",
		"an engine would take it now: podman pull oci:",
		"  reused    390.6 KiB  sha256:",
		"  2 reused, 3 fetched: 98.",
		"The server's record: 1.0.0 complete, 1.1.0 complete",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestRun_demoFailsWhereTheEngineDoes(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{"-size", "1000", "-rate", "0", "-load", "no-such-engine {}"}, &out)
	if err == nil || !strings.Contains(out.String(), "1.0.0 cannot be loaded, and the server is told so") {
		t.Errorf("run: %v\n%s", err, &out)
	}
}

func TestRun_demoEndsCleanlyInMidPull(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &listener{want: " %", heard: cancel}
	if err := run(ctx, []string{"-size", "1000000", "-rate", "1000"}, out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "interrupted\n") {
		t.Errorf("the output does not tell of the interruption:\n%s", out)
	}
}

func TestRun_saysWhatIsWrong(t *testing.T) {
	for name, args := range map[string][]string{
		"an app without a server": {"-app", "io.example.App"},
		"a server without an app": {"-server", "http://127.0.0.1/"},
		"a word too many":         {"now"},
		"no layers":               {"-size", "0"},
		"an unknown flag":         {"-verbose"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), args, io.Discard); err == nil {
				t.Error("nothing")
			}
		})
	}
	if err := run(t.Context(), []string{"-help"}, io.Discard); err != nil {
		t.Errorf("-help: %v", err)
	}
}

func TestBars_endWithTheirPulls(t *testing.T) {
	var out listener
	b := newBars(&out, mpb.WithAutoRefresh(), mpb.WithWidth(100))
	whole := omahaclient.Progress{AppID: "io.example.Whole", Version: "1.0.0", Done: 5, Total: 10}
	broken := omahaclient.Progress{AppID: "io.example.Broken", Version: "1.0.0"}
	b.Progress(whole)
	b.Progress(broken)
	whole.Done, whole.Finished = 10, true
	broken.Finished, broken.Err = true, errors.New("the registry is gone")
	b.Progress(whole)
	b.Progress(broken)
	io.WriteString(b, "text among the bars\n")
	b.Close()
	b.Close()
	b.Progress(whole) // too late, no harm
	io.WriteString(b, "text after the bars\n")
	for _, want := range []string{"io.example.Whole 1.0.0", "10.0 b of 10.0 b", "the registry is gone", "text among the bars", "text after the bars"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestBarsFit(t *testing.T) {
	for _, tc := range []struct {
		name          string
		columns, rows int
		want          bool
	}{
		{"a terminal", 80, 24, true},
		{"two rows", 80, 2, true},
		{"one row", 80, 1, false},
		{"columns without rows", 100, 0, false},
		{"rows without columns", 0, 24, false},
		{"neither", 0, 0, false},
	} {
		if got := barsFit(tc.columns, tc.rows); got != tc.want {
			t.Errorf("%s: barsFit(%d, %d) = %v", tc.name, tc.columns, tc.rows, got)
		}
	}
}

// listener keeps what is written, and calls heard once want is in it.
type listener struct {
	want  string
	heard func()

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *listener) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(text)
	if l.heard != nil && strings.Contains(l.text.String(), l.want) {
		l.heard()
	}
	return n, err
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
