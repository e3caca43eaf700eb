package omaha

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

const defaultPath = "/v1/update/" // go-omaha's, and Nebraska's

// parseEndpoint reads an endpoint. Its error says what is wrong with it, and does not show what may be secret in it.
func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if mistake := endpointMistake(endpoint, u, err); mistake != "" {
		return nil, fmt.Errorf("%s is no endpoint: %s: want an absolute URL such as https://updates.example.com/v1/update/", shownEndpoint(endpoint), mistake)
	}
	if u.Path == "" {
		u.Path = defaultPath
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// endpointMistake says what is wrong with an endpoint, "" if nothing is. What url.Parse says is not shown: the beginning of a password
// with a slash in it is a wrong port to it.
func endpointMistake(endpoint string, u *url.URL, err error) string {
	control := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch scheme, _, found := strings.Cut(endpoint, "://"); {
	case endpoint == "":
		return "it is empty"
	case strings.TrimFunc(endpoint, control) != endpoint:
		return "a blank or line break stands before or behind it: take that off"
	case !found && (err != nil || u.Host == "" && u.Scheme != "http" && u.Scheme != "https"):
		return "it has no scheme: add https:// in front (http:// for a server without TLS)"
	case found && scheme == "":
		return "it has no scheme: add https in front (http for a server without TLS)"
	case err != nil && strings.ContainsFunc(endpoint, control):
		return "it has a blank or line break in it: take that out, or escape it (%20 for a blank)"
	case err != nil && strings.ContainsAny(endpoint, "@?%"):
		return "it cannot be parsed: escape (%2F for a slash) what is special in its user, password or query"
	case err != nil:
		return "it cannot be parsed: are its host and port right?"
	case u.Scheme == "":
		return "it has no scheme: add https: in front (http: for a server without TLS)"
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("its scheme is %q, not https or http", u.Scheme)
	case u.Hostname() == "":
		return "there is no host in it"
	case strings.Contains(u.EscapedPath(), "@"):
		return "an @ stands in its path: write a slash in its user or password as %2F, and an @ of the path as %40"
	case !goodPort(u.Port()):
		return "its port is not 1 to 65535"
	}
	return ""
}

// goodPort reports whether something can listen there; "" is the scheme's own.
func goodPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// shownEndpoint is an endpoint that is none as messages may show it: as it was typed, where it cannot hold a user, a password or a
// query, and without the secret at the end of its path.
func shownEndpoint(endpoint string) string {
	const hidden = "what is given"
	if strings.ContainsAny(endpoint, "@?#%") {
		return hidden
	}
	_, rest, _ := strings.Cut(endpoint, "://")
	if rest == "" {
		rest = endpoint
	}
	if _, port, found := strings.Cut(rest, ":"); found { // or the password of a user whose @ is missing
		port, _, _ = strings.Cut(port, "/")
		if strings.Trim(port, "0123456789") != "" {
			return hidden
		}
	}
	shown := printable(endpoint, 100)
	if before, after, found := strings.Cut(shown+"/", defaultPath); found && strings.Trim(after, "/") != "" {
		shown = before + defaultPath + "…"
	}
	return strconv.Quote(shown)
}

// shownURL is a URL as messages may show it: without user, password and query, and without the secret that
// Nebraska can be told to expect at the end of its path.
func shownURL(u *url.URL) string {
	path, secret := cutSecret(u)
	if secret != "" {
		path += "…"
	}
	return u.Scheme + "://" + u.Host + path
}

// cutSecret cuts u's path behind Nebraska's own.
func cutSecret(u *url.URL) (path, secret string) {
	path = u.EscapedPath()
	if before, after, found := strings.Cut(path, defaultPath); found {
		return before + defaultPath, strings.Trim(after, "/")
	}
	return path, ""
}
