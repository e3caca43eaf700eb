package main

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"crypto/sha1"
	"crypto/sha256"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

const windows = runtime.GOOS == "windows"

func modeOf(t *testing.T, name string) string {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String()
}

func TestRelease_bindsWhatIsReleased(t *testing.T) {
	p := newPublisher(t)
	line := p.key("k")
	content := strings.Repeat("new\n", 100_000)
	p.put(payload, content)
	p.put("extra.tar", "more")
	out := p.ok(releaseOf("-channel", "beta", "-sequence", "7", "-days", "10", "-key", "k.key", payload, "extra.tar")...)

	s := p.statement(payload + ".release.json")
	strong, weak := sha256.Sum256([]byte(content)), sha1.Sum([]byte(content))
	want := "sha256:" + hex.EncodeToString(strong[:])
	if s.App != app || s.Version != "2.0.0" || s.Arch != "amd64" || s.Sequence != 7 || strings.Join(s.Channels, " ") != "stable beta" || len(s.Keys) != 0 {
		t.Errorf("statement: %+v", s)
	}
	if len(s.Payloads) != 2 || s.Payloads[0] != (trust.Payload{Name: payload, Size: 400_000, Digest: want}) || s.Payloads[1].Name != "extra.tar" {
		t.Errorf("payloads: %+v", s.Payloads)
	}
	if want := p.now.UTC().Truncate(time.Second); !s.Issued.Equal(want) || !s.Expires.Equal(want.AddDate(0, 0, 10)) {
		t.Errorf("issued %v, expires %v", s.Issued, s.Expires)
	}
	var public minisign.PublicKey
	if err := public.UnmarshalText([]byte(line)); err != nil {
		t.Fatal(err)
	}
	if !minisign.Verify(public, p.get(payload+".release.json"), p.get(payload+".release.json.minisig")) {
		t.Error("the signature is not good")
	}
	for _, want := range []string{"size 400000", base64.StdEncoding.EncodeToString(weak[:]), "stable, beta", "sequence 7"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if left, err := filepath.Glob("*.tmp"); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
	if got := modeOf(t, payload+".release.json"); got != "-rw-r--r--" && !windows {
		t.Errorf("mode %s: a web server could not read it", got)
	}
}

func TestRelease_sequencesRise(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.put(payload, "new")
	p.put("next.bin", "newer")
	p.ok(releaseOf("-sequence", "5", "-key", "k.key", payload)...)
	before := p.get(payload + ".release.json")
	for _, n := range []string{"4", "5"} {
		p.fails(releaseOf("-sequence", n, "-key", "k.key", "next.bin"), "not above 5", payload+".release.json", "rollback", "take 6")
		p.fails(releaseOf("-sequence", n, "-key", "k.key", payload), "not above 5")
	}
	if string(p.get(payload+".release.json")) != string(before) {
		t.Error("what was refused was written")
	}
	p.ok(releaseOf("-sequence", "5", "-channel", "x", "-app", "io.example.Other", "-key", "k.key", "next.bin")...) // another line
	p.ok(releaseOf("-sequence", "5", "-arch", "arm64", "-key", "k.key", "-out", "arm", "next.bin")...)
	p.fails(releaseOf("-sequence", "5", "-arch", "all", "-key", "k.key", "-out", "all", "next.bin"), "not above 5") // all is amd64 as well

	if err := os.Mkdir("2.1.0", 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join("2.1.0", "next.bin")
	p.ok(releaseOf("-version", "2.1.0", "-previous", payload+".release.json", "-key", "k.key", "-out", out, "next.bin")...)
	if s := p.statement(out + ".release.json"); s.Sequence != 6 || s.Version != "2.1.0" {
		t.Errorf("statement: %+v", s)
	}
	p.fails(releaseOf("-sequence", "5", "-previous", payload+".release.json", "-key", "k.key", "-out", "2.1.0/x", "next.bin"), "not above 6")
	p.fails(releaseOf("-channel", "x", "-app", "io.example.Third", "-previous", payload+".release.json", "-key", "k.key", "next.bin"), "-previous", "is about")
}

func TestRelease_printsMetadata(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.put(payload, "new")
	out := p.ok(releaseOf("-sequence", "1", "-key", "k.key", "-metadata", payload)...)
	signed, ok := trust.ParseMetadata([]byte(out))
	if !ok || string(signed.Document) != string(p.get(payload+".release.json")) || strings.Count(out, "\n") != 1 {
		t.Errorf("%v: %s", ok, out)
	}
}

const (
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	image  = "registry.example:5000/ns/app@" + digest
)

func TestRelease_ofAnImage(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.ok(releaseOf("-sequence", "1", "-key", "k.key", "-image", image)...)
	name := "app-2.0.0.release.json"
	s := p.statement(name)
	if len(s.Payloads) != 1 || !s.Payloads[0].Image || s.Payloads[0].Digest != digest {
		t.Errorf("payloads: %+v", s.Payloads)
	}
	p.ok("verify", "-pub", "k.pub", "-app", app, "-channel", "stable", "-arch", "amd64", name)

	out := p.ok("attach", name)
	for _, want := range []string{
		"oras attach --artifact-type " + trust.ArtifactType, "regctl artifact put", image,
		name + ":" + trust.MediaTypeRelease, name + ".minisig:" + trust.MediaTypeSignature,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	p.put(payload, "new")
	p.ok(releaseOf("-sequence", "2", "-key", "k.key", payload)...)
	p.fails([]string{"attach", payload + ".release.json"}, "no image")
}

func TestQuote_makesOneWord(t *testing.T) {
	for text, want := range map[string]string{"a.json": "a.json", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'", "ä": "'ä'"} {
		if got := quote(text); got != want {
			t.Errorf("quote(%q) = %s, want %s", text, got, want)
		}
	}
}
