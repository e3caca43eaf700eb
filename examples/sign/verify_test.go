package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/trust"
)

const statement = payload + trust.ReleaseSuffix

func TestVerify_saysWhyNot(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.key("other")
	p.put(payload, "new")
	p.ok(releaseOf("-sequence", "3", "-days", "10", "-key", "k.key", payload)...)
	good := []string{"verify", "-pub", "k.pub", "-app", app, "-channel", "stable", "-arch", "amd64"}
	if out := p.ok(append(good, statement)...); !strings.Contains(out, "accepted: io.example.App 2.0.0") || !strings.Contains(out, "as it was signed") {
		t.Errorf("verify:\n%s", out)
	}
	for _, tc := range []struct {
		name  string
		flags []string
		want  error
	}{
		{"another key", []string{"verify", "-pub", "other.pub"}, trust.ErrSignature},
		{"another app", append(good, "-app", "io.example.Other"), trust.ErrMismatch},
		{"another channel", append(good, "-channel", "beta"), trust.ErrMismatch},
		{"another architecture", append(good, "-arch", "arm64"), trust.ErrMismatch},
		{"another version", append(good, "-version", "v2.0.0"), trust.ErrMismatch},
		{"a minimum above it", append(good, "-min-sequence", "4"), trust.ErrRollback},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := p.run(append(tc.flags, statement)...); !errors.Is(err, tc.want) || exitCode(err) != 1 {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
	p.ok(append(good, "-pub", "other.pub", statement)...) // one of two is enough

	p.put(payload, "nasty")
	p.fails(append(good, statement), "refused", "5 bytes", "signed with 3")
	p.put(payload, "bad")
	p.fails(append(good, statement), "refused", "changed after it was signed")
	if err := os.Remove(payload); err != nil {
		t.Fatal(err)
	}
	p.fails(append(good, statement), payload, "-no-files")
	p.ok(append(good, "-no-files", statement)...)

	p.now = p.now.AddDate(0, 0, 10)
	if _, err := p.run(append(good, "-no-files", statement)...); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	p.put(statement, strings.Replace(string(p.get(statement)), "2.0.0", "2.0.1", 1))
	if _, err := p.run(append(good, "-no-files", statement)...); !errors.Is(err, trust.ErrSignature) {
		t.Errorf("a changed statement: %v", err)
	}
}

func TestIndex_namesTheNewest(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.put("a1", "1")
	p.put("a2", "2")
	p.put("b", "3")
	p.ok(releaseOf("-channel", "beta", "-sequence", "1", "-key", "k.key", "a1")...)
	p.ok(releaseOf("-version", "2.1.0", "-sequence", "2", "-key", "k.key", "a2")...)
	p.ok(releaseOf("-app", "io.example.Other", "-arch", "all", "-version", "9", "-sequence", "77", "-key", "k.key", "b")...)
	statements := []string{"a2.release.json", "a1.release.json", "b.release.json"}
	indexOf := func(flags ...string) []string {
		return append(append([]string{"index", "-key", "k.key"}, flags...), statements...)
	}
	p.ok(indexOf("-sequence", "1")...)
	x, err := trust.ParseIndex(p.get("index.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, h := range x.Heads {
		got[h.App+" "+h.Channel+" "+h.Arch] = h.Version
	}
	want := map[string]string{app + " stable amd64": "2.1.0", app + " beta amd64": "2.0.0", "io.example.Other stable all": "9"}
	for line, version := range want {
		if got[line] != version || len(got) != len(want) {
			t.Errorf("heads: %q", got)
		}
	}
	out := p.ok("verify", "-pub", "k.pub", "-app", app, "-channel", "stable", "-arch", "amd64", "index.json")
	if !strings.Contains(out, "2.1.0") || strings.Contains(out, "io.example.Other") {
		t.Errorf("verify:\n%s", out)
	}
	if out := p.ok("verify", "-pub", "k.pub", "index.json"); strings.Count(out, "sequence") != 4 {
		t.Errorf("verify:\n%s", out)
	}
	p.fails([]string{"verify", "-pub", "k.pub", "-app", "io.example.Third", "index.json"}, "refused")

	p.fails(indexOf("-sequence", "1"), "not above 1", "index.json")
	p.fails(indexOf(), "-sequence 1 for the first")
	p.ok(indexOf("-previous", "index.json", "-days", "3")...)
	if x, err = trust.ParseIndex(p.get("index.json")); err != nil || x.Sequence != 2 || x.Expires.Sub(x.Issued) != 3*24*time.Hour {
		t.Errorf("%+v, %v", x, err)
	}
	p.now = p.now.AddDate(0, 0, 3)
	if _, err := p.run("verify", "-pub", "k.pub", "index.json"); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
}

// A release for all architectures takes the place of an older one of an architecture's own, which clients would look at first.
func TestIndex_oneForAllOvertakes(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	var statements []string
	for i, arch := range []string{"amd64", "all", "arm64"} {
		name := "app-" + arch
		p.put(name, arch)
		p.ok(releaseOf("-arch", arch, "-version", fmt.Sprintf("%d.0.0", i+1), "-sequence", strconv.Itoa(i+1), "-key", "k.key", name)...)
		statements = append(statements, name+".release.json")
	}
	p.ok(append([]string{"index", "-key", "k.key", "-sequence", "1"}, statements...)...)
	for arch, version := range map[string]string{"amd64": "2.0.0", "386": "2.0.0", "arm64": "3.0.0"} {
		out := p.ok("verify", "-pub", "k.pub", "-app", app, "-channel", "stable", "-arch", arch, "index.json")
		if !strings.Contains(out, version) {
			t.Errorf("%s: want %s in\n%s", arch, version, out)
		}
	}
}

func TestIndex_namesNothingThatClientsWouldRefuse(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.key("other")
	p.put(payload, "new")
	p.ok(releaseOf("-sequence", "1", "-days", "5", "-key", "k.key", payload)...)
	_ = p.fails([]string{"index", "-key", "other.key", "-sequence", "1", statement}, "sign the release again")
	_ = p.fails([]string{"index", "-key", "k.key", "-pub", "other.pub", "-sequence", "1", statement}, "sign the release again")
	p.ok("index", "-key", "other.key", "-pub", "k.pub", "-sequence", "1", "-out", "heads.json", statement) // a key of the index's own
	p.now = p.now.AddDate(0, 0, 6)
	if err := p.fails([]string{"index", "-key", "k.key", "-sequence", "1", statement}, "sign the release again"); !errors.Is(err, trust.ErrExpired) {
		t.Error(err)
	}
	if _, err := os.Stat("index.json"); err == nil {
		t.Error("an index was written")
	}
}

func TestRotate_changesTheKeysThatClientsTrust(t *testing.T) {
	p := newPublisher(t)
	p.key("old")
	fresh := p.key("new")
	p.put(payload, "new")
	p.ok(releaseOf("-sequence", "1", "-days", "100", "-key", "old.key", payload)...)
	p.ok("index", "-key", "old.key", "-sequence", "1", statement)
	before := p.get(statement)

	p.fails([]string{"rotate", "-key", "old.key", "-trust", "new.pub", statement}, "must sign as well")
	p.fails([]string{"rotate", "-key", "new.key", "-trust", "new.pub", statement}, "name a key that clients trust so far")
	if string(p.get(statement)) != string(before) {
		t.Error("what was refused was written")
	}
	p.ok("rotate", "-key", "old.key", "-key", "new.key", "-trust", "new.pub", statement)
	s := p.statement(statement)
	if s.Sequence != 2 || len(s.Keys) != 1 || s.Keys[0] != fresh || s.Expires.Sub(s.Issued) != 100*24*time.Hour || s.Version != "2.0.0" {
		t.Errorf("statement: %+v", s)
	}
	p.ok("verify", "-pub", "old.pub", statement)
	p.ok("verify", "-pub", "new.pub", statement)

	p.ok("rotate", "-key", "old.key", "-key", "new.key", "-trust", fresh, "-days", "9", "index.json")
	p.ok("verify", "-pub", "old.pub", "index.json")
	p.ok("verify", "-pub", "new.pub", "index.json")
	x, err := trust.ParseIndex(p.get("index.json"))
	if err != nil || x.Sequence != 2 || len(x.Keys) != 1 || x.Expires.Sub(x.Issued) != 9*24*time.Hour {
		t.Errorf("index: %+v, %v", x, err)
	}
}
