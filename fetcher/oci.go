package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

// OCI pulls container images and other OCI artifacts (media type "application/vnd.oci.image") from registries into OCI image
// layouts. The zero value is ready to use; OCI is safe for concurrent use and may be used by value or by pointer. Its fields must not
// be changed after the first Fetch.
//
// Blobs are moved by the engine that HTTP has, several side by side: ranged, resumable, verified, each from the best place that has it.
// They are kept in Job.Shared, each once for all releases and apps; a new release fetches what changed. See [OCI.Collect].
type OCI struct {
	// AllowTags takes a reference whose digest is said nowhere. Its tag is resolved once for each Job.Dir, and pinned there. Then the
	// registry, and not the update server, decides what is run. Defaults to refusing it (ErrBadReference).
	AllowTags bool
	// Platform picks the image of an index: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm/v7. An image for a lower
	// variant is taken where the exact one is missing. Defaults to linux and this program's architecture.
	Platform string
	// Verifier, where set, must agree to each image before its config and layers are fetched, and again where Fetch finds it
	// finished. See [Cosign]. Defaults to none: the digest that is announced is trusted.
	Verifier ImageVerifier
	// Credentials returns the credentials for a host (registry.example:5000; docker.io for Docker Hub), where that asks for some. It
	// is called again when a token has expired. The zero Credential means to go on without. They are sent to that host and to the token
	// service that it names. Defaults to Docker's configuration: $DOCKER_CONFIG or ~/.docker/config.json, and the helpers named there.
	Credentials func(ctx context.Context, host string) (Credential, error)
	// PlainHTTP lists registries (registry.lan:5000) that are spoken to over http. Registries on this machine's loopback always
	// are, unless their reference begins with https://; all others over https.
	PlainHTTP []string
	// MirrorsDir is where containerd's hosts.toml files are (its config_path), so that a node's cache or peer-to-peer mirror is
	// used; several folders are separated as in PATH. Defaults to /etc/containerd/certs.d; os.DevNull means no mirrors.
	MirrorsDir string
	// Client is towards registries, token services and blob stores. Only its Transport is used, and its Timeout for none of them:
	// each download has time limits of its own. Defaults to a client for each Fetch, as HTTP's.
	Client *http.Client
	// Rehash hashes every blob that is reused, which finds what a failing disk has changed by itself. Defaults to doing so only
	// where Fetch finds the finished image.
	Rehash bool
	// Streams is how many blobs of an image are fetched at the same time. Defaults to 3.
	Streams int
	// Report, where set, is told what each pull took, before Fetch returns. It may be called by several goroutines at the same time.
	Report func(Pull)

	// MaxSize is the largest image taken, in bytes: the sum of its manifests, config and layers; larger ones fail with ErrSize
	// before the first layer is fetched. 0: any that the disk has room for.
	MaxSize int64
	// MinSpeed, StallTimeout, Tries and RetryWait are those of HTTP, for each blob.
	MinSpeed     int64
	StallTimeout time.Duration
	Tries        int
	RetryWait    time.Duration
	// Logger gets a warning for each failed try, with URLs' queries left out. Defaults to none.
	Logger *slog.Logger

	link func(from, to string) error // os.Link; tests replace it by a file system without links
}

// Pull says what became of an image's blobs.
type Pull struct {
	Reference string       // as Payload.Reference
	Digest    string       // of the manifest for this platform
	Blobs     []PulledBlob // manifests from the pinned one down, config, layers in their order, each once
}

// PulledBlob is a manifest, config or layer.
type PulledBlob struct {
	Digest, MediaType string
	Size              int64 // bytes
	Reused            bool  // it was here already, from another image or an earlier Fetch
	Received          int64 // bytes that came over the network for it; below Size where an interrupted fetch went on
}

// Fetch pulls the image that job.Source names, for OCI.Platform.
//
// Source.URLs are references, mirrors of each other: REGISTRY/REPOSITORY[:TAG][@DIGEST], also after oci:// or docker://, or Docker Hub's
// short names. What is pulled is pinned by a sha256 digest, of an index or of a manifest: a reference's, Source.SHA256, or
// the one in Source.Metadata (the digest, or an OCI descriptor in JSON); those that are given must be the same. Source.Size is not
// looked at: an image has no one size.
//
// Payload.Path is an OCI image layout in job.Dir with hard links to the blobs in job.Shared (copies, where the file system has no hard
// links); its index.json, which is written last, points to the pinned digest, and a pinned index is kept beside the manifest taken from
// it, so that the digest can be verified again without the registry. Nobody may write into the layout.
//
// Blobs that are on disk already are not fetched again. One that another image brought is taken if it has its size and nobody wrote to
// it since it was verified; where job.Dir holds the finished image already, each blob is hashed again (see Rehash).
//
// Fetches into different Dirs may share blobs and run at the same time: one of them fetches a blob that several need. An empty Shared
// means a folder in Dir.
//
// Errors wrap [ErrBadReference], [ErrBadImage] and those listed at [Fetcher]. A blob that cannot be fetched does not stop the
// others; what was fetched stays for the next Fetch.
func (o OCI) Fetch(ctx context.Context, job Job) (Payload, error) {
	p, err := o.fetch(ctx, job)
	if err != nil {
		return Payload{}, fmt.Errorf("fetch %.200q: %w", job.Source.Name, err)
	}
	return p, nil
}

// Collect removes the blobs from a Job.Shared folder that no Job.Dir needs any more. A Job.Dir needs the blobs of the image that
// was last fetched into it, finished or not, until the folder is removed. Fetches may run at the same time, and lose nothing.
// The Client of package omahaclient calls it whenever it has removed payloads.
func (o OCI) Collect(ctx context.Context, shared string) error {
	if _, err := os.Lstat(shared); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := openStore(shared)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.collect(ctx); err != nil {
		return fmt.Errorf("collect unused blobs in %s: %w", shared, err)
	}
	return nil
}

func (o OCI) fetch(ctx context.Context, job Job) (Payload, error) {
	machine, err := parsePlatform(o.Platform)
	if err != nil {
		return Payload{}, err
	}
	source, err := readSource(job.Source)
	if err != nil {
		return Payload{}, err
	}
	if source.digest == "" && !o.AllowTags {
		return Payload{}, fmt.Errorf("%w %q: nothing says its digest, and a tag can be moved by whoever can push: announce %s/%s@sha256:… (the digest that "+
			"the push printed; or as the package's SHA-256, or in its metadata), or set OCI.AllowTags to trust the registry with what is run",
			ErrBadReference, source.refs[0], source.refs[0].registry, source.refs[0].repository)
	}
	if job.Dir == "" {
		return Payload{}, errors.New("no folder to put it into")
	}
	regs, closeIdle, err := o.registries(source.refs)
	if err != nil {
		return Payload{}, err
	}
	defer closeIdle()
	if o.link == nil {
		o.link = os.Link
	}
	p := &pull{oci: o, job: job, source: source, machine: machine, registries: regs}
	if err := p.open(); err != nil {
		return Payload{}, err
	}
	defer p.close()
	return p.run(ctx)
}

func (o OCI) limits() download.Limits {
	return HTTP{MinSpeed: o.MinSpeed, StallTimeout: o.StallTimeout, Tries: o.Tries, RetryWait: o.RetryWait}.limits()
}
