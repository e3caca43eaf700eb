// Package container applies container images: Service recreates a container of Docker, or of another engine that serves its
// API (podman), on the image of an offer. It is a module of its own, since the engine's client brings many others.
package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/fetcher"
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
// Refused, with code 5, is the update of a container that was created with --rm (the engine removes it as it stops), of one
// whose network is another container's that does not run, and of one whose network running containers share: they would
// lose it. What the engine does not tell cannot be kept: podman says nothing of static addresses.
//
// # Crashes
//
// At every step one of both containers is there, whole, with all its configuration; and one of them runs, but for the
// moment between the stop of the old one and the start of the new one (or, in a rollback, the removal of the new one and the
// start of the old one). Killed, or without power, within it neither runs; before all else, the next start of Serve
// starts the old one again (see Recover). Killed before it: the old one goes on. Killed after it: the new one runs. The
// offer comes again, and its Apply goes on from there; where none comes, Serve waits for the new one's health and then
// removes the old one, or puts it back.
//
// Restart policies do not shorten that moment: an engine restarts nothing that was stopped by its API, until it is started
// itself. Then it starts what has the policy "always", the kept container, too; Recover stops that again.
type Service struct {
	Name    string         // of the container
	Payload string         // name of the payload; "": the first one
	Client  *client.Client // nil: as the environment says (DOCKER_HOST, …)
	Probe   apply.Probe    // asked once the container is healthy; nil: nothing more
	Within  time.Duration  // for getting healthy, and at the start of Serve for the engine to answer; 0: 2 minutes
	Stays   time.Duration  // that a container without a health check has to run; 0: 10 seconds
	Stop    time.Duration  // for the old container to end before it is killed; 0: as it is configured
}

const (
	oldSuffix    = "-omahaclient-old"
	newSuffix    = "-omahaclient-new"
	labelDigest  = "omahaclient.digest" // of the image's manifest
	rollBackTime = 2 * time.Minute
)

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
	going, err := e.settle(ctx, payload.Digest)
	if err != nil {
		return refused(fmt.Errorf("update container %s: settle what was interrupted: %w", s.Name, err))
	}
	if !going {
		if err := e.prepare(ctx, payload, offer.Version); err != nil {
			return refused(fmt.Errorf("update container %s: %w", s.Name, err))
		}
		if err := e.exchange(ctx); err != nil {
			return e.rollBack(ctx, err, omaha.ExitPostInstall)
		}
	}
	if err := e.swap(ctx); err != nil {
		return e.rollBack(ctx, err, omaha.ExitRolledBack)
	}
	if err := s.healthy(ctx, e, theNew); err != nil {
		return e.rollBack(ctx, err, omaha.ExitRolledBack)
	}
	_ = e.retire(ctx, e.old()) // where that fails, the next start of Serve does it: the new one runs and is well
	return nil
}

// Recover makes sure that the container runs, where a crash in the middle of an update left it stopped: on the old image,
// or, if that runs, on the new one. It judges neither, sends nothing, and does nothing where no update was interrupted.
// Serve calls it at its start; a program that does not use Serve calls it before it asks for updates. Not beside an Apply.
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

// Restore recovers, as soon as the engine answers. Where no offer goes on with what was interrupted, it ends that.
func (s Service) Restore(ctx context.Context, c *omahaclient.Client, appID string) error {
	limited, cancel := context.WithTimeout(ctx, orDefault(s.Within, healthTime))
	defer cancel()
	for {
		err := s.Recover(limited)
		if err == nil {
			break
		}
		if pause(limited, recoverPause) != nil {
			return err
		}
	}
	for _, status := range c.Status() {
		open := status.Phase == omahaclient.Offered || status.Phase == omahaclient.Fetching
		if strings.EqualFold(status.AppID, appID) && open {
			return nil // its Apply goes on
		}
	}
	e, done, err := s.engine()
	if err != nil {
		return err
	}
	defer done()
	_, err = e.settle(ctx, "")
	return err
}

const recoverPause = time.Second

func (s Service) engine() (*engine, func(), error) {
	if s.Client != nil {
		return &engine{s.Client, s}, func() {}, nil
	}
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the engine: %w", err)
	}
	return &engine{c, s}, func() { _ = c.Close() }, nil // only read from
}

func (s Service) pick(payloads []fetcher.Payload) (fetcher.Payload, error) {
	for _, p := range payloads {
		if s.Payload == "" || p.Name == s.Payload {
			return p, nil
		}
	}
	return fetcher.Payload{}, fmt.Errorf("the offer has no payload %q", s.Payload)
}

// healthy waits until the container that has the service's name is.
func (s Service) healthy(ctx context.Context, e *engine, which string) error {
	if err := e.wait(ctx, which); err != nil {
		return err
	}
	if s.Probe == nil {
		return nil
	}
	return s.Probe.Probe(ctx)
}

func refused(err error) error { return omahaclient.WithCode(err, omaha.ExitPostInstall) }

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
