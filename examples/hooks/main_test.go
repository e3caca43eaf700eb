package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun_demo(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		`line="attempt 1: io.example.Hooked from 0.0.0 to 1.0.0"`, `line="installed: hello from 1.0.0"`, "The server's record: complete, version 1.0.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestRun_saysWhatIsWrong(t *testing.T) {
	for _, args := range [][]string{{"-server", "http://127.0.0.1/"}, {"-app", "x"}, {"-what"}, {"hook"}} {
		if run(t.Context(), args, io.Discard) == nil {
			t.Errorf("run %v: no error", args)
		}
	}
	if err := run(t.Context(), []string{"-help"}, io.Discard); err != nil {
		t.Errorf("-help: %v", err)
	}
}
