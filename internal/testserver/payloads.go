package testserver

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// PayloadHost serves files by HTTP, with ETags and ranges, as badly as its
// faults say. Releases put their files on it; FilePath tells where.
type PayloadHost struct {
	server *Server

	mu        sync.Mutex // guards what follows
	files     map[string]file
	faults    map[string]*queue[FileFault] // by path, "" for any
	faultFunc func(FileRequest) FileFault
	allow     func(*http.Request) bool
	stats     map[string]*FileStats
	log       journal[FileRequest]
}

type file struct {
	content []byte
	etag    string
}

// FileStats counts what a path of the payload host was asked for and gave.
type FileStats struct {
	Requests int
	Bytes    int64 // of bodies, written to connections
}

func newPayloadHost(s *Server) *PayloadHost {
	return &PayloadHost{
		server: s,
		files:  make(map[string]file),
		faults: make(map[string]*queue[FileFault]),
		stats:  make(map[string]*FileStats),
		log:    journal[FileRequest]{max: 10_000},
	}
}

// URL returns the host's base URL, with a final slash:
// "http://127.0.0.1:PORT/", in memory (and before the server is started)
// "http://payloads.test/".
func (h *PayloadHost) URL() string { return h.server.net.base(payloadsFront, payloadsHost) }

// Offline unplugs the payload host, as Server.Offline does.
func (h *PayloadHost) Offline(off bool) { h.server.net.offline(payloadsFront, off) }

// MirrorPath returns where the payload host serves the file at path once more,
// under a label, with faults and counters of its own.
func MirrorPath(label, path string) string { return "m/" + label + "/" + path }

// Put serves content under path, which is relative to URL. The content is
// shared and not to be changed.
func (h *PayloadHost) Put(path string, content []byte) {
	f := file{content, `"` + SHA256Hex(content)[:32] + `"`}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[clean(path)] = f
}

// Remove makes path a 404.
func (h *PayloadHost) Remove(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.files, clean(path))
}

// Fail spoils the next n answers for path with f; "" means any path that has no
// fault of its own. Faults queue up, so that several calls spoil answers in
// their order. n < 0 spoils all until Heal.
func (h *PayloadHost) Fail(path string, n int, f FileFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	path = clean(path)
	if h.faults[path] == nil {
		h.faults[path] = &queue[FileFault]{}
	}
	h.faults[path].push(n, f)
}

// FailFunc asks fn about every request that no queued fault spoils; the zero
// FileFault spoils nothing. Its FileRequest has no answer yet. fn may be called
// at the same time by several goroutines. nil ends it.
func (h *PayloadHost) FailFunc(fn func(r FileRequest) FileFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faultFunc = fn
}

// Heal takes all faults back. Those that have begun go on.
func (h *PayloadHost) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.faults)
	h.faultFunc = nil
}

// Authorize answers 401 to requests for which allow returns false, whatever the
// faults. nil, the default, lets all in.
func (h *PayloadHost) Authorize(allow func(*http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allow = allow
}

// Stats returns the counters of a path; those of "" are the sums.
func (h *PayloadHost) Stats(path string) FileStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stats := h.stats[clean(path)]; stats != nil {
		return *stats
	}
	return FileStats{}
}

// Requests returns the requests that were received, in the order of their
// arrival, as far as WithLog remembers them. Headers are shared and not to be
// changed.
func (h *PayloadHost) Requests() []FileRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.all()
}

// Paths returns what is served, sorted; mirrors are not among them.
func (h *PayloadHost) Paths() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	paths := make([]string, 0, len(h.files))
	for p := range h.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// clean is the form in which paths are compared.
func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// find returns the file of a path, directly or as a mirror's. The caller holds
// h.mu.
func (h *PayloadHost) find(path string) (file, bool) {
	f, found := h.files[path]
	if !found && strings.HasPrefix(path, "m/") {
		if _, rest, mirror := strings.Cut(path[len("m/"):], "/"); mirror {
			f, found = h.files[rest]
		}
	}
	return f, found
}

// count adds to the counters of a path and to the sums.
func (h *PayloadHost) count(path string, requests int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range []string{path, ""} {
		stats := h.stats[p]
		if stats == nil {
			stats = &FileStats{}
			h.stats[p] = stats
		}
		stats.Requests += requests
		stats.Bytes += bytes
	}
}
