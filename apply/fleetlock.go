package apply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
)

// FleetLock applies updates under a lock of the cluster's (the FleetLock protocol, as Zincati and airlock speak it), so that
// a few machines only restart at a time. It asks for the lock before Applier gets the offer, for as long as it takes; it
// releases it after a success and after a failure. Where Applier asks for a restart, the lock is held over it, and released
// by Serve in the program's next life, once the new version is confirmed, or the old one is back.
//
// That the lock is held is written to the state directory before it is asked for, so that no crash can lose it: the next
// Serve releases it, unless the update goes on, and never while one is being applied. Asking and releasing twice does no harm.
//
// While a machine waits for the lock, its update is granted: Nebraska counts it as under way. The group's update timeout
// must exceed the longest wait for the lock and the longest restart together (a group of 30 machines, of which 3 restart at a
// time for 5 minutes each, waits 50 minutes), or else the group's other updates stop in safe mode. And its limit of updates
// under way must not be below the lock's.
type FleetLock struct {
	URL     string // of the lock manager, http or https; /v1/pre-reboot and /v1/steady-state are added
	Group   string // "": default
	ID      string // of this machine, unique in the group; "": the host name
	Applier Applier

	Client    *http.Client              // nil: one of our own, with a timeout
	Authorize func(*http.Request) error // adds credentials; nil: none
	Poll      time.Duration             // between tries; 0: 30 seconds
}

const (
	fleetPoll    = 30 * time.Second
	fleetTimeout = 30 * time.Second
	fleetRelease = 2 * time.Minute // that Apply itself tries for
	preReboot    = "v1/pre-reboot"
	steadyState  = "v1/steady-state"
)

// Apply waits for the lock, lets Applier apply the offer, and releases the lock.
func (l FleetLock) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	note := noteOf(offer.StateDir(), offer.AppID)
	if offer.StateDir() == "" {
		return fmt.Errorf("take fleet lock: %w", omahaclient.ErrUnbound)
	}
	if err := state.WriteDurably(note, []byte(offer.Version+"\n")); err != nil {
		return fmt.Errorf("take fleet lock: %w", err)
	}
	if err := l.until(ctx, preReboot); err != nil {
		return fmt.Errorf("take fleet lock: %w", err)
	}
	err := safely(func() error { return l.Applier.Apply(ctx, offer) })
	if errors.Is(err, omahaclient.ErrRestartRequired) || err != nil && ctx.Err() != nil {
		return err // held: the update goes on after the restart
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetRelease)
	defer cancel()
	if l.until(limited, steadyState) == nil { // or Resume goes on trying
		_ = forget(note)
	}
	return err
}

// Restore lets Applier restore.
func (l FleetLock) Restore(ctx context.Context, client *omahaclient.Client, appID string) error {
	return restore(ctx, l.Applier, client, appID)
}

// Resume lets Applier resume, and releases a lock that is held without need, for as long as it takes.
func (l FleetLock) Resume(ctx context.Context, client *omahaclient.Client, appID string) error {
	inner := resume(ctx, l.Applier, client, appID)
	note := noteOf(client.StateDir(), appID)
	for {
		// Not beside an Apply: it would lose the lock that it has just got.
		inTurn(ctx, func() {
			if _, err := os.Stat(note); err == nil && !underWay(client, appID) && l.ask(ctx, steadyState) == nil {
				_ = forget(note) // or it is released again
			}
		})
		if inner != nil {
			return inner
		}
		if err := pause(ctx, l.poll()); err != nil {
			return err
		}
	}
}

// underWay reports whether an update of the app may hold the lock.
func underWay(client *omahaclient.Client, appID string) bool {
	for _, s := range client.Status() {
		if strings.EqualFold(s.AppID, appID) {
			return s.Phase == omahaclient.Offered || s.Phase == omahaclient.RestartPending || s.Phase == omahaclient.Fetching
		}
	}
	return false
}

func noteOf(dir, appID string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(appID)))
	return filepath.Join(dir, "fleetlock-"+hex.EncodeToString(sum[:8]))
}

func forget(note string) error {
	return errors.Join(os.Remove(note), state.SyncDir(filepath.Dir(note)))
}

func (l FleetLock) poll() time.Duration {
	if l.Poll > 0 {
		return l.Poll
	}
	return fleetPoll
}

// until asks until the answer is 200.
func (l FleetLock) until(ctx context.Context, path string) error {
	for {
		err := l.ask(ctx, path)
		if err == nil {
			return nil
		}
		if errors.Is(err, errFleetSettings) {
			return err
		}
		if pause(ctx, l.poll()) != nil {
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		}
	}
}

// errFleetSettings is wrapped by what no further try can mend.
var errFleetSettings = errors.New("wrong settings")

type fleetRequest struct {
	Client fleetClient `json:"client_params"`
}

type fleetClient struct {
	ID    string `json:"id"`
	Group string `json:"group"`
}

// ask sends one request. Only 200 grants (Zincati, FleetLock protocol).
func (l FleetLock) ask(ctx context.Context, path string) error {
	who := fleetClient{l.ID, l.Group}
	if who.ID == "" {
		who.ID, _ = os.Hostname()
	}
	if who.Group == "" {
		who.Group = "default"
	}
	base, err := url.Parse(l.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || who.ID == "" {
		return fmt.Errorf("%w: FleetLock needs an absolute http(s) URL and the machine's ID", errFleetSettings)
	}
	body, err := json.Marshal(fleetRequest{who})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Fleet-Lock-Protocol", "true")
	req.Header.Set("Content-Type", "application/json")
	if l.Authorize != nil {
		if err := l.Authorize(req); err != nil {
			return err
		}
	}
	return l.send(req)
}

func (l FleetLock) send(req *http.Request) error {
	client := l.Client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}, Timeout: fleetTimeout}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, probeMaxBody))
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var said struct {
		Kind  string `json:"kind"`
		Value string `json:"value"`
	}
	_ = json.Unmarshal(answer, &said) // not all say why
	return fmt.Errorf("the lock manager answers %s %s %.200q", resp.Status, said.Kind, said.Value)
}
