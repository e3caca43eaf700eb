package omaha

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"

	wire "github.com/kinvolk/go-omaha/omaha"
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
	ID      string
	Version string  // what runs; "" is sent as 0.0.0, a leading v is stripped
	Channel string  // Omaha's track, exact case; "" is not sent
	Events  []Event // oldest first
	Ping    bool    // "this machine is alive"
	// Check asks for an update and always sends a ping too: without one, Nebraska answers a false "noupdate"
	// for an app that is new to a machine that it knows through another app.
	Check bool
}

// Marshal returns the request as it is sent, with a new request id each time.
func (r *Request) Marshal(os OS, clientVersion string) ([]byte, error) {
	body, err := xml.Marshal(r.document(os, clientVersion))
	if err != nil {
		return nil, fmt.Errorf("omaha request: %w", err)
	}
	return body, nil
}

func (r *Request) document(os OS, clientVersion string) *wire.Request {
	return &wire.Request{OS: &os, Version: clientVersion}
}

// NewID returns a random UUID (version 4, RFC 9562).
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
