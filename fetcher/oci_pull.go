package fetcher

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/nebraska/omahaclient/internal/download"
	"github.com/nebraska/omahaclient/internal/wait"
)

const (
	defaultStreams = 3
	pinName        = "pin.json" // in Job.Dir: what a tag was resolved to
)

// pull is one Fetch of an image.
type pull struct {
	oci        OCI
	job        Job
	source     announced
	machine    ocispec.Platform
	registries *registries

	store  *store
	blobs  *os.Root // of the store
	layout *layout
	rehash bool // every blob, even if it was verified before and nobody wrote to it since

	chain []ocispec.Descriptor // the pinned digest first, then what was chosen from it; the last one is the image's manifest
	parts []ocispec.Descriptor // its config and layers
	sum   *sum
}

func (p *pull) open() (err error) {
	if p.layout, err = openLayout(p.job.Dir, p.oci.link); err != nil {
		return err
	}
	shared := p.job.Shared
	if shared == "" {
		shared = filepath.Join(p.job.Dir, "blobs")
	}
	if p.store, err = openStore(shared); err == nil {
		p.blobs, err = p.store.blobs()
	}
	if err != nil {
		p.close()
	}
	return err
}

func (p *pull) close() {
	if p.blobs != nil {
		p.blobs.Close()
	}
	if p.store != nil {
		p.store.close()
	}
	p.layout.close()
}

// run goes from the pinned digest down: each manifest says digest and size of what is fetched next.
func (p *pull) run(ctx context.Context) (Payload, error) {
	p.sum = newSum(p.job.Progress)
	p.rehash = p.oci.Rehash || p.layout.finished()
	pinned, err := p.pin(ctx)
	if err != nil {
		return Payload{}, err
	}
	if err := p.claim(ctx, []digest.Digest{pinned}, true); err != nil {
		return Payload{}, err
	}
	if err := p.descend(ctx, pinned); err != nil {
		return Payload{}, err
	}
	all := slices.Concat(p.chain, p.parts)
	size, ok := total(all)
	if most := p.oci.MaxSize; !ok || most > 0 && size > most {
		return Payload{}, fmt.Errorf("%w: the image has %d bytes, %d are allowed: raise OCI.MaxSize or publish a smaller one", ErrSize, size, most)
	}
	if err := p.claim(ctx, digests(all), false); err != nil {
		return Payload{}, err
	}
	p.layout.giveBack(p.store, digests(p.parts))
	if err := p.room(); err != nil {
		return Payload{}, err
	}
	p.sum.begin(size, p.chain)
	if err := p.complete(ctx, all); err != nil {
		return Payload{}, err
	}
	image := p.chain[len(p.chain)-1]
	payload := Payload{
		Name:      p.job.Source.Name,
		MediaType: p.job.Source.MediaType,
		Path:      p.layout.path,
		Size:      size,
		Digest:    image.Digest.String(),
		Reference: p.source.refs[0].registry + "/" + p.source.refs[0].repository + "@" + pinned.String(),
	}
	if p.oci.Report != nil {
		p.oci.Report(Pull{Reference: payload.Reference, Digest: payload.Digest, Blobs: p.sum.report(all)})
	}
	return payload, nil
}

// complete fetches the parts and makes the layout. A blob that somebody else found spoilt in between, and removed, is fetched again.
func (p *pull) complete(ctx context.Context, all []ocispec.Descriptor) error {
	for again := true; ; again = false {
		if err := p.fetchParts(ctx); err != nil {
			return err
		}
		err := p.layout.assemble(ctx, p.store, digests(all), p.chain[0])
		if !again || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

func digests(list []ocispec.Descriptor) []digest.Digest {
	all := make([]digest.Digest, len(list))
	for i, d := range list {
		all[i] = d.Digest
	}
	return all
}

func (p *pull) claim(ctx context.Context, needed []digest.Digest, beside bool) error {
	if err := p.store.claim(ctx, p.job.Dir, needed, beside); err != nil {
		return fmt.Errorf("claim its blobs: %w", err)
	}
	return nil
}

// pin returns the digest that is to be pulled. A tag is resolved once; what it stood for then is kept in the job's folder.
func (p *pull) pin(ctx context.Context) (digest.Digest, error) {
	if p.source.digest != "" {
		return p.source.digest, nil
	}
	dir, err := os.OpenRoot(p.job.Dir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	var before struct {
		References []string      `json:"references"`
		Digest     digest.Digest `json:"digest"`
	}
	var refs []string
	for _, ref := range p.source.refs {
		refs = append(refs, ref.String())
	}
	if content, err := dir.ReadFile(pinName); err == nil && json.Unmarshal(content, &before) == nil &&
		slices.Equal(before.References, refs) && checkDigest(before.Digest.String()) == nil {
		return before.Digest, nil
	}
	before.References = refs
	if before.Digest, err = p.resolve(ctx, dir); err != nil {
		return "", fmt.Errorf("resolve %s: %w", p.source.refs[0], err)
	}
	content, err := json.Marshal(before)
	if err != nil {
		return "", err
	}
	return before.Digest, writeFile(dir, pinName, content)
}

// resolve fetches the manifest that the tag stands for, and hashes it: what a registry says of its digest proves nothing.
func (p *pull) resolve(ctx context.Context, dir *os.Root) (digest.Digest, error) {
	const name = "tag"
	got, err := p.download(ctx, download.Job{Root: dir, Name: name, URLs: p.registries.tags()}, maxManifest)
	if err != nil {
		return "", err
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(got.SHA256[:])), dir.Remove(name)
}

// descend fetches the pinned manifest and, where that is an index, what it has for this platform.
func (p *pull) descend(ctx context.Context, pinned digest.Digest) error {
	next := ocispec.Descriptor{Digest: pinned}
	for range maxDepth {
		p.layout.giveBack(p.store, []digest.Digest{next.Digest})
		content, err := p.manifest(ctx, &next)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", next.Digest, err)
		}
		m, err := parseManifest(content)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", next.Digest, err)
		}
		next.MediaType = m.MediaType
		if len(p.chain) == 0 {
			if err := p.verify(ctx, next, content); err != nil {
				return err
			}
		}
		p.chain = append(p.chain, next)
		if !m.isIndex() {
			p.parts, err = m.parts()
			return err
		}
		if next, err = m.choose(p.machine); err != nil {
			return err
		}
		if slices.ContainsFunc(p.chain, func(d ocispec.Descriptor) bool { return d.Digest == next.Digest }) {
			break
		}
		next = ocispec.Descriptor{Digest: next.Digest, Size: next.Size}
	}
	return fmt.Errorf("%w: %d indexes are nested: build it again", ErrBadImage, maxDepth)
}

// manifest fetches one manifest, completes its descriptor, and returns the bytes that match the digest.
func (p *pull) manifest(ctx context.Context, d *ocispec.Descriptor) ([]byte, error) {
	got, err := p.fetchBlob(ctx, "manifests", *d, func(int64, int64) {})
	if err != nil {
		return nil, err
	}
	d.Size = got.Size
	f, err := p.blobs.Open(d.Digest.Encoded())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(content) != d.Digest {
		return nil, fmt.Errorf("%w: it changes on disk", ErrDigest)
	}
	return content, nil
}

// room checks the disk before the first part is fetched.
func (p *pull) room() error {
	var need int64
	for _, d := range p.parts {
		need += max(d.Size-download.Present(p.blobs, d.Digest.Encoded(), d.Digest.Encoded()), 0)
	}
	if need == 0 {
		return nil
	}
	return download.Room(p.blobs, need)
}

// fetchParts fetches config and layers side by side, the largest first, so that none is left to run alone at the end. One that fails
// does not stop the others: they are needed whenever it is tried again.
func (p *pull) fetchParts(ctx context.Context) error {
	parts := slices.SortedStableFunc(slices.Values(p.parts), func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	errs := make([]error, len(parts))
	var group errgroup.Group // without a context: see above
	group.SetLimit(cmp.Or(max(p.oci.Streams, 0), defaultStreams))
	for i, d := range parts {
		group.Go(func() error {
			if _, err := p.fetchBlob(ctx, "blobs", d, p.sum.part(d.Digest)); err != nil {
				errs[i] = fmt.Errorf("blob %s: %w", d.Digest, err)
			}
			return nil
		})
	}
	_ = group.Wait() // they are in errs
	if ctx.Err() != nil {
		return wait.Ended(ctx) // once, not for each blob
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - maxReasons; more > 0 {
		errs = append(errs[:maxReasons], fmt.Errorf("%d more blobs failed", more))
	}
	return errors.Join(errs...)
}

// fetchBlob brings one blob into the store. Where another fetch is at work on the same blob, it waits for that one.
func (p *pull) fetchBlob(ctx context.Context, kind string, d ocispec.Descriptor, progress func(done, total int64)) (download.Result, error) {
	sha256, err := hex.DecodeString(d.Digest.Encoded())
	if err != nil {
		return download.Result{}, err
	}
	most := max(d.Size, 1)
	if kind == "manifests" {
		most = maxManifest
	}
	if kind == "blobs" && !p.rehash && sealed(p.blobs, d) {
		progress(d.Size, d.Size)
		p.sum.note(d, download.Result{Size: d.Size}, true)
		return download.Result{Size: d.Size}, nil
	}
	reused := download.Present(p.blobs, d.Digest.Encoded(), "") > 0
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		got, err := p.download(ctx, download.Job{
			Root: p.blobs, Name: d.Digest.Encoded(), URLs: p.registries.urls(kind, d.Digest),
			Size: d.Size, SHA256: sha256, Progress: progress,
		}, most)
		if !errors.Is(err, download.ErrBusy) {
			if err == nil {
				seal(p.blobs, d)
				p.sum.note(d, got, reused && got.Received == 0)
			}
			return got, err
		}
		if err := wait.For(ctx, delay); err != nil {
			return got, err
		}
		reused = true
	}
}

func (p *pull) download(ctx context.Context, job download.Job, most int64) (download.Result, error) {
	job.Client = &http.Client{Transport: p.registries}
	job.Header = http.Header{"Accept": {acceptManifests()}}
	job.Logger = p.oci.Logger
	job.Limits = p.oci.limits()
	job.Limits.MaxSize = most
	return download.Fetch(ctx, job)
}
