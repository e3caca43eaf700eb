// Package omahaclient keeps programs up to date from an Omaha update server, first of all from Nebraska, the server behind
// Flatcar Container Linux. A program names the server and its apps and says how an update is installed; when to ask, the
// protocol, the download, its verification, every report to the server, and what a crash leaves behind are the library's work.
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
// minutes after each check or failed attempt, about a minute after a finished update, and at once on CheckNow. What the
// server grants is fetched, several payloads at a time, verified against the announced hashes, and handed over on the
// channel as an UpdateOffer. An app has one open offer at a time, and holds up no other app.
//
// The program's verdict ends an offer: Ack(nil) where the new version runs, Ack(err) where it could not be installed,
// Installed where it takes effect at the next start, Defer where it has to wait. The server is told each step by itself:
// download started and finished, installed, complete, or failed with a code. Status says at any time where each app stands,
// and in plain words why nothing happens.
//
// A release that fails is tried once more at the next check, without a download of what was whole, and then backs off for 1, 2, 4,
// 8 and 16 days; while it does, the app tells the server that it is alive, and asks at every eighth check only whether there is
// another version. That one is taken at once. CheckNow lifts the backoff, if a stream is open to take what it finds.
//
// # What a version means
//
// The version given to WithApp says what runs now. A program that updates itself gives the version it was built with. A
// program that updates something else gives "": the journal then remembers what was acknowledged last.
//
// # How to stop, and what a restart does
//
// End the context given to Updates (leaving the loop is not enough: the stream then waits with its next offer): the channel is
// closed once everything that the stream began has ended, and Err says why.
// Then Close the Client. At the next start a download goes on where it stopped, an offer that was not settled is delivered
// again without a second download (UpdateOffer.Attempt counts), and reports that the server does not have yet are sent.
//
// The state directory (WithStateDir) holds a journal of each app's update, the reports on their way, the machine's id, and
// the fetched payloads. A step of an update is in the journal, synced to disk, before it is reported or handed over; so a program may be
// killed at any moment. One Client uses a state directory at a time.
//
// # What the server must be set to
//
// On Nebraska a grant lasts until its verdict, and counts as timed out after the group's policy_update_timeout. Set that
// above the longest time that download, deployment and (with Installed) the wait for the restart may take: in safe mode one
// grant that outlives it switches updates off for the whole group. Where machines have to wait for a good moment, let them
// wait before the grant (WithGate), or give it back (Defer). A channel is matched in exact case, together with the machine's
// architecture.
//
// # Security
//
// By default payloads are verified by the hashes that the server announces, so trust in a payload is trust in the server: use
// https. With WithTrustedKeys it is trust in the publisher: what has no statement signed by a trusted key for this app, channel,
// architecture and version is refused, an older one is a rollback, and the server's hashes do not count. WithReleaseIndex and
// WithMaxStaleness notice a server that keeps releases back, WithCUPKeys answers that were changed on the way.
//
// Names that a server announces are only ever labels; nothing is written outside the state directory. Credentials given for
// the Omaha server (WithHTTPClient, WithAuthorization) are sent to no payload host.
package omahaclient
