package omaha_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

// offered returns the one manifest that is offered.
func offered(t *testing.T, app string) omaha.Manifest {
	t.Helper()
	got := ask(t, app)
	if got.Err != nil || len(got.Manifests) != 1 {
		t.Fatalf("%d manifests, %v", len(got.Manifests), got.Err)
	}
	return got.Manifests[0]
}

func TestOffer_urls(t *testing.T) {
	for _, tt := range []struct {
		name, codebase, pkg, want string
	}{
		{"with slash", "https://h.example/x/", "a.tgz", "https://h.example/x/a.tgz"},
		{"missing slash", "https://h.example/x", "a.tgz", "https://h.example/x/a.tgz"},
		{"missing slash after the host", "https://h.example", "a.tgz", "https://h.example/a.tgz"},
		{"slash in front of the name", "https://h.example/x", "/a.tgz", "https://h.example/x/a.tgz"},
		{"full URL in the codebase", "https://h.example/x/a.tgz", "", "https://h.example/x/a.tgz"},
		{"query in the codebase", "https://h.example/get?file=", "a.tgz", "https://h.example/get?file=a.tgz"},
		{"full URL in the codebase with a query", "https://h.example/a.tgz?sig=1%2F2", "", "https://h.example/a.tgz?sig=1%2F2"},
		{"URL as a name", "https://h.example/x/", "http://other.example/b.tgz", "http://other.example/b.tgz"},
		{"URL as a name, no codebase", "", "https://other.example/b.tgz", "https://other.example/b.tgz"},
		{"image", "registry.example/ns/app:1.5.0", "", "registry.example/ns/app:1.5.0"},
		{"image with a port and digest", "registry.example:5000/ns/app@sha256:ab", "", "registry.example:5000/ns/app@sha256:ab"},
		{"image with a scheme", "oci://registry.example/ns/app:1.5.0", "", "oci://registry.example/ns/app:1.5.0"},
		{"image in two parts", "registry.example/ns", "app:1.5.0", "registry.example/ns/app:1.5.0"},
		{"blanks around", " https://h.example/x/ ", " a.tgz ", "https://h.example/x/a.tgz"},
		{"blank and umlaut within", "https://h.example/my files/", "ä b.tgz", "https://h.example/my%20files/%C3%A4%20b.tgz"},
		{"escaped already", "https://h.example/my%20files/", "a%2Bb.tgz", "https://h.example/my%20files/a%2Bb.tgz"},
		{"percent that escapes nothing", "https://h.example/", "100%.tgz", "https://h.example/100%25.tgz"},
		{"hash in the name", "https://h.example/", "a#1.tgz", "https://h.example/a%231.tgz"},
		{"query in the name", "https://h.example/", "a.tgz?token=1", "https://h.example/a.tgz?token=1"},
		{"line break in the name", "https://h.example/", "a&#13;&#10;Host: b", "https://h.example/a%0D%0AHost:%20b"},
		{"IPv6", "http://[::1]:8000/", "a.tgz", "http://[::1]:8000/a.tgz"},
		{"a way out stays a URL", "https://h.example/x/", "../../etc/passwd", "https://h.example/x/../../etc/passwd"},
		{"upper-case scheme", "HTTPS://h.example/x", "a", "HTTPS://h.example/x/a"},
		{"colon that is no scheme", "h.example/x", "1a://", "h.example/x/1a://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := offerOf(`<url codebase="`+tt.codebase+`"/>`, `<package name="`+tt.pkg+`"/>`, "")
			if got := offered(t, app).Packages[0].URLs; !reflect.DeepEqual(got, []string{tt.want}) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOffer_mirrors(t *testing.T) {
	urls := `<url codebase="https://one.example/"/><url codebase=""/><url codebase="https://two.example"/><url codebase="https://one.example"/>`
	m := offered(t, offerOf(urls, `<package name="a"/><package name="b"/>`, ""))
	if want := []string{"https://one.example/a", "https://two.example/a"}; !reflect.DeepEqual(m.Packages[0].URLs, want) {
		t.Errorf("got %q, want %q", m.Packages[0].URLs, want)
	}
	if want := []string{"https://one.example/b", "https://two.example/b"}; !reflect.DeepEqual(m.Packages[1].URLs, want) {
		t.Errorf("got %q, want %q", m.Packages[1].URLs, want)
	}
	if want := []string{"https://one.example/", "", "https://two.example", "https://one.example"}; !reflect.DeepEqual(m.URLs, want) {
		t.Errorf("codebases: got %q, want %q", m.URLs, want)
	}
	many := strings.Builder{}
	for i := range 100 {
		fmt.Fprintf(&many, `<url codebase="https://m%d.example/"/>`, i)
	}
	if got := offered(t, offerOf(many.String(), `<package name="a"/>`, "")).Packages[0].URLs; len(got) != 32 {
		t.Errorf("%d mirrors kept, want 32", len(got))
	}
}

const (
	sha1Hex      = "fc753b1a32aa3293ccdbf49789bedaad959a3345"
	sha1Base64   = "/HU7GjKqMpPM2/SXib7arZWaM0U="
	sha256Hex    = "258a6aa968903ee858483c1fda357d322d2c74b492c15f660518717a27174d53"
	sha256Base64 = "JYpqqWiQPuhYSDwf2jV9Mi0sdLSSwV9mBRhxeicXTVM="
)

func TestOffer_hashes(t *testing.T) {
	for _, tt := range []struct {
		name, attributes string
		sha1, sha256     []byte
	}{
		{"none", ``, nil, nil},
		{"base64", `hash="` + sha1Base64 + `" hash_sha256="` + sha256Base64 + `"`, unhex(sha1Hex), unhex(sha256Hex)},
		{"hex", `hash="` + sha1Hex + `" hash_sha256="` + sha256Hex + `"`, unhex(sha1Hex), unhex(sha256Hex)},
		{"upper-case hex", `hash="` + strings.ToUpper(sha1Hex) + `" hash_sha256="` + strings.ToUpper(sha256Hex) + `"`, unhex(sha1Hex), unhex(sha256Hex)},
		{"base64 without padding", `hash="` + strings.TrimRight(sha1Base64, "=") + `"`, unhex(sha1Hex), nil},
		{"base64 for URLs", `hash="_HU7GjKqMpPM2_SXib7arZWaM0U="`, unhex(sha1Hex), nil},
		{"blanks around", `hash=" ` + sha1Base64 + `&#10;"`, unhex(sha1Hex), nil},
		{"junk", `hash="extraSHA1=" hash_sha256="-"`, nil, nil},
		{"empty", `hash="" hash_sha256=""`, nil, nil},
		{"too short", `hash="` + sha1Hex[2:] + `" hash_sha256="` + sha256Hex[2:] + `"`, nil, nil},
		{"not hex", `hash="` + strings.Repeat("z", 40) + `" hash_sha256="` + strings.Repeat("z", 64) + `"`, nil, nil},
		{"swapped", `hash="` + sha256Hex + `" hash_sha256="` + sha1Hex + `"`, nil, nil},
		{"line break in place of a character", `hash="` + sha1Base64[:10] + `&#10;` + sha1Base64[11:] + `"`, nil, nil},
		{"line break within", `hash="` + sha1Base64[:10] + `&#10;` + sha1Base64[10:] + `"`, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := offered(t, offerOf(`<url codebase="https://h.example/"/>`, `<package name="a" `+tt.attributes+`/>`, "")).Packages[0]
			if !reflect.DeepEqual(p.SHA1, tt.sha1) || !reflect.DeepEqual(p.SHA256, tt.sha256) {
				t.Errorf("got %x and %x", p.SHA1, p.SHA256)
			}
		})
	}
}

// Flatcar's payload has its SHA-256 in an action.
func TestOffer_actionHash(t *testing.T) {
	const other = "0000000000000000000000000000000000000000000000000000000000000000"
	action := `<action event="postinstall" sha256="` + sha256Base64 + `"/>`
	for _, tt := range []struct {
		name, packages, actions string
		want                    []string
	}{
		{"single package", `<package name="a" hash="` + sha1Base64 + `"/>`, action, []string{sha256Hex}},
		{"in hex", `<package name="a"/>`, `<action event="postinstall" sha256="` + sha256Hex + `"/>`, []string{sha256Hex}},
		{"main package first", `<package name="a"/><package name="b" hash_sha256="` + other + `"/>`, action, []string{sha256Hex, other}},
		{"main package last", `<package name="b" hash_sha256="` + other + `"/><package name="a"/>`, action, []string{other, sha256Hex}},
		{"known already", `<package name="a" hash_sha256="` + sha256Hex + `"/><package name="b"/>`, action, []string{sha256Hex, ""}},
		{"first only", `<package name="a"/><package name="b"/>`, action, []string{sha256Hex, ""}},
		{"another event", `<package name="a"/>`, `<action event="install" sha256="` + sha256Base64 + `"/>`, []string{""}},
		{"junk", `<package name="a"/>`, `<action event="postinstall" sha256="junk"/>`, []string{""}},
		{"the second action", `<package name="a"/>`, `<action event="install"/>` + action, []string{sha256Hex}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := offered(t, offerOf(`<url codebase="https://h.example/"/>`, tt.packages, tt.actions))
			for i, p := range m.Packages {
				if got := fmt.Sprintf("%x", p.SHA256); got != tt.want[i] {
					t.Errorf("package %s: got %q, want %q", p.Name, got, tt.want[i])
				}
			}
		})
	}
}

func TestOffer_actions(t *testing.T) {
	m := offered(t, offerOf(`<url codebase="https://h.example/"/>`, `<package name="a"/>`,
		`<action event="postinstall" DisplayVersion="2" needsadmin="false" IsDeltaPayload="true" DisablePayloadBackoff="true" `+
			`MaxFailureCountPerUrl="3" MetadataSignatureRsa="r" MetadataSize="9" deadline="now" MoreInfo="i" Prompt="maybe"/>`+
			`<action event="x" MaxFailureCountPerUrl="-1" needsadmin="1"/>`))
	want := []omaha.Action{{Event: "postinstall", DisplayVersion: "2", IsDeltaPayload: true, DisablePayloadBackoff: true,
		MaxFailureCountPerURL: 3, MetadataSignatureRsa: "r", MetadataSize: "9", Deadline: "now", MoreInfo: "i"},
		{Event: "x", NeedsAdmin: true}}
	if !reflect.DeepEqual(m.Actions, want) {
		t.Errorf("got %+v", m.Actions)
	}
}

func TestOffer_metadata(t *testing.T) {
	m := offered(t, offerOf(`<url codebase="registry.example/ns/app:1"/>`,
		`<package name="" required="true"><metadata content-type=" application/vnd.oci.image "><![CDATA[{"a":"<&>"}]]></metadata></package>`+
			`<package name="https://h.example/b"><metadata content-type="binary"/></package>`, ""))
	p := m.Packages[0]
	if p.MediaType != "application/vnd.oci.image" || string(p.Metadata) != `{"a":"<&>"}` || !p.Required {
		t.Errorf("got %+v", p)
	}
	if p := m.Packages[1]; p.MediaType != "binary" || len(p.Metadata) != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestOffer_severalManifests(t *testing.T) {
	got := ask(t, `<app appid="a" status="ok"><updatecheck status="ok"><urls><url codebase="https://h.example/"/></urls>`+
		`<manifest version="1.5.0" is_floor="true" floor_reason="new disk layout"><packages><package name="a-1.5"/></packages></manifest>`+
		`<manifest version="2.0.0" is_target="true" is_floor="maybe"><packages><package name="a-2.0"/></packages></manifest>`+
		`</updatecheck></app>`)
	if got.Err != nil || len(got.Manifests) != 2 {
		t.Fatalf("got %+v", got)
	}
	floor, target := got.Manifests[0], got.Manifests[1]
	if floor.Version != "1.5.0" || !floor.IsFloor || floor.IsTarget || floor.FloorReason != "new disk layout" {
		t.Errorf("floor: %+v", floor)
	}
	if target.Version != "2.0.0" || target.IsFloor || !target.IsTarget || target.Packages[0].URLs[0] != "https://h.example/a-2.0" {
		t.Errorf("target: %+v", target)
	}
}

func TestOffer_size(t *testing.T) {
	for _, tt := range []struct {
		size string
		want int64 // -1: refused
	}{
		{"", 0}, {"0", 0}, {"42", 42}, {" 42 ", 42}, {"1125899906842624", 1 << 50},
		{"-1", -1}, {"abc", -1}, {"1e3", -1}, {"1.5", -1}, {"0x10", -1}, {"1125899906842625", -1}, {"99999999999999999999", -1},
	} {
		t.Run(tt.size, func(t *testing.T) {
			got := ask(t, offerOf(`<url codebase="https://h.example/"/>`, `<package name="a" size="`+tt.size+`"/>`, ""))
			if tt.want < 0 {
				wantInvalid(t, got, "size", tt.size)
				return
			}
			if got.Err != nil || got.Manifests[0].Packages[0].Size != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func wantInvalid(t *testing.T, got omaha.AppResponse, words ...string) {
	t.Helper()
	var invalid *omaha.InvalidError
	if !errors.As(got.Err, &invalid) || invalid.AppID != got.ID || got.Manifests != nil || got.NoUpdate {
		t.Fatalf("got %d manifests, no update %v, %v; want an InvalidError alone", len(got.Manifests), got.NoUpdate, got.Err)
	}
	if omaha.CodeOf(got.Err) != omaha.ExitResponseInvalid {
		t.Errorf("code %v", omaha.CodeOf(got.Err))
	}
	saysAll(t, got.Err, words...)
}

func TestOffer_unusable(t *testing.T) {
	manifest := func(inner string) string {
		return `<app appid="a" status="ok"><updatecheck status="ok"><urls><url codebase="https://h.example/"/></urls>` + inner + `</updatecheck></app>`
	}
	for _, tt := range []struct{ name, app, says string }{
		{"no manifest", manifest(""), "manifest"},
		{"no package", manifest(`<manifest version="2.0.0"><packages/></manifest>`), "no package"},
		{"no version", manifest(`<manifest><packages><package name="a"/></packages></manifest>`), "version"},
		{"blank version", manifest(`<manifest version=" "><packages><package name="a"/></packages></manifest>`), "version"},
		{"version with a line break", manifest(`<manifest version="1&#10;2"><packages><package name="a"/></packages></manifest>`), "version"},
		{"endless version", manifest(`<manifest version="` + strings.Repeat("1", 300) + `"><packages><package name="a"/></packages></manifest>`), "version"},
		{"no URL", offerOf("", `<package name="a"/>`, ""), "URL"},
		{"empty codebase", offerOf(`<url codebase=""/><url/>`, `<package name="a"/>`, ""), "URL"},
		{"endless URL", offerOf(`<url codebase="https://h.example/`+strings.Repeat("x", 9000)+`"/>`, `<package name="a"/>`, ""), "URL"},
		{"no update check", `<app appid="a" status="ok"><ping status="ok"/></app>`, "update check"},
		{"junk in the second package", offerOf(`<url codebase="https://h.example/"/>`, `<package name="a"/><package name="b" size="x"/>`, ""), `"b"`},
	} {
		t.Run(tt.name, func(t *testing.T) { wantInvalid(t, ask(t, tt.app), tt.says) })
	}
}

func TestOffer_anyVersion(t *testing.T) {
	for _, version := range []string{"v2.0.0", "1.2.3.4", "2026-08-01", "next"} {
		app := strings.ReplaceAll(offerOf(`<url codebase="https://h.example/"/>`, `<package name="a"/>`, ""), "2.0.0", version)
		if got := offered(t, app).Version; got != version {
			t.Errorf("got %q, want %q as the server wrote it", got, version)
		}
	}
}

// A manifest goes into the journal and must come back the same.
func TestManifest_JSON(t *testing.T) {
	app := offerOf(`<url codebase="https://h.example/"/><url codebase="https://i.example/"/>`,
		`<package name="a" size="7" hash="`+sha1Base64+`" hash_sha256="`+sha256Hex+`" required="true"/>`+
			`<package name="b&#x1f600;"><metadata content-type="x/y"><![CDATA[ä]]></metadata></package><package name="c"><metadata/></package>`,
		`<action event="postinstall" sha256="`+sha256Base64+`" MaxFailureCountPerUrl="3"/>`)
	app = strings.Replace(app, `<manifest`, `<manifest is_floor="1" is_target="1" floor_reason="r"`, 1)
	want := offered(t, app)
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got omaha.Manifest
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
