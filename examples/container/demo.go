package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	demoApp   = "io.example.App"
	demoLimit = time.Minute // far more than the demo takes; it ends a demo that hangs
)

// demo runs keepUpToDate against a server and a registry of its own, which have two releases, one after the other: the second one
// changes one layer of three.
func demo(ctx context.Context, s settings, show display) (err error) {
	registry := testregistry.New()
	registry.Spoil(testregistry.Slow(s.rate))
	host := httptest.NewServer(registry)
	defer host.Close()
	server := testserver.New()
	group := server.AddGroup(demoApp, s.channel, testserver.AnyArch, testserver.Policy{})
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "omahaclient-container-"); err != nil {
			return err
		}
		defer os.RemoveAll(s.dir)
	}
	s.server, s.app = server.URL(), demoApp
	s.schedule = omahaclient.Schedule{
		FirstMin: time.Millisecond, FirstMax: time.Millisecond, Min: 50 * time.Millisecond, Max: 100 * time.Millisecond,
	}
	s.images.Platform = "linux/" + runtime.GOARCH
	publish := func(version string, layers ...[]byte) {
		image := registry.PushImage("ns/app", s.images.Platform, layers...)
		reference := strings.TrimPrefix(host.URL, "http://") + "/ns/app@" + image.Manifest.Digest.String()
		fmt.Fprintf(show, "%s %s is published: %s\n", demoApp, version, reference)
		group.Publish(testserver.Release{Version: version, Image: reference})
	}
	fmt.Fprintf(show, "A Nebraska-like server within this program listens on %s, a registry on %s\n", s.server, host.URL)
	system, libraries := layer("system", s.size), layer("libraries", s.size/2)
	publish("1.0.0", system, libraries, layer("app 1.0.0", s.size/4))

	demoCtx, end := context.WithTimeout(ctx, demoLimit)
	defer end()
	var next sync.WaitGroup
	next.Go(func() {
		defer end()
		if server.WaitFor(demoCtx, settled("1.0.0")) == nil && complete(server, "1.0.0") {
			publish("1.1.0", system, libraries, layer("app 1.1.0", s.size/4))
			server.WaitFor(demoCtx, settled("1.1.0")) // or until demoCtx is done: the record tells
		}
	})
	err = keepUpToDate(demoCtx, s, show)
	end()
	next.Wait()
	show.Close()
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		fmt.Fprintln(show, "interrupted")
		return nil
	case !complete(server, "1.1.0"):
		return errors.New("the server's record of the app does not end with 1.1.0 complete")
	}
	fmt.Fprintln(show, "The server's record: 1.0.0 complete, 1.1.0 complete")
	return nil
}

// layer is what a layer holds; nobody unpacks it here.
func layer(name string, size int) []byte {
	return bytes.Repeat([]byte(name+"\n"), size/len(name)+1)[:max(size, 1)]
}

// settled tells when the server knows how an update went.
func settled(version string) func(*testserver.Server) bool {
	return func(server *testserver.Server) bool {
		for _, i := range server.Instances(demoApp) {
			if i.Status == testserver.Error || i.Status == testserver.Complete && i.Version == version {
				return true
			}
		}
		return false
	}
}

func complete(server *testserver.Server, version string) bool {
	for _, i := range server.Instances(demoApp) {
		return i.Status == testserver.Complete && i.Version == version
	}
	return false
}
