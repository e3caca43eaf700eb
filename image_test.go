package omahaclient_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

const imageType = "application/vnd.oci.image"

// registry is a container registry on loopback.
func (w *world) registry() (reg *testregistry.Registry, host string) {
	reg = testregistry.New()
	server := httptest.NewServer(reg)
	w.t.Cleanup(server.Close)
	return reg, strings.TrimPrefix(server.URL, "http://")
}

// images takes images of whatever platform the test's are for, with nothing of this machine's settings.
func images() omahaclient.Option {
	return omahaclient.WithFetcher(imageType, fetcher.OCI{Platform: "linux/amd64", MirrorsDir: os.DevNull})
}

func layer(seed byte, n int) []byte { return bytes.Repeat([]byte{seed}, n) }

func TestUpdates_takesImagesAndMovesOnlyWhatChanged(t *testing.T) {
	w := onSockets(t)
	reg, host := w.registry()
	base := layer(1, 500_000)
	one := reg.PushImage("ns/app", "linux/amd64", base, layer(2, 1000))
	two := reg.PushImage("ns/app", "linux/amd64", base, layer(3, 2000))
	three := reg.PushImage("ns/app", "linux/amd64", base, layer(4, 3000))
	g := w.group(appA)
	c := w.client(app(appA), quick(), images())
	s := w.updates(c)
	for i, img := range []testregistry.Image{one, two, three} {
		version := []string{"2.0.0", "3.0.0", "4.0.0"}[i]
		reg.Spoil(nil)
		g.Publish(testserver.Release{Version: version, Image: "oci://" + host + "/ns/app@" + img.Manifest.Digest.String()})
		o := s.next()
		p := o.Payloads[0]
		if o.Version != version || p.MediaType != imageType || p.Digest != img.Manifest.Digest.String() || p.Size != img.Size() {
			t.Errorf("offer %+v", o)
		}
		if _, err := os.Stat(filepath.Join(p.Path, "blobs", "sha256", img.Layers[1].Digest.Encoded())); err != nil {
			t.Error(err)
		}
		if moved := reg.Bytes("/blobs/"); i > 0 && moved > 10_000 {
			t.Errorf("%s moved %d bytes", version, moved)
		}
		if err := o.Ack(nil); err != nil {
			t.Fatal(err)
		}
		w.reaches(appA, testserver.Complete)
	}
	s.stop()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// Of three releases the newest is left, as the base of the next one; so it is after a restart.
	w.client(app(appA), quick(), images())
	layouts, err := filepath.Glob(filepath.Join(w.dir, "payloads", "*", "*", "*", "image", "index.json"))
	if err != nil || len(layouts) != 1 {
		t.Errorf("layouts %q, %v", layouts, err)
	}
	blobs, err := filepath.Glob(filepath.Join(w.dir, "shared", "*", "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 4 {
		t.Errorf("blobs %q, %v", blobs, err)
	}
}

func TestUpdates_imageOfARemovedAppIsCollected(t *testing.T) {
	w := onSockets(t)
	reg, host := w.registry()
	img := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000))
	w.group(appA).Publish(testserver.Release{Version: "2.0.0", Image: host + "/ns/app@" + img.Manifest.Digest.String()})
	w.group(appB)
	c := w.client(app(appA, omahaclient.WithPayloadType(imageType)), quick(), images())
	s := w.updates(c)
	if err := s.next().Ack(nil); err != nil {
		t.Fatal(err)
	}
	w.reaches(appA, testserver.Complete)
	s.stop()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	w.client(app(appB), quick(), images())
	for _, what := range []string{"payloads/*/*", "shared/*/blobs/sha256/*"} {
		if left, err := filepath.Glob(filepath.Join(w.dir, filepath.FromSlash(what))); err != nil || len(left) != 0 {
			t.Errorf("left %q, %v", left, err)
		}
	}
}

func TestUpdates_badImagesAreReported(t *testing.T) {
	for _, c := range []struct {
		name, image string
		code        omaha.ExitCode
		is          error
	}{
		{"a tag alone", "HOST/ns/app:1.5.0", omaha.ExitResponseInvalid, fetcher.ErrBadReference},
		{"no reference", "HOST/NS/App", omaha.ExitResponseInvalid, fetcher.ErrBadReference},
		{"no manifest for this platform", "HOST/ns/app@ARM", omaha.ExitVerification, fetcher.ErrBadImage},
		{"no such image", "HOST/ns/none@ARM", omaha.ExitTransfer, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := onSockets(t)
			reg, host := w.registry()
			arm := reg.PushIndex("ns/app", reg.PushImage("ns/app", "linux/arm64", layer(1, 10)).Manifest)
			image := strings.NewReplacer("HOST", host, "ARM", arm.Digest.String()).Replace(c.image)
			w.group(appA).Publish(testserver.Release{Version: "2.0.0", Image: image})
			cl := w.client(app(appA, omahaclient.WithPayloadType(imageType)), images())
			s := w.once(cl)
			err := s.closed()
			var failure *omahaclient.Error
			if !errors.As(err, &failure) || failure.Code != c.code || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v", err)
			}
			w.reaches(appA, testserver.Error)
			if got := w.instance(appA).History; got[len(got)-1].ErrorCode != int(c.code) {
				t.Errorf("history %+v", got)
			}
		})
	}
}
