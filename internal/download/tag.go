package download

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
)

// tag is the strong validator (ETag) of what the partial file holds, and the mirror that gave it: it means nothing to others.
type tag struct{ mirror, etag string }

func mirrorKey(rawURL string) string {
	sum := sha256.Sum256([]byte(place(rawURL)))
	return hex.EncodeToString(sum[:])
}

// strong returns an ETag if it is a strong validator (RFC 9110, section 8.8.3) that can be sent back; else "".
func strong(etag string) string {
	if len(etag) < 2 || len(etag) > 1024 || etag[0] != '"' || etag[len(etag)-1] != '"' {
		return ""
	}
	for _, c := range []byte(etag[1 : len(etag)-1]) {
		if c < 0x21 || c == '"' || c == 0x7f {
			return ""
		}
	}
	return etag
}

// readTag returns the zero tag where there is none, or none that makes sense: then there is just no If-Range.
func (p *partial) readTag() tag {
	f, err := openPlain(p.root, p.name+tagSuffix)
	if err != nil || f == nil {
		return tag{}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2048))
	mirror, etag, ok := strings.Cut(string(b), "\n")
	if err != nil || !ok || strong(etag) == "" {
		return tag{}
	}
	return tag{mirror: mirror, etag: etag}
}

// writeTag keeps t beside the partial file, or nothing if t says nothing. A tag that cannot be written costs a safety net and no
// more: the hash decides in the end, and a blob without one is not resumed without a tag.
func (p *partial) writeTag(t tag) {
	p.dropTag()
	if t.etag == "" {
		return
	}
	f, err := p.root.OpenFile(p.name+tagSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	_, err = f.WriteString(t.mirror + "\n" + t.etag)
	if f.Close() != nil || err != nil {
		p.dropTag()
	}
}

func (p *partial) dropTag() { _ = p.root.Remove(p.name + tagSuffix) }
