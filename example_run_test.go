package omahaclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// exampleServer stands for an update server that has version 1.1.0 of an app, and one that may not update yet.
func exampleServer() (url string, stop func()) {
	ts := testserver.New()
	ts.AddGroup("io.example.App", "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "1.1.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("the new version")}},
	})
	ts.AddGroup("io.example.Agent", "stable", testserver.AnyArch, testserver.Policy{Disabled: true}).Publish(testserver.Release{
		Version: "7.0.0", Files: []testserver.File{{Name: "agent.bin", Content: []byte("not yet")}},
	})
	if err := ts.Start(); err != nil {
		log.Fatal(err)
	}
	return ts.URL(), ts.Close
}

// exampleDir stands for /var/lib/app.
func exampleDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "omahaclient")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

// A stream that ends with its first update.
func ExampleClient_Updates() {
	url, stop := exampleServer()
	defer stop()
	dir, remove := exampleDir()
	defer remove()

	client, err := omahaclient.New(url,
		omahaclient.WithStateDir(dir),
		omahaclient.WithSchedule(omahaclient.Schedule{FirstMin: time.Millisecond, FirstMax: time.Millisecond}),
		omahaclient.WithApp("io.example.App", "1.0.0", omahaclient.WithChannel("stable")))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for offer := range client.Updates(ctx) {
		content, err := os.ReadFile(offer.Payloads[0].Path)
		fmt.Printf("%s %s replaces %s: %s\n", offer.AppID, offer.Version, offer.CurrentVersion, content)
		offer.Ack(err)
		cancel()
	}
	fmt.Println(client.Err())
	fmt.Println("runs now:", client.Status()[0].Version)
	// Output:
	// io.example.App 1.1.0 replaces 1.0.0: the new version
	// context canceled
	// runs now: 1.1.0
}

// Without a stream only pings are sent: a way to look whether endpoint, ids and channels are right.
func ExampleClient_CheckNow() {
	url, stop := exampleServer()
	defer stop()
	dir, remove := exampleDir()
	defer remove()

	client, err := omahaclient.New(url,
		omahaclient.WithStateDir(dir),
		omahaclient.WithApp("io.example.App", "1.0.0", omahaclient.WithChannel("stable")),
		omahaclient.WithApp("io.example.Agent", "1.0.0", omahaclient.WithChannel("Stable"))) // exact case matters
	if err != nil {
		panic(err)
	}
	defer client.Close()

	err = client.CheckNow(context.Background())
	var failure *omahaclient.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Op, failure.AppID, "code", failure.Code)
	}
	fmt.Println(client.CheckNow(context.Background(), "io.example.App"))
	// Output:
	// check io.example.Agent code request to the Omaha server failed (2)
	// <nil>
}

// Why nothing happens.
func ExampleClient_Status() {
	url, stop := exampleServer()
	defer stop()
	dir, remove := exampleDir()
	defer remove()

	client, err := omahaclient.New(url,
		omahaclient.WithStateDir(dir),
		omahaclient.WithApp("io.example.Agent", "6.0.0", omahaclient.WithChannel("stable")))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	for range client.UpdatesOnce(context.Background()) {
	}
	for _, app := range client.Status() {
		fmt.Println(app.AppID, app.Version, app.Phase)
		fmt.Println(app.Reason)
	}
	// Output:
	// io.example.Agent 6.0.0 idle
	// server: updates disabled for this group: not now; an administrator switches them on (error-updatesDisabled)
}

// What an installer's exit code becomes.
func ExampleUpdateOffer_Ack() {
	url, stop := exampleServer()
	defer stop()
	dir, remove := exampleDir()
	defer remove()

	client, err := omahaclient.New(url,
		omahaclient.WithStateDir(dir),
		omahaclient.WithApp("io.example.App", "1.0.0", omahaclient.WithChannel("stable")))
	if err != nil {
		panic(err)
	}
	defer client.Close()

	for offer := range client.UpdatesOnce(context.Background()) {
		err := offer.Ack(omahaclient.WithCode(errors.New("no space in /opt"), 5)) // returns once it is on disk
		fmt.Println("recorded:", err == nil)
		fmt.Println("again:", offer.Ack(nil))
	}
	fmt.Println("round:", client.Err()) // the caller's own failure is none of the round
	fmt.Println(client.Status()[0].LastError)
	// Output:
	// recorded: true
	// again: offer is already settled
	// round: <nil>
	// apply io.example.App: no space in /opt
}
