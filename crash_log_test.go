package omahaclient_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
)

// The child's log is where it learns that the journal writes: each transaction has a line before and one after it, written
// by the goroutine that writes the transaction. So no hook for tests is needed in the journal.

// Enabled implements slog.Handler.
func (d *device) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (d *device) WithAttrs([]slog.Attr) slog.Handler { return d }

// WithGroup implements slog.Handler.
func (d *device) WithGroup(string) slog.Handler { return d }

// Handle implements slog.Handler.
func (d *device) Handle(_ context.Context, r slog.Record) error {
	switch r.Message {
	case "journal transaction begins":
		d.fill()
		d.point("before: " + transition())
	case "journal transaction written":
		d.point("after: " + transition())
	default:
		if strings.Contains(r.Message, "set aside") {
			d.sayf("aside %s", r.Message)
		}
		if r.Level > slog.LevelDebug {
			d.trace(r)
		}
	}
	return nil
}

// trace writes a line for whoever looks for the cause of a failure.
func (d *device) trace(r slog.Record) {
	line := r.Time.Format("05.000000 ") + r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	fmt.Fprintln(os.Stderr, line)
}

// fill fills the disk, or empties it, when it is the transaction's turn.
func (d *device) fill() {
	d.mu.Lock()
	d.writes++
	n := d.writes
	lifted := d.lifted
	d.mu.Unlock()
	switch {
	case d.FullAt == 0, lifted:
	case n == d.FullAt:
		d.diskFull(true)
	case n == d.FullAt+d.FullFor:
		d.diskFull(false)
	}
}

// lift empties the disk for good.
func (d *device) lift() {
	d.mu.Lock()
	d.lifted = true
	d.mu.Unlock()
	d.diskFull(false)
}

// diskFull makes the disk full, or not.
func (d *device) diskFull(full bool) {
	if d.FullAt == 0 {
		return
	}
	if err := limitFiles(full); err != nil {
		fmt.Fprintln(os.Stderr, "disk cannot be filled:", err)
		os.Exit(1)
	}
	d.sayf("full %v", full)
}

// transition names what is being written: the function of the root package that asked for it. (Where several transitions
// share a transaction, the one that writes it for all.)
func transition() string {
	const root = "github.com/nebraska/omahaclient."
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if name, found := strings.CutPrefix(f.Function, root); found {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, "(*Client)."), ".")
			return name
		}
		if !more {
			return "unknown"
		}
	}
}
