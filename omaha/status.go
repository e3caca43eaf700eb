package omaha

import (
	"cmp"
	"fmt"
)

// StatusError is a server's refusal for one app: an app status other than "ok", or an update check's "error-…".
type StatusError struct {
	AppID        string
	Status       string // the app's, such as "error-updatesDisabled"
	UpdateStatus string // the update check's; "" if there was none. One that is not known is made printable, and cut

	Channel string // as asked; "" if none
	Arch    string // as asked, such as "x64"
}

// Nebraska's app statuses (its package omaha, handler.go); the comments there and the group's policy say when.
const (
	statusInProgress   = "error-updateInProgressOnInstance"
	statusDisabled     = "error-updatesDisabled"
	statusPerPeriod    = "error-maxUpdatesPerPeriodLimitReached"
	statusConcurrent   = "error-maxConcurrentUpdatesLimitReached"
	statusTimedOut     = "error-maxTimedOutUpdatesLimitReached"
	statusPackageInfo  = "error-failedToRetrieveUpdatePackageInfo"
	statusNoPackage    = "error-noPackageFound"
	statusRegistration = "error-instanceRegistrationFailed"
	statusStats        = "error-couldNotCheckUpdatesStats"
	statusUnknownGroup = "error-unknownApplicationOrGroup"
	statusRestricted   = "error-restricted"
)

const maxStatus = 80 // bytes of one that is not known

func isKnownStatus(s string) bool {
	switch s {
	case statusInProgress, statusDisabled, statusPerPeriod, statusConcurrent, statusTimedOut, statusPackageInfo, statusNoPackage,
		statusRegistration, statusStats, statusUnknownGroup, statusRestricted,
		string(AppOK), string(AppRestricted), string(AppUnknownID), string(AppInvalidID), string(AppInvalidVersion), string(AppInternalError),
		string(NoUpdate), string(UpdateOSNotSupported), string(UpdateUnsupportedProtocol), string(UpdatePluginRestrictedHost),
		string(UpdateHashError):
		return true
	}
	return false
}

// Temporary tells that the server's policy says "not now": no fault; ask again at the usual interval.
func (e *StatusError) Temporary() bool {
	switch e.Status {
	case statusDisabled, statusPerPeriod, statusConcurrent, statusTimedOut:
		return true
	}
	return false
}

// InProgress tells that the server believes this instance to be in the middle of an update. Nebraska believes so
// until it gets a final event (3/0, 3/1 or 3/2).
func (e *StatusError) InProgress() bool { return e.Status == statusInProgress }

// CheckOnly tells that the refusal speaks of the update check alone: events in the same request were taken.
func (e *StatusError) CheckOnly() bool {
	return e.Temporary() || e.InProgress() || e.Status == string(AppOK)
}

// Error is Reason with the app's id before it.
func (e *StatusError) Error() string { return fmt.Sprintf("app %q: %s", e.AppID, e.Reason()) }

// Reason says in plain words what the server refuses and what to do, with the status itself at the end, for where the
// app is known: "server: updates disabled for this group: … (error-updatesDisabled)".
func (e *StatusError) Reason() string {
	status := e.Status
	if status == string(AppOK) {
		status = e.UpdateStatus
	}
	return fmt.Sprintf("server: %s (%s)", e.explain(status), printable(cmp.Or(status, "no status"), maxStatus))
}

func (e *StatusError) explain(status string) string {
	switch {
	case e.Temporary():
		return e.explainPolicy()
	case e.InProgress():
		return "it takes this machine to be in the middle of an update and waits for the outcome (complete or error)"
	}
	switch status {
	case statusPackageInfo, statusUnknownGroup, string(AppUnknownID):
		return e.explainUnknown()
	case statusNoPackage:
		return fmt.Sprintf("channel %q has no package: give it one on the server", e.Channel)
	case statusRegistration:
		return "it could not register this machine: the app's version must be MAJOR.MINOR.PATCH and the machine id at " +
			"most 50 characters; else look into the server's log"
	case statusStats:
		return "it could not count the updates under way: look into the server's log"
	case string(AppInvalidID):
		return "the app id is malformed: copy it from the server's list of apps"
	case string(AppInvalidVersion):
		return "the app's version is malformed: it must be MAJOR.MINOR.PATCH"
	case string(AppRestricted), statusRestricted:
		return "this app is not for this machine or place: ask the server's administrator"
	case string(UpdateOSNotSupported):
		return fmt.Sprintf("there is no update for this system (architecture %q)", e.Arch)
	case string(UpdateUnsupportedProtocol):
		return "it does not speak Omaha protocol " + protocol
	case string(UpdatePluginRestrictedHost):
		return "this host may not update: ask the server's administrator"
	case string(UpdateHashError):
		return "it has no valid hash for the update: publish the package again"
	case string(UpdateInternalError):
		return "internal fault: look into the server's log"
	}
	return "it refuses, for a reason that this client does not know"
}

func (e *StatusError) explainPolicy() string {
	switch e.Status {
	case statusDisabled:
		return "updates disabled for this group: not now; an administrator switches them on"
	case statusPerPeriod:
		return "the group has used up its updates of this period: not now"
	case statusConcurrent:
		return "as many machines of the group as allowed are updating: not now"
	default:
		return "too many updates of the group did not finish in time: not now; an administrator should look at these machines"
	}
}

// explainUnknown names all suspects, since Nebraska gives one answer for all three.
func (e *StatusError) explainUnknown() string {
	return fmt.Sprintf("it knows no app %q with a channel %q for architecture %q: check all three there "+
		"(a channel is matched in exact case and together with its architecture)", e.AppID, e.Channel, e.Arch)
}
