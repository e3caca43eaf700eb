// Container keeps an app's container image up to date: it watches the app on an Omaha server, pulls each image that is offered, and
// shows which layers were fetched and which were here already. It brings a Nebraska-like server and a registry along (demo.go), so
// that it runs anywhere:
//
//	go run ./examples/container
//
// Against a server of yours it runs until Ctrl-C. The offer names the image by its digest (registry.example/ns/app@sha256:…); -load
// says what is to be done with it, {} being the OCI layout's folder:
//
//	go run ./examples/container -server https://updates.example.com/v1/update/ -app io.example.App -load 'podman pull oci:{}'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
)

const imageType = "application/vnd.oci.image"

// keepUpToDate takes the app's images until ctx is done.
func keepUpToDate(ctx context.Context, s settings, show display) error {
	images := s.images // how to reach registries; the zero value is right for most programs
	images.Report = func(p fetcher.Pull) { fmt.Fprint(show, describe(p)) }
	client, err := omahaclient.New(s.server,
		omahaclient.WithApp(s.app, "", omahaclient.WithChannel(s.channel), omahaclient.WithPayloadType(imageType)),
		omahaclient.WithStateDir(filepath.Join(s.dir, "state")),
		omahaclient.WithFetcher(imageType, images),
		omahaclient.WithProgress(show.Progress),
		omahaclient.WithSchedule(s.schedule),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	for offer := range client.Updates(ctx) {
		image := offer.Payloads[0]
		fmt.Fprintf(show, "%s %s is here: %s\n", offer.AppID, offer.Version, image.Reference)
		failure := load(ctx, s.load, image.Path, show)
		if failure != nil {
			fmt.Fprintf(show, "%s %s cannot be loaded, and the server is told so: %v\n", offer.AppID, offer.Version, failure)
		}
		if err := offer.Ack(failure); err != nil {
			return err
		}
	}
	return nil // ctx is done; client.Err() says why
}

// load gives an OCI layout to a container engine.
func load(ctx context.Context, command, layout string, show io.Writer) error {
	if command == "" {
		fmt.Fprintf(show, "an engine would take it now: podman pull oci:%s\n", layout)
		return nil
	}
	args := strings.Fields(command)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{}", layout)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the user's own command
	cmd.Stdout, cmd.Stderr = show, show
	return cmd.Run()
}

// describe tells the layers that were fetched from those that were here.
func describe(p fetcher.Pull) string {
	var text strings.Builder
	var reused, fetched int
	var moved, size int64
	for _, b := range p.Blobs {
		how := "fetched"
		if b.Reused {
			how = "reused"
			reused++
		} else {
			fetched++
		}
		moved += b.Received
		size += b.Size
		fmt.Fprintf(&text, "  %-8s %10s  %.19s  %s\n", how, byteSize(b.Size), b.Digest, b.MediaType)
	}
	fmt.Fprintf(&text, "  %d reused, %d fetched: %s of %s came over the network\n", reused, fetched, byteSize(moved), byteSize(size))
	return text.String()
}

func byteSize(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}

// settings are what the flags say, or the demo.
type settings struct {
	server, channel, app string
	dir, load            string
	schedule             omahaclient.Schedule
	images               fetcher.OCI
	size, rate           int // of the demo's layers: bytes, bytes a second
}

func parse(args []string, output io.Writer) (settings, error) {
	// The first check comes at once here; by default it comes after 5 to 15 minutes.
	s := settings{schedule: omahaclient.Schedule{FirstMin: time.Millisecond, FirstMax: time.Millisecond}}
	flags := flag.NewFlagSet("container", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.server, "server", "", "`URL` of an Omaha server; without it a server and a registry come along")
	flags.StringVar(&s.app, "app", "", "`ID` of the app on -server")
	flags.StringVar(&s.channel, "channel", "stable", "channel (track) that the app follows")
	flags.StringVar(&s.dir, "dir", "", "`directory` for state and images; by default omahaclient-container in your cache directory, "+
		"without -server a temporary one")
	flags.StringVar(&s.load, "load", "", "`COMMAND` that takes an image; {} stands for its OCI layout")
	flags.StringVar(&s.images.Platform, "platform", "", "`OS/ARCHITECTURE` of the images; by default this machine's")
	flags.BoolVar(&s.images.AllowTags, "tags", false, "take references without a digest: the registry then decides what is run")
	flags.IntVar(&s.size, "size", 4<<20, "the demo: `bytes` of the larger layers")
	flags.IntVar(&s.rate, "rate", 4<<20, "the demo: speed of each layer in `bytes` a second; 0 is full speed")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case (s.server == "") != (s.app == ""):
		return s, errors.New("-server and -app belong together")
	case s.size < 1 || s.rate < 0:
		return s, errors.New("-size must be above 0, -rate not below")
	case s.server != "" && s.dir == "":
		cache, err := os.UserCacheDir()
		if err != nil {
			return s, fmt.Errorf("no place for state and images, name one with -dir: %w", err)
		}
		s.dir = filepath.Join(cache, "omahaclient-container")
	}
	return s, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
}

// run is the whole program: it returns nil when ctx was done, or the demo went to its end.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	show := newDisplay(stdout)
	defer show.Close()
	if s.server == "" {
		return demo(ctx, s, show)
	}
	fmt.Fprintf(show, "asking %s; state and images are in %s; Ctrl-C ends this\n", hostOf(s.server), s.dir)
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
