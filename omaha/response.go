package omaha

import "time"

// Response is a server's answer.
type Response struct {
	Server     string        // what the server calls itself, such as "nebraska"
	RetryAfter time.Duration // how long the server asks to wait before the next check; 0 if it does not, at most 24 h
	Apps       []AppResponse // one for each app of the request, in its order
}

// AppResponse is the answer for one app.
type AppResponse struct {
	ID string // as asked

	// Err is nil, a [*StatusError], an [*InvalidError] or wraps [ErrMissingApp].
	Err error

	Delivered int        // how many of the request's events, from the first on, the server took
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
	URLs      []string // mirrors, best first: the codebases joined with Name, or an image reference without a scheme
	Size      int64    // bytes; 0: unknown
	SHA1      []byte   // 20 bytes; nil if absent or undecodable
	SHA256    []byte   // 32 bytes; nil if absent or undecodable
	Required  bool     // informational
	Metadata  []byte   // the metadata's text, verbatim; nil if there is none
}
