package omahaclient

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/wait"
	"github.com/nebraska/omahaclient/omaha"
)

const (
	typeBinary = "binary"
	typeImage  = "application/vnd.oci.image"
)

// sources turns a manifest's packages into what a fetcher takes.
func sources(m omaha.Manifest, configured string) []fetcher.Source {
	list := make([]fetcher.Source, len(m.Packages))
	for i, p := range m.Packages {
		s := fetcher.Source{
			Name: p.Name, MediaType: mediaType(p, i, configured), URLs: p.URLs,
			Size: p.Size, SHA1: p.SHA1, SHA256: p.SHA256, Metadata: p.Metadata,
		}
		if u, err := url.Parse(p.Name); err == nil && u.IsAbs() || strings.Contains(p.Name, "://") || p.Name == "" && len(p.URLs) > 0 {
			s.Name = lastPart(s.URLs, p.Name)
		} else {
			s.Name, _, _ = strings.Cut(p.Name, "?") // the rest belongs to the address, and may be secret
		}
		list[i] = s
	}
	return list
}

// lastPart makes a label of an address that is all that names the payload: without its query, user and password.
func lastPart(urls []string, name string) string {
	if name == "" {
		name = urls[0]
	}
	name, _, _ = strings.Cut(name, "?")
	if u, err := url.Parse(name); err == nil && u.Path != "" {
		name = u.Path
	} else if _, rest, isURL := strings.Cut(name, "://"); isURL {
		name = rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return path.Base(name)
}

// mediaType says what a package is: by its metadata, by its address' scheme, by the app's option, which speaks of the
// main package alone where that is an image, or else a plain file.
func mediaType(p omaha.Package, index int, configured string) string {
	if p.MediaType != "" {
		return p.MediaType
	}
	if len(p.URLs) > 0 {
		switch scheme, _, _ := strings.Cut(strings.ToLower(p.URLs[0]), "://"); scheme {
		case "oci", "docker":
			return typeImage
		}
	}
	if configured != "" && (index == 0 || fetcher.BaseType(configured) != typeImage) {
		return configured
	}
	return typeBinary
}

// fetch brings an open update to where it can be handed over, and queues it for that. Each step is in the journal before
// it shows. If ctx ends, the update stays open, and the next stream goes on with it.
func (c *Client) fetch(ctx context.Context, a *app) {
	u := c.journal.Get(a.key).Update
	if u == nil {
		return
	}
	if s := c.unsettled(a, u); s != nil {
		c.again(ctx, a, s)
		return
	}
	payloads, err := c.fetchAll(ctx, a, u)
	if err != nil && ctx.Err() != nil {
		return
	}
	if err != nil {
		c.logPanic(a, err)
		cause, release := fetchError(a.id, err)
		c.noteUnwritten(a, closedOr(c.fail(a, u, time.Now(), cause, release)))
		return
	}
	s := &offer{client: c, app: a, update: u, since: time.Now()}
	if err := c.handOver(ctx, a, u, payloads, s); err != nil {
		if ctx.Err() == nil {
			c.cfg.logger.Error("update cannot be handed over", "app_id", a.id, "version", u.Version, "error", err)
		}
		return
	}
	c.queue(a, s)
}

// queue lets the stream hand s over, unless an earlier copy was settled meanwhile: what is settled must not come back as the app's offer.
func (c *Client) queue(a *app, s *offer) {
	c.plan(a, func() {
		a.retry = time.Now()
		if !s.open() {
			return
		}
		a.offer = s
		if c.stream != nil {
			c.stream.ready = append(c.stream.ready, s)
		}
	})
}

// unsettled returns the offer of the update that an earlier stream of this Client left open, or nil.
func (c *Client) unsettled(a *app, u *state.Update) *offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.offer == nil || a.offer.update.Seq != u.Seq {
		return nil
	}
	return a.offer
}

// again hands an offer of an earlier stream over once more; its copies share one verdict.
func (c *Client) again(ctx context.Context, a *app, s *offer) {
	if s.received {
		err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Offer(s.update.Seq) })
		if refused(err) {
			return // settled at this moment
		}
		c.step(a, err)
		if err := c.show(a, s); err != nil || ctx.Err() != nil {
			return
		}
		s.received = false
	}
	c.queue(a, s)
}

// fetchAll fetches the update's payloads one after the other; the pool decides when, and shares what other apps fetch.
func (c *Client) fetchAll(ctx context.Context, a *app, u *state.Update) ([]fetcher.Payload, error) {
	var m omaha.Manifest
	if err := json.Unmarshal(u.Manifest, &m); err != nil {
		return nil, fmt.Errorf("%w: journal of its manifest: %w", errBadPayload, err)
	}
	list := sources(m, a.payloadType)
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the offer names no package", errBadPayload)
	}
	list, err := c.vouch(ctx, a, u, list)
	if err != nil {
		return nil, err
	}
	// The first bytes need not wait until the disk has noted that they are coming; the end of the fetch does.
	var noting sync.WaitGroup
	defer noting.Wait()
	started := sync.OnceFunc(func() { noting.Go(func() { c.started(a, u) }) })
	payloads := make([]fetcher.Payload, len(list))
	known(list, u.Payloads)
	for i, src := range list {
		p, err := c.fetchOne(ctx, a, u, src, strconv.Itoa(i), started)
		if err == nil && a.verifier != nil {
			err = c.kept(ctx, src, p)
		}
		if err != nil {
			return nil, err
		}
		payloads[i] = p
	}
	return payloads, nil
}

// known gives payloads that were announced without a hash the one that they had when they were fetched (journal): an offer
// that comes again after a restart is then looked at, not fetched anew.
func known(list []fetcher.Source, journal json.RawMessage) {
	var had []fetcher.Payload
	if json.Unmarshal(journal, &had) != nil || len(had) != len(list) {
		return
	}
	for i := range list {
		digest, isFile := strings.CutPrefix(had[i].Digest, "sha256:")
		if sum, err := hex.DecodeString(digest); err == nil && isFile && len(list[i].SHA1)+len(list[i].SHA256) == 0 && mediaTypeIs(list[i], typeBinary) {
			list[i].SHA256 = sum
		}
	}
}

func mediaTypeIs(s fetcher.Source, base string) bool { return fetcher.BaseType(s.MediaType) == base }

// longestFetch is for how long one payload keeps a worker. What has come by then is kept, and the next attempt goes on from there: a host
// that just keeps above the floor rate holds up other apps no longer than this.
const longestFetch = 24 * time.Hour

var errTooLong = fmt.Errorf("%w: not done after %v, the next attempt goes on from there", fetcher.ErrTooSlow, longestFetch)

// fetchOne fetches one payload into a folder of its own. Where another app fetches the very same at this moment, its file
// is copied, and verified like every other.
func (c *Client) fetchOne(ctx context.Context, a *app, u *state.Update, src fetcher.Source, index string, started func()) (fetcher.Payload, error) {
	job := fetcher.Job{Source: src}
	var err error
	if job.Dir, err = c.dir.PayloadDir(a.key, u.Identity, index); err != nil {
		return fetcher.Payload{}, err
	}
	if job.Shared, err = c.dir.SharedDir(fetcher.BaseType(src.MediaType)); err != nil {
		return fetcher.Payload{}, err
	}
	tell := newTeller(c.cfg.progress, Progress{AppID: a.id, Version: u.Version, Payload: src.Name, Total: src.Size})
	job.Progress = tell.progress
	key := work(src)
	run := func(ctx context.Context) (fetcher.Payload, error) {
		started()
		ctx, cancel := context.WithTimeoutCause(ctx, longestFetch, errTooLong)
		defer cancel()
		c.adopt(ctx, key, job.Dir)
		p, err := c.cfg.fetchers.Fetch(ctx, job)
		if err != nil && errors.Is(context.Cause(ctx), errTooLong) {
			err = errTooLong // in plain words, and not as the end of a context
		}
		if err == nil {
			c.remember(key, p.Path) // before those who share the run look for it
		}
		return p, err
	}
	p, shared, err := c.pool.Do(ctx, a.key, key, run)
	if shared && ctx.Err() == nil {
		// The leader's copy belongs to its app, which may move or change it: take our own, and look at it ourselves. That the leader's
		// addresses fail says nothing of ours: then all who waited try theirs, side by side.
		p, _, err = c.pool.Do(ctx, a.key, "", run)
	}
	tell.finish(p.Size, err)
	return p, err
}

// collector is a fetcher that keeps what several payloads share in Job.Shared, and can tell there what nobody needs any more.
type collector interface {
	Collect(ctx context.Context, shared string) error
}

// sharesBlobs says whether the next release can build on one of these payloads.
func (c *Client) sharesBlobs(payloads []fetcher.Payload) bool {
	return slices.ContainsFunc(payloads, func(p fetcher.Payload) bool {
		_, shares := c.cfg.fetchers[fetcher.BaseType(p.MediaType)].(collector)
		return shares
	})
}

// collectPatience is how long an app's contact waits for the shared folder, which another process may hold.
const collectPatience = 30 * time.Second

// collect removes what payloads shared that are gone.
func (c *Client) collect() {
	for mediaType, f := range c.cfg.fetchers {
		f, shares := f.(collector)
		shared, used := c.dir.HasShared(mediaType)
		if !shares || !used {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), collectPatience)
		err := f.Collect(ctx, shared)
		cancel()
		if err != nil {
			c.cfg.logger.Warn("shared blobs left behind", "media_type", mediaType, "error", err)
		}
	}
}

// work names what is to be fetched, for apps that want the same; "" where nothing names it for sure.
func work(src fetcher.Source) string {
	if len(src.SHA256) == 0 && len(src.SHA1) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %x %x %d %s", fetcher.BaseType(src.MediaType), src.SHA256, src.SHA1, src.Size, src.Name)
}

// remember notes where a finished payload lies.
func (c *Client) remember(key, path string) {
	if key != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.copies[key] = path
	}
}

// adopt copies what another app has fetched already, if it has.
func (c *Client) adopt(ctx context.Context, key, dir string) {
	c.mu.Lock()
	from := c.copies[key]
	c.mu.Unlock()
	if from == "" || filepath.Dir(from) == dir {
		return
	}
	if err := seed(ctx, from, dir); err != nil {
		c.cfg.logger.Debug("payload of another app cannot be copied, fetching it", "error", err)
	}
}

// forgetCopies drops what is no longer there.
func (c *Client) forgetCopies() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, path := range c.copies {
		if _, err := os.Lstat(path); err != nil {
			delete(c.copies, key)
		}
	}
}

// seed copies a finished plain file to where a fetcher will find it, verify it, and have nothing left to fetch.
func seed(ctx context.Context, from, dir string) (err error) {
	info, err := os.Lstat(from)
	if err != nil || !info.Mode().IsRegular() {
		return err // a folder: its blobs are shared already
	}
	if err := fetcher.Room(dir, info.Size()); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	// One that is there already may have other names: where it is installed, for one.
	dst, err := root.OpenFile(filepath.Base(from), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return src.Read(p)
	}))
	if err = errors.Join(err, dst.Close()); err != nil { // half a copy is of no use
		err = errors.Join(err, root.Remove(filepath.Base(from)))
	}
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// started reports that the download has begun.
func (c *Client) started(a *app, u *state.Update) {
	r := c.report(a, omaha.EventTypeUpdateDownloadStarted, omaha.EventResultSuccess, u.Previous, u.Version, u.Session, time.Now())
	c.step(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Start(u.Seq, r) }))
}

// handOver writes that the payloads are here and that they are handed over now. It returns once that is on disk: an offer
// that a crash forgets would be handed over again without being told so.
func (c *Client) handOver(ctx context.Context, a *app, u *state.Update, payloads []fetcher.Payload, s *offer) error {
	list, err := json.Marshal(payloads)
	if err != nil {
		return err
	}
	r := c.report(a, omaha.EventTypeUpdateDownloadFinished, omaha.EventResultSuccess, u.Previous, u.Version, u.Session, time.Now())
	base := ""
	if c.sharesBlobs(payloads) {
		base = u.Identity
	}
	err = c.journal.Do(a.key, state.Together(
		func(rec *state.App) error { return rec.Finish(u.Seq, list, r) },
		func(rec *state.App) error { return rec.Rebase(base) },
		func(rec *state.App) error { return rec.Offer(u.Seq) },
	))
	for tries := newFailures(c.cfg.schedule); err != nil; err = c.journal.Sync() {
		if refused(err) {
			return err
		}
		c.step(a, err)
		if err := wait.For(ctx, tries.next()); err != nil {
			return err
		}
	}
	return c.show(a, s)
}

// step notes one more transition of a fetch and lets its report go out.
func (c *Client) step(a *app, err error) {
	c.noteUnwritten(a, err)
	c.plan(a, func() {
		a.retry = time.Now()
		if err != nil {
			a.err = &Error{Op: "fetch", AppID: a.id, Code: omaha.ExitError, Err: err}
		}
	})
}
