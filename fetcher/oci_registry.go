package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/nebraska/omahaclient/internal/download"
	"github.com/nebraska/omahaclient/internal/secrets"
)

// Credential is what a registry knows a program by. The zero Credential is nobody.
type Credential struct {
	Username, Password string
	// RefreshToken is what Docker calls an identity token: it is sent to the registry's token service alone.
	RefreshToken string
	// AccessToken is sent to the registry as it is, as its bearer token.
	AccessToken string
}

// place is where the images of one reference may be: a host and the repository there.
type place struct {
	host       registryHost
	repository string
	tag        string
	namespace  string // for a mirror: the registry it stands for
}

// url is the address of a manifest or blob. A mirror is told the registry in the query, as containerd does.
func (p place) url(kind, name string) string {
	u := *p.host.url
	u.Path += "/" + p.repository + "/" + kind + "/" + name
	if p.namespace != "" {
		u.RawQuery = url.Values{"ns": {p.namespace}}.Encode()
	}
	return u.String()
}

// registries is the transport of one pull. It adds credentials to requests for the registries and mirrors of that pull, each
// host's own, and to no other: the engine sends each redirect as a request of its own, and a blob store is nobody's registry.
// Safe for concurrent use.
type registries struct {
	plain  http.RoundTripper // towards everybody else
	places []place
	cache  auth.Cache
	access map[string]*access // by origin

	credential auth.CredentialFunc

	mu      sync.Mutex  // guards secrets
	secrets secrets.Set // that were sent to registries and token services
}

// access is how one host is spoken to.
type access struct {
	transport http.RoundTripper
	header    http.Header
	scopes    []string

	mu   sync.Mutex // guards down
	down bool       // the last request failed
}

// registries finds out where a pull may get its image from. close must be called.
func (o OCI) registries(refs []reference) (r *registries, closeIdle func(), err error) {
	client := o.Client
	var own []*http.Transport
	if client == nil {
		client = download.NewClient()
		own = append(own, client.Transport.(*http.Transport)) //nolint:forcetypeassert // it is
	}
	r = &registries{plain: client.Transport, cache: auth.NewCache(), access: map[string]*access{}}
	r.credential = r.noting(o.credentials())
	if r.plain == nil {
		r.plain = http.DefaultTransport
	}
	for _, ref := range refs {
		hosts, err := o.hosts(ref)
		if err != nil {
			return nil, nil, err
		}
		for _, h := range hosts {
			if a, made := r.add(ref, h); made != nil {
				a.transport = made
				own = append(own, made)
			}
		}
	}
	return r, func() {
		for _, t := range own {
			t.CloseIdleConnections()
		}
	}, nil
}

// hosts lists the mirrors of a reference's registry and the registry itself.
func (o OCI) hosts(ref reference) ([]registryHost, error) {
	origin := &url.URL{Scheme: ref.scheme, Host: ref.registry, Path: "/v2"}
	if ref.registry == dockerHub {
		origin.Host = dockerHubHost
	}
	plain := isLoopback(ref.registry) && origin.Port() != "443" || slices.Contains(o.PlainHTTP, ref.registry)
	switch {
	case ref.scheme == "http" && !plain:
		return nil, fmt.Errorf("%w %q: http is for registries on this machine: leave the scheme out, or add the host to OCI.PlainHTTP", ErrBadReference, ref)
	case ref.scheme == "" && plain:
		origin.Scheme = "http"
	case ref.scheme == "":
		origin.Scheme = "https"
	}
	dirs := o.MirrorsDir
	if dirs == "" {
		dirs = defaultMirrors
	}
	hosts, err := mirrorsOf(dirs, ref.registry, origin)
	if len(hosts) == 0 && err == nil {
		hosts = []registryHost{{url: origin, pull: true, resolve: true}}
	}
	return hosts, err
}

// add makes a host a place for the reference's image. Where the host wants TLS settings of its own, a transport is made for it.
func (r *registries) add(ref reference, h registryHost) (*access, *http.Transport) {
	p := place{host: h, repository: ref.repository, tag: cmp.Or(ref.tag, "latest")}
	if !sameHost(h.url.Host, ref.registry) {
		p.namespace = ref.registry
	}
	r.places = append(r.places, p)
	a := r.access[origin(h.url)]
	if a == nil {
		a = &access{transport: r.plain, header: h.header}
		r.access[origin(h.url)] = a
	}
	scope := auth.ScopeRepository(ref.repository, auth.ActionPull)
	if !slices.Contains(a.scopes, scope) {
		a.scopes = append(a.scopes, scope)
	}
	if h.tls == nil && h.dial == 0 {
		return a, nil
	}
	t, ok := r.plain.(*http.Transport)
	if !ok {
		t = download.NewClient().Transport.(*http.Transport) //nolint:forcetypeassert // it is
	}
	t = t.Clone()
	if h.tls != nil {
		t.TLSClientConfig = h.tls
	}
	if h.dial != 0 {
		t.DialContext = (&net.Dialer{Timeout: h.dial, KeepAlive: 30 * time.Second}).DialContext
	}
	return a, t
}

func sameHost(host, registry string) bool {
	return host == registry || registry == dockerHub && host == dockerHubHost
}

func origin(u *url.URL) string { return strings.ToLower(u.Scheme + "://" + u.Host) }

// urls lists the addresses of a manifest or blob, best first.
func (r *registries) urls(kind string, d digest.Digest) []string {
	return r.list(func(p place) (string, bool) { return p.url(kind, d.String()), p.host.pull })
}

// tags lists the addresses of the manifest that the reference's tag stands for.
func (r *registries) tags() []string {
	return r.list(func(p place) (string, bool) { return p.url("manifests", p.tag), p.host.resolve })
}

// list puts hosts whose last request failed last, so that a dead mirror is waited for once, and not for each blob.
func (r *registries) list(address func(place) (url string, ok bool)) []string {
	var up, down []string
	for _, p := range r.places {
		switch u, ok := address(p); {
		case !ok:
		case r.access[origin(p.host.url)].isDown():
			down = append(down, u)
		default:
			up = append(up, u)
		}
	}
	return append(up, down...)
}

func (a *access) isDown() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.down
}

func (a *access) set(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// RoundTrip implements http.RoundTripper. A 401 is answered with credentials, or a fresh token, once.
func (r *registries) RoundTrip(req *http.Request) (*http.Response, error) {
	a := r.access[origin(req.URL)]
	if a == nil {
		return r.plain.RoundTrip(req)
	}
	req = req.Clone(auth.WithScopesForHost(req.Context(), req.URL.Host, a.scopes...))
	maps.Copy(req.Header, a.header)
	client := &auth.Client{
		Client:     &http.Client{Transport: spy{r, a.transport}, CheckRedirect: onlyTokens(req.URL)},
		Header:     http.Header{"User-Agent": {"omahaclient"}},
		Credential: r.credential,
		Cache:      r.cache,
		ClientID:   "omahaclient",
	}
	resp, err := client.Do(req)
	a.set(err != nil)
	return resp, judge(r.harmless(err))
}

// spy notes what is secret in the requests for registries and token services, which answer with texts of their own.
type spy struct {
	*registries
	next http.RoundTripper
}

func (s spy) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.secrets.AddUser(req.URL.User)
	s.secrets.AddHeaders(req.Header)
	s.secrets.AddProxy(s.next, req)
	s.mu.Unlock()
	return s.next.RoundTrip(req)
}

// harmless is err without what was secret in the requests that led to it.
func (r *registries) harmless(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.secrets.Error(err)
}

// noting is credential with its answers noted as secrets.
func (r *registries) noting(credential auth.CredentialFunc) auth.CredentialFunc {
	return func(ctx context.Context, host string) (auth.Credential, error) {
		c, err := credential(ctx, host)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.secrets.AddUser(url.UserPassword(c.Username, c.Password))
		r.secrets.Add(c.RefreshToken, c.AccessToken)
		return c, err
	}
}

// onlyTokens leaves redirects of the request for u to the engine; those of a token service may be followed.
func onlyTokens(u *url.URL) func(*http.Request, []*http.Request) error {
	return func(_ *http.Request, via []*http.Request) error {
		if len(via) > 3 || via[0].URL.String() == u.String() {
			return http.ErrUseLastResponse
		}
		return nil
	}
}

// judge tells what there is no use in trying again.
func judge(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return download.Final(fmt.Errorf("%w: it wants a user and password: log in with docker login, or set OCI.Credentials", err))
	case hopeless(err):
		return download.Final(fmt.Errorf("no token: %w: log in with docker login, or set OCI.Credentials", err))
	}
	return err
}

// hopeless tells the failures to log in that stay.
func hopeless(err error) bool {
	var answer *errcode.ErrorResponse
	return errors.Is(err, auth.ErrBasicCredentialNotFound) || errors.As(err, &answer) && refuses(answer.StatusCode)
}

func refuses(status int) bool {
	return status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

// credentials returns where to look for a host's credentials: the program's own function, or Docker's configuration.
func (o OCI) credentials() auth.CredentialFunc {
	if o.Credentials == nil {
		return dockerCredentials()
	}
	return func(ctx context.Context, host string) (auth.Credential, error) {
		if host == dockerHubHost {
			host = dockerHub
		}
		c, err := o.Credentials(ctx, host)
		return auth.Credential{Username: c.Username, Password: c.Password, RefreshToken: c.RefreshToken, AccessToken: c.AccessToken}, err
	}
}

// dockerCredentials reads Docker's configuration ($DOCKER_CONFIG, ~/.docker) when a registry asks for credentials, and not before.
func dockerCredentials() auth.CredentialFunc {
	load := sync.OnceValues(func() (credentials.Store, error) {
		if _, err := os.UserHomeDir(); err != nil && os.Getenv("DOCKER_CONFIG") == "" {
			return credentials.NewMemoryStore(), nil // a service without a home
		}
		return credentials.NewStoreFromDocker(credentials.StoreOptions{DetectDefaultNativeStore: false})
	})
	return func(ctx context.Context, host string) (auth.Credential, error) {
		store, err := load()
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("docker's configuration: %w: correct it, or set OCI.Credentials", err)
		}
		return credentials.Credential(store)(ctx, host)
	}
}
