//go:build unix

package apply_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/apply"
)

// grandchild is a script body whose grandchild ignores SIGTERM and writes "up" to a fifo that closes with its death.
func grandchild(fifo string) string {
	return `(trap '' TERM; exec 3>"` + fifo + `"; echo up >&3; while :; do sleep 60; done) & wait`
}

func TestExec_killsItsGroupWithCtx(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "alive")
	must(t, syscall.Mkfifo(fifo, 0o600))
	hold := script(t, dir, "hold", grandchild(fifo))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- apply.Exec(hold).Probe(ctx) }()

	alive, err := os.Open(fifo)
	must(t, err)
	defer alive.Close()
	r := bufio.NewReader(alive)
	if line, err := r.ReadString('\n'); line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel(errDone)
	wantErr(t, <-done, errDone)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 { // ends when the last of the group is gone
		t.Errorf("%q, %v", rest, err)
	}
}
