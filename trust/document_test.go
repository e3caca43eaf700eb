package trust_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/trust"
)

func TestMarshal_roundTrip(t *testing.T) {
	st := trust.Statement{
		App: "app <&> é", Channels: []string{"", "stable"}, Arch: trust.AnyArch, Version: "1.2.3-rc.1+x", Sequence: trust.MaxSequence,
		Issued: day(0), Expires: day(1), Payloads: []trust.Payload{file("one", "1"), image("two"), image("two")}, Keys: public("a", "b"),
	}
	b, err := st.Marshal()
	must(t, err)
	got, err := trust.ParseStatement(b)
	must(t, err)
	want(t, "statement", reflect.DeepEqual(got, st), true)
	want(t, "ends in a line's end", b[len(b)-1], '\n')

	st.Keys[0] = "untrusted comment: a key's file\n" + st.Keys[0] + "\n"
	again, err := st.Marshal()
	must(t, err)
	want(t, "the same bytes", string(again), string(b))

	x := with(index(), func(x *trust.Index) { x.Keys = public("a") })
	b, err = x.Marshal()
	must(t, err)
	head, err := trust.ParseIndex(b)
	must(t, err)
	want(t, "index", reflect.DeepEqual(head, x), true)
}

// Times are cut to seconds, in UTC.
func TestMarshal_times(t *testing.T) {
	st := release()
	plain, err := st.Marshal()
	must(t, err)
	st.Issued = st.Issued.Add(999 * time.Millisecond).In(time.FixedZone("", 7200))
	odd, err := st.Marshal()
	must(t, err)
	want(t, "same bytes", bytes.Equal(plain, odd), true)
}

func TestMarshal_refuses(t *testing.T) {
	for name, change := range map[string]func(*trust.Statement){
		"no app":                func(s *trust.Statement) { s.App = "" },
		"app with a line's end": func(s *trust.Statement) { s.App = "a\nb" },
		"app no UTF-8":          func(s *trust.Statement) { s.App = "a\xff" },
		"long app":              func(s *trust.Statement) { s.App = strings.Repeat("a", 256) },
		"no channels":           func(s *trust.Statement) { s.Channels = nil },
		"channel twice":         func(s *trust.Statement) { s.Channels = []string{"a", "b", "a"} },
		"channel with a zero":   func(s *trust.Statement) { s.Channels = []string{"a\x00"} },
		"no arch":               func(s *trust.Statement) { s.Arch = "" },
		"arch of uname":         func(s *trust.Statement) { s.Arch = "x86_64" },
		"no version":            func(s *trust.Statement) { s.Version = "" },
		"no sequence":           func(s *trust.Statement) { s.Sequence = 0 },
		"sequence too high":     func(s *trust.Statement) { s.Sequence = trust.MaxSequence + 1 },
		"no issue":              func(s *trust.Statement) { s.Issued = time.Time{} },
		"no expiry":             func(s *trust.Statement) { s.Expires = time.Time{} },
		"expired when issued":   func(s *trust.Statement) { s.Expires = s.Issued },
		"year 10000":            func(s *trust.Statement) { s.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no payloads":           func(s *trust.Statement) { s.Payloads = nil },
		"file twice":            func(s *trust.Statement) { s.Payloads = []trust.Payload{file("a", "1"), file("a", "2")} },
		"file without name":     func(s *trust.Statement) { s.Payloads[0].Name = "" },
		"file without size":     func(s *trust.Statement) { s.Payloads[0].Size = 0 },
		"negative size":         func(s *trust.Statement) { s.Payloads[0].Size = -1 },
		"file without digest":   func(s *trust.Statement) { s.Payloads[0].Digest = "" },
		"SHA-1":                 func(s *trust.Statement) { s.Payloads[0].Digest = "sha1:" + strings.Repeat("0", 40) },
		"digest in capitals":    func(s *trust.Statement) { s.Payloads[0].Digest = "sha256:" + strings.Repeat("A", 64) },
		"image by tag":          func(s *trust.Statement) { s.Payloads[0] = trust.Payload{Name: "i:1", Image: true} },
		"image of SHA-512":      func(s *trust.Statement) { s.Payloads[0] = trust.Payload{Name: "i", Image: true, Digest: "sha512:00"} },
		"no key":                func(s *trust.Statement) { s.Keys = []string{"RW"} },
		"key twice":             func(s *trust.Statement) { s.Keys = public("a", "a") },
		"eight keys":            func(s *trust.Statement) { s.Keys = public("a", "b", "c", "d", "e", "f", "g", "h") },
		"too large": func(s *trust.Statement) {
			for i := range 1000 {
				s.Payloads = append(s.Payloads, file(fmt.Sprint(i), "x"))
			}
		},
	} {
		s := release()
		change(&s)
		if b, err := s.Marshal(); !errors.Is(err, trust.ErrMalformed) || b != nil {
			t.Errorf("statement, %s: %v, %s", name, err, b)
		}
	}
	for name, change := range map[string]func(*trust.Index){
		"no sequence":        func(x *trust.Index) { x.Sequence = 0 },
		"no heads":           func(x *trust.Index) { x.Heads = nil },
		"two heads":          func(x *trust.Index) { x.Heads[0] = x.Heads[1]; x.Heads[0].App = strings.ToLower(app) },
		"head without app":   func(x *trust.Index) { x.Heads[0].App = "" },
		"bad channel":        func(x *trust.Index) { x.Heads[0].Channel = "a\nb" },
		"no head's arch":     func(x *trust.Index) { x.Heads[0].Arch = "" },
		"no head's version":  func(x *trust.Index) { x.Heads[0].Version = "" },
		"no head's sequence": func(x *trust.Index) { x.Heads[0].Sequence = 0 },
		"no expiry":          func(x *trust.Index) { x.Expires = time.Time{} },
		"bad key":            func(x *trust.Index) { x.Keys = []string{"x"} },
	} {
		x := index()
		change(&x)
		if b, err := x.Marshal(); !errors.Is(err, trust.ErrMalformed) || b != nil {
			t.Errorf("index, %s: %v, %s", name, err, b)
		}
	}
}

// What other readers of JSON might understand otherwise is refused; white space and the order of fields are free.
func TestParse_strict(t *testing.T) {
	b, err := release().Marshal()
	must(t, err)
	good := string(b)
	for _, tc := range []struct {
		name, old, new string
		ok             bool
	}{
		{"as it is", "", "", true},
		{"no white space", "\n", "", true},
		{"escapes", `"stable"`, `"st\u0061ble"`, true},
		{"field twice", `"arch": "amd64"`, `"arch": "arm64", "arch": "amd64"`, false},
		{"field of a payload twice", `"size": 3`, `"size": 4, "size": 3`, false},
		{"field of another case", `"arch"`, `"Arch"`, false},
		{"both cases", `"arch": "amd64"`, `"arch": "amd64", "ARCH": "arm64"`, false},
		{"a letter that folds", `"issued"`, "\"i\u017fsued\"", false},
		{"field that nobody knows", `"arch"`, `"size": 1, "arch"`, false},
		{"field missing", `"arch": "amd64",`, ``, false},
		{"null", `"amd64"`, `null`, false},
		{"null in a list", `"stable"`, `"stable", null`, false},
		{"null for no keys", `"arch"`, `"keys": null, "arch"`, false},
		{"another type", `"omahaclient-release"`, `"omahaclient-index"`, false},
		{"no type", `"type": "omahaclient-release",`, ``, false},
		{"format 2", `"format": 1`, `"format": 2`, false},
		{"no format", `"format": 1,`, ``, false},
		{"sequence as text", `"sequence": 5`, `"sequence": "5"`, false},
		{"sequence as a fraction", `"sequence": 5`, `"sequence": 5.0`, false},
		{"sequence with an exponent", `"sequence": 5`, `"sequence": 5e0`, false},
		{"sequence below zero", `"sequence": 5`, `"sequence": -5`, false},
		{"sequence of 2^53", `"sequence": 5`, `"sequence": 9007199254740992`, false},
		{"half a letter", `"stable"`, `"\ud800"`, false},
		{"no UTF-8", `"stable"`, "\"\xff\"", false},
		{"time with an offset", `T12:00:00Z"`, `T12:00:00+00:00"`, false},
		{"time with a fraction", `:00Z"`, `:00.0Z"`, false},
		{"a date", `T12:00:00Z"`, `"`, false},
		{"no such day", `2026-11-01`, `2026-02-30`, false},
		{"image with a size", `"size": 3,`, `"size": 3, "image": "sha256:` + strings.Repeat("0", 64) + `",`, false},
		{"image that is empty", `"size": 3,`, `"size": 3, "image": "",`, false},
		{"no keys", `"arch"`, `"keys": [], "arch"`, false},
		{"a key", `"arch"`, `"keys": ["` + public("a")[0] + `"], "arch"`, true},
		{"a key's file", `"arch"`, `"keys": ["untrusted comment:\n` + public("a")[0] + `"], "arch"`, false},
		{"a key with a line's end", `"arch"`, `"keys": ["` + public("a")[0] + `\n"], "arch"`, false},
		{"more behind it", "}\n", "}\n{}", false},
		{"a comma too many", `"arch": "amd64",`, `"arch": "amd64",,`, false},
		{"a list", good, "[]", false},
		{"nothing", good, "", false},
		{"deep", `"amd64"`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), false},
		{"a byte order mark", "{\n  \"type\"", "\ufeff{\n  \"type\"", false},
		{"too large", good, good + strings.Repeat(" ", trust.MaxDocument), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			document := strings.Replace(good, tc.old, tc.new, 1)
			if document == good && !tc.ok {
				t.Fatal("nothing was changed")
			}
			_, err := trust.ParseStatement([]byte(document))
			if tc.ok {
				must(t, err)
				return
			}
			wantErr(t, err, trust.ErrMalformed)
			if len(err.Error()) > 400 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParseIndex_strict(t *testing.T) {
	b, err := index().Marshal()
	must(t, err)
	for name, change := range map[string][2]string{
		"no channel":   {`"channel": "stable",`, ``},
		"null channel": {`"channel": "stable",`, `"channel": null,`},
		"unknown":      {`"channel": "stable",`, `"channel": "stable", "image": "x",`},
		"a statement":  {`omahaclient-index`, `omahaclient-release`},
	} {
		document := bytes.Replace(b, []byte(change[0]), []byte(change[1]), 1)
		if _, err := trust.ParseIndex(document); !errors.Is(err, trust.ErrMalformed) || bytes.Equal(document, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseMetadata(t *testing.T) {
	doc := sign(t, release(), "a")
	got, ok := trust.ParseMetadata(trust.Metadata(doc.Document, doc.Signatures))
	want(t, "there", ok, true)
	want(t, "document", string(got.Document), string(doc.Document))
	want(t, "signatures", string(got.Signatures), string(doc.Signatures))
	_, ok = trust.ParseMetadata([]byte(`{"other": [1], "release": "AA==", "minisig": "AA=="}`))
	want(t, "beside other fields", ok, true)
	for name, b := range map[string]string{
		"nothing": "", "text": "notes", "null": "null", "no signature": `{"release": "AA=="}`, "no base64": `{"release": "?", "minisig": "AA=="}`,
		"too large": string(trust.Metadata(make([]byte, trust.MaxDocument+1), []byte("x"))),
		"huge":      `{"release": "AA==", "minisig": "AA==", "x": "` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, ok := trust.ParseMetadata([]byte(b)); ok {
			t.Errorf("%s: taken", name)
		}
	}
}
