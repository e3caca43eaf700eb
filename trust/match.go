package trust

import (
	"fmt"
	"slices"
	"strings"
)

// match finds the publisher's payload for each offered one: files by their names, images in their order. What is not
// listed stays without a digest; what is listed must be offered, and once: a release is taken as a whole, or not at all. Its first
// payload must stay the first: programs that install one of several take that one, and the server has the order.
func (s Statement) match(offered []Payload) ([]Payload, error) {
	files := make(map[string]Payload)
	var images []Payload
	for _, p := range s.Payloads {
		if p.Image {
			images = append(images, p)
		} else {
			files[p.Name] = p
		}
	}
	listed, found := len(files), make(map[string]bool)
	matched := make([]Payload, 0, len(offered))
	for _, o := range offered {
		var p Payload
		switch {
		case o.Image && len(images) > 0:
			p, images = images[0], images[1:]
		case !o.Image && found[o.Name]:
			return nil, fmt.Errorf("%w: file %.100q is offered twice", ErrMismatch, o.Name)
		case !o.Image && files[o.Name].Digest != "":
			p, found[o.Name] = files[o.Name], true
		}
		if err := contradiction(o, p); err != nil {
			return nil, err
		}
		matched = append(matched, Payload{Name: o.Name, Image: o.Image, Size: p.Size, Digest: p.Digest})
	}
	if len(found) < listed || len(images) > 0 {
		return nil, fmt.Errorf("%w: %d of the %d payloads that it lists are not offered", ErrMismatch, listed-len(found)+len(images), len(s.Payloads))
	}
	first := matched[slices.IndexFunc(matched, func(p Payload) bool { return p.Digest != "" })]
	if main := s.Payloads[0]; first.Image != main.Image || !first.Image && first.Name != main.Name {
		return nil, fmt.Errorf("%w: its first payload is %.100q, and %.100q is offered before that: list the main payload first in the statement, and offer it first",
			ErrMismatch, main.Name, first.Name)
	}
	return matched, nil
}

// contradiction compares what the server says of a payload with what the publisher says; nobody vouches for a p without a digest.
func contradiction(o, p Payload) error {
	switch {
	case p.Digest == "":
		return nil
	case o.Digest != "" && !strings.EqualFold(o.Digest, p.Digest):
		return fmt.Errorf("%w: payload %.100q is offered with digest %.100q, and the statement has %s", ErrMismatch, o.Name, o.Digest, p.Digest)
	case o.Size != 0 && p.Size != 0 && o.Size != p.Size:
		return fmt.Errorf("%w: file %.100q is offered with %d bytes, and the statement has %d", ErrMismatch, o.Name, o.Size, p.Size)
	}
	return nil
}
