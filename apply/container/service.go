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
// The new container is created from what the present one is: environment, mounts, anonymous volumes, ports, networks,
// labels, restart policy, health check, limits. What the present one only has from its image (environment, command, labels
// and so on) comes from the new image. Then the present one is stopped and kept as NAME-omahaclient-old, the new one takes
// its name and starts, and has to get healthy: by its health check, or, without one, by running for Stays; then Probe is
// asked. After that the old one is removed, its volumes are not. Otherwise the new one is removed, the old one gets its
// name back and starts, and the update fails with code 44; what fails before the old one is stopped has code 5.
//
// A container that was created with --rm is refused: the engine removes it as it stops.
//
// # Crashes
//
// At every step one of both containers is there, whole, with all its configuration. Killed, or without power, before the
// old one is stopped: it goes on, and NAME-omahaclient-new may be left, which the next Apply removes. Between the stop of
// the old one and the start of the new one neither runs: the next start of Serve, or of Apply, starts the old one
// again, under its name. After that: the new one runs, and the next Apply of the same offer goes on with its health;
// without one, Serve keeps the new one if it runs, and puts the old one back if not. Where the engine restarts meanwhile and
// the restart policy is "always", it may start the kept one, too; the next Apply ends that.
type Service struct {
	Name    string         // of the container
	Payload string         // name of the payload; "": the first one
	Client  *client.Client // nil: as the environment says (DOCKER_HOST, …)
	Probe   apply.Probe    // asked once the container is healthy; nil: nothing more
	Within  time.Duration  // for getting healthy; 0: 2 minutes
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
		if err := e.swap(ctx); err != nil {
			return e.rollBack(ctx, err)
		}
	}
	if err := s.healthy(ctx, e); err != nil {
		return e.rollBack(ctx, err)
	}
	if err := e.remove(ctx, e.old()); err != nil {
		return nil // the new one runs and is well; the next update removes the old one
	}
	return nil
}

// Resume settles what a crash left and no offer goes on with: the container runs again, new or old.
func (s Service) Resume(ctx context.Context, c *omahaclient.Client, appID string) error {
	for _, status := range c.Status() {
		open := status.Phase == omahaclient.Offered || status.Phase == omahaclient.Fetching
		if strings.EqualFold(status.AppID, appID) && open {
			return nil // its Apply does
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

// healthy waits until the new container is.
func (s Service) healthy(ctx context.Context, e *engine) error {
	if err := e.wait(ctx); err != nil {
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
