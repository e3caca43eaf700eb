package testserver

import (
	"net/http"
	"strconv"
	"time"
)

// ServeHTTP serves the files.
func (h *PayloadHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := &download{host: h, w: w, r: r, path: clean(r.URL.Path)}
	d.entry = &FileRequest{
		Time: h.server.now(), Method: r.Method, Host: r.Host, Path: d.path,
		Range: r.Header.Get("Range"), Header: r.Header, TLS: r.TLS != nil,
	}
	h.count(d.path, 1, 0)
	allowed := d.begin()
	h.server.changes.announce()
	defer h.server.changes.announce()
	if !allowed {
		w.Header().Set("WWW-Authenticate", `Basic realm="payloads"`)
		d.short(http.StatusUnauthorized)
		return
	}
	d.serve()
}

// download is one answer of the payload host.
type download struct {
	host  *PayloadHost
	w     http.ResponseWriter
	r     *http.Request
	path  string
	entry *FileRequest
	file  file
	found bool
	fault FileFault
}

// begin logs the request, chooses its fault, and tells whether it is let in.
func (d *download) begin() (allowed bool) {
	h := d.host
	h.mu.Lock()
	h.log.add(d.entry)
	allow, ask, request := h.allow, h.faultFunc, *d.entry
	d.file, d.found = h.find(d.path)
	h.mu.Unlock()
	if allow != nil && !allow(d.r) {
		return false
	}
	if fault, queued := h.queued(d.path); queued {
		d.fault = fault
	} else if ask != nil {
		d.fault = ask(request)
	}
	return true
}

func (h *PayloadHost) queued(path string) (FileFault, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range []string{path, ""} {
		if q := h.faults[p]; q != nil {
			if fault, found := q.pop(); found {
				return fault, true
			}
		}
	}
	return FileFault{}, false
}

func (d *download) serve() {
	f := &d.fault
	if !wait(d.r.Context(), f.Delay, nil) {
		panic(http.ErrAbortHandler)
	}
	for key, values := range f.Header {
		d.w.Header()[http.CanonicalHeaderKey(key)] = values
	}
	switch {
	case f.Redirect != "":
		d.w.Header().Set("Location", f.Redirect)
		if f.Status == 0 {
			f.Status = http.StatusFound
		}
		d.short(f.Status)
	case f.Status != 0:
		d.short(f.Status)
	case !d.found && f.Content == nil:
		d.short(http.StatusNotFound)
	case d.r.Method != http.MethodGet && d.r.Method != http.MethodHead:
		d.w.Header().Set("Allow", "GET, HEAD")
		d.short(http.StatusMethodNotAllowed)
	default:
		d.content()
	}
}

// short answers with a status and its name.
func (d *download) short(status int) {
	d.status(status)
	text := []byte(http.StatusText(status) + "\n")
	d.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	d.w.WriteHeader(status)
	if d.r.Method != http.MethodHead {
		d.write(text)
	}
}

func (d *download) status(status int) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	d.entry.Status = status
}

// write sends a piece of the body. It is counted before it is sent, so that
// whoever has received it finds it counted; what was not sent is taken back. It
// is false where the client has gone.
func (d *download) write(p []byte) bool {
	d.count(len(p))
	n, err := d.w.Write(p)
	d.count(n - len(p))
	d.host.server.changes.announce()
	return err == nil
}

func (d *download) count(bytes int) {
	if bytes == 0 {
		return
	}
	d.host.count(d.path, 0, int64(bytes))
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	d.entry.Bytes += int64(bytes)
}

// content answers with the file, or the range that was asked for, spoiled.
func (d *download) content() {
	content, f := d.file.content, &d.fault
	if f.Content != nil {
		content = f.Content
	}
	d.validators()
	start, end, partial := int64(0), int64(len(content)), false
	if !f.IgnoreRange {
		var satisfiable bool
		start, end, partial, satisfiable = d.byteRange(end)
		if !satisfiable {
			d.w.Header().Set("Content-Range", "bytes */"+strconv.Itoa(len(content)))
			d.short(http.StatusRequestedRangeNotSatisfiable)
			return
		}
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		start, end = f.shift(start, end, int64(len(content)))
		d.w.Header().Set("Content-Range", contentRange(start+f.LieRange, end+f.LieRange, len(content)))
	}
	body := f.spoil(content, start, end)
	body = d.announce(body)
	d.status(status)
	d.w.WriteHeader(status)
	if d.r.Method != http.MethodHead {
		d.send(body)
	}
}

func (d *download) validators() {
	header := d.w.Header()
	header.Set("Accept-Ranges", "bytes")
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/octet-stream")
	}
	if d.fault.ETag != "" {
		d.file.etag = d.fault.ETag
	}
	if !d.fault.NoValidator && d.file.etag != "" {
		header.Set("ETag", d.file.etag)
	}
}

// announce sets the length and the encoding, and returns as much of the body as
// HTTP lets out under that length.
func (d *download) announce(body []byte) []byte {
	f, header := &d.fault, d.w.Header()
	if f.Gzip {
		header.Set("Content-Encoding", "gzip")
	}
	if f.Chunked {
		return body
	}
	length := max(int64(len(body))+f.LieLength, 0)
	header.Set("Content-Length", strconv.FormatInt(length, 10))
	return body[:min(length, int64(len(body)))]
}

// send writes the body at the fault's rate up to the point where the fault
// strikes.
func (d *download) send(body []byte) {
	f := &d.fault
	if !f.Cut && !f.Reset && !f.Stall && f.Hold == nil {
		d.pace(body)
		if f.LieLength > 0 && !f.Chunked {
			panic(http.ErrAbortHandler)
		}
		return
	}
	first := min(max(f.After, 0), int64(len(body)))
	if !d.pace(body[:first]) {
		return
	}
	_ = http.NewResponseController(d.w).Flush() // headers at least must be out
	switch {
	case !wait(d.r.Context(), 0, f.Hold):
		panic(http.ErrAbortHandler)
	case f.Stall:
		<-d.r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Reset:
		resetConnection(d.w)
	case f.Cut:
		panic(http.ErrAbortHandler)
	default:
		d.pace(body[first:])
	}
}

// tick is how often a slowed body goes on.
const tick = 10 * time.Millisecond

// pace writes a body, at once or at the fault's rate. It is false where the
// client has gone.
func (d *download) pace(body []byte) bool {
	piece, every := 64<<10, time.Duration(0)
	if rate := d.fault.Rate; rate > 0 {
		piece, every = rate/int(time.Second/tick), tick
		if piece == 0 {
			piece, every = 1, time.Second/time.Duration(rate)
		}
	}
	for len(body) > 0 {
		if !wait(d.r.Context(), every, nil) {
			return false
		}
		n := min(piece, len(body))
		if !d.write(body[:n]) {
			return false
		}
		body = body[n:]
		if every > 0 {
			_ = http.NewResponseController(d.w).Flush()
		}
	}
	return true
}
