package omahaclient_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// publisher signs releases.
type publisher struct {
	t      *testing.T
	public string
	secret minisign.PrivateKey
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	public, secret, err := minisign.GenerateKey(rand.Reader)
	must(t, err)
	return &publisher{t, public.String(), secret}
}

// trusted is an app whose releases p signs.
func (p *publisher) trusted(id string, opts ...omahaclient.AppOption) omahaclient.Option {
	return app(id, append([]omahaclient.AppOption{omahaclient.WithTrustedKeys(p.public)}, opts...)...)
}

// statement is what p would say of a release of one file; edit changes it.
func (p *publisher) statement(id, version string, sequence uint64, edit ...func(*trust.Statement)) trust.Statement {
	s := trust.Statement{
		App: id, Channels: []string{track}, Arch: trust.AnyArch, Version: version, Sequence: sequence,
		Issued: time.Now(), Expires: time.Now().Add(365 * 24 * time.Hour), Payloads: []trust.Payload{filePayload("app.bin", content(id, version))},
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func filePayload(name string, content []byte) trust.Payload {
	sum := sha256.Sum256(content)
	return trust.Payload{Name: name, Size: int64(len(content)), Digest: "sha256:" + hex.EncodeToString(sum[:])}
}

// sign returns a statement (or index) as a document with p's signature.
func (p *publisher) sign(doc interface{ Marshal() ([]byte, error) }, with ...*publisher) trust.Signed {
	p.t.Helper()
	b, err := doc.Marshal()
	must(p.t, err)
	keys := []minisign.PrivateKey{p.secret}
	for _, o := range with {
		keys = append(keys, o.secret)
	}
	return trust.Signed{Document: b, Signatures: trust.Sign(b, keys...)}
}

// beside puts a document and its signatures beside a release's file.
func (w *world) beside(id, version string, s trust.Signed) {
	w.Payloads.Put(fileOf(id, version)+trust.ReleaseSuffix, s.Document)
	w.Payloads.Put(fileOf(id, version)+trust.ReleaseSignatureSuffix, s.Signatures)
}

// releases publishes a signed release on g.
func (p *publisher) releases(w *world, g *testserver.Group, id, version string, sequence uint64) {
	p.t.Helper()
	w.beside(id, version, p.sign(p.statement(id, version, sequence)))
	g.Publish(release(id, version))
}
