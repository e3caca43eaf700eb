package omaha

import "fmt"

// StatusError is a server's refusal for one app: an app status other than "ok", or an update check's "error-…".
// Error explains it in plain words.
type StatusError struct {
	AppID        string
	Status       string // the app's, such as "error-updatesDisabled"
	UpdateStatus string // the update check's; "" if there was none

	Channel string // as asked; "" if none
	Arch    string // as asked, such as "x64"
}

// The statuses of Nebraska that the client acts on.
const (
	statusInProgress      = "error-updateInProgressOnInstance"
	statusDisabled        = "error-updatesDisabled"
	statusPerPeriod       = "error-maxUpdatesPerPeriodLimitReached"
	statusConcurrent      = "error-maxConcurrentUpdatesLimitReached"
	statusTimedOut        = "error-maxTimedOutUpdatesLimitReached"
	statusNoPackageInfo   = "error-failedToRetrieveUpdatePackageInfo"
	statusNoPackage       = "error-noPackageFound"
	statusRegistration    = "error-instanceRegistrationFailed"
	statusStats           = "error-couldNotCheckUpdatesStats"
	statusUnknownAppGroup = "error-unknownApplicationOrGroup"
)

// Error says what the server refuses, why, and what to do about it.
func (e *StatusError) Error() string {
	return fmt.Sprintf("app %q: %s", e.AppID, e.Status)
}

// Temporary tells that the server's policy says "not now": no fault, ask again at the normal interval.
func (e *StatusError) Temporary() bool {
	switch e.Status {
	case statusDisabled, statusPerPeriod, statusConcurrent, statusTimedOut:
		return true
	}
	return false
}

// InProgress tells that the server believes this instance to be in the middle of an update. On Nebraska this
// lasts until it gets a final event (3/0, 3/1 or 3/2).
func (e *StatusError) InProgress() bool { return e.Status == statusInProgress }

// CheckOnly tells that the refusal speaks of the update check alone: events in the same request were taken.
func (e *StatusError) CheckOnly() bool {
	return e.Temporary() || e.InProgress() || e.Status == string(AppOK)
}
