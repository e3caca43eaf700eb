package omahaclient_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// deploy stands for what your program does with an update.
func deploy(_ context.Context, offer omahaclient.UpdateOffer) error {
	return os.Rename(offer.Payloads[0].Path, "/opt/app/app.new")
}

// A program that keeps itself up to date until Ctrl-C.
func Example() {
	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.App", "0.1.2", omahaclient.WithChannel("beta")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for offer := range client.Updates(ctx) {
		if err := deploy(ctx, offer); err == nil || ctx.Err() == nil {
			offer.Ack(err)
		} // interrupted: no verdict, and the next start offers it again
	}
}

// A cron job: one round for an app whose version the state directory remembers.
func ExampleClient_UpdatesOnce() {
	round := func(client *omahaclient.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
		defer cancel()
		for offer := range client.UpdatesOnce(ctx) {
			if err := deploy(ctx, offer); err == nil || ctx.Err() == nil {
				offer.Ack(err)
			} // out of time: the next round offers it again
		}
		if err := client.Err(); err != nil {
			return err
		}
		return nil
	}

	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.App", "", omahaclient.WithChannel("stable")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := round(client); err != nil {
		log.Print(err)
	}
}

// A program that replaces its own file and starts again. The next start, with the new version in WithApp, reports success.
func ExampleUpdateOffer_Installed() {
	var client *omahaclient.Client // from New
	defer client.Close()           // ends the stream, and delivers the report
	for offer := range client.Updates(context.Background()) {
		if err := os.Rename(offer.Payloads[0].Path, os.Args[0]); err != nil {
			offer.Ack(err)
			continue
		}
		if err := offer.Installed(); err != nil {
			log.Print(err)
		}
		return // and let the service manager start the new version
	}
}

// An app that is a container image; podman stands for whatever runs it.
func ExampleWithPayloadType() {
	ctx := context.Background()
	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.Web", "", omahaclient.WithChannel("stable"), omahaclient.WithPayloadType("application/vnd.oci.image")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for offer := range client.Updates(ctx) {
		image := offer.Payloads[0] // Path is the layout's directory, Reference the pinned image
		if err := exec.CommandContext(ctx, "podman", "pull", "oci:"+image.Path).Run(); err == nil || ctx.Err() == nil {
			offer.Ack(err)
		}
	}
}

// The server is told why an installation failed.
func ExampleWithCode() {
	var offer omahaclient.UpdateOffer // from the channel
	if err := deploy(context.Background(), offer); err != nil {
		offer.Ack(omahaclient.WithCode(err, omaha.ExitPostInstall))
	}
}

// Updates are taken at night only.
func ExampleWithGate() {
	night := func(_ string, now time.Time) (open bool, next time.Time) {
		if now.Hour() < 5 {
			return true, time.Time{}
		}
		return false, time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, now.Location())
	}
	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.App", "0.1.2", omahaclient.WithChannel("stable")),
		omahaclient.WithGate(night))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

// A server behind a proxy that wants a client certificate and a token.
func ExampleWithAuthorization() {
	var certificate tls.Certificate // from tls.LoadX509KeyPair
	token := os.Getenv("UPDATE_TOKEN")
	opts := []omahaclient.Option{
		omahaclient.WithHTTPClient(&http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		}}),
		omahaclient.WithAuthorization(func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+token)
			return nil
		}),
	}
	_ = opts // for New
}

// An event of the program's own.
func ExampleClient_SendEvent() {
	var client *omahaclient.Client // from New
	ctx := context.Background()
	err := client.SendEvent(ctx, "io.example.App", omaha.Event{
		Type: omaha.EventTypeSetupFinished, Result: omaha.EventResultSuccess,
	})
	if err != nil {
		log.Print(err)
	}
}

// share takes payloads from a mounted directory.
type share struct{ dir string }

func (s share) Fetch(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
	content, err := os.ReadFile(filepath.Join(s.dir, filepath.Base(job.Source.Name)))
	if err != nil {
		return fetcher.Payload{}, err
	}
	sum := sha256.Sum256(content)
	if !bytes.Equal(sum[:], job.Source.SHA256) {
		return fetcher.Payload{}, fetcher.ErrDigest
	}
	path := filepath.Join(job.Dir, "payload")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fetcher.Payload{}, err
	}
	job.Progress(int64(len(content)), int64(len(content)))
	return fetcher.Payload{
		Name: job.Source.Name, MediaType: job.Source.MediaType, Path: path,
		Size: int64(len(content)), Digest: fmt.Sprintf("sha256:%x", sum),
	}, ctx.Err()
}

// A fetcher of the program's own, and ours with other limits.
func ExampleWithFetcher() {
	opts := []omahaclient.Option{
		omahaclient.WithFetcher("application/x-share", share{dir: "/mnt/releases"}),
		omahaclient.WithFetcher("binary", fetcher.HTTP{MinSpeed: 10 << 10, MaxSize: 1 << 30}), // at least 10 KiB/s, at most 1 GiB
	}
	_ = opts // for New
}
