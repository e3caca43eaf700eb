package omaha

import wire "github.com/kinvolk/go-omaha/omaha"

// The types of the protocol that callers need, as github.com/kinvolk/go-omaha has them, under the same names,
// so that a program imports one package called omaha.
type (
	// EventType is what an [Event] tells (Omaha ServerProtocolV3, "event").
	EventType = wire.EventType
	// EventResult is how it went (Omaha ServerProtocolV3, "event").
	EventResult = wire.EventResult
	// AppStatus is an answered app's status attribute; "ok" is [AppOK].
	AppStatus = wire.AppStatus
	// UpdateStatus is an answered update check's status attribute.
	UpdateStatus = wire.UpdateStatus
	// Action is one <action> of a manifest; Flatcar's "postinstall" carries the payload's SHA-256 in base64.
	Action = wire.Action
	// OS describes the machine to the server. See [LocalOS].
	OS = wire.OS
)

// EventTypeUpdateInstalled says that an update is installed and takes effect at the next start.
// The number is Nebraska's own; other servers ignore it.
const EventTypeUpdateInstalled EventType = 800

// Event types. Nebraska acts on UpdateDownloadStarted, UpdateDownloadFinished, UpdateInstalled and UpdateComplete;
// it acknowledges and drops every other one.
const (
	EventTypeUnknown                      = wire.EventTypeUnknown
	EventTypeDownloadComplete             = wire.EventTypeDownloadComplete
	EventTypeInstallComplete              = wire.EventTypeInstallComplete
	EventTypeUpdateComplete               = wire.EventTypeUpdateComplete
	EventTypeUninstall                    = wire.EventTypeUninstall
	EventTypeDownloadStarted              = wire.EventTypeDownloadStarted
	EventTypeInstallStarted               = wire.EventTypeInstallStarted
	EventTypeNewApplicationInstallStarted = wire.EventTypeNewApplicationInstallStarted
	EventTypeSetupStarted                 = wire.EventTypeSetupStarted
	EventTypeSetupFinished                = wire.EventTypeSetupFinished
	EventTypeUpdateApplicationStarted     = wire.EventTypeUpdateApplicationStarted
	EventTypeUpdateDownloadStarted        = wire.EventTypeUpdateDownloadStarted
	EventTypeUpdateDownloadFinished       = wire.EventTypeUpdateDownloadFinished
	EventTypeUpdateInstallerStarted       = wire.EventTypeUpdateInstallerStarted
	EventTypeSetupUpdateBegin             = wire.EventTypeSetupUpdateBegin
	EventTypeSetupUpdateComplete          = wire.EventTypeSetupUpdateComplete
	EventTypeRegisterProductComplete      = wire.EventTypeRegisterProductComplete
	EventTypeOEMInstallFirstCheck         = wire.EventTypeOEMInstallFirstCheck
	EventTypeAppSpecificCommandStarted    = wire.EventTypeAppSpecificCommandStarted
	EventTypeAppSpecificCommandEnded      = wire.EventTypeAppSpecificCommandEnded
	EventTypeSetupFailure                 = wire.EventTypeSetupFailure
	EventTypeComServerFailure             = wire.EventTypeComServerFailure
	EventTypeSetupUpdateFailure           = wire.EventTypeSetupUpdateFailure
)

// Event results.
const (
	EventResultError                 = wire.EventResultError
	EventResultSuccess               = wire.EventResultSuccess
	EventResultSuccessReboot         = wire.EventResultSuccessReboot
	EventResultSuccessRestartBrowser = wire.EventResultSuccessRestartBrowser
	EventResultCancelled             = wire.EventResultCancelled
	EventResultErrorInstallerMSI     = wire.EventResultErrorInstallerMSI
	EventResultErrorInstallerOther   = wire.EventResultErrorInstallerOther
	EventResultNoUpdate              = wire.EventResultNoUpdate
	EventResultInstallerSystem       = wire.EventResultInstallerSystem
	EventResultUpdateDeferred        = wire.EventResultUpdateDeferred
	EventResultHandoffError          = wire.EventResultHandoffError
)

// Statuses of the protocol itself. Servers have more of their own; [StatusError] explains Nebraska's.
const (
	AppOK             = wire.AppOK
	AppRestricted     = wire.AppRestricted
	AppUnknownID      = wire.AppUnknownID
	AppInvalidID      = wire.AppInvalidID
	AppInvalidVersion = wire.AppInvalidVersion
	AppInternalError  = wire.AppInternalError

	UpdateOK                   = wire.UpdateOK
	NoUpdate                   = wire.NoUpdate
	UpdateOSNotSupported       = wire.UpdateOSNotSupported
	UpdateUnsupportedProtocol  = wire.UpdateUnsupportedProtocol
	UpdatePluginRestrictedHost = wire.UpdatePluginRestrictedHost
	UpdateHashError            = wire.UpdateHashError
	UpdateInternalError        = wire.UpdateInternalError
)

// FlatcarAppID is Flatcar Container Linux itself. Nebraska only logs its 3/1; what completes its updates is
// 3/2 with a previousversion.
const FlatcarAppID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"

// Event is one report about an update, such as "download started".
type Event struct {
	Type      EventType
	Result    EventResult
	ErrorCode ExitCode // with EventResultError; 0 there is sent as 1 (ExitError)

	// PreviousVersion is what ran before and NextVersion what the update leads to; "" is not sent.
	// A leading v is stripped on the wire.
	PreviousVersion, NextVersion string
}
