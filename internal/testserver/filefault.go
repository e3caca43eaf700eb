package testserver

import (
	"net/http"
	"time"
)

// FileFault spoils one answer of the payload host. The zero FileFault spoils
// nothing; the fields combine.
type FileFault struct {
	// Delay passes before the answer.
	Delay time.Duration
	// Status answers with this status and a short text instead of the file.
	Status int
	// Header is set on the answer: Retry-After, Location, WWW-Authenticate …
	Header http.Header
	// Redirect answers with a redirect to this URL (302 unless Status says
	// otherwise).
	Redirect string

	// Cut ends the connection, Reset ends it with a TCP reset, and Stall stops
	// sending (until the client leaves or the server closes), each after After
	// bytes of the body. A reset may overtake bytes that are on their way.
	Cut, Reset, Stall bool
	After             int64
	// Hold is waited for (until it is closed) after After bytes of the body; then
	// the rest is sent.
	Hold <-chan struct{}

	// Rate, in bytes a second, slows the body down: a hundredth of it is sent
	// every 10 ms, or single bytes where it is below 100.
	Rate int
	// Corrupt flips a bit of the body's byte at offset CorruptAt of the file, or
	// of the first byte sent where that is not among them.
	Corrupt   bool
	CorruptAt int64

	// IgnoreRange answers 200 with the whole file to a request for a range.
	IgnoreRange bool
	// ShiftRange answers 206 with the range moved by so many bytes, in
	// Content-Range as in the content.
	ShiftRange int64
	// LieRange announces a Content-Range moved by so many bytes, with the content
	// asked for.
	LieRange int64
	// LieLength adds to the announced Content-Length: the connection ends before
	// what is missing. Negative, it subtracts, and HTTP lets no more out than
	// announced: the file looks complete and is not.
	LieLength int64
	// Append sends so many bytes of junk after the file, and counts them in the
	// length that is announced.
	Append int64
	// Chunked announces no length at all.
	Chunked bool
	// Gzip compresses the body, with Content-Encoding: gzip.
	Gzip bool
	// NoValidator leaves the ETag out (there never is a Last-Modified); ETag
	// replaces it.
	NoValidator bool
	ETag        string
	// Content replaces the file.
	Content []byte
}

// FileRequest is one request to the payload host.
type FileRequest struct {
	Time         time.Time
	Method, Host string
	Path         string
	Range        string
	Header       http.Header // as received
	TLS          bool
	Status       int   // of the answer; 0 as long as there is none
	Bytes        int64 // of its body that were written
}
