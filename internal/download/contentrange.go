package download

import (
	"errors"
	"strconv"
	"strings"
)

// contentRange is a parsed Content-Range (RFC 9110, section 14.4).
type contentRange struct {
	first, last int64 // both -1 where the range was not satisfied (416)
	total       int64 // -1: unknown
}

var errContentRange = errors.New("malformed Content-Range")

// parseContentRange takes "bytes 0-9/10", "bytes 0-9/*" and "bytes */10".
func parseContentRange(s string) (contentRange, error) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	span, total, ok := strings.Cut(rest, "/")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, errContentRange
	}
	r := contentRange{first: -1, last: -1, total: -1}
	var err error
	if total != "*" {
		if r.total, err = parseCount(total); err != nil {
			return contentRange{}, err
		}
	}
	if span == "*" {
		if r.total < 0 {
			return contentRange{}, errContentRange
		}
		return r, nil
	}
	first, last, _ := strings.Cut(span, "-")
	if r.first, err = parseCount(first); err != nil {
		return contentRange{}, err
	}
	if r.last, err = parseCount(last); err != nil {
		return contentRange{}, err
	}
	if r.last < r.first || r.total >= 0 && r.last >= r.total {
		return contentRange{}, errContentRange
	}
	return r, nil
}

// parseCount takes digits only: no sign, no space.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, errContentRange
	}
	return int64(n), nil
}
