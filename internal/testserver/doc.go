// Package testserver holds a Nebraska-like Omaha server and a hostile payload
// host, for this project's tests, benchmarks and examples. Apps, groups,
// releases and instances are set from Go; what each machine reported is read
// back from Go:
//
//	ts := testserver.New()
//	stable := ts.AddGroup("io.example.App", "stable", testserver.AnyArch, testserver.Policy{})
//	stable.Publish(testserver.Release{
//		Version: "2.0.0",
//		Files:   []testserver.File{{Name: "app.bin", Content: payload}},
//	})
//	if err := ts.Start(); err != nil { // or StartTLS, or StartMemory inside a synctest bubble
//		return err
//	}
//	defer ts.Close()
//
//	client, err := omahaclient.New(ts.URL(), …) // with ts.Client() for TLS and in memory
//	…
//	err = ts.WaitFor(ctx, func(ts *testserver.Server) bool {
//		i, ok := ts.Instance("io.example.App", machineID)
//		return ok && i.Status == testserver.Complete
//	})
//
// # How faithful it is
//
// The server's side of the protocol is modelled on flatcar/nebraska, and its
// answers are compared byte for byte with exchanges recorded from a running
// one (testdata/wire). So it grants, refuses, forgets and misleads as Nebraska
// does: events before ping before check within an app, unknown events and
// events without a grant acknowledged and dropped, an unknown app or track that
// aborts the request, instances wedged "in progress" until a final event, group
// policies with quotas and timeouts, and 200 for nearly everything. It has
// structs for the wire of its own, so that no mistake in package omaha is
// mirrored here.
//
// Where Nebraska's clock matters (24 hours for events, quotas, timeouts) the
// server asks the clock of WithClock, time.Now by default, which is virtual
// inside a synctest bubble.
//
// # Faults
//
// Fail and FailFunc spoil exchanges with the Omaha server (a Fault: statuses,
// lost requests, lost answers, pages of HTML, truncated XML, dropped apps and
// events). Server.Payloads serves the releases' files under a host of its own
// and is spoiled by FileFaults: cut, reset, stalled, slow, corrupt, lying and
// redirecting downloads. Offline unplugs either.
//
// With WithSigner the server signs its answers (CUP-ECDSA), and faults spoil
// the signed ones: Unsigned, SignedBy, ProofInETag, Changed, Invented, a Tape of
// old answers, and a Fault's Underway for everything else.
//
// # In memory
//
// StartMemory listens on net.Pipe connections. Everything then happens within
// the bubble that called New and StartMemory: the test must use Client (whose
// transport dials the server for any host) and must call Close before it
// returns, which waits for the server's goroutines. The Omaha server is
// omaha.test, by http and https; every other name is the payload host, but
// names under .invalid, which do not resolve, and refused.test, which refuses
// connections.
//
// All methods may be called at any time by any goroutine, but New's options
// and the methods that start the server, which come first.
package testserver
