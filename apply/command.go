package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// Command lets a program of yours apply the update, as update_engine's post-install script does. It is told of the offer in
// its environment,
//
//	OMAHA_APP_ID, OMAHA_CHANNEL   as in the offer
//	OMAHA_CURRENT_VERSION         what runs now
//	OMAHA_VERSION                 what is to be installed
//	OMAHA_ATTEMPT                 1 for the first time
//	OMAHA_PAYLOAD                 path of the first payload
//	OMAHA_STATE_DIR               the Client's state directory
//
// and in full, as a JSON object (CommandInput), on its standard input. Its exit status is the verdict: 0 installed and
// running; RestartStatus installed, effective at the next start; DeferStatus not now; every other one failed, with the code
// that Codes has for it, or 5. What it prints is logged line by line, and the last of it is part of the failure.
//
// The command runs in a process group of its own. When ctx ends, or Timeout is over, the group gets SIGTERM, and 5 seconds
// later SIGKILL (Windows: the process alone is ended). Other processes that it leaves running should close their output.
//
// # Crashes
//
// The command may be killed, or lose its power, wherever it is; then it runs again, with a higher OMAHA_ATTEMPT. What is on
// disk meanwhile is up to it: it should replace things by renaming them.
type Command struct {
	Args    []string      // the program (looked up in PATH) and its arguments
	Dir     string        // working directory; "": this program's
	Env     []string      // more of the environment, KEY=value, beside this program's own
	Timeout time.Duration // 0: 10 minutes, below 0: none

	Codes         map[int]omaha.ExitCode // exit status to reported code
	RestartStatus int                    // exit status for omahaclient.ErrRestartRequired; 0: none
	DeferStatus   int                    // exit status for UpdateOffer.Defer; 0: none
	DeferFor      time.Duration          // with DeferStatus; 0: until the next scheduled check
	Probe         Probe                  // asked after a status of 0; where it fails, the update fails with code 5

	Logger *slog.Logger // of the output; nil: discard
}

// CommandInput is what a Command reads from its standard input.
type CommandInput struct {
	AppID          string            `json:"app_id"`
	Channel        string            `json:"channel"`
	CurrentVersion string            `json:"current_version"`
	Version        string            `json:"version"`
	Attempt        int               `json:"attempt"`
	StateDir       string            `json:"state_dir"`
	Payloads       []fetcher.Payload `json:"payloads"` // with Name, MediaType, Path, Size (bytes), Digest, Reference
	Manifest       omaha.Manifest    `json:"manifest"` // as received: the server's word; install from Payloads alone
}

const commandTime = 10 * time.Minute

// Apply runs the command.
func (c Command) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	if len(c.Args) == 0 {
		return refused(errNoProgram)
	}
	input, err := json.Marshal(CommandInput{
		AppID: offer.AppID, Channel: offer.Channel, CurrentVersion: offer.CurrentVersion, Version: offer.Version,
		Attempt: offer.Attempt, StateDir: offer.StateDir(), Payloads: offer.Payloads, Manifest: offer.Manifest,
	})
	if err != nil {
		return refused(fmt.Errorf("run command: %w", err))
	}
	limited := ctx
	if c.Timeout >= 0 {
		limit := c.Timeout
		if limit == 0 {
			limit = commandTime
		}
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("no exit within %v: raise Command.Timeout if it may take longer", limit))
		defer cancel()
	}
	cmd := exec.CommandContext(limited, c.Args[0], c.Args[1:]...) //nolint:gosec // the caller's program
	cmd.Dir, cmd.Env, cmd.Stdin = c.Dir, c.environment(offer), bytes.NewReader(input)
	out, errs := c.lines(offer, "stdout"), c.lines(offer, "stderr")
	cmd.Stdout, cmd.Stderr = out, errs
	err = run(limited, cmd)
	out.flush()
	errs.flush()
	return c.verdict(ctx, offer, err)
}

func (c Command) environment(offer omahaclient.UpdateOffer) []string {
	env := append(os.Environ(),
		"OMAHA_APP_ID="+offer.AppID,
		"OMAHA_CHANNEL="+offer.Channel,
		"OMAHA_CURRENT_VERSION="+offer.CurrentVersion,
		"OMAHA_VERSION="+offer.Version,
		fmt.Sprintf("OMAHA_ATTEMPT=%d", offer.Attempt),
		"OMAHA_STATE_DIR="+offer.StateDir(),
	)
	if len(offer.Payloads) > 0 {
		env = append(env, "OMAHA_PAYLOAD="+offer.Payloads[0].Path)
	}
	for i := range env { // a zero in a hostile channel or version would fail the start with a word about the environment
		env[i] = strings.ReplaceAll(env[i], "\x00", "")
	}
	return append(env, c.Env...)
}

// verdict turns the command's end into the Applier's.
func (c Command) verdict(ctx context.Context, offer omahaclient.UpdateOffer, err error) error {
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	switch {
	case err == nil:
		return refused(healthy(ctx, c.Probe))
	case ctx.Err() != nil:
		return err
	case status > 0 && status == c.RestartStatus:
		return omahaclient.ErrRestartRequired
	case status > 0 && status == c.DeferStatus:
		return errors.Join(offer.Defer(c.DeferFor), err)
	case status > 0 && c.Codes[status] > 0:
		return omahaclient.WithCode(err, c.Codes[status])
	default:
		return refused(err)
	}
}

func (c Command) lines(offer omahaclient.UpdateOffer, stream string) *lines {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &lines{log: log.With("app_id", offer.AppID, "version", offer.Version, "stream", stream)}
}

// lines logs what is written to it, line by line.
type lines struct {
	log *slog.Logger

	mu   sync.Mutex // guards rest
	rest []byte
}

const longestLine = 8 << 10

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found && len(l.rest) < longestLine {
			return len(p), nil
		}
		if len(line) > longestLine {
			line, rest = l.rest[:longestLine], l.rest[longestLine:]
		}
		l.say(line)
		l.rest = rest
	}
}

// flush logs what came without a line's end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.say(l.rest)
		l.rest = nil
	}
}

func (l *lines) say(line []byte) {
	l.log.Info("command said", "line", strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "?"))
}
