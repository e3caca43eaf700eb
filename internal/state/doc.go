// Package state keeps what must survive the program: the journal of each app's update, its outbox of reports, the
// machine's identity, and the folders of fetched payloads.
//
// A Dir is the state directory, owned by one process at a time. Its Journal holds one App record for each app;
// records change only by the transitions in transitions.go, and a transition is on disk (fsync) when it returns.
package state
