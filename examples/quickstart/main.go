// Quickstart updates two apps from an Omaha server and shows each step. It brings a Nebraska-like server along (demo.go),
// so that it runs anywhere, without a network, in a few seconds:
//
//	go run ./examples/quickstart
//
// What a program of your own needs is in this file: keepUpToDate makes a client and ranges over its offers, deploy
// installs one. The rest is for the show.
//
// Against a server of yours it runs until Ctrl-C. What it fetches and installs stays in -dir, and so does the id under
// which the server knows this machine:
//
//	go run ./examples/quickstart -server https://updates.example.com/v1/update/ -app io.example.App=0.1.2 -channel beta
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
)

// keepUpToDate takes the apps' updates until ctx is done.
func keepUpToDate(ctx context.Context, s settings, show display) error {
	client, err := omahaclient.New(s.server, options(s, show)...)
	if err != nil {
		return err
	}
	defer client.Close()
	if s.watch {
		defer watch(client, show)()
	}

	for offer := range client.Updates(ctx) {
		fmt.Fprintln(show, s.describe(offer))
		failure := deploy(offer, s.dir)
		if err := offer.Ack(failure); err != nil { // the server is told how it went
			return err
		}
		fmt.Fprintln(show, s.outcome(offer, failure))
	}
	return nil // ctx is done; client.Err() says why
}

func options(s settings, show display) []omahaclient.Option {
	opts := []omahaclient.Option{
		omahaclient.WithStateDir(filepath.Join(s.dir, "state")),
		omahaclient.WithProgress(show.Progress),
		// The first check comes at once here; by default it comes after 5 to 15 minutes.
		omahaclient.WithSchedule(omahaclient.Schedule{FirstMin: time.Millisecond, FirstMax: time.Millisecond}),
	}
	for _, app := range s.apps {
		opts = append(opts, omahaclient.WithApp(app.id, app.version, omahaclient.WithChannel(s.channel)))
	}
	if s.watch {
		opts = append(opts, omahaclient.WithLogger(warnings(show)))
	}
	if s.token != "" {
		opts = append(opts, omahaclient.WithAuthorization(func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+s.token)
			return nil
		}))
	}
	return opts
}

// deploy installs an update: here it copies the payloads to installed/APP/VERSION/ below dir.
func deploy(offer omahaclient.UpdateOffer, dir string) error {
	root, err := os.OpenRoot(dir) // the version is the server's word: it must not lead out of dir
	if err != nil {
		return err
	}
	defer root.Close()
	target := filepath.Join("installed", offer.AppID, offer.Version)
	if err := root.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for _, payload := range offer.Payloads {
		if err := copyFile(root, filepath.Join(target, filepath.Base(payload.Path)), payload.Path); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(root *os.Root, name, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run is the whole program: it returns nil when ctx was done, or the demo went to its end.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := parse(args, stdout)
	if err != nil {
		return helpIsNoError(err)
	}
	show := newDisplay(stdout)
	defer show.Close()
	if s.server == "" {
		return demo(ctx, s, show)
	}
	fmt.Fprintf(show, "asking %s; state and installed files are in %s; Ctrl-C ends this\n", hostOf(s.server), s.dir)
	return keepUpToDate(ctx, s, show)
}

// hostOf is a server's URL as it may be shown: its user, password, path and query may be secret.
func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.User == nil && strings.Contains(server, "@") { // what looks like the host may be the user then
		return "the server"
	}
	return u.Scheme + "://" + u.Host
}
