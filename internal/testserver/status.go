package testserver

import "time"

// Status is what the server believes of an instance, in the words of
// Nebraska's web interface.
type Status string

// The statuses of an instance. An instance that is Granted, Downloading,
// Downloaded or Installed occupies one of its group's concurrent updates; after
// the last three, every check is answered by
// error-updateInProgressOnInstance.
const (
	Undefined   Status = "undefined" // known, nothing granted yet
	Granted     Status = "granted"
	Downloading Status = "downloading"
	Downloaded  Status = "downloaded"
	Installed   Status = "installed"
	Complete    Status = "complete"
	Error       Status = "error"
	OnHold      Status = "onhold" // refused by policy, after an earlier grant
)

// Instance is the server's record of one app on one machine.
type Instance struct {
	AppID, MachineID string
	Track, Arch      string
	Alias            string
	Version          string // as reported, or as granted once an update is complete
	Status           Status
	InProgress       bool      // granted and not yet settled: only then do events count
	LastCheck        time.Time // last ping or check that was recorded; Nebraska records one in five minutes
	GrantedVersion   string    // of the last grant; "" if there was none
	GrantedAt        time.Time
	ErrorCode        int     // of the last failure that was recorded
	Grants           int     // how often an update was granted, answers that repeat a held grant not counted
	Offers           int     // how often an update was offered, repetitions included
	History          []Entry // oldest first
}

// Entry is one change of an instance's status.
type Entry struct {
	Time    time.Time
	Status  Status
	Version string // the version last granted
	// EventType and EventResult are those of the event that changed the status,
	// both 0 where a check did.
	EventType, EventResult int
	ErrorCode              int
	PreviousVersion        string // as the event named it
}
