package tuf

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
)

// ReleaseName is the name of the target that may list a release's payloads; see the package's documentation.
const ReleaseName = "release.json"

// TargetPath is APP/CHANNEL/ARCH/VERSION/NAME. Within each part everything but letters, digits and -._~$&+=:@ is written as %XX, the whole parts
// "", "-", "." and ".." as "-", "%2D", "%2E" and "%2E%2E": no two files share a path, and no name leads out of its folder. An image's NAME is
// the last part of its repository, without tag and digest, however the server refers to it: app of registry.example/team/app:2.0.0.
func TargetPath(claim trust.Claim, p trust.Payload) string {
	parts := []string{claim.AppID, claim.Channel, claim.Arch, claim.Version, label(p)}
	for i, part := range parts {
		parts[i] = segment(part)
	}
	return strings.Join(parts, "/")
}

func label(p trust.Payload) string {
	if end := strings.IndexAny(p.Name, ":@"); p.Image && end >= 0 {
		return p.Name[:end]
	}
	return p.Name
}

func segment(part string) string {
	switch part {
	case "":
		return "-"
	case "-":
		return "%2D"
	case ".", "..":
		return strings.ReplaceAll(part, ".", "%2E")
	}
	return url.PathEscape(part)
}

// custom is what we read of a target's custom part; other fields are the publisher's own.
type custom struct {
	Image    string   `json:"image"`    // of an image's target: "sha256:…" of its manifest or index
	Payloads []string `json:"payloads"` // of the release's target: the names of all payloads
}

func customOf(target *metadata.TargetFiles) (custom, error) {
	var c custom
	if target.Custom == nil {
		return c, nil
	}
	if err := json.Unmarshal(*target.Custom, &c); err != nil {
		return c, fmt.Errorf("%w: the custom part of target %s: %w", trust.ErrMalformed, target.Path, err)
	}
	return c, nil
}

// lookup finds a target; nil means that nobody lists it.
type lookup func(path string) (*metadata.TargetFiles, error)

// vouched are the claim's payloads with what the targets say of them.
func (v *Verifier) vouched(claim trust.Claim, find lookup) ([]trust.Payload, error) {
	if len(claim.Payloads) == 0 {
		return nil, fmt.Errorf("%w: nothing is offered", trust.ErrNoStatement)
	}
	if err := v.complete(claim, find); err != nil {
		return nil, err
	}
	payloads := make([]trust.Payload, len(claim.Payloads))
	listed := false
	for i, p := range claim.Payloads {
		target, err := v.target(claim, p, find)
		if err != nil {
			return nil, err
		}
		payloads[i] = trust.Payload{Name: p.Name, Image: p.Image}
		if target == nil {
			continue
		}
		listed = true
		if payloads[i], err = match(p, target); err != nil {
			return nil, err
		}
	}
	if !listed {
		return nil, fmt.Errorf("%w: none of the %d payloads offered is a target, nor is %s", trust.ErrNoStatement, len(payloads),
			v.config.TargetPath(claim, claim.Payloads[0]))
	}
	return payloads, nil
}

func (v *Verifier) target(claim trust.Claim, p trust.Payload, find lookup) (*metadata.TargetFiles, error) {
	path := v.config.TargetPath(claim, p)
	if path == "" {
		return nil, nil
	}
	return find(path)
}

// complete refuses an offer that leaves out what the release's target names.
func (v *Verifier) complete(claim trust.Claim, find lookup) error {
	target, err := v.target(claim, trust.Payload{Name: ReleaseName}, find)
	if err != nil || target == nil {
		return err
	}
	c, err := customOf(target)
	if err != nil {
		return err
	}
	for _, name := range c.Payloads {
		if !slices.ContainsFunc(claim.Payloads, func(p trust.Payload) bool { return label(p) == name }) {
			return fmt.Errorf("%w: the release has a payload %q, which is not offered", trust.ErrMismatch, name)
		}
	}
	return nil
}

// match is what a target says of a payload, where the server does not say otherwise.
func match(p trust.Payload, target *metadata.TargetFiles) (trust.Payload, error) {
	c, err := customOf(target)
	if err != nil {
		return p, err
	}
	if p.Image != (c.Image != "") {
		return p, fmt.Errorf("%w: %s is offered as %s, and its target describes %s", trust.ErrMismatch, p.Name, kind(p.Image), kind(!p.Image))
	}
	digest, size := c.Image, int64(0)
	if !p.Image {
		digest, size = "sha256:"+hex.EncodeToString(target.Hashes["sha256"]), target.Length
	}
	switch {
	case !isDigest(digest):
		return p, fmt.Errorf("%w: target %s has no usable SHA-256", trust.ErrMalformed, target.Path)
	case size < 0:
		return p, fmt.Errorf("%w: target %s has a length of %d", trust.ErrMalformed, target.Path, size)
	case p.Digest != "" && p.Digest != digest:
		return p, fmt.Errorf("%w: %s is offered as %s, its target says %s", trust.ErrMismatch, p.Name, p.Digest, digest)
	case !p.Image && p.Size != 0 && p.Size != size:
		return p, fmt.Errorf("%w: %s is offered with %d bytes, its target says %d", trust.ErrMismatch, p.Name, p.Size, size)
	}
	return trust.Payload{Name: p.Name, Image: p.Image, Size: size, Digest: digest}, nil
}

func kind(image bool) string {
	if image {
		return "an image"
	}
	return "a file"
}

func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
