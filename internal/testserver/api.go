package testserver

import (
	"context"
	"net/http"
	"time"
)

const xmlDeclaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

type xmlAppResponse struct{}

// Architectures, as Nebraska names them. AnyArch is a convenience of this
// package: a group that serves every machine.
const (
	AnyArch = ""
	AMD64   = "amd64"
	AArch64 = "aarch64"
	X86     = "x86"
)

// Server is a Nebraska-like Omaha server with a payload host. New makes one.
type Server struct {
	// Payloads serves the files of the releases, under a host of its own.
	Payloads *PayloadHost
}

// Option configures a Server.
type Option func(*Server)

// WithClock sets the clock for everything that Nebraska does by time. Defaults
// to time.Now.
func WithClock(now func() time.Time) Option { return func(*Server) {} }

// WithSecret sets Nebraska's secret suffix: the endpoint is /v1/update/SUFFIX
// then, and every other path below it answers 501. Defaults to none.
func WithSecret(suffix string) Option { return func(*Server) {} }

// WithAuthorize puts a proxy in front of the Omaha server that answers 401 to
// requests for which allow returns false. Defaults to none.
func WithAuthorize(allow func(*http.Request) bool) Option { return func(*Server) {} }

// WithLog sets how many requests Requests and PayloadHost.Requests remember,
// the latest ones. Defaults to 10,000; 0 keeps none.
func WithLog(n int) Option { return func(*Server) {} }

// New returns a server that does not listen yet.
func New(opts ...Option) *Server { return &Server{} }

// ServeHTTP is the Omaha server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Start listens on a loopback port for each of the Omaha server and the payload
// host.
func (s *Server) Start() error { return nil }

// StartTLS is Start with TLS, for which Client has the certificate.
func (s *Server) StartTLS() error { return nil }

// StartMemory serves in-memory connections, made by Client alone.
func (s *Server) StartMemory() {}

// URL returns the endpoint, with the secret suffix and a final slash:
// "http://127.0.0.1:PORT/v1/update/", in memory "http://omaha.test/v1/update/".
func (s *Server) URL() string { return "" }

// Client returns a new client that reaches the started server and its payload
// host, and trusts their certificate.
func (s *Server) Client() *http.Client { return nil }

// Close stops the server and waits for its goroutines.
func (s *Server) Close() {}

// Offline unplugs the Omaha server, or plugs it in again: open connections are
// reset, new ones are refused (in memory) or reset at once (on a socket).
func (s *Server) Offline(off bool) {}

// Group is what Nebraska calls a group with its channel: a track of an app for
// one architecture, its policy and its present release.
type Group struct{}

// AddGroup adds a group without a release; the app exists from its first group
// on. It panics if there is one already.
func (s *Server) AddGroup(appID, track, arch string, p Policy) *Group { return nil }

// Publish points the group's channel to a release, newer or older, and puts its
// files on the payload host.
func (g *Group) Publish(r Release) {}

// Unpublish leaves the channel without a package: error-noPackageFound.
func (g *Group) Unpublish() {}

// AddFloor adds a release that older instances must take before the present
// one.
func (g *Group) AddFloor(r Release, reason string) {}

// Policy returns the group's policy as it stands.
func (g *Group) Policy() Policy { return Policy{} }

// ChangePolicy changes the group's policy.
func (g *Group) ChangePolicy(change func(*Policy)) {}

// Instance returns the record of an app on a machine.
func (s *Server) Instance(appID, machineID string) (Instance, bool) { return Instance{}, false }

// Instances returns the records of an app, by machine id.
func (s *Server) Instances(appID string) []Instance { return nil }

// PutInstance writes a record, as if the instance had come to be so.
func (s *Server) PutInstance(i Instance) {}

// Grants returns how many updates were granted for an app, answers that repeat
// a held grant not counted.
func (s *Server) Grants(appID string) int { return 0 }

// Request is one request to the Omaha server.
type Request struct {
	Time          time.Time
	Method, Path  string // Path with query
	Header        http.Header
	Body          []byte
	Malformed     bool
	InstallSource string
	SessionID     string
	RequestID     string
	UserID        string
	Version       string // of the client
	Arch          string // as sent
	Apps          []AppRequest
	Status        int    // of the answer; 0 where there was none
	Answer        []byte // body of the answer
	Unseen        bool   // kept from the server by a Fault
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

// Requests returns the requests that the Omaha server received, oldest first.
func (s *Server) Requests() []Request { return nil }

// Fail spoils the next n exchanges with f; faults queue up. n < 0 spoils all
// until Heal.
func (s *Server) Fail(n int, f Fault) {}

// FailFunc asks fn about every exchange that no queued fault spoils. nil ends
// it.
func (s *Server) FailFunc(fn func(r Request) Fault) {}

// Heal takes all faults back.
func (s *Server) Heal() {}

// WaitFor waits until cond holds. It asks cond at first, and again after each
// request, change of state and piece of payload; it does not poll.
func (s *Server) WaitFor(ctx context.Context, cond func(*Server) bool) error { return nil }

// PayloadHost serves files by HTTP, with ETags and ranges.
type PayloadHost struct{}

// URL returns its base URL, with a final slash.
func (h *PayloadHost) URL() string { return "" }

// ServeHTTP serves the files.
func (h *PayloadHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Put serves content under path, which is relative to URL.
func (h *PayloadHost) Put(path string, content []byte) {}

// Remove ends that.
func (h *PayloadHost) Remove(path string) {}

// Fail spoils the next n answers for path ("" means any) with f; faults queue
// up. n < 0 spoils all until Heal.
func (h *PayloadHost) Fail(path string, n int, f FileFault) {}

// FailFunc asks fn about every request that no queued fault spoils. nil ends
// it.
func (h *PayloadHost) FailFunc(fn func(r FileRequest) FileFault) {}

// Heal takes all faults back.
func (h *PayloadHost) Heal() {}

// Authorize answers 401 to requests for which allow returns false. nil ends it.
func (h *PayloadHost) Authorize(allow func(*http.Request) bool) {}

// Offline unplugs the payload host, as Server.Offline does.
func (h *PayloadHost) Offline(off bool) {}

// Stats returns the counters of a path; those of "" are the sums.
func (h *PayloadHost) Stats(path string) FileStats { return FileStats{} }

// Requests returns the requests that were received, oldest first.
func (h *PayloadHost) Requests() []FileRequest { return nil }

// SHA1Base64 is how Nebraska announces the main package's hash.
func SHA1Base64(content []byte) string { return "" }

// SHA1Hex is another encoding of the same.
func SHA1Hex(content []byte) string { return "" }

// SHA256Base64 is how go-omaha's own server announces SHA-256.
func SHA256Base64(content []byte) string { return "" }

// SHA256Hex is how Nebraska announces it for extra files.
func SHA256Hex(content []byte) string { return "" }
