package testserver

import "time"

// flatcarAppID is Flatcar's own app, for which Nebraska has special cases.
const flatcarAppID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"

// The event types and results of Omaha ServerProtocolV3 that Nebraska knows;
// 800 is its own.
const (
	eventComplete         = 3
	eventDownloadStarted  = 13
	eventDownloadFinished = 14
	eventInstalled        = 800

	resultError         = 0
	resultSuccess       = 1
	resultSuccessReboot = 2
)

// consequence returns the status that an event leads to, and whether Nebraska
// knows the event at all. A known event without a consequence is logged only:
// 3/1 of Flatcar's own app.
func consequence(app string, e Event) (to Status, known bool) {
	switch (Event{Type: e.Type, Result: e.Result}) {
	case Event{Type: eventComplete, Result: resultError}:
		return Error, true
	case Event{Type: eventComplete, Result: resultSuccess}:
		if app == flatcarAppID {
			return "", true
		}
		return Complete, true
	case Event{Type: eventComplete, Result: resultSuccessReboot}:
		return Complete, true
	case Event{Type: eventDownloadStarted, Result: resultSuccess}:
		return Downloading, true
	case Event{Type: eventDownloadFinished, Result: resultSuccess}:
		return Downloaded, true
	case Event{Type: eventInstalled, Result: resultSuccess}:
		return Installed, true
	}
	return "", false
}

// takeEvent processes one event. Nothing of what it decides shows in the
// answer: whatever is dropped here is acknowledged like the rest. Dropped are
// events of instances that are unknown or were silent for 24 hours, of
// instances without an update in progress, and events that Nebraska does not
// know. The order of events is not enforced. The caller holds s.mu.
func (s *Server) takeEvent(c contact, e Event, now time.Time) {
	r := s.live(c.machineID, c.app, now)
	if r == nil || !r.InProgress {
		return
	}
	by := cause{event: e, now: now}
	// Flatcar's updater sends 3/2 at every start. Without a version that it came
	// from nothing was updated, and Nebraska forgets the update.
	if c.app == flatcarAppID && e.Type == eventComplete && e.Result == resultSuccessReboot &&
		(e.PreviousVersion == "" || e.PreviousVersion == "0.0.0.0") {
		r.move(Undefined, by)
		return
	}
	if to, known := consequence(c.app, e); known && to != "" {
		r.move(to, by)
	}
}
