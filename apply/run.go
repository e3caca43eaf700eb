package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	killDelay = 5 * time.Second // between asking a process group to end and killing it
	tailSize  = 1 << 10         // bytes of output that an error shows
)

// run runs a command made with ctx to its end, in a process group of its own that ends with ctx. An error has the last of
// what the command said. Output that the caller did not connect is kept for that alone.
func run(ctx context.Context, cmd *exec.Cmd) error {
	last := &tail{}
	cmd.Stdout, cmd.Stderr = tee(cmd.Stdout, last), tee(cmd.Stderr, last)
	ownGroup(cmd)
	cmd.Cancel = func() error { return endGroup(cmd) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		killGroup(cmd) // what has not ended by itself
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return nil // it has exited with 0; what it left running holds its output open
	case ctx.Err() != nil:
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if said := last.String(); said != "" {
		return fmt.Errorf("run %s: %w; its last words: %s", filepath.Base(cmd.Path), err, said)
	}
	return fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), err)
}

// tee writes to w, where there is one, and to last.
func tee(w io.Writer, last *tail) io.Writer {
	if w == nil {
		return last
	}
	return io.MultiWriter(w, last)
}

// tail keeps the last tailSize bytes written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailSize {
		t.text = append([]byte(nil), t.text[len(t.text)-tailSize:]...)
	}
	return len(p), nil
}

// String returns the text in one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.text), "?")), " ")
}
