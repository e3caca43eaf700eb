package trust_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/trust"
)

// shown is a statement that the model's world has signed, by whoever.
type shown struct {
	st      trust.Statement
	doc     trust.Signed
	signers string
}

// world is a publisher, an attacker who keeps everything that was ever signed, and a client, about which the model knows
// what must never happen.
type world struct {
	dir      string
	all      []shown
	trusted  string            // names of the keys
	rotated  int               // issue day of the document that named them
	highest  map[string]uint64 // by channel and key: that it signed
	contents map[string]string // the same: of that sequence
}

// TestVerify_model plays random releases, rotations, forgeries and replays. Whatever comes in whatever order: nothing is accepted that no trusted key signed, no
// lower sequence than a trusted key has signed, no other content of the same one, no key from before, and nothing of which the bytes offered are not the publisher's.
func TestVerify_model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{dir: t.TempDir(), trusted: "a", rotated: -1 << 30, highest: map[string]uint64{}, contents: map[string]string{}}
		rt.Repeat(map[string]func(*rapid.T){"publish": w.publish, "offer": w.offer, "garble": w.garble, "": func(*rapid.T) {}})
	})
}

func channels(s string) []string { return strings.Split(s, "+") }

// publish signs a statement: the publisher's key or a stranger's, a sequence in order or not.
func (w *world) publish(t *rapid.T) {
	st := release()
	st.Channels = channels(rapid.SampledFrom([]string{"stable", "beta", "stable+beta"}).Draw(t, "channels"))
	st.Sequence = rapid.Uint64Range(1, 6).Draw(t, "sequence")
	st.Version = rapid.SampledFrom([]string{"1.0.0", "2.0.0"}).Draw(t, "version")
	st.Issued = day(rapid.IntRange(-5, 5).Draw(t, "issued"))
	st.Expires = st.Expires.Add(time.Duration(len(w.all)) * time.Second) // which tells it from every other
	st.Payloads = []trust.Payload{file("update.gz", rapid.SampledFrom([]string{"old", "new"}).Draw(t, "content"))}
	keys := rapid.SampledFrom([]string{"", "", "", "a", "b", "ab"}).Draw(t, "keys")
	st.Keys = public(letters(keys)...)
	signers := rapid.SampledFrom([]string{"a", "b", "x", "ab", "xb"}).Draw(t, "signers")
	b, err := st.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.all = append(w.all, shown{st, signBytes(b, letters(signers)...), signers})
}

// offer shows the client some of all that was ever signed, with an offer of the attacker's choice.
func (w *world) offer(t *rapid.T) {
	if len(w.all) == 0 {
		return
	}
	var places []any
	for range rapid.IntRange(0, 3).Draw(t, "places") {
		places = append(places, w.all[rapid.IntRange(0, len(w.all)-1).Draw(t, "place")].doc)
	}
	c := claim(w.dir, places...)
	c.Channel = rapid.SampledFrom([]string{"stable", "beta"}).Draw(t, "channel")
	c.Version = rapid.SampledFrom([]string{"1.0.0", "2.0.0"}).Draw(t, "version")
	c.Payloads[0].Digest = rapid.SampledFrom([]string{"", sum("old"), sum("new"), sum("evil")}).Draw(t, "digest")
	v, err := trust.NewStatements(public("a"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(context.Background(), c)
	if err != nil {
		if !errors.Is(err, trust.ErrUntrusted) {
			t.Fatal(err)
		}
		return
	}
	w.accepted(t, c, got)
}

// accepted checks what the client took against what it must never take, and follows.
func (w *world) accepted(t *rapid.T, c trust.Claim, got trust.Release) {
	line, content := c.Channel, got.Payloads[0].Digest
	if content == "" || c.Payloads[0].Digest != "" && c.Payloads[0].Digest != content {
		t.Fatalf("content %q for an offer of %q", content, c.Payloads[0].Digest)
	}
	i := slices.IndexFunc(w.all, func(s shown) bool { return s.st.Expires.Equal(got.Expires) })
	if i < 0 {
		t.Fatalf("accepted %+v, which nobody signed", got)
	}
	s := w.all[i]
	if s.st.Sequence != got.Sequence || s.st.Version != c.Version || !slices.Contains(s.st.Channels, c.Channel) || s.st.Payloads[0].Digest != content {
		t.Fatalf("accepted %+v for %+v", s.st, c)
	}
	if !w.vouched(s) {
		t.Fatalf("accepted %+v, signed by %s, where %s are trusted", s.st, s.signers, w.trusted)
	}
	for _, key := range letters(w.trusted) {
		if got.Sequence < w.highest[line+key] {
			t.Fatalf("accepted sequence %d after %d, which %s signed", got.Sequence, w.highest[line+key], key)
		}
		if got.Sequence == w.highest[line+key] && w.contents[line+key] != string(s.doc.Document) {
			t.Fatalf("accepted another release with sequence %d", got.Sequence)
		}
	}
	for _, channel := range s.st.Channels {
		for _, key := range letters(s.signers) {
			known := strings.Contains(w.trusted+names(s.st.Keys), key)
			if line := channel + key; known && got.Sequence > w.highest[line] {
				w.highest[line], w.contents[line] = got.Sequence, string(s.doc.Document)
			}
		}
	}
	if issued := int(s.st.Issued.Sub(day(0)).Hours() / 24); len(s.st.Keys) > 0 && !w.overtaken(issued) {
		w.trusted, w.rotated = names(s.st.Keys), issued
	}
}

// overtaken says whether a document was issued before the keys that are there: it is the first day, and more than a day ahead nobody is sure of.
func (w *world) overtaken(issued int) bool {
	if w.rotated > 2 && issued <= 2 {
		return issued < 1
	}
	return issued < w.rotated
}

// vouched says whether a trusted key, and each listed one, signed it.
func (w *world) vouched(s shown) bool {
	return strings.ContainsAny(s.signers, w.trusted) && !strings.ContainsFunc(names(s.st.Keys), func(r rune) bool { return !strings.ContainsRune(s.signers, r) })
}

func names(keys []string) string {
	var s string
	for _, name := range []string{"a", "b"} {
		if slices.Contains(keys, public(name)[0]) {
			s += name
		}
	}
	return s
}

// garble changes a byte of a document or its signatures, as a mirror may.
func (w *world) garble(t *rapid.T) {
	if len(w.all) == 0 {
		return
	}
	s := w.all[rapid.IntRange(0, len(w.all)-1).Draw(t, "of")]
	doc := slices.Clone(s.doc.Document)
	doc[rapid.IntRange(0, len(doc)-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
	w.all = append(w.all, shown{trust.Statement{}, trust.Signed{Document: doc, Signatures: s.doc.Signatures}, ""})
}
