package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/secrets"
	"github.com/nebraska/omahaclient/internal/wait"
)

// Probe tells whether what was installed is healthy. It returns nil or why not, and ends with ctx.
type Probe interface {
	Probe(ctx context.Context) error
}

// ProbeFunc is a function as a Probe.
type ProbeFunc func(ctx context.Context) error

// Probe calls f.
func (f ProbeFunc) Probe(ctx context.Context) error { return f(ctx) }

const (
	execTime     = 30 * time.Second // for a program that tells whether it is well
	probeTime    = 30 * time.Second // for a service to come up
	probePause   = 250 * time.Millisecond
	probeTry     = 5 * time.Second // for one try of several
	probeStays   = 5 * time.Second
	probeMaxBody = 1 << 16
)

// Exec is healthy when the program exits with 0 within 30 seconds. Its last output is part of the error. The name is looked
// up in PATH, as by os/exec. The program's process group is killed with ctx.
func Exec(name string, args ...string) Probe {
	return ProbeFunc(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, execTime, fmt.Errorf("no exit within %v", execTime))
		defer cancel()
		return run(ctx, exec.CommandContext(ctx, name, args...)) //nolint:gosec // the caller's program
	})
}

// HTTP is healthy when a GET of the URL is answered with a status 2xx; it is tried again for as long as within says. 0
// means 30 seconds. Redirects are not followed: a login page is no health. No error shows the URL's user or query.
func HTTP(address string, within time.Duration) Probe {
	return ProbeFunc(func(ctx context.Context) error {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("probe: apply.HTTP needs an absolute http(s) URL")
		}
		client := &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		var hidden secrets.Set
		hidden.AddURL(u)
		shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
		err = retry(ctx, "probe "+shown.String(), within, func(ctx context.Context) error { return get(ctx, client, u) })
		return hidden.Error(err)
	})
}

func get(ctx context.Context, client *http.Client, u *url.URL) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		var withURL *url.Error // which is said already
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, probeMaxBody)
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("status %s; want 2xx", resp.Status)
	}
	return nil
}

// TCP is healthy when the address (host:port) accepts a connection; it is tried again for as long as within says. 0 means
// 30 seconds.
func TCP(address string, within time.Duration) Probe {
	return ProbeFunc(func(ctx context.Context) error {
		return retry(ctx, "probe "+address, within, func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
}

// Systemd is healthy when the unit gets active within 30 seconds and then stays so, without a restart, for as long as stays
// says. 0 means 5 seconds. It asks systemctl, which must be in PATH.
func Systemd(unit string, stays time.Duration) Probe {
	if stays <= 0 {
		stays = probeStays
	}
	return ProbeFunc(func(ctx context.Context) error {
		var first unitState
		err := retry(ctx, "probe unit "+unit, 0, func(ctx context.Context) (err error) {
			first, err = askSystemd(ctx, unit)
			return err
		})
		for end := time.Now().Add(stays); err == nil && time.Now().Before(end); {
			if err = wait.For(ctx, min(probePause, time.Until(end))); err != nil {
				return fmt.Errorf("probe unit %s: %w", unit, err)
			}
			var now unitState
			if now, err = askSystemd(ctx, unit); err == nil && now != first {
				err = errors.New("it was restarted")
			}
			if err != nil {
				err = fmt.Errorf("probe unit %s: it did not stay active for %v: %w", unit, stays, err)
			}
		}
		return err
	})
}

// unitState tells one run of a unit from the next.
type unitState struct {
	pid      string
	restarts int
}

// askSystemd returns the run of a unit that is active, or why it is not.
func askSystemd(ctx context.Context, unit string) (unitState, error) {
	const properties = "--property=ActiveState,SubState,MainPID,NRestarts,Result"
	out, err := exec.CommandContext(ctx, "systemctl", "show", properties, "--", unit).Output() //nolint:gosec // the caller's unit
	if err != nil {
		return unitState{}, fmt.Errorf("systemctl: %w", err)
	}
	have := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		have[key] = value
	}
	if have["ActiveState"] != "active" {
		return unitState{}, fmt.Errorf("it is %s (%s), last result: %s", have["ActiveState"], have["SubState"], have["Result"])
	}
	n, _ := strconv.Atoi(have["NRestarts"]) // not all types of unit have it
	return unitState{have["MainPID"], n}, nil
}

// retry calls try until it returns nil, for some time (0: probeTime); its last error tells why it never did.
func retry(ctx context.Context, what string, within time.Duration, try func(context.Context) error) error {
	if within <= 0 {
		within = probeTime
	}
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for {
		one, end := context.WithTimeout(limit, probeTry)
		err := try(one)
		end()
		if err == nil {
			return nil
		}
		if last == nil || limit.Err() == nil { // a try that was cut short tells less than the one before
			last = err
		}
		if wait.For(limit, probePause) == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		return fmt.Errorf("%s: not healthy within %v: %w", what, within, last)
	}
}

// healthy asks a probe that there may not be.
func healthy(ctx context.Context, p Probe) error {
	if p == nil {
		return nil
	}
	return safely(func() error { return p.Probe(ctx) })
}
