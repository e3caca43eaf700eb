package omaha

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strings"

	wire "github.com/kinvolk/go-omaha/omaha"
)

const (
	protocol       = "3.0"
	defaultVersion = "omahaclient-0.1.0"
	// syncerVersion together with installsource "scheduler" makes Nebraska take the sender for another Nebraska
	// that copies its packages.
	syncerVersion = "CoreOSUpdateEngine-0.1.0.0"
)

// Request asks a server about one or more apps, and tells it what became of their updates.
type Request struct {
	SessionID    string // one per update flow (check, then its events); see [NewID]
	UserID       string // "" is not sent
	MachineID    string // unique per machine; Nebraska requires it and takes at most 50 characters
	BootID       string // "" is not sent
	MachineAlias string // shown by Nebraska; "" is not sent
	OnDemand     bool   // somebody waits for it (installsource "ondemand"), else "scheduler"
	Apps         []AppRequest
}

// AppRequest is one app's part of a request. Servers handle the events first, in order, then the ping, then the check.
type AppRequest struct {
	ID      string  // case-insensitive; unique in a request
	Version string  // what runs; "" is sent as 0.0.0, a leading v is stripped
	Channel string  // Omaha's track, exact case; "" is not sent
	Events  []Event // oldest first
	Ping    bool    // "this machine is alive"
	// Check asks for an update and always sends a ping too: without one, Nebraska answers a false "noupdate"
	// for an app that is new to a machine that it knows through another app.
	Check bool
}

// Marshal returns the request as it is sent, with a new request id each time. An empty platform or architecture
// means that of [LocalOS] (and Go's "arm64" is sent as "aarch64", see there), an empty clientVersion the default of
// [Client].Version. Characters that XML does not allow are sent as U+FFFD.
//
// It does not look at the size: see [Request.Split]. Its error is encoding/xml's, which no Request causes.
func (r *Request) Marshal(os OS, clientVersion string) ([]byte, error) {
	if clientVersion == "" {
		clientVersion = defaultVersion
	}
	body, err := xml.Marshal(r.document(sentOS(os), clientVersion))
	if err != nil {
		return nil, fmt.Errorf("omaha request: %w", err)
	}
	return append([]byte(xml.Header), body...), nil
}

// document is the request in go-omaha's types.
func (r *Request) document(os OS, clientVersion string) *wire.Request {
	doc := &wire.Request{
		Protocol:       protocol,
		Version:        clientVersion,
		UpdaterVersion: clientVersion,
		UserID:         r.UserID,
		SessionID:      r.SessionID,
		RequestID:      NewID(),
		InstallSource:  r.installSource(clientVersion),
		IsMachine:      1,
		OS:             &os,
		Apps:           make([]*wire.AppRequest, len(r.Apps)),
	}
	apps := make([]wire.AppRequest, len(r.Apps))
	for i := range r.Apps {
		r.fillApp(&apps[i], &r.Apps[i])
		doc.Apps[i] = &apps[i]
	}
	return doc
}

func (r *Request) installSource(clientVersion string) string {
	switch {
	case r.OnDemand:
		return "ondemand"
	case clientVersion == syncerVersion:
		return ""
	default:
		return "scheduler"
	}
}

func (r *Request) fillApp(to *wire.AppRequest, app *AppRequest) {
	to.ID = app.ID
	to.Version = appVersion(app.Version)
	to.Track = app.Channel
	to.MachineID = r.MachineID
	to.BootID = r.BootID
	to.MachineAlias = r.MachineAlias
	for _, event := range app.Events {
		to.Events = append(to.Events, event.element())
	}
	if app.Ping || app.Check {
		to.AddPing()
	}
	if app.Check {
		to.AddUpdateCheck()
	}
}

func (e Event) element() *wire.EventRequest {
	code := e.ErrorCode
	if e.Type == EventTypeUpdateComplete && e.Result == EventResultError && code == ExitSuccess {
		code = ExitError
	}
	return &wire.EventRequest{
		Type:            e.Type,
		Result:          e.Result,
		ErrorCode:       int(code),
		PreviousVersion: sentVersion(e.PreviousVersion),
		NextVersion:     sentVersion(e.NextVersion),
	}
}

// appVersion is an app's version on the wire: never empty, since Nebraska then answers nothing for the app.
func appVersion(s string) string {
	if strings.TrimPrefix(s, "v") == "" {
		return "0.0.0"
	}
	return sentVersion(s)
}

// NewID returns a random UUID (version 4, RFC 9562), for a session, a machine or a request.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:], b[:4])
	for i, part := range [...][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		s[8+5*i] = '-'
		hex.Encode(s[9+5*i:], b[part[0]:part[1]])
	}
	return string(s[:])
}
