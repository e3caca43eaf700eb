package fetcher_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testregistry"

	"github.com/nebraska/omahaclient/fetcher"
)

func TestParseHosts(t *testing.T) {
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"nothing", "", []string{"https://registry.example/v2 pull resolve"}},
		{"mirrors in their order", `
			server = "https://origin.example"
			[host."https://b.example:5000"]
			  capabilities = ["pull"]
			[host."http://a.example"]
			  capabilities = ["pull", "resolve"]
			  [host."http://a.example".header]
			    x-one = "1"
			    x-two = ["2", "3"]
			[host."c.example"]`,
			[]string{"https://b.example:5000/v2 pull", "http://a.example/v2 pull resolve", "https://c.example/v2 pull resolve", "https://origin.example/v2 pull resolve"}},
		{"paths", `
			server = "https://origin.example/v2"
			[host."https://a.example/cache"]
			[host."https://b.example/v2/proxy"]
			  override_path = true
			[host."https://c.example/"]`,
			[]string{"https://a.example/cache/v2 pull resolve", "https://b.example/v2/proxy pull resolve", "https://c.example/v2 pull resolve", "https://origin.example/v2 pull resolve"}},
		{"push only", `[host."https://a.example"]` + "\n" + `capabilities = ["push"]`, []string{"https://a.example/v2", "https://registry.example/v2 pull resolve"}},
		{"TLS", "skip_verify = true\n[host.\"https://a.example\"]\nskip_verify = true\ndial_timeout = \"2s\"",
			[]string{"https://a.example/v2 pull resolve tls", "https://registry.example/v2 pull resolve tls"}},
		{"Spegel's", "server = 'https://docker.io'\n\n[host]\n[host.'http://127.0.0.1:30020']\ncapabilities = ['pull', 'resolve']\ndial_timeout = '200ms'\n[host.'http://127.0.0.1:30021']\ncapabilities = ['pull', 'resolve']\n",
			[]string{"http://127.0.0.1:30020/v2 pull resolve", "http://127.0.0.1:30021/v2 pull resolve", "https://docker.io/v2 pull resolve"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := fetcher.ParseHosts(c.content, t.TempDir()); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestParseHosts_refuses(t *testing.T) {
	for name, content := range map[string]string{
		"no TOML":             `server = `,
		"a server of no URL":  `server = "https://a b"`,
		"another scheme":      `[host."ftp://a.example"]`,
		"a user":              `[host."https://user:secret@a.example"]`,
		"no host":             `[host."https:///x"]`,
		"a missing CA":        "[host.\"https://a.example\"]\nca = \"missing.pem\"",
		"a CA of no text":     "[host.\"https://a.example\"]\nca = 7",
		"a missing client":    "[host.\"https://a.example\"]\nclient = [[\"a.pem\", \"b.pem\"]]",
		"a triple of a pair":  "[host.\"https://a.example\"]\nclient = [[\"a\", \"b\", \"c\"]]",
		"no duration":         "[host.\"https://a.example\"]\ndial_timeout = \"soon\"",
		"a header of no text": "[host.\"https://a.example\".header]\nx = [7]",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := fetcher.ParseHosts(content, t.TempDir()); err == nil {
				t.Errorf("got %q", got)
			}
		})
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("server = \"https://origin.example\"\n[host.\"https://a.example/x\"]\ncapabilities = [\"pull\"]\nca = [\"a\"]\nclient = [[\"a\",\"b\"]]\n[host.\"https://a.example/x\".header]\nx = [\"y\"]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		hosts, err := fetcher.ParseHosts(content, dir)
		for _, h := range hosts {
			u, _, _ := strings.Cut(h, " ")
			if parsed, e := url.Parse(u); err == nil && (e != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http") {
				t.Errorf("%q gives %q", content, h)
			}
		}
	})
}

// mirrored writes a hosts.toml for a registry and returns the folder.
func mirrored(t *testing.T, registry string, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, registry), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, registry, "hosts.toml"), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOCI_pullsFromTheNodesMirror(t *testing.T) {
	mirror, dead := newHub(t), httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	img := mirror.PushImage("ns/app", "linux/amd64", noise(1, 10_000), noise(2, 20_000))
	mirror.Spoil(nil)
	o := quickOCI()
	o.MirrorsDir = mirrored(t, "_default", `server = "`+dead.URL+`"`, `[host."`+mirror.server.URL+`"]`,
		`[host."`+mirror.server.URL+`".header]`, `X-Node = "n1"`)
	mustPull(t, o, newImageJob(t, "registry.example/ns/app@"+img.Manifest.Digest.String()))
	for _, r := range mirror.Gets("") {
		if r.URL.Query().Get("ns") != "registry.example" || r.Header.Get("X-Node") != "n1" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
	}
}

func TestOCI_fallsBackToTheOrigin(t *testing.T) {
	for name, front := range map[string]testregistry.Front{
		"mirror without the image": testregistry.Answer(http.StatusNotFound),
		"mirror in trouble":        testregistry.Answer(http.StatusBadGateway),
		"mirror that lies":         testregistry.Corrupt(),
	} {
		t.Run(name, func(t *testing.T) {
			mirror, origin := newHub(t), newHub(t)
			img := origin.PushImage("ns/app", "linux/amd64", noise(1, 10_000), noise(2, 20_000))
			mirror.PushImage("ns/app", "linux/amd64", noise(1, 10_000), noise(2, 20_000))
			origin.Spoil(nil)
			mirror.Spoil(front)
			o := quickOCI()
			o.Tries = 2
			o.MirrorsDir = mirrored(t, origin.host(), `[host."`+mirror.server.URL+`"]`)
			mustPull(t, o, newImageJob(t, origin.ref("ns/app", img.Manifest)))
			if len(mirror.Gets("")) == 0 || len(origin.Gets("")) != 4 {
				t.Errorf("mirror %q, origin %q", mirror.asked(""), origin.asked(""))
			}
		})
	}
}

func TestOCI_asksADeadMirrorOnce(t *testing.T) {
	dead, origin := newHub(t), newHub(t)
	img := origin.PushImage("ns/app", "linux/amd64", noise(1, 10_000), noise(2, 20_000), noise(3, 30_000))
	dead.Spoil(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { panic(http.ErrAbortHandler) })
	o := quickOCI()
	o.Tries, o.Streams = 1, 1
	o.MirrorsDir = mirrored(t, origin.host(), `[host."`+dead.server.URL+`"]`)
	mustPull(t, o, newImageJob(t, origin.ref("ns/app", img.Manifest)))
	if got := dead.asked(""); len(got) > 2 { // the transport itself repeats a request whose connection was cut before the answer
		t.Errorf("the dead mirror was asked %q", got)
	}
}

func TestOCI_mirrorsAsSeveralURLs(t *testing.T) {
	a, b := newHub(t), newHub(t)
	img := b.PushImage("other/name", "linux/amd64", noise(1, 10_000))
	p := mustPull(t, quickOCI(), newImageJob(t, a.ref("ns/app", img.Manifest), b.host()+"/other/name:tag"))
	if p.Reference != a.ref("ns/app", img.Manifest) {
		t.Errorf("got %s", p.Reference)
	}
}

func TestOCI_brokenHostsFileIsNamed(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000))
	o := quickOCI()
	o.MirrorsDir = mirrored(t, h.host(), "server = ")
	_, err := o.Fetch(t.Context(), newImageJob(t, h.ref("ns/app", img.Manifest)))
	if err == nil || !strings.Contains(err.Error(), filepath.Join(h.host(), "hosts.toml")) {
		t.Error(err)
	}
}
