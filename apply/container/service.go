// Package container applies container images: Service recreates a container of Docker, or of another engine that serves its
// API (podman), on the image of an offer. It is a module of its own, since the engine's client brings many others.
package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/wait"
	"github.com/nebraska/omahaclient/omaha"
)

// Service recreates a container on a new image. The offer's payload is an image (media type application/vnd.oci.image), in
// the layout that fetcher.OCI leaves. The engine loads it; no registry is asked.
//
// The new container is created from what the present one is: environment, mounts, anonymous volumes, ports, networks with
// their static addresses and aliases, labels, restart policy, health check, limits. What the present one only has from its
// image (environment, command, labels and so on) comes from the new image. Then the present one is kept as
// NAME-omahaclient-old, the new one takes its name; the old one is stopped and, at once, the new one started. It has to get
// healthy: by its health check, or, without one, by running for Stays; then Probe is asked. After that the old one is
// removed, its volumes are not; so is its image, where that came by a Service. Otherwise the new one is removed, the old one
// starts and gets its name back, and has to get healthy, too; the update fails with code 44, and with both errors where the
// old one does not. What fails before the old one is stopped has code 5: a full disk, for one.
//
// Refused, with code 5, is the update of a container that does not run: the new one would have to be started to prove itself,
// against the will of whoever stopped it. Start it, and the next offer is applied. Refused is also that of one that was
// created with --rm (the engine removes it as it stops), of one whose network, processes or shared memory are those of
// another container that does not run, and of one of which running containers use these: they would lose it. What the
// engine does not tell cannot be kept: podman says nothing of static addresses.
//
// Each call of the engine has a time limit. An engine that does not answer while the new container gets healthy, such as one
// that is restarted itself, is no verdict before Within is over. A rollback tries again what fails, for two minutes beyond
// the container's own time to stop. An old container that somebody has removed meanwhile (docker system prune does) is
// made again from its configuration for that, unless its image is gone, too: then the new one stays.
//
// # Crashes
//
// At every step one of both containers is there, whole, with all its configuration; and one of them runs, but for the time
// from when the old one ends to when the new one has started (or, in a rollback, from the removal of the new one to the
// start of the old one). Killed, or without power, within that time neither runs; before all else, the next start of Serve
// starts the old one again (see Recover). Killed after it: the new one runs. Killed before it, the old one goes on; but once
// the new one has its name, the engine may have been asked to stop it, and stops it after the death of who asked, too.
// Recover cannot tell: it waits for that stop, which it asks for itself, and starts the old one again. The offer comes again,
// and its Apply goes on from there; where none comes, Serve waits for the new one's health and then removes the old one, or
// puts it back. A new one that has proved itself stays: the old one is called NAME-omahaclient-done from then on, until it
// is removed.
//
// Somebody who removes stopped containers right after such a death may remove both: what is in memory is lost, and nothing
// knows their configuration any more.
//
// Restart policies do not shorten that time: an engine restarts nothing that was stopped by its API, until it is started
// itself. So that it does not start both then, the kept container has the restart policy "no" as long as the new one runs;
// where the engine cannot change policies (podman 4), Recover stops what was started beside the new one.
type Service struct {
	Name    string         // of the container, not its id
	Payload string         // name of the payload; "": the first one
	Client  *client.Client // nil: as the environment says (DOCKER_HOST, …)
	Probe   apply.Probe    // asked once the container is healthy; nil: nothing more
	Within  time.Duration  // for starting and getting healthy; 0: 2 minutes, or what its health check takes for a verdict, if that is longer
	Stays   time.Duration  // that a container without a health check has to run; 0: 10 seconds
	Stop    time.Duration  // for the old container to end before it is killed; 0: as it is configured
	Logger  *slog.Logger   // of what Restore has to try again; nil: discard

	times *times // of tests; nil: defaultTimes
}

// Apply puts the offer's image in the container's place.
func (s Service) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	if s.Name == "" {
		return refused(errors.New("update container: Service.Name is empty"))
	}
	payload, err := s.pick(offer.Payloads)
	if err != nil {
		return refused(fmt.Errorf("update container %s: %w", s.Name, err))
	}
	e, done, err := s.engine()
	if err != nil {
		return refused(fmt.Errorf("update container %s: %w", s.Name, err))
	}
	defer done()
	u, err := e.settle(ctx, payload.Digest)
	if err != nil {
		return refused(fmt.Errorf("update container %s: settle what was interrupted: %w", s.Name, err))
	}
	if u == nil {
		if u, err = e.prepare(ctx, payload, offer.Version); err != nil {
			return refused(fmt.Errorf("update container %s: %w", s.Name, err))
		}
	}
	return u.apply(ctx)
}

// Recover makes sure that the container runs, where a crash in the middle of an update left it stopped, or about to stop: on
// the old image, or, if that runs, on the new one. It judges neither, sends nothing, and does nothing where no update was
// interrupted. It waits for a stop that is under way, and tries for two minutes more. Serve calls it at its start; a program
// that does not use Serve calls it before it asks for updates. Not beside an Apply.
func (s Service) Recover(ctx context.Context) error {
	e, done, err := s.engine()
	if err != nil {
		return fmt.Errorf("recover container %s: %w", s.Name, err)
	}
	defer done()
	if err := e.recover(ctx); err != nil {
		return fmt.Errorf("recover container %s: %w", s.Name, err)
	}
	return nil
}

// Restore recovers. It tries until that succeeds or ctx ends, as an engine may take its time to boot; no offer is applied
// before. Where no offer goes on with what was interrupted, it ends that.
func (s Service) Restore(ctx context.Context, c *omahaclient.Client, appID string) error {
	e, done, err := s.engine()
	if err != nil {
		return err
	}
	defer done()
	for delay := e.pause; ; delay = min(2*delay, maxPause) {
		err := s.Recover(ctx)
		if err == nil {
			break
		}
		if s.Logger != nil {
			s.Logger.Warn("container not recovered yet, trying again", "container", s.Name, "error", err)
		}
		if wait.For(ctx, delay) != nil {
			return err
		}
	}
	for _, status := range c.Status() {
		open := status.Phase == omahaclient.Offered || status.Phase == omahaclient.Fetching
		if strings.EqualFold(status.AppID, appID) && open {
			return nil // its Apply goes on
		}
	}
	_, err = e.settle(ctx, "")
	return err
}

const maxPause = 30 * time.Second // between two tries of Restore

func (s Service) engine() (*engine, func(), error) {
	t := defaultTimes()
	if s.times != nil {
		t = *s.times
	}
	if s.Client != nil {
		return &engine{s.Client, t, s}, func() {}, nil
	}
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the engine: %w", err)
	}
	return &engine{c, t, s}, func() { _ = c.Close() }, nil // only read from
}

func (s Service) pick(payloads []fetcher.Payload) (fetcher.Payload, error) {
	for _, p := range payloads {
		if s.Payload == "" || p.Name == s.Payload {
			return p, nil
		}
	}
	return fetcher.Payload{}, fmt.Errorf("the offer has no payload %q", s.Payload)
}

func refused(err error) error { return omahaclient.WithCode(err, omaha.ExitPostInstall) }
