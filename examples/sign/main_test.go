package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	app     = "io.example.App"
	payload = "app.bin"
)

// publisher works in a folder of its own.
type publisher struct {
	*testing.T

	now time.Time
	env map[string]string
	in  string
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	t.Chdir(t.TempDir())
	return &publisher{T: t, now: time.Now(), env: map[string]string{}}
}

func (p *publisher) run(args ...string) (string, error) {
	var out bytes.Buffer
	t := &tool{in: strings.NewReader(p.in), out: &out, getenv: func(name string) string { return p.env[name] }, now: p.now, encrypt: pretend}
	err := t.run(args)
	return out.String(), err
}

// pretend stands for minisign.EncryptKey, which takes 1 GiB and seconds.
func pretend(password string, key minisign.PrivateKey) ([]byte, error) {
	text, err := key.MarshalText()
	return append([]byte("untrusted comment: encrypted with "+password+"\n"), text...), err
}

func (p *publisher) ok(args ...string) string {
	p.Helper()
	out, err := p.run(args...)
	if err != nil {
		p.Fatalf("sign %q: %v", args, err)
	}
	return out
}

// fails wants an error with all of these words, and returns it.
func (p *publisher) fails(args []string, words ...string) error {
	p.Helper()
	out, err := p.run(args...)
	if err == nil {
		p.Fatalf("sign %q went well:\n%s", args, out)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			p.Errorf("sign %q: %q is not in: %v", args, word, err)
		}
	}
	return err
}

// key makes one, and returns its line.
func (p *publisher) key(name string) string {
	p.Helper()
	out := p.ok("keygen", "-no-password", name)
	return regexp.MustCompile(`RW[A-Za-z0-9+/]{54}`).FindString(out)
}

func (p *publisher) put(name, content string) {
	p.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		p.Fatal(err)
	}
}

func (p *publisher) get(name string) []byte {
	p.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		p.Fatal(err)
	}
	return content
}

// release is a command line that signs a release of the app; later flags win.
func releaseOf(flags ...string) []string {
	args := []string{"release", "-app", app, "-channel", "stable", "-arch", "amd64", "-version", "2.0.0"}
	return append(args, flags...)
}

func (p *publisher) statement(name string) trust.Statement {
	p.Helper()
	s, err := trust.ParseStatement(p.get(name))
	if err != nil {
		p.Fatal(err)
	}
	return s
}

func TestKeygen_makesKeysThatMinisignKnows(t *testing.T) {
	p := newPublisher(t)
	line := p.key("release")
	private, err := minisign.PrivateKeyFromFile("", "release.key")
	if err == nil {
		t.Error("the library decrypts a key that is not encrypted")
	}
	if err := private.UnmarshalText(p.get("release.key")); err != nil {
		t.Fatal(err)
	}
	public, err := minisign.PublicKeyFromFile("release.pub")
	if err != nil || public.String() != line || !public.Equal(private.Public()) {
		t.Errorf("%v, %v, printed was %s", public, err, line)
	}
	if got := modeOf(t, "release.key"); got != "-rw-------" && !windows {
		t.Errorf("the secret key's mode is %s", got)
	}
}

func TestKeygen_overwritesNothing(t *testing.T) {
	p := newPublisher(t)
	p.key("release")
	before := p.get("release.key")
	p.fails([]string{"keygen", "-no-password", "release"}, "release.key exists", "choose another name")
	p.put("other.pub", "mine")
	p.fails([]string{"keygen", "-no-password", "other"}, "other.pub exists")
	if !bytes.Equal(p.get("release.key"), before) || string(p.get("other.pub")) != "mine" {
		t.Error("something was overwritten")
	}
	if _, err := os.Stat("other.key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a pair was left: %v", err)
	}
}

func TestKeygen_takesAPasswordFromWhereNobodySeesIt(t *testing.T) {
	p := newPublisher(t)
	if err := p.fails([]string{"keygen", "a"}, "needs a password", "SIGN_PASSWORD", "-password-file"); exitCode(err) != 2 {
		t.Errorf("exit code %d", exitCode(err))
	}
	if _, err := os.Stat("a.key"); err == nil {
		t.Error("a key was written without a password")
	}
	encrypted := func(name, password string) {
		t.Helper()
		if text := string(p.get(name)); !strings.HasPrefix(text, "untrusted comment: encrypted with "+password+"\n") {
			t.Errorf("%s is encrypted so:\n%s", name, text)
		}
	}
	p.env["SIGN_PASSWORD"] = "from the environment"
	p.ok("keygen", "a")
	encrypted("a.key", "from the environment")
	p.put("secret", "from a file\r\n")
	p.ok("keygen", "-password-file", "secret", "b")
	encrypted("b.key", "from a file")
	p.in = "from a pipe\n"
	p.ok("keygen", "-password-file", "-", "c")
	encrypted("c.key", "from a pipe")
	p.in = "one\ntwo\n"
	p.fails([]string{"keygen", "-password-file", "-", "d"}, "one password", "2 lines")
}

// The keys of testdata are as minisign writes them, but for scrypt's cost, which is the lowest.
func TestRelease_usesEncryptedKeys(t *testing.T) {
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t)
	p.put(payload, "new")
	one, two := filepath.Join(testdata, "one.key"), filepath.Join(testdata, "two.key")
	p.fails(releaseOf("-sequence", "1", "-key", one, payload), "one.key", "it is encrypted", "SIGN_PASSWORD")
	p.env["SIGN_PASSWORD"] = "wrong"
	if err := p.fails(releaseOf("-sequence", "1", "-key", one, payload), "one.key", "wrong password"); exitCode(err) != 1 {
		t.Errorf("exit code %d", exitCode(err))
	}
	p.env["SIGN_PASSWORD"] = "first"
	p.ok(releaseOf("-sequence", "1", "-key", one, payload)...)
	p.ok("verify", "-pub", filepath.Join(testdata, "one.pub"), payload+trust.ReleaseSuffix)
	p.in = "first\nsecond\n"
	p.ok(releaseOf("-sequence", "2", "-key", one, "-key", two, "-password-file", "-", payload)...)
	for _, pub := range []string{"one.pub", "two.pub"} {
		p.ok("verify", "-pub", filepath.Join(testdata, pub), payload+trust.ReleaseSuffix)
	}
}

func TestRun_saysWhatIsWrong(t *testing.T) {
	p := newPublisher(t)
	p.key("k")
	p.put(payload, "new")
	p.put("empty", "")
	p.put("sub.release.json", "{}")
	if err := os.Mkdir("sub", 0o700); err != nil {
		t.Fatal(err)
	}
	p.put("sub/"+payload, "other")
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 2, "name a command"},
		{"an unknown command", []string{"publish"}, 2, `no command "publish"`},
		{"an unknown flag", []string{"release", "-apps", "x"}, 2, "-apps"},
		{"no name for a key", []string{"keygen", "-no-password"}, 2, "NAME.key"},
		{"no app", []string{"release", "-channel", "stable", "-arch", "amd64", "-version", "1.0.0", payload}, 2, "-app is missing"},
		{"no channel", []string{"release", "-app", app, "-arch", "amd64", "-version", "1.0.0", payload}, 2, "-channel is missing"},
		{"no architecture", []string{"release", "-app", app, "-channel", "stable", "-version", "1.0.0", payload}, 2, "-arch is missing"},
		{"no file", releaseOf("-sequence", "1", "-key", "k.key"), 2, "files, or its -image"},
		{"no key", releaseOf("-sequence", "1", payload), 2, "-key"},
		{"a public key for a secret one", releaseOf("-sequence", "1", "-key", "k.pub", payload), 1, "no secret key"},
		{"one key twice", releaseOf("-sequence", "1", "-key", "k.key", "-key", "k.key", payload), 2, "named twice"},
		{"no sequence", releaseOf("-key", "k.key", payload), 2, "-sequence 1 for the first"},
		{"a file that is not there", releaseOf("-sequence", "1", "-key", "k.key", "nowhere"), 1, "nowhere"},
		{"an empty file", releaseOf("-sequence", "1", "-key", "k.key", "empty"), 1, "empty is empty"},
		{"two files of one name", releaseOf("-sequence", "1", "-key", "k.key", payload, "sub/"+payload), 1, "listed twice"},
		{"an image by tag", releaseOf("-sequence", "1", "-key", "k.key", "-image", "registry.example/ns/app:1"), 2, "names no digest"},
		{"an image by half a digest", releaseOf("-sequence", "1", "-key", "k.key", "-image", "registry.example/app@sha256:12"), 1, "digest"},
		{"an unknown architecture", releaseOf("-sequence", "1", "-key", "k.key", "-arch", "x86-64", payload), 1, "x86-64"},
		{"days of the past", releaseOf("-sequence", "1", "-key", "k.key", "-days", "0", payload), 2, "-days 0"},
		{"a new key that does not sign", releaseOf("-sequence", "1", "-key", "k.key", "-trust", testKey(t), payload), 1, "did not sign"},
		{"something else in the way", releaseOf("-sequence", "1", "-key", "k.key", "-out", "sub", payload), 1, "not overwritten"},
		{"an index of nothing", []string{"index", "-key", "k.key", "-sequence", "1"}, 2, "name the statements"},
		{"an index of no statement", []string{"index", "-key", "k.key", "-sequence", "1", "sub.release.json"}, 1, "sub.release.json"},
		{"verify without a key", []string{"verify", "sub.release.json"}, 2, "-pub"},
		{"verify what is not there", []string{"verify", "-pub", "k.pub", "x.release.json"}, 1, "x.release.json"},
		{"verify with a file that is no key", []string{"verify", "-pub", payload, "x.release.json"}, 1, "no public key"},
		{"rotate to nothing", []string{"rotate", "-key", "k.key", "sub.release.json"}, 2, "-trust"},
		{"attach nothing", []string{"attach"}, 2, "name one statement"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := p.run(tc.args...)
			if err == nil || !strings.Contains(err.Error(), tc.want) || exitCode(err) != tc.code {
				t.Errorf("exit code %d, want %d and %q: %v", exitCode(err), tc.code, tc.want, err)
			}
		})
	}
	if exitCode(nil) != 0 {
		t.Error("success is no success")
	}
}

func testKey(t *testing.T) string {
	t.Helper()
	public, _, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public.String()
}

func TestRun_helps(t *testing.T) {
	p := newPublisher(t)
	if out := p.ok("help"); !strings.Contains(out, "rotate") {
		t.Errorf("help:\n%s", out)
	}
	for _, c := range commands() {
		if out := p.ok(c.name, "-h"); !strings.Contains(out, "usage: sign "+c.name) || !strings.Contains(out, c.help) {
			t.Errorf("%s -h:\n%s", c.name, out)
		}
	}
}
