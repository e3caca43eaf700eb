package omahaclient

import "github.com/nebraska/omahaclient/omaha"

// WithCUPKeys believes the Omaha server's answers only with a signature by one of these keys (CUP-ECDSA, as Chromium's update
// servers have it). Nobody between the server and this machine can then change an answer, make one up, or play an old one again:
// such an answer counts as none at all. It grants nothing, takes no report and postpones nothing; the client tries again as in an
// outage, and Status says why.
//
// A key is "ID:KEY", KEY being a P-256 public key as base64 or PEM (see omaha.ParseCUPKey). The first one is asked for; if that
// fails, the next one is at the next attempt. To change keys, put the new one first here and beside the old one on the server, which
// keeps the old one for as long as clients name it. Nebraska does not sign by itself: examples/cupproxy is a proxy in front of it
// that does.
//
// Not protected are the headers of an answer (so no Retry-After is heeded any more), what the server itself may offer, and the
// payloads: for those there is WithTrustedKeys. Who can only drop answers can still keep updates back: for that there is
// WithMaxStaleness. Nor is anything kept secret, which is what https is for. Defaults to none: every answer is believed.
func WithCUPKeys(keys ...string) Option {
	return func(c *config) {
		c.cupKeys = nil
		if len(keys) == 0 {
			c.badf("WithCUPKeys", "there is no key; leave the option out to believe every answer")
		}
		seen := map[string]bool{}
		for _, s := range keys {
			key, err := omaha.ParseCUPKey(s)
			switch {
			case err != nil:
				c.badf("WithCUPKeys", "%v", err)
			case seen[key.ID]:
				c.badf("WithCUPKeys", "the id %q is given twice", key.ID)
			default:
				seen[key.ID] = true
				c.cupKeys = append(c.cupKeys, key)
			}
		}
	}
}
