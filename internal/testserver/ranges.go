package testserver

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// byteRange reads the request's Range header (RFC 9110, section 14.2): one range
// of a GET; several, and what is not understood, mean the whole file, as does an
// If-Range that does not fit.
func (d *download) byteRange(size int64) (start, end int64, partial, satisfiable bool) {
	spec, isBytes := strings.CutPrefix(d.r.Header.Get("Range"), "bytes=")
	if condition := d.r.Header.Get("If-Range"); condition != "" && (condition != d.file.etag || strings.HasPrefix(condition, "W/")) {
		return 0, size, false, true
	}
	from, to, isRange := strings.Cut(spec, "-")
	if !isBytes || !isRange || strings.Contains(spec, ",") {
		return 0, size, false, true
	}
	if from == "" { // the last bytes
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil {
			return 0, size, false, true
		}
		return max(size-n, 0), size, true, n > 0 && size > 0
	}
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, size, false, true
	}
	end = size
	if to != "" {
		last, err := strconv.ParseInt(to, 10, 64)
		if err != nil || last < start {
			return 0, size, false, true
		}
		end = min(last, size-1) + 1
	}
	return start, end, true, start < size
}

func contentRange(start, end int64, size int) string {
	return fmt.Sprintf("bytes %d-%d/%d", start, end-1, size)
}

// shift moves a range within the file.
func (f *FileFault) shift(start, end, size int64) (int64, int64) {
	start = min(max(start+f.ShiftRange, 0), size)
	end = min(max(end+f.ShiftRange, start), size)
	return start, end
}

// spoil cuts the range out of the content and spoils it; the content itself
// stays as it is.
func (f *FileFault) spoil(content []byte, start, end int64) []byte {
	body := content[start:end]
	if f.Corrupt && len(body) > 0 {
		body = bytes.Clone(body)
		at := f.CorruptAt - start
		if at < 0 || at >= int64(len(body)) {
			at = 0
		}
		body[at] ^= 0x01
	}
	if f.Append > 0 {
		body = append(slices.Clip(body), bytes.Repeat([]byte{'!'}, int(f.Append))...)
	}
	if f.Gzip {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(body) // a bytes.Buffer takes everything
		_ = z.Close()
		body = zipped.Bytes()
	}
	return body
}
