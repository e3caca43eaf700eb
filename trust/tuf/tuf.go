package tuf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/nebraska/omahaclient/trust"
)

// Config says whom to trust, and where the metadata are.
type Config struct {
	// Root is the pinned root metadata, a root.json of any version that this program may start from; required. It may
	// have expired, as long as the repository leads on to one that has not.
	Root []byte

	// MetadataURL is the folder with timestamp.json, http or https, without query and fragment; required. A user and password in it are sent
	// there, and never logged.
	MetadataURL string

	// HTTPClient makes the connections; its redirects are limited (below) and it is not changed. Default: one with TLS 1.2 at least and the
	// environment's proxies. At most 10 redirects are followed, from https to https only.
	HTTPClient *http.Client

	// Timeout is for all the requests of one Verify together. Default: 2 minutes.
	Timeout time.Duration

	// MaxMetadata is the size in bytes of the largest file of metadata that is read, whatever other metadata announce. Default: 5,000,000.
	MaxMetadata int64

	// MaxRoots is how many new roots one Verify follows. Default: 256.
	MaxRoots int

	// MaxDelegations is how many roles are looked at for one target. Default: 32.
	MaxDelegations int

	// TargetPath names the target of a payload. It must keep versions, and whatever else must not be confused, apart;
	// "" means that nobody vouches for that payload. It is called from several goroutines. Default: [TargetPath].
	TargetPath func(claim trust.Claim, p trust.Payload) string

	// Logger is told of cached metadata that were used, or set aside. Default: discard.
	Logger *slog.Logger
}

// Verifier asks a TUF repository. It is safe for concurrent use, as [trust.Verifier] says.
type Verifier struct {
	config Config
	client *http.Client
	own    bool   // the client is ours
	where  string // the URL without credentials
}

var _ trust.Verifier = (*Verifier)(nil)

// New checks the configuration and sends nothing. Its errors name every field that is wrong.
func New(config Config) (*Verifier, error) {
	u, err := metadataURL(config.MetadataURL)
	err = errors.Join(err, checkRoot(config.Root), limits(&config))
	if err != nil {
		return nil, fmt.Errorf("configure tuf: %w", err)
	}
	if config.TargetPath == nil {
		config.TargetPath = TargetPath
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Root = append([]byte(nil), config.Root...)
	v := &Verifier{config: config, own: config.HTTPClient == nil, where: redact(u)}
	v.client = guarded(config.HTTPClient)
	return v, nil
}

// Verify refreshes the metadata in claim.Dir and looks up the targets of the claim's payloads.
//
// Errors that wrap [trust.ErrUntrusted]:
//   - [trust.ErrNoStatement]: no payload is listed;
//   - [trust.ErrMismatch]: one has another size or digest than the server says, is no image or no file as it says, or is missing
//     from the offer; or metadata do not belong together;
//   - [trust.ErrExpired], [trust.ErrRollback], [trust.ErrMalformed], [trust.ErrSignature]: of metadata; the last one where a
//     role's threshold was not reached.
//
// All others, such as those of the network, of slow hosts, of a full disk and of ctx, say that it could not be found out.
//
// Release.Expires is when the first of the metadata expires. Issued and Sequence stay zero: TUF's versions belong to
// metadata, not to releases.
func (v *Verifier) Verify(ctx context.Context, claim trust.Claim) (trust.Release, error) {
	if v.own {
		defer v.client.CloseIdleConnections()
	}
	release, err := v.verify(ctx, claim)
	if err != nil {
		return trust.Release{}, fmt.Errorf("verify %s %s with the metadata of %s: %w", claim.AppID, claim.Version, v.where, err)
	}
	return release, nil
}

func (v *Verifier) verify(ctx context.Context, claim trust.Claim) (trust.Release, error) {
	limited, cancel := context.WithTimeoutCause(ctx, v.config.Timeout, slow(v.config.Timeout))
	defer cancel()
	release, err := v.ask(claim, func(path string, limit int64) ([]byte, error) { return v.get(limited, path, limit) }, false)
	var unreachable *unreachableError
	if !errors.As(err, &unreachable) || ctx.Err() != nil {
		return release, err
	}
	// An error of ours keeps the network's: nothing that is cached can tell what is not so.
	offline := func(string, int64) ([]byte, error) { return nil, unreachable }
	release, cachedErr := v.ask(claim, offline, true)
	if cachedErr != nil {
		return trust.Release{}, err
	}
	v.config.Logger.WarnContext(ctx, "the TUF repository cannot be reached; its cached metadata have not expired and are used",
		slog.String("app_id", claim.AppID), slog.String("version", claim.Version), slog.Time("expires", release.Expires), slog.Any("error", err))
	return release, nil
}

func metadataURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the MetadataURL is no URL: give the folder that has timestamp.json") // err repeats it, with its password
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("the MetadataURL %q is neither http nor https: give the folder that has timestamp.json", redact(u))
	case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#"):
		return nil, fmt.Errorf("the MetadataURL %q has a query or a fragment: give the folder that has timestamp.json", redact(u))
	}
	return u, nil
}

func checkRoot(root []byte) error {
	if len(root) == 0 {
		return errors.New("no Root: give the repository's root.json, compiled into the program")
	}
	return safely(func() error {
		if _, err := trustedmetadata.New(root); err != nil {
			return fmt.Errorf("the Root is no root.json that its own keys signed: %w", err)
		}
		return nil
	})
}

// limits fills in the defaults.
func limits(c *Config) error {
	if c.Timeout < 0 || c.MaxMetadata < 0 || c.MaxRoots < 0 || c.MaxDelegations < 0 {
		return errors.New("a limit is negative: Timeout, MaxMetadata, MaxRoots and MaxDelegations are positive, or 0 for the default")
	}
	c.Timeout = orDefault(c.Timeout, 2*time.Minute)
	c.MaxMetadata = orDefault(c.MaxMetadata, 5_000_000)
	c.MaxRoots = orDefault(c.MaxRoots, 256)
	c.MaxDelegations = orDefault(c.MaxDelegations, 32)
	return nil
}

func orDefault[T ~int | ~int64](n, otherwise T) T {
	if n == 0 {
		return otherwise
	}
	return n
}
