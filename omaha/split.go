package omaha

import "unicode/utf8"

const (
	// MaxRequestSize is what a request may have on the wire, in bytes. Nebraska refuses more than 64 KiB; the
	// difference is for proxies that add to a request.
	MaxRequestSize = 63 << 10

	// envelopeSize bounds what surrounds the apps: the XML declaration and the elements <request> and <os>,
	// with a version as long as Client.Validate allows, but without the ids that Request has.
	envelopeSize = 1 << 10
)

// Split returns the request in parts of at most limit bytes each (0 means [MaxRequestSize]), the apps in order.
// The parts share the request's session.
//
// An app is never spread over two parts. Where one app alone is too large, its part carries as many of its events
// as fit, from the first on and at least one; the others are left out, to be sent once these are delivered (see
// [AppResponse].Delivered), and so is its check, which must not overtake an event (a ping goes instead).
// What does not fit even so, such as an id of a hundred kilobytes, goes alone and as it is, for the server to refuse.
func (r *Request) Split(limit int) []*Request {
	if limit <= 0 {
		limit = MaxRequestSize
	}
	room := limit - envelopeSize - escapedLen(r.SessionID) - escapedLen(r.UserID)
	common := escapedLen(r.MachineID) + escapedLen(r.BootID) + escapedLen(r.MachineAlias)

	var parts []*Request
	start, used := 0, 0
	for i := range r.Apps {
		size := common + r.Apps[i].size()
		if i > start && used+size > room {
			parts = append(parts, r.part(start, i, room-common))
			start, used = i, 0
		}
		used += size
	}
	return append(parts, r.part(start, len(r.Apps), room-common))
}

// part returns the request with the apps from start to end only. One alone is cut down to room bytes.
func (r *Request) part(start, end, room int) *Request {
	p := *r
	p.Apps = r.Apps[start:end:end]
	if len(p.Apps) == 1 && p.Apps[0].size() > room {
		p.Apps = []AppRequest{p.Apps[0].cut(room)}
	}
	return &p
}

// cut returns the app with only as many events as fit into room bytes.
func (a AppRequest) cut(room int) AppRequest {
	events := a.Events
	a.Events = nil
	size := a.size()
	kept := 0
	for kept < len(events) && (kept == 0 || size+events[kept].size() <= room) {
		size += events[kept].size()
		kept++
	}
	a.Events = events[:kept:kept]
	if kept < len(events) {
		a.Ping = a.Ping || a.Check
		a.Check = false
	}
	return a
}

// size bounds the bytes that the app takes on the wire, without the request's own ids.
func (a *AppRequest) size() int {
	const tags = `<app appid="" version="" track="" bootid="" machinealias="" machineid=""></app>` +
		`<ping active="1"></ping><updatecheck></updatecheck>`
	n := len(tags) + escapedLen(a.ID) + max(escapedLen(a.Version), len("0.0.0")) + escapedLen(a.Channel)
	for i := range a.Events {
		n += a.Events[i].size()
	}
	return n
}

func (e *Event) size() int {
	const number = "-9223372036854775808"
	const tags = `<event eventtype="" eventresult="" errorcode="" nextversion="" previousversion=""></event>` +
		number + number + number
	return len(tags) + escapedLen(e.PreviousVersion) + escapedLen(e.NextVersion)
}

// escapedLen is the length of s as an attribute's value, escaped as encoding/xml does it.
func escapedLen(s string) int {
	n := len(s)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\'' || c == '&' || c == '\t' || c == '\n' || c == '\r':
			n += len("&#34;") - 1
		case c == '<' || c == '>':
			n += len("&lt;") - 1
		case c < ' ':
			n += utf8.RuneLen(utf8.RuneError) - 1
		case c >= utf8.RuneSelf:
			r, width := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && width == 1 {
				n += utf8.RuneLen(utf8.RuneError) - 1
			}
			i += width
			continue
		}
		i++
	}
	return n
}
