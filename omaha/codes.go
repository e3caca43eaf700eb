package omaha

import (
	"fmt"
	"net/http"
)

// ExitCode is the errorcode of a failed update's event (3/0). The numbers are update_engine's (its table of
// action exit codes), so that a server's operator reads them as for any other Omaha client; the names are ours.
// A program may report numbers of its own; they pass unchanged.
type ExitCode int

// The codes that this library reports by itself or that callers usually want.
const (
	ExitSuccess         ExitCode = 0
	ExitError           ExitCode = 1  // any failure without a better code
	ExitOmahaRequest    ExitCode = 2  // the request to the Omaha server failed
	ExitUnsupportedType ExitCode = 3  // the answer offers what this client cannot handle
	ExitPostInstall     ExitCode = 5  // the program's own installation step failed
	ExitTransfer        ExitCode = 9  // the payload could not be downloaded
	ExitHash            ExitCode = 10 // the payload's hash is wrong
	ExitSize            ExitCode = 11 // the payload's size is wrong
	ExitVerification    ExitCode = 12 // the payload could not be verified
	ExitPublicKey       ExitCode = 18 // no trusted key signed the payload
	ExitEmptyResponse   ExitCode = 30 // the Omaha server's answer was empty
	ExitResponseXML     ExitCode = 31 // the Omaha server's answer was no Omaha XML
	ExitResponseInvalid ExitCode = 34 // the answer was readable, but its offer unusable
	ExitDeferredPolicy  ExitCode = 36 // this client's policy says not now
	ExitDeferredBackoff ExitCode = 40 // this version failed before and waits for its next try
	ExitRolledBack      ExitCode = 44 // installed, but the old version runs again

	// ExitHTTPBase plus an HTTP status says that the Omaha server answered with that status.
	ExitHTTPBase ExitCode = 2000
)

// String says the code in words, for logs: "wrong payload hash (10)".
func (c ExitCode) String() string {
	if name := c.name(); name != "" {
		return fmt.Sprintf("%s (%d)", name, int(c))
	}
	return fmt.Sprintf("code %d", int(c))
}

func (c ExitCode) name() string {
	if text := http.StatusText(int(c - ExitHTTPBase)); text != "" {
		return "server answered " + text
	}
	switch c {
	case ExitSuccess:
		return "success"
	case ExitError:
		return "error"
	case ExitOmahaRequest:
		return "request to the Omaha server failed"
	case ExitUnsupportedType:
		return "unsupported payload type"
	case ExitPostInstall:
		return "installation failed"
	case ExitTransfer:
		return "download failed"
	case ExitHash:
		return "wrong payload hash"
	case ExitSize:
		return "wrong payload size"
	case ExitVerification:
		return "payload not verifiable"
	case ExitPublicKey:
		return "payload not signed by a trusted key"
	case ExitEmptyResponse:
		return "empty answer"
	case ExitResponseXML:
		return "answer is no Omaha XML"
	case ExitResponseInvalid:
		return "unusable offer"
	case ExitDeferredPolicy:
		return "deferred by policy"
	case ExitDeferredBackoff:
		return "deferred until the next try"
	case ExitRolledBack:
		return "rolled back"
	}
	return ""
}
