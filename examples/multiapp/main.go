// Multiapp keeps four apps up to date at the same time, as a long-running program does. Each offer is deployed in a
// goroutine of its own, so that an app that takes its time holds up no other, and each gets a verdict of its own: two go
// well, one is slow, one cannot be installed, is tried once more, and then backs off. Whenever something changes, the
// state of all apps is printed. A Nebraska-like server is part of the program (demo.go), so that it runs anywhere:
//
//	go run ./examples/multiapp
//
// It runs until Ctrl-C, or for as long as -for says. What ends in the middle is not lost: an offer without a verdict comes
// again at the next start of a program that keeps its state directory (this one, being a demo, removes it).
//
// What a program of your own needs is in this file.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/nebraska/omahaclient"
)

// serve takes offers until ctx is done, and returns once every deployment has ended.
func serve(ctx context.Context, client *omahaclient.Client, deploy deployer, out io.Writer) {
	var deployments sync.WaitGroup
	for offer := range client.Updates(ctx) {
		deployments.Go(func() { settle(ctx, offer, deploy, out) }) // at most one for each app
	}
	deployments.Wait()
}

// deployer installs an offered update. It should stop soon after ctx is done.
type deployer func(ctx context.Context, offer omahaclient.UpdateOffer) error

// settle deploys one offer and gives its verdict.
func settle(ctx context.Context, offer omahaclient.UpdateOffer, deploy deployer, out io.Writer) {
	name := fmt.Sprintf("%-18s  %s", offer.AppID, offer.Version)
	fmt.Fprintf(out, "%s: deploying, attempt %d\n", name, offer.Attempt)
	failure := deploy(ctx, offer)
	if failure != nil && ctx.Err() != nil {
		fmt.Fprintf(out, "%s: interrupted, left without a verdict: the next start offers it again, without a download\n", name)
		return
	}
	if err := offer.Ack(failure); err != nil {
		fmt.Fprintf(out, "%s: the verdict could not be kept: %v\n", name, err)
	}
	if failure != nil {
		fmt.Fprintf(out, "%s: failed, and the server is told so: %v\n", name, failure)
		return
	}
	fmt.Fprintf(out, "%s: deployed\n", name)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "multiapp:", err)
		os.Exit(1)
	}
}
