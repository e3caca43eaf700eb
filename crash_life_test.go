package omahaclient_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// crashProcess is one life of the child.
type crashProcess struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	ready  chan struct{} // closed when it begins with its work, or has ended
	until  string        // a point to be waited for; "" for none
	there  chan struct{} // closed when it has passed that
	done   chan struct{} // closed when it has ended and all that it said is read
	shot   atomic.Bool   // killed from here
	died   bool          // killed itself; valid once done is closed, as what follows
	passed []string      // points
	code   int
	status string
}

// begin starts the child.
func (s *story) begin(life crashLife, until string) (*crashProcess, error) {
	spec, err := json.Marshal(life)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.lives++
	c := &crashProcess{cmd: exec.Command(self), until: until, ready: make(chan struct{}), there: make(chan struct{}), done: make(chan struct{})}
	// Without this the race detector waits a second at each exit.
	c.cmd.Env = append(os.Environ(), crashChildEnv+"="+string(spec), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	c.stdin, err = c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log := &bytes.Buffer{}
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // whoever began it waits for done
		defer close(c.done)
		s.listen(c, out)
		err := c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(&s.errs, "life %d: %s\n%s", s.lives, spec, log)
		if err != nil {
			fmt.Fprintf(&s.errs, "life %d: %v\n", s.lives, err)
		}
	}()
	return c, nil
}

// hangUp tells the child to end.
func (c *crashProcess) hangUp() { c.stdin.Close() }

func (c *crashProcess) kill() {
	c.shot.Store(true)
	_ = c.cmd.Process.Kill() // it may have ended
}

// listen takes in what the child says.
func (s *story) listen(c *crashProcess, out io.Reader) {
	isReady := false
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // what is not a whole line was not said
		}
		stamp, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			text = strings.TrimSpace(line) // somebody else's, a panic's for one
		}
		if !isReady {
			isReady = true
			close(c.ready)
		}
		s.hear(c, crashLine{s.lives, time.Unix(0, at), text})
	}
	if !isReady {
		close(c.ready)
	}
}

// hear acts on a line.
func (s *story) hear(c *crashProcess, line crashLine) {
	word, rest, _ := strings.Cut(line.text, " ")
	switch word {
	case "point":
		s.plan.seen(rest)
		c.passed = append(c.passed, rest)
		if rest == c.until {
			close(c.there)
		}
		return
	case "dying":
		c.died = true
		s.plan.killed(rest)
	case "status":
		c.status = rest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	id, version, _ := strings.Cut(rest, " ")
	for _, a := range s.apps {
		switch {
		case a.ID != id:
		case word == "runs":
			a.Version = version
		case word == "staged":
			a.staged = version
		}
	}
}

// live lets the child live until it kills itself, or ends, or patience is over: then it is killed from here. Twice in
// between there are new releases for it.
func (s *story) live(life crashLife, patience time.Duration) {
	c, err := s.begin(life, "")
	if err != nil {
		s.fatalf("%v", err)
	}
	<-c.ready
	for left := 3; !c.over(patience / 3); {
		if left--; left == 0 {
			c.kill()
			<-c.done
			break
		}
		s.publishSome()
	}
	c.hangUp()
	s.ended(c)
}

// ended takes note of the child's end, and returns whether it was killed.
func (s *story) ended(c *crashProcess) bool {
	switch {
	case c.died || c.shot.Load() && c.code < 0:
		s.kills++
		if !c.died {
			s.plan.killed("a random moment")
		}
		s.boot += s.rng.IntN(2)
		return true
	case c.code == exitRestart:
		s.boot++
	case (c.code == exitNew || c.code == exitClose) && s.full:
	case c.code != exitDone:
		s.fatalf("exit code %d\n%s", c.code, s.tail())
	}
	return false
}

// over waits for the child's end, for d at most.
func (c *crashProcess) over(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}

// await lets the child live until it kills itself, ends, passes the point until, or for none has every app complete. Then it is told
// to end. It returns which points it has passed, and whether it was killed.
func (s *story) await(life crashLife, until string) (passed []string, killed bool) {
	c, err := s.begin(life, until)
	if err != nil {
		s.fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), time.Minute, errors.New("nothing happens any more"))
	defer cancel()
	if until == "" {
		err = s.waitFor(ctx, c, s.allComplete)
	} else {
		select {
		case <-c.there:
		case <-c.done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	c.hangUp()
	if err != nil {
		c.kill()
		<-c.done
		s.fatalf("until %q: %v\n%s", until, err, s.instances())
	}
	<-c.done
	return c.passed, s.ended(c)
}

// waitFor waits until cond holds, or the child has ended.
func (s *story) waitFor(ctx context.Context, c *crashProcess, cond func() bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop(nil)
	watch.Go(func() {
		select {
		case <-c.done:
			stop(errEnded)
		case <-ctx.Done():
		}
	})
	if err := s.WaitFor(ctx, func(*testserver.Server) bool { return cond() }); !errors.Is(err, errEnded) {
		return err
	}
	return nil
}

var errEnded = errors.New("the child has ended")
