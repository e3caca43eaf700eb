package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/internal/wait"
)

// Limits of what is asked for to look at it.
const (
	lookupTries     = 3
	lookupTimeout   = 30 * time.Second // for one answer, body included
	lookupRetryWait = 500 * time.Millisecond
	maxLookupHops   = 5 // redirects
	maxPages        = 8 // of a list of referrers
)

// errNotThere says that a registry does not have, or not know, what was asked for.
var errNotThere = errors.New("it is not there")

// lookup gets small documents from registries into memory: manifests, lists of referrers and their blobs. The engine that moves layers is
// for files that may be cut off and resumed; here nothing is written, and what does not come is asked for again.
type lookup struct {
	registries *registries
	tries      int
	timeout    time.Duration
	wait       time.Duration
}

func (o OCI) lookup(r *registries) *lookup {
	l := &lookup{registries: r, tries: o.Tries, timeout: o.StallTimeout, wait: o.RetryWait}
	if l.tries <= 0 {
		l.tries = lookupTries
	}
	if l.timeout <= 0 {
		l.timeout = lookupTimeout
	}
	if l.wait <= 0 {
		l.wait = lookupRetryWait
	}
	return l
}

// answered is an answer with status 200.
type answered struct {
	url    *url.URL // after redirects
	header http.Header
	body   []byte
}

// resolve returns the digest of what the reference's tag stands for, at the first place that knows.
func (l *lookup) resolve(ctx context.Context) (digest.Digest, error) {
	var errs []error
	for _, p := range l.registries.resolvers() {
		got, err := l.get(ctx, p.url("manifests", p.tag), maxManifest)
		if err == nil {
			return digest.FromBytes(got.body), nil // what a registry says of its digest proves nothing
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.name(p.tag), err))
	}
	return "", errors.Join(errs...)
}

// referrers lists what one place says refers to a digest.
func (l *lookup) referrers(ctx context.Context, p place, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	u, err := url.Parse(p.url("referrers", subject.String()))
	if err != nil {
		return nil, err
	}
	if artifactType != "" {
		query := u.Query()
		query.Set("artifactType", artifactType)
		u.RawQuery = query.Encode()
	}
	var all []ocispec.Descriptor
	for page := 0; u != nil && page < maxPages; page++ {
		got, err := l.get(ctx, u.String(), maxManifest)
		if page == 0 && (errors.Is(err, errNotThere) || err == nil && !isIndexType(got.header)) {
			return l.fallback(ctx, p, subject, artifactType)
		}
		if err != nil {
			return newest(all), err
		}
		list, err := parseReferrers(got.body, artifactType)
		if err != nil {
			return newest(all), err
		}
		all = newest(append(newest(list), all...))
		u = nextPage(got)
	}
	return newest(all), nil
}

// fallback lists what clients noted under the tag for that.
func (l *lookup) fallback(ctx context.Context, p place, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	got, err := l.get(ctx, p.url("manifests", fallbackTag(subject)), maxManifest)
	if errors.Is(err, errNotThere) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := parseReferrers(got.body, artifactType)
	return newest(list), err
}

// nextPage is where the next page of a list is (RFC 8288, as the distribution specification uses it), nil where this one was
// the last. Another host's pages are not asked for.
func nextPage(got answered) *url.URL {
	target, params, _ := strings.Cut(got.header.Get("Link"), ">")
	target, isLink := strings.CutPrefix(strings.TrimSpace(target), "<")
	if !isLink || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
		return nil
	}
	next, err := got.url.Parse(target)
	if err != nil || origin(next) != origin(got.url) {
		return nil
	}
	return next
}

// content gets what a descriptor names, verified.
func (l *lookup) content(ctx context.Context, p place, kind string, d ocispec.Descriptor, limit int64) ([]byte, error) {
	got, err := l.get(ctx, p.url(kind, d.Digest.String()), limit)
	if err != nil {
		return nil, err
	}
	if int64(len(got.body)) != d.Size {
		return nil, fmt.Errorf("%w: it has %d bytes, it must have %d", ErrSize, len(got.body), d.Size)
	}
	if sum := digest.FromBytes(got.body); sum != d.Digest {
		return nil, fmt.Errorf("%w: got %s", ErrDigest, sum)
	}
	return got.body, nil
}

// get asks for a document of at most limit bytes, again where that may help.
func (l *lookup) get(ctx context.Context, address string, limit int64) (answered, error) {
	delay := l.wait
	for try := 1; ; try++ {
		got, err := l.once(ctx, address, limit)
		if ctx.Err() != nil {
			return answered{}, wait.Ended(ctx)
		}
		if err == nil || try >= l.tries || !worthAnother(err) {
			return got, err
		}
		if err := wait.For(ctx, delay); err != nil {
			return answered{}, err
		}
		delay = min(2*delay, lookupTimeout)
	}
}

// worthAnother tells a host's bad moment from its last word.
func worthAnother(err error) bool {
	var status statusError
	if errors.As(err, &status) {
		return status.code/100 == 5 || status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	}
	return !errors.Is(err, errNotThere) && !errors.Is(err, ErrSize) && !errors.Is(err, errRedirect) && !hopeless(err)
}

// statusError is an answer that is none.
type statusError struct{ code int }

func (e statusError) Error() string {
	s := "it answered " + strconv.Itoa(e.code) + " " + http.StatusText(e.code)
	if e.code == http.StatusUnauthorized || e.code == http.StatusForbidden {
		s += ": log in with docker login, or set OCI.Credentials"
	}
	return s
}

var errRedirect = errors.New("its redirects lead nowhere")

// once does one exchange, redirects included, within the time limit.
func (l *lookup) once(ctx context.Context, address string, limit int64) (answered, error) {
	slow := fmt.Errorf("%w: no whole answer in %v", ErrTooSlow, l.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, l.timeout, slow)
	defer cancel()
	got, err := l.exchange(ctx, address, limit)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrTooSlow) {
		return answered{}, slow
	}
	return got, err
}

func (l *lookup) exchange(ctx context.Context, address string, limit int64) (answered, error) {
	u, err := url.Parse(address)
	if err != nil {
		return answered{}, err
	}
	for range maxLookupHops {
		resp, err := l.send(ctx, u)
		if err != nil {
			return answered{}, err
		}
		if next := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && next != "" {
			resp.Body.Close()
			if u, err = redirected(u, next); err != nil {
				return answered{}, err
			}
			continue
		}
		defer resp.Body.Close()
		body, err := accept(resp, limit)
		return answered{url: u, header: resp.Header, body: body}, err
	}
	return answered{}, fmt.Errorf("%w: there are more than %d", errRedirect, maxLookupHops)
}

// send asks one host. Nothing but the address goes from one host to the next: the transport adds each host's own credentials.
func (l *lookup) send(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Accept": {acceptManifests()}, "Accept-Encoding": {"identity"}, "User-Agent": {"omahaclient"}}
	return l.registries.RoundTrip(req)
}

func redirected(from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	if err != nil || to.Host == "" || to.Scheme != "https" && to.Scheme != "http" {
		return nil, fmt.Errorf("%w: one goes to what is no URL", errRedirect)
	}
	if from.Scheme == "https" && to.Scheme == "http" {
		return nil, fmt.Errorf("%w: one goes from https to http, where anybody on the way could answer", errRedirect)
	}
	to.User = nil
	return to, nil
}

func accept(resp *http.Response, limit int64) ([]byte, error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusBadRequest, http.StatusNotAcceptable, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return nil, errNotThere // what registries say to a referrers API that they do not have
	default:
		return nil, statusError{resp.StatusCode}
	}
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrSize, resp.ContentLength, limit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: it has more than the %d bytes that are allowed", ErrSize, limit)
	}
	return body, err
}

// resolvers lists the places that may say what is mutable, such as what a tag stands for; those that failed last come last.
func (r *registries) resolvers() []place {
	places := slices.DeleteFunc(slices.Clone(r.places), func(p place) bool { return !p.host.resolve })
	slices.SortStableFunc(places, func(a, b place) int {
		return cmp.Compare(btoi(r.access[origin(a.host.url)].isDown()), btoi(r.access[origin(b.host.url)].isDown()))
	})
	return places
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// name is what a message calls something in this place's repository: a tag or a digest.
func (p place) name(ref string) string {
	sep := ":"
	if strings.HasPrefix(ref, "sha256:") {
		sep = "@"
	}
	return p.host.url.Host + "/" + p.repository + sep + ref
}
