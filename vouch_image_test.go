package omahaclient_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// attach signs an image as the release of appA, and attaches that to it.
func (p *publisher) attach(reg *testregistry.Registry, img testregistry.Image, version string, sequence uint64) {
	p.t.Helper()
	s := p.sign(p.statement(appA, version, sequence, func(s *trust.Statement) {
		s.Payloads = []trust.Payload{{Name: "ns/app", Image: true, Digest: img.Manifest.Digest.String()}}
	}))
	reg.Attach("ns/app", img.Manifest, testregistry.Artifact{Type: trust.ArtifactType, Layers: []testregistry.Layer{
		{MediaType: trust.MediaTypeRelease, Content: s.Document},
		{MediaType: trust.MediaTypeSignature, Content: s.Signatures},
	}})
}

// Nebraska names an image by its tag alone. The statement that is attached to it says which digest that is.
func TestTrustedKeys_tagOfASignedImage(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		w := onSockets(t)
		reg, host := w.registry()
		if !referrers {
			reg.WithoutReferrers()
		}
		p := newPublisher(t)
		img := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000))
		reg.PushManifest("ns/app", "2.0.0", ociManifest, reg.Manifest("ns/app", img.Manifest.Digest.String()))
		p.attach(reg, img, "2.0.0", 1)
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Image: "oci://" + host + "/ns/app:2.0.0"})
		o := w.updates(w.client(p.trusted(appA), quick(), images())).next()
		want(t, "reference", o.Payloads[0].Reference, host+"/ns/app@"+img.Manifest.Digest.String())
		must(t, o.Ack(nil))
		w.reaches(appA, testserver.Complete)
	}
}

// A tag that was moved, or a digest that the server chose, leads to an image that nobody signed for this version.
func TestTrustedKeys_anotherImage(t *testing.T) {
	for _, byTag := range []bool{true, false} {
		w := onSockets(t)
		reg, host := w.registry()
		p := newPublisher(t)
		good := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000))
		evil := reg.PushImage("ns/app", "linux/amd64", layer(2, 1000))
		p.attach(reg, good, "2.0.0", 1)
		p.attach(reg, evil, "1.9.0", 1) // signed, but as something else
		ref := "oci://" + host + "/ns/app@" + evil.Manifest.Digest.String()
		if byTag {
			ref = "oci://" + host + "/ns/app:2.0.0"
			reg.PushManifest("ns/app", "2.0.0", ociManifest, reg.Manifest("ns/app", evil.Manifest.Digest.String()))
		}
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Image: ref})
		c := w.client(p.trusted(appA), quick(), images())
		w.updates(c)
		w.wait("it is given back", func() bool { return strings.HasPrefix(w.history(appA), "granted, error 18") })
		want(t, "layers moved", len(reg.Gets(evil.Layers[0].Digest.String())), 0)
		w.wait("status", func() bool { return errors.Is(status(t, c, appA).LastError, trust.ErrMismatch) })
	}
}

// Cosign's signatures are a matter of the fetcher; the server is told in the same way.
func TestUpdates_imageWithoutCosignSignature(t *testing.T) {
	const key = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAET/4PDm0VvrwnmpbYgwy6a/xa+Peb
oy6gx1QeZ9MOA3qK2ScbNQAAR9tZ024OedWauyKOAbXc/i0DDeqwXn61+A==
-----END PUBLIC KEY-----
`
	w := onSockets(t)
	reg, host := w.registry()
	img := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000))
	w.group(appA).Publish(testserver.Release{Version: "2.0.0", Image: "oci://" + host + "/ns/app@" + img.Manifest.Digest.String()})
	cosign, err := fetcher.NewCosign(key)
	must(t, err)
	c := w.client(app(appA), quick(), omahaclient.WithFetcher(imageType, fetcher.OCI{Platform: "linux/amd64", MirrorsDir: os.DevNull, Verifier: cosign}))
	w.updates(c)
	w.wait("it is given back", func() bool { return strings.Contains(w.history(appA), "error 18") })
	w.wait("status", func() bool {
		var e *omahaclient.Error
		return errors.As(status(t, c, appA).LastError, &e) && e.Code == omaha.ExitPublicKey && e.Op == "verify"
	})
}
