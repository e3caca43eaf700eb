package omaha

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// Response is a server's answer.
type Response struct {
	Server     string        // what the server calls itself, such as "nebraska"
	RetryAfter time.Duration // how long the server asks to wait before the next check; 0 if it does not, at most 24 h
	Apps       []AppResponse // one for each app of the request, in its order
}

// AppResponse is the answer for one app. With Err nil and neither NoUpdate nor Manifests, no check was asked for.
type AppResponse struct {
	ID string // as asked

	// Err is nil, a [*StatusError], an [*InvalidError] or wraps [ErrMissingApp]. After an InvalidError the server
	// believes that the update is under way: give it back (3/0 with code 34).
	Err error

	Delivered int        // how many of the request's events, from the first on, the server took; also beside an Err
	NoUpdate  bool       // asked and answered: there is no update
	Manifests []Manifest // what is offered, the first one to be taken; not empty means granted
}

// Manifest is one offered version. It survives a round trip through encoding/json.
type Manifest struct {
	Version     string    // as sent; not always a semantic version, see [CompareVersions]
	Packages    []Package // at least one
	Actions     []Action
	URLs        []string // the codebases, verbatim; Package.URLs has them joined
	IsFloor     bool     // a required intermediate version
	IsTarget    bool     // the version that the floors lead to
	FloorReason string   // why it is required
}

// Package is one file, or image, of an update.
type Package struct {
	Name      string   // a label chosen by the server, never to be used as a path; may be ""
	MediaType string   // the metadata's content type; "" where the server does not say
	URLs      []string // mirrors, best first, at least one: codebases joined with Name, or image references without a scheme
	Size      int64    // bytes; 0: unknown
	SHA1      []byte   // 20 bytes; nil if absent or undecodable
	SHA256    []byte   // 32 bytes; nil if absent or undecodable
	Required  bool     // informational
	Metadata  []byte   // the metadata's text, verbatim; nil if there is none
}

// read fills the answers for r's apps from the document. Apps that were not asked for are ignored. No error shows what to hide.
func (r *Request) read(doc *responseElement, arch string, hide *secrets.Set) []AppResponse {
	answered := make(map[string][]*appElement, len(r.Apps))
	for i := range r.Apps {
		answered[appKey(r.Apps[i].ID)] = nil
	}
	for i := range doc.Apps {
		key := appKey(doc.Apps[i].ID)
		if elements, asked := answered[key]; asked {
			answered[key] = append(elements, &doc.Apps[i])
		}
	}
	rd := reader{urlBytes: maxURLsTotal, hide: hide}
	apps := make([]AppResponse, len(r.Apps))
	for i := range r.Apps {
		apps[i].ID = r.Apps[i].ID
		key := appKey(r.Apps[i].ID)
		elements := answered[key]
		if len(elements) == 0 {
			apps[i].Err = fmt.Errorf("app %q: %w (an app or channel before it that the server does not know cuts an answer "+
				"short; asked for alone, the server says more)", r.Apps[i].ID, ErrMissingApp)
			continue
		}
		if len(elements) > 1 { // for an id asked for twice
			answered[key] = elements[1:]
		}
		rd.app(&apps[i], &r.Apps[i], elements[0], arch)
	}
	return apps
}

// appKey is what ids are compared by: Omaha's are case-insensitive, and what XML does not allow arrived as U+FFFD.
func appKey(id string) string {
	return strings.ToLower(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff' {
			return utf8.RuneError
		}
		return r
	}, id)))
}

func (r *reader) app(to *AppResponse, asked *AppRequest, e *appElement, arch string) {
	refusal := &StatusError{AppID: asked.ID, Status: r.status(e.Status), Channel: asked.Channel, Arch: arch}
	if e.Check != nil {
		refusal.UpdateStatus = r.status(e.Check.Status)
	}
	ok := e.Status == string(AppOK)
	if ok || refusal.CheckOnly() {
		to.Delivered = countDelivered(e, len(asked.Events))
	}
	switch {
	case !ok:
		to.Err = refusal
	case !asked.Check:
		// An offer that nobody asked for is no grant.
	case e.Check == nil:
		to.Err = &InvalidError{AppID: asked.ID, Reason: "the server does not answer the update check"}
	case e.Check.Status == string(NoUpdate):
		to.NoUpdate = true
	case e.Check.Status != string(UpdateOK):
		to.Err = refusal
	default:
		manifests, err := r.manifests(e.Check)
		if err != nil {
			to.Err = &InvalidError{AppID: asked.ID, Reason: err.Error()}
			return
		}
		to.Manifests = manifests
	}
}

// status is a status attribute as errors have it. Where it is not one that is known, there may be anything in it.
func (r *reader) status(s string) string {
	if isKnownStatus(s) {
		return s
	}
	return foreign(r.hide, s, maxStatus)
}

// countDelivered counts the events that the server took: it acknowledges them in order.
func countDelivered(e *appElement, sent int) int {
	n := 0
	for n < sent && n < len(e.Events) && e.Events[n].Status == "ok" {
		n++
	}
	return n
}
