package download

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
)

// digests hashes a blob while it arrives: always with SHA-256, which is its name from then on, and with SHA-1 where that decides.
type digests struct {
	sha256, sha1 hash.Hash // sha1 is nil where it does not decide
	want256      []byte
	want1        []byte
}

func newDigests(want256, want1 []byte) *digests {
	d := &digests{sha256: sha256.New(), want256: want256}
	if len(want256) == 0 && len(want1) != 0 {
		d.sha1, d.want1 = sha1.New(), want1
	}
	return d
}

// decisive says whether there is a hash to compare with.
func (d *digests) decisive() bool { return len(d.want256) != 0 || len(d.want1) != 0 }

func (d *digests) write(p []byte) {
	d.sha256.Write(p)
	if d.sha1 != nil {
		d.sha1.Write(p)
	}
}

func (d *digests) reset() {
	d.sha256.Reset()
	if d.sha1 != nil {
		d.sha1.Reset()
	}
}

func (d *digests) sha256sum() (sum [32]byte) {
	d.sha256.Sum(sum[:0])
	return sum
}

// check compares what was written with what was announced; without any announcement everything is right.
func (d *digests) check() error {
	want, sum, kind := d.want256, d.sha256, "sha256"
	if d.sha1 != nil {
		want, sum, kind = d.want1, d.sha1, "sha1"
	}
	if got := sum.Sum(nil); len(want) != 0 && !bytes.Equal(got, want) {
		return fmt.Errorf("%w: got %s %x, announced is %x: publish the file or its hash again", ErrDigest, kind, got, want)
	}
	return nil
}

// identity names what a blob must become: by its best hash or, without one, by where it comes from.
func (j *Job) identity() string {
	switch {
	case len(j.SHA256) != 0:
		return "sha256-" + hex.EncodeToString(j.SHA256)
	case len(j.SHA1) != 0:
		return fmt.Sprintf("sha1-%x-%d", j.SHA1, j.Size)
	}
	h := sha256.New()
	fmt.Fprintln(h, j.Size)
	for _, u := range j.URLs {
		fmt.Fprintln(h, place(u))
	}
	return "unverified-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// place is a URL without what may change between two visits: credentials and query (signatures).
func place(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
