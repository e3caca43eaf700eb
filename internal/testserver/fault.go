package testserver

import (
	"bytes"
	"net/http"
	"time"
)

// Fault spoils one exchange with the Omaha server. The zero Fault spoils
// nothing; the fields combine, and the functions below make the usual ones.
type Fault struct {
	// Unseen keeps the request from the server, as a proxy in front does that
	// fails: no event is taken and nothing is granted. Without it the server has
	// done its work, and only its answer is spoiled.
	Unseen bool
	// Delay passes before the answer.
	Delay time.Duration
	// Hold is waited for (until it is closed) before the answer.
	Hold <-chan struct{}
	// Stall never answers: the connection stays open until the client gives up
	// or the server is closed.
	Stall bool
	// Reset ends the connection with a TCP reset instead of an answer.
	Reset bool
	// Status replaces the answer's 200; without a Replace its body is empty then.
	Status int
	// Header is set on the answer: Retry-After, X-Retry-After, Location …
	Header http.Header
	// ContentType replaces text/xml.
	ContentType string
	// Replace makes the body out of the one that the server wrote (empty if
	// Unseen).
	Replace func(body []byte) []byte
	// Underway changes the answer behind the server's signature (WithSigner), as
	// somebody in the middle can: the header in place, the body by returning
	// another one.
	Underway func(r Request, header http.Header, body []byte) []byte
	// Edit changes the answer before it is written as XML; nil for Unseen.
	Edit func(apps []AppAnswer) []AppAnswer
}

// AppAnswer is one <app> of an answer, as far as faults can change it.
type AppAnswer struct {
	ID, Status string
	Events     int // how many <event status="ok"> it has
	Ping       bool
	Check      string // status of its <updatecheck>; "" if it has none
	// EventStatus is the status of its events. Nebraska knows "ok" only.
	EventStatus string

	source *xmlAppResponse
}

// StatusFault answers with an HTTP status and nothing else, as a proxy does.
// headers are pairs of key and value: StatusFault(503, "Retry-After", "120").
func StatusFault(status int, headers ...string) Fault {
	return Fault{Unseen: true, Status: status, Header: headerOf(headers)}
}

// LostRequest resets the connection before the server has seen the request.
func LostRequest() Fault { return Fault{Unseen: true, Reset: true} }

// LostAnswer resets the connection when the server has done its work: it took
// the events and granted the update, and the client does not know.
func LostAnswer() Fault { return Fault{Reset: true} }

// HTMLPage answers 200 with a page, as a captive portal does.
func HTMLPage() Fault {
	return bodyFault("<!DOCTYPE html><html><head><title>Sign in</title></head></html>\n", "text/html; charset=utf-8")
}

// EmptyBody answers 200 with nothing at all.
func EmptyBody() Fault { return bodyFault("", "text/xml") }

// BareDeclaration answers 200 with an XML declaration alone, which is what
// Nebraska says to a malformed request.
func BareDeclaration() Fault { return bodyFault(xmlDeclaration, "text/xml") }

// Truncated cuts the answer's body after n bytes. Its Content-Length agrees, so
// that only the XML tells.
func Truncated(n int) Fault {
	return Fault{Replace: func(b []byte) []byte { return b[:min(n, len(b))] }}
}

// Huge makes the body n bytes longer, by a comment at its end.
func Huge(n int) Fault {
	return Fault{Replace: func(b []byte) []byte {
		pad := bytes.Repeat([]byte("x"), max(n-len("<!---->"), 0))
		return append(append(append(b, "<!--"...), pad...), "-->"...)
	}}
}

// Extra sets headers on an otherwise good answer: pairs of key and value.
func Extra(headers ...string) Fault { return Fault{Header: headerOf(headers)} }

// DropApps leaves the answer's apps out from the k-th on (counted from 0).
func DropApps(k int) Fault {
	return Fault{Edit: func(apps []AppAnswer) []AppAnswer { return apps[:min(k, len(apps))] }}
}

// DropEvents leaves all <event> elements out of the answer.
func DropEvents() Fault {
	return Fault{Edit: func(apps []AppAnswer) []AppAnswer {
		for i := range apps {
			apps[i].Events = 0
		}
		return apps
	}}
}

// WrongApp answers for an app of another id.
func WrongApp(id string) Fault {
	return Fault{Edit: func(apps []AppAnswer) []AppAnswer {
		for i := range apps {
			apps[i].ID = id
		}
		return apps
	}}
}

// AppError answers every app with a status of Omaha's or Nebraska's that the
// server does not come to by itself: error-unknownApplication, error-restricted,
// error-couldNotCheckUpdatesStats … What was granted stays granted, but is not
// offered.
func AppError(status string) Fault {
	return Fault{Edit: func(apps []AppAnswer) []AppAnswer {
		for i := range apps {
			apps[i].Status = status
			if apps[i].Check != "" {
				apps[i].Check = checkError
			}
		}
		return apps
	}}
}

func bodyFault(body, contentType string) Fault {
	return Fault{
		Unseen:      true,
		Status:      http.StatusOK,
		ContentType: contentType,
		Replace:     func([]byte) []byte { return []byte(body) },
	}
}

func headerOf(pairs []string) http.Header {
	h := make(http.Header, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}
