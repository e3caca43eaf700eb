// Package omahaclient keeps programs up to date from an Omaha update server, Nebraska (the server behind Flatcar) first of
// all. A program names the server, its apps, and what to do with a fetched update; when to ask, the protocol, the download,
// its verification, every report to the server, and what a crash leaves behind are the library's work.
//
//	client, err := omahaclient.New("https://updates.example.com/v1/update/",
//		omahaclient.WithApp("io.example.App", "0.1.2", omahaclient.WithChannel("beta")))
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer client.Close()
//	for offer := range client.Updates(ctx) {
//		offer.Ack(deploy(offer.Payloads[0].Path))
//	}
//
// # The way of an update
//
// A stream (Updates, or UpdatesOnce for cron jobs) asks the server for each app: first after 5 to 15 minutes, then 45 to 90
// minutes after each check, failed attempt or finished update, and at once on CheckNow. What the server grants is fetched,
// several payloads at a time, verified against the announced hashes, and handed over on the channel as an UpdateOffer. The
// program's verdict ends it: Ack(nil) where the new version runs, Ack(err) where it could not be installed, Installed where
// it takes effect at the next start, Defer where it has to wait. The server is told each step by itself: download started
// and finished, installed, complete, or failed with a code.
//
// A release that fails is tried once more at the next check, from disk, and then backs off for 1, 2, 4, 8 and 16 days; while
// it does, the app only tells the server that it is alive. Another version lifts the backoff, and so does CheckNow.
//
// # How to stop
//
// End the context given to Updates: the channel is closed once everything that the stream began has ended, and Err says why.
// Then Close the Client. An offer that was not settled is delivered again by the next stream, or by the next start of the
// program, without a second download.
//
// # What is kept on disk
//
// The state directory (WithStateDir) holds a journal of each app's update, the reports that the server does not have yet,
// the machine's id, and the fetched payloads. A step of an update is in the journal, synced to disk, before it shows outside;
// so a program may be killed at any moment. One Client uses a state directory at a time.
//
// # Security
//
// Payloads are verified by the hashes that the server announces, so trust in a payload is trust in the server: use https.
// Names that a server announces are only ever labels; nothing is written outside the state directory. Credentials given for
// the Omaha server (WithHTTPClient, WithAuthorization) are sent to no payload host.
package omahaclient
