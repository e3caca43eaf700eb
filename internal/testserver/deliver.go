package testserver

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// faultFor chooses the fault of an exchange.
func (s *Server) faultFor(entry *Request) Fault {
	s.mu.Lock()
	fault, queued := s.faults.pop()
	ask, request := s.faultFunc, *entry
	s.mu.Unlock()
	if !queued && ask != nil {
		fault = ask(request)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.Unseen = fault.Unseen
	return fault
}

// deliver spoils an answer and sends what is left of it.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, entry *Request, rep reply, f Fault) {
	if !wait(r.Context(), f.Delay, f.Hold) || f.Stall {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if f.Reset {
		resetConnection(w)
		return
	}
	rep = f.spoil(rep)
	header := w.Header()
	s.mu.Lock()
	request := *entry
	s.mu.Unlock()
	if !f.Unseen {
		s.sign(request, header, rep.body)
	}
	if rep.contentType != "" {
		header.Set("Content-Type", rep.contentType)
	}
	if rep.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="omaha"`)
	}
	for key, values := range f.Header {
		header[http.CanonicalHeaderKey(key)] = values
	}
	if f.Underway != nil {
		rep.body = f.Underway(request, header, rep.body)
	}
	s.mu.Lock()
	entry.Status, entry.Answer = rep.status, rep.body
	s.mu.Unlock()
	header.Set("Content-Length", strconv.Itoa(len(rep.body)))
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // the client may have gone, which is its own affair
}

// spoil changes an answer as the fault says.
func (f Fault) spoil(rep reply) reply {
	if f.Edit != nil && rep.resp != nil {
		rep.resp.Apps = editApps(rep.resp.Apps, f.Edit)
		if body, err := rep.resp.encode(); err == nil {
			rep.body = body
		}
	}
	if f.Status != 0 {
		rep.status = f.Status
		if f.Replace == nil {
			rep.body, rep.contentType = nil, ""
		}
	}
	if f.Replace != nil {
		rep.body = f.Replace(rep.body)
	}
	if f.ContentType != "" {
		rep.contentType = f.ContentType
	}
	if rep.status == 0 {
		rep.status = http.StatusOK
	}
	return rep
}

// editApps lets a fault change the apps of an answer.
func editApps(apps []*xmlAppResponse, edit func([]AppAnswer) []AppAnswer) []*xmlAppResponse {
	list := make([]AppAnswer, len(apps))
	for i, a := range apps {
		list[i] = AppAnswer{ID: a.ID, Status: a.Status, Events: len(a.Events), EventStatus: "ok", Ping: a.Ping != nil, source: a}
		if a.UpdateCheck != nil {
			list[i].Check = a.UpdateCheck.Status
		}
	}
	list = edit(list)
	apps = make([]*xmlAppResponse, len(list))
	for i, a := range list {
		apps[i] = a.xml()
	}
	return apps
}

// xml writes an edited app. A check that is still "ok" offers what it offered.
func (a AppAnswer) xml() *xmlAppResponse {
	x := &xmlAppResponse{ID: a.ID, Status: a.Status}
	if a.Ping {
		status := ok()
		x.Ping = &status
	}
	if a.Check != "" {
		x.UpdateCheck = &xmlUpdateCheck{Status: a.Check}
		if a.Check == checkOK && a.source != nil && a.source.UpdateCheck != nil {
			*x.UpdateCheck = *a.source.UpdateCheck
		}
	}
	for range a.Events {
		x.Events = append(x.Events, xmlStatus{Status: a.EventStatus})
	}
	return x
}

// wait lets d pass and hold be closed, if they are set. It is false where ctx
// ended first.
func wait(ctx context.Context, d time.Duration, hold <-chan struct{}) bool {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
