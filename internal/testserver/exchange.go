package testserver

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	maxRequest = 64 << 10 // Nebraska's limit, in bytes
	indexPage  = "<html><body>nebraska test</body></html>\n"
)

// Request is one request to the Omaha server, with its answer.
type Request struct {
	Time          time.Time
	Method, Path  string // Path with its query
	Header        http.Header
	Body          []byte // at most 64 KiB of it
	Malformed     bool   // no request of Omaha's: Apps and the ids are empty
	InstallSource string
	SessionID     string
	RequestID     string
	UserID        string
	Version       string // of the client
	Arch          string // of the machine, as sent
	Apps          []AppRequest
	Unseen        bool   // kept from the server by a Fault
	Status        int    // of the answer; 0 as long as there is none, and where there was none
	Answer        []byte // body of the answer
}

// AppRequest is an <app> of a request.
type AppRequest struct {
	ID, Version, Track string
	MachineID, Alias   string
	BootID, Board      string
	Ping, Check        bool
	Events             []Event
}

// Event is an <event> of a request.
type Event struct {
	Type, Result, ErrorCode      int
	PreviousVersion, NextVersion string
}

// reply is an answer before faults.
type reply struct {
	status      int
	contentType string
	body        []byte
	resp        *xmlResponse // what body was made of, if it is XML
}

// ServeHTTP is the Omaha server; the payload host is Payloads.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge := new(http.MaxBytesError); err != nil && !errors.As(err, &tooLarge) {
		return // the client has gone
	}
	parsed, parseErr := parse(body, err)
	entry := s.logged(r, body, parsed)
	fault := s.faultFor(entry)
	rep := reply{}
	switch {
	case fault.Unseen:
	case s.refusesKey(Request{Path: r.URL.RequestURI()}):
		rep = reply{status: http.StatusBadRequest, contentType: "text/plain; charset=utf-8", body: []byte("no such CUP key\n")}
	default:
		rep = s.process(r, parsed, parseErr)
	}
	s.changes.announce()
	s.deliver(w, r, entry, rep, fault)
	s.changes.announce()
}

// parse reads a request. readErr is what ended its body too early: it matters
// only where the document does not end before, as in Nebraska, whose decoder
// stops there.
func parse(body []byte, readErr error) (*xmlRequest, error) {
	if readErr == nil {
		readErr = io.EOF
	}
	req := &xmlRequest{}
	err := xml.NewDecoder(io.MultiReader(bytes.NewReader(body), failing{readErr})).Decode(req)
	if err != nil {
		return nil, err
	}
	return req, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// process answers a request as Nebraska does, behind the proxy that checks
// credentials.
func (s *Server) process(r *http.Request, req *xmlRequest, parseErr error) reply {
	if s.allow != nil && !s.allow(r) {
		return reply{status: http.StatusUnauthorized, contentType: "text/plain; charset=utf-8", body: []byte("unauthorized\n")}
	}
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if suffix, below := strings.CutPrefix(path, updatePath); below && s.secret != "" {
		if suffix != "/"+s.secret {
			return reply{status: http.StatusNotImplemented}
		}
		path = updatePath
	}
	if path != updatePath || r.Method != http.MethodPost {
		// The web interface: whatever is mistyped looks healthy.
		return reply{status: http.StatusOK, contentType: "text/html; charset=utf-8", body: []byte(indexPage)}
	}
	return s.processUpdate(r, req, parseErr)
}

func (s *Server) processUpdate(r *http.Request, req *xmlRequest, parseErr error) reply {
	rep := reply{status: http.StatusOK, contentType: "text/xml"}
	if tooLarge := new(http.MaxBytesError); errors.As(parseErr, &tooLarge) {
		rep.status = http.StatusBadRequest
		return rep
	}
	rep.body = []byte(xmlDeclaration)
	if parseErr != nil {
		return rep
	}
	rep.resp = s.answer(req, clientIP(r))
	if body, err := rep.resp.encode(); err == nil {
		rep.body = body
	}
	return rep
}

// clientIP is the address that Nebraska stores for a machine.
func clientIP(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if ip := strings.TrimSpace(first); net.ParseIP(ip) != nil {
		return ip
	}
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	return ip
}

// logged makes the log's entry of a request.
func (s *Server) logged(r *http.Request, body []byte, req *xmlRequest) *Request {
	entry := &Request{Time: s.now(), Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: body, Malformed: req == nil}
	if req != nil {
		entry.InstallSource, entry.SessionID, entry.RequestID = req.InstallSource, req.SessionID, req.RequestID
		entry.UserID, entry.Version, entry.Arch = req.UserID, req.Version, req.OS.Arch
		for _, a := range req.Apps {
			entry.Apps = append(entry.Apps, appRequestOf(a))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.add(entry)
	return entry
}

func appRequestOf(a xmlAppRequest) AppRequest {
	req := AppRequest{
		ID: a.ID, Version: a.Version, Track: a.Track, MachineID: a.MachineID, Alias: a.MachineAlias,
		BootID: a.BootID, Board: a.Board, Ping: a.Ping != nil, Check: a.UpdateCheck != nil,
	}
	for _, e := range a.Events {
		req.Events = append(req.Events, Event(e))
	}
	return req
}
