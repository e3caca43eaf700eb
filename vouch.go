package omahaclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

// vouchPatience bounds one verification with all that it fetches.
const vouchPatience = 5 * time.Minute

// trustDir is the folder for what the app's verifier remembers. An id with braces is the same one without (Omaha's UUIDs).
func (c *Client) trustDir(a *app) (string, error) { return c.dir.TrustDir(strings.Trim(a.key, "{}")) }

// vouch asks the app's verifier about an offer, and returns the payloads that the publisher vouches for: nothing but these is
// fetched, by the publisher's hashes and not by the server's.
func (c *Client) vouch(ctx context.Context, a *app, u *state.Update, list []fetcher.Source) ([]fetcher.Source, error) {
	if a.verifier == nil {
		return list, nil
	}
	dir, err := c.trustDir(a)
	if err != nil {
		return nil, err
	}
	claim := trust.Claim{
		AppID: a.id, Channel: u.Channel, Arch: runtime.GOARCH, Version: u.Version,
		Payloads: claimed(list), Signed: c.signed(list), Now: c.clock(), Dir: dir,
	}
	var release trust.Release
	// In the pool, so that it has its turn among the workers, and so that a verifier's panic ends nothing else.
	_, _, err = c.pool.Do(ctx, a.key, "", func(ctx context.Context) (p fetcher.Payload, err error) {
		ctx, cancel := context.WithTimeoutCause(ctx, vouchPatience, errVouchPatience)
		defer cancel()
		release, err = a.verifier.Verify(ctx, claim)
		return p, err
	})
	if err != nil {
		err = fmt.Errorf("verify version %s: %w", u.Version, err)
		if !errors.Is(err, trust.ErrUntrusted) {
			err = &undecidedError{err}
		}
		return nil, err
	}
	vouched, err := pin(list, release, u.Version)
	if err != nil {
		return nil, fmt.Errorf("verify version %s: %w", u.Version, err)
	}
	c.cfg.logger.Info("version vouched for by its publisher", "app_id", a.id, "version", u.Version, "sequence", release.Sequence,
		"where", release.Where, "payloads", len(vouched), "left_out", len(list)-len(vouched))
	return vouched, nil
}

// undecidedError is why it could not be found out whether a release is the publisher's. Whatever else it wraps (a document of the wrong
// size, say) speaks of what was asked, and is no fault of the release's.
type undecidedError struct{ error }

func (e *undecidedError) Unwrap() error { return e.error }

var errVouchPatience = fmt.Errorf("what proves the release did not come within %v", vouchPatience)

// claimed is what a server announces, as a verifier takes it.
func claimed(list []fetcher.Source) []trust.Payload {
	claims := make([]trust.Payload, len(list))
	for i, src := range list {
		claims[i] = trust.Payload{Name: src.Name, Size: src.Size, Image: mediaTypeIs(src, typeImage)}
		if len(src.SHA256) > 0 {
			claims[i].Digest = "sha256:" + hex.EncodeToString(src.SHA256)
		}
		if claims[i].Image {
			claims[i].Size = 0
			if claims[i].Digest == "" {
				claims[i].Digest = announcedDigest(src)
			}
		}
	}
	return claims
}

// announcedDigest is the digest in an image's reference.
func announcedDigest(src fetcher.Source) string {
	for _, ref := range src.URLs {
		if _, digest, found := strings.Cut(ref, "@"); found && strings.HasPrefix(digest, "sha256:") {
			return digest
		}
	}
	return ""
}

// pin gives each payload the publisher's size and digest, and leaves out those that nobody vouches for.
func pin(list []fetcher.Source, release trust.Release, version string) ([]fetcher.Source, error) {
	if len(release.Payloads) != len(list) || !sameVersion(release.Version, version) {
		return nil, fmt.Errorf("%w: it vouches for %d payloads of version %q, offered are %d of %s (a fault of the verifier)",
			trust.ErrMismatch, len(release.Payloads), release.Version, len(list), version)
	}
	var vouched []fetcher.Source
	for i, p := range release.Payloads {
		if p.Digest == "" {
			continue
		}
		digits, is256 := strings.CutPrefix(p.Digest, "sha256:")
		sum, err := hex.DecodeString(digits)
		if !is256 || err != nil || len(sum) != 32 {
			return nil, fmt.Errorf("%w: digest %q of %q is no SHA-256 (a fault of the verifier)", trust.ErrMalformed, p.Digest, p.Name)
		}
		src := list[i]
		src.SHA1, src.SHA256 = nil, sum
		if p.Size > 0 {
			src.Size = p.Size
		}
		if mediaTypeIs(src, typeImage) {
			if src, err = pinImage(src, p.Digest); err != nil {
				return nil, err
			}
		}
		vouched = append(vouched, src)
	}
	if len(vouched) == 0 {
		return nil, fmt.Errorf("%w: it vouches for none of the payloads", trust.ErrMismatch)
	}
	return vouched, nil
}

// pinImage makes references by tag ones by digest.
func pinImage(src fetcher.Source, digest string) (fetcher.Source, error) {
	refs := make([]string, len(src.URLs))
	for i, ref := range src.URLs {
		pinned, err := fetcher.Pin(ref, digest)
		if err != nil {
			return src, fmt.Errorf("%w: %w", trust.ErrMismatch, err)
		}
		refs[i] = pinned
	}
	src.URLs = refs
	return src, nil
}

// kept checks that a fetcher brought what was asked for: one that a program registered might fetch without looking at hashes. Ours have hashed
// what they say; of any other a file is hashed here.
func (c *Client) kept(ctx context.Context, src fetcher.Source, p fetcher.Payload) error {
	want := "sha256:" + hex.EncodeToString(src.SHA256)
	if p.Digest != want && !(mediaTypeIs(src, typeImage) && strings.HasSuffix(p.Reference, "@"+want)) {
		return fmt.Errorf("%w: the fetcher for %q brought %s, and the publisher vouches for %s", fetcher.ErrDigest, src.MediaType, p.Digest, want)
	}
	switch c.cfg.fetchers[fetcher.BaseType(src.MediaType)].(type) {
	case fetcher.HTTP, *fetcher.HTTP, fetcher.OCI, *fetcher.OCI:
		return nil
	}
	info, err := os.Lstat(p.Path)
	if err != nil {
		return fmt.Errorf("look at what the fetcher for %q brought: %w", src.MediaType, err)
	}
	if !info.Mode().IsRegular() {
		return nil // a folder, an image: only its fetcher knows how to hash it
	}
	got, err := hashed(ctx, p.Path)
	if err == nil && got != want {
		err = fmt.Errorf("%w: the fetcher for %q brought %s and says otherwise; the publisher vouches for %s", fetcher.ErrDigest, src.MediaType, got, want)
	}
	return err
}

func hashed(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return f.Read(p)
	}))
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), err
}

// clock is the machine's, but never earlier than the program's build.
func (c *Client) clock() time.Time {
	if now := time.Now(); now.After(c.cfg.built) {
		return now
	}
	return c.cfg.built
}

// buildTime is when this program's source was committed, as far as the build says so.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value)
			return t
		}
	}
	return time.Time{}
}

// distrust decides how a release that nobody vouches for is held back. A statement or signature that is not there may be on its
// way: once more at the next scheduled check. Otherwise the release is refused, and looked at again when a check goes although it is.
func distrust(rec *state.App, w *state.Wait, cause error) {
	w.Code = int(omaha.ExitPublicKey)
	again := rec.Wait != nil && rec.Wait.Identity == w.Identity
	if again || !errors.Is(cause, trust.ErrNoStatement) && !errors.Is(cause, fetcher.ErrUnsigned) {
		w.Kind, w.Until = state.WaitRefused, time.Time{}
	}
}
