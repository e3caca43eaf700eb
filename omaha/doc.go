// Package omaha is a client of the Omaha protocol, version 3, as Nebraska and other servers speak it: one POST
// that asks about any number of apps and tells what became of their updates, and its answer as Go values.
//
//	client := &omaha.Client{Endpoint: "https://updates.example.com/v1/update/"}
//	answer, err := client.Do(ctx, &omaha.Request{
//		SessionID: omaha.NewID(),
//		MachineID: machineID,
//		Apps:      []omaha.AppRequest{{ID: "io.example.App", Version: "1.0.0", Channel: "stable", Check: true}},
//	})
//
// An error of [Client.Do] is about the whole request: an [*AnswerError], or the context's. What a server says of
// one app is in its [AppResponse]: an offer in Manifests, NoUpdate, or an Err that explains itself.
//
// The protocol is documented in Google's "Omaha Client-Server Protocol V3" (ServerProtocolV3), the extensions in
// the sources of update_engine (events' error codes), go-omaha (package metadata) and Nebraska (event 800,
// statuses, floors). The types and codes that github.com/kinvolk/go-omaha has are re-exported by alias.
//
// This package keeps no state and knows no schedule: package omahaclient does that.
package omaha
