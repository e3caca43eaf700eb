package apply_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// item is an entry of an archive.
type item struct {
	name, content string
	link          string
	kind          byte        // tar's; 0: a file
	mode          fs.FileMode // 0: 0644
}

func tarOf(t testing.TB, items ...item) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Typeflag: i.kind, Linkname: i.link, Size: int64(len(i.content)), Mode: 0o644, ModTime: time.Unix(1e9, 0)}
		if i.mode != 0 {
			h.Mode = int64(i.mode)
		}
		if i.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		must(t, w.WriteHeader(h))
		w.Write([]byte(i.content))
	}
	must(t, w.Close())
	return b.String()
}

func zipOf(t testing.TB, items ...item) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		h := &zip.FileHeader{Name: i.name, Method: zip.Deflate, Modified: time.Unix(1e9, 0)}
		mode := i.mode
		if mode == 0 {
			mode = 0o644
		}
		if i.kind == tar.TypeSymlink {
			mode |= fs.ModeSymlink
			i.content = i.link
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		must(t, err)
		f.Write([]byte(i.content))
	}
	must(t, w.Close())
	return b.String()
}

// site is a small, honest archive of a version.
func site(version string) []item {
	return []item{
		{name: "./", kind: tar.TypeDir, mode: 0o755},
		{name: "index.html", content: "version " + version},
		{name: "bin/run", content: "#!/bin/sh\n", mode: 0o755},
		{name: "bin/latest", link: "run", kind: tar.TypeSymlink},
		{name: "a/b/c.txt", content: strings.Repeat(version, 1000)},
	}
}

func wantSite(t *testing.T, dir, version string) {
	t.Helper()
	current := filepath.Join(dir, "current")
	wantFile(t, filepath.Join(current, "index.html"), "version "+version)
	wantFile(t, filepath.Join(current, "bin", "latest"), "#!/bin/sh\n")
	wantFile(t, filepath.Join(current, "a", "b", "c.txt"), strings.Repeat(version, 1000))
	info, err := os.Stat(filepath.Join(current, "bin", "run"))
	must(t, err)
	if runtime.GOOS != "windows" {
		want(t, "mode", info.Mode().Perm(), 0o755)
	}
	want(t, "time", info.ModTime().Unix(), 1e9)
}

// offer is one without a client, of a payload with this content.
func offer(t testing.TB, version, content string) omahaclient.UpdateOffer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "payload")
	must(t, os.WriteFile(path, []byte(content), 0o600))
	return omahaclient.UpdateOffer{AppID: appA, Version: version, Attempt: 1, Payloads: []fetcher.Payload{{Name: "payload", Path: path}}}
}

func TestArchive_unpacksAndSwitches(t *testing.T) {
	for name, content := range map[string]func(version string) string{
		"tar":     func(v string) string { return tarOf(t, site(v)...) },
		"tar.gz":  func(v string) string { return string(packed(t, "gzip", tarOf(t, site(v)...))) },
		"tar.zst": func(v string) string { return string(packed(t, "zstd", tarOf(t, site(v)...))) },
		"tar.xz":  func(v string) string { return string(packed(t, "xz", tarOf(t, site(v)...))) },
		"zip":     func(v string) string { return zipOf(t, site(v)[1:]...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "assets")
			a := apply.Archive{Dir: dir, Keep: 3}
			for n := range 5 {
				version := fmt.Sprintf("%d.0.0", n)
				must(t, a.Apply(t.Context(), offer(t, version, content(version))))
				wantSite(t, dir, version)
			}
			want(t, "versions", names(t, filepath.Join(dir, "versions")), ".2.0.0.json .3.0.0.json .4.0.0.json 2.0.0 3.0.0 4.0.0")
			want(t, "folder", names(t, dir), "current versions")
		})
	}
}

func TestArchive_rollsBackWhatIsNotWell(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir}
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
	var seen []string
	a.Activate = func(context.Context) error {
		to, err := os.Readlink(filepath.Join(dir, "current"))
		seen = append(seen, filepath.Base(to))
		return err
	}
	a.Probe = apply.ProbeFunc(func(context.Context) error { return errDone })
	err := a.Apply(t.Context(), offer(t, "2.0.0", tarOf(t, site("2.0.0")...)))
	wantErr(t, err, errDone)
	want(t, "code", code(err), 44)
	want(t, "activated", strings.Join(seen, " "), "2.0.0 1.0.0")
	wantSite(t, dir, "1.0.0")
	want(t, "versions", names(t, filepath.Join(dir, "versions")), ".1.0.0.json 1.0.0")
}

func TestArchive_goesBackToNothing(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir, Probe: apply.ProbeFunc(func(context.Context) error { return errDone })}
	err := a.Apply(t.Context(), offer(t, "2.0.0", tarOf(t, site("2.0.0")...)))
	want(t, "code", code(err), 44)
	want(t, "folder", names(t, dir), "versions")
}

func TestArchive_anInterruptedOneGoesOnAndStillGoesBack(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir}
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
	ctx, cancel := context.WithCancelCause(t.Context())
	a.Probe = apply.ProbeFunc(func(ctx context.Context) error { cancel(errDone); return context.Cause(ctx) })
	second := offer(t, "2.0.0", tarOf(t, site("2.0.0")...))
	wantErr(t, a.Apply(ctx, second), errDone)
	wantSite(t, dir, "2.0.0")
	a.Probe = apply.ProbeFunc(func(context.Context) error { return errDone })
	want(t, "code", code(a.Apply(t.Context(), second)), 44)
	wantSite(t, dir, "1.0.0")
}

func TestArchive_theSameVersionWithOtherContent(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir}
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("one")...))))
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("two")...))))
	wantSite(t, dir, "two")
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("one")...))))
	wantSite(t, dir, "one")
}

func TestArchive_throughAClient(t *testing.T) {
	w := onSockets(t)
	dir := t.TempDir()
	w.offering(appA, "2.0.0", []byte(tarOf(t, site("2.0.0")...)))
	must(t, w.outcome(apply.Archive{Dir: dir}))
	want(t, "server", w.instance(appA).Status, testserver.Complete)
	wantSite(t, dir, "2.0.0")
}

// hostile are archives that must be refused, with a word that tells why.
func hostile(t testing.TB) map[string][2]string {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", 40) + "f"
	many := make([]item, 0, 60)
	for n := range 60 {
		many = append(many, item{name: fmt.Sprint("f", n)})
	}
	link := func(name, to string) item { return item{name: name, link: to, kind: tar.TypeSymlink} }
	file := func(name string) item { return item{name: name, content: "evil"} }
	return map[string][2]string{
		"empty":                         {tarOf(t), "empty"},
		"empty zip":                     {zipOf(t), "empty"},
		"no archive":                    {strings.Repeat("hello", 1000), "tar"},
		"short":                         {"x", "no archive"},
		"traversal":                     {tarOf(t, file("../evil")), "leads out"},
		"traversal in a zip":            {zipOf(t, file("../evil")), "leads out"},
		"traversal inside":              {tarOf(t, file("a/../../evil")), "leads out"},
		"absolute":                      {tarOf(t, file("/tmp/evil")), "leads out"},
		"absolute in a zip":             {zipOf(t, file("/evil")), "leads out"},
		"backslashes":                   {zipOf(t, file(`..\..\evil`)), "backslash"},
		"link out":                      {tarOf(t, link("l", "../..")), "outside"},
		"link out of a zip":             {zipOf(t, link("l", "/etc")), "outside"},
		"absolute link":                 {tarOf(t, link("l", "/etc/passwd")), "outside"},
		"link through a link":           {tarOf(t, link("a/b/l", "../.."), link("m", "a/b/l/../..")), "outside"},
		"write through a link":          {tarOf(t, item{name: "d", kind: tar.TypeDir, mode: 0o755}, link("l", "d"), file("l/evil")), "behind a link"},
		"write onto a link":             {tarOf(t, link("l", "d"), file("l")), "there already"},
		"link with a backslash":         {tarOf(t, link("l", `a\..\..\evil`)), "outside"},
		"link with a backslash, zipped": {zipOf(t, link("l", `..\evil`)), "outside"},
		"link with a colon":             {tarOf(t, link("l", "c:evil")), "outside"},
		"link with a colon, zipped":     {zipOf(t, link("l", "file:stream")), "outside"},
		"link with a zero":              {zipOf(t, link("l", "a\x00b")), "outside"},
		"link to nothing":               {zipOf(t, link("l", "")), "outside"},
		"long link":                     {zipOf(t, link("l", strings.Repeat("a/", 2049))), "outside"},
		"name with a zero":              {zipOf(t, file("a\x00b")), "zero"},
		"hard link with a backslash":    {tarOf(t, item{name: "h", link: `..\evil`, kind: tar.TypeLink}), "backslash"},
		"hard link out":                 {tarOf(t, item{name: "l", link: "../../etc/passwd", kind: tar.TypeLink}), "leads out"},
		"hard link to a link":           {tarOf(t, link("l", "x"), item{name: "h", link: "l", kind: tar.TypeLink}), "no file"},
		"hard link behind a link":       {tarOf(t, file("x"), link("l", "."), item{name: "h", link: "l/x", kind: tar.TypeLink}), "behind a link"},
		"device":                        {tarOf(t, item{name: "d", kind: tar.TypeChar}), "neither"},
		"fifo":                          {tarOf(t, item{name: "d", kind: tar.TypeFifo}), "neither"},
		"setuid":                        {tarOf(t, item{name: "s", mode: 0o4755}), "setuid"},
		"setgid":                        {tarOf(t, item{name: "s", mode: 0o2755}), "setgid"},
		"setuid in a zip":               {zipOf(t, item{name: "s", mode: fs.ModeSetuid | 0o755}), "setuid"},
		"twice":                         {tarOf(t, file("x"), file("x")), "there already"},
		"twice but for a dot":           {tarOf(t, file("x"), file("./x")), "there already"},
		"twice but for case":            {tarOf(t, file("Readme"), file("README")), "there already"},
		"twice but for case of folders": {tarOf(t, file("a/x"), file("A/y")), "there already"},
		"twice in a zip":                {zipOf(t, file("x"), file("x")), "there already"},
		"file and folder":               {tarOf(t, file("x"), file("x/y")), ""},
		"long part":                     {tarOf(t, file(long)), "too long"},
		"long name":                     {tarOf(t, file(strings.Repeat("n/", 3000)+"f")), "too long"},
		"deep":                          {tarOf(t, file(deep)), "folders deep"},
		"many":                          {tarOf(t, many...), "more than 50 files"},
		"many folders":                  {tarOf(t, file(strings.Repeat("1/", 30)+"f"), file(strings.Repeat("2/", 30)+"f")), "more than 50 files"},
		"large":                         {tarOf(t, item{name: "x", content: strings.Repeat("x", 2<<20)}), "larger than 1048576"},
		"bomb":                          {string(packed(t, "gzip", tarOf(t, item{name: "x", content: strings.Repeat("\x00", 30<<20)}))), "larger than"},
		"zip bomb":                      {zipOf(t, item{name: "x", content: strings.Repeat("\x00", 30<<20)}), "larger than"},
		"cut":                           {tarOf(t, item{name: "x", content: strings.Repeat("x", 4000)})[:2000], "unexpected EOF"},
	}
}

func TestArchive_refusesHostileOnes(t *testing.T) {
	for name, tc := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "assets")
			a := apply.Archive{Dir: dir, MaxSize: 1 << 20, MaxFiles: 50}
			must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
			err := a.Apply(t.Context(), offer(t, "2.0.0", tc[0]))
			wantText(t, err, tc[1])
			want(t, "code", code(err), 5)
			wantSite(t, dir, "1.0.0")
			want(t, "above", names(t, above), "assets")
			want(t, "folder", names(t, dir), "current versions")
			want(t, "versions", names(t, filepath.Join(dir, "versions")), ".1.0.0.json 1.0.0")
		})
	}
}

func TestArchive_limitsTheRatio(t *testing.T) {
	bomb := string(packed(t, "zstd", tarOf(t, item{name: "x", content: strings.Repeat("\x00", 20<<20)})))
	err := apply.Archive{Dir: t.TempDir()}.Apply(t.Context(), offer(t, "2.0.0", bomb))
	wantText(t, err, "200 times larger")
	err = apply.Archive{Dir: t.TempDir()}.Apply(t.Context(), offer(t, "2.0.0", zipOf(t, item{name: "x", content: strings.Repeat("\x00", 20<<20)})))
	wantText(t, err, "200 times larger")
	must(t, apply.Archive{Dir: t.TempDir(), MaxRatio: 1e6}.Apply(t.Context(), offer(t, "2.0.0", bomb)))
}

func TestArchive_refusesVersionsThatAreNoNames(t *testing.T) {
	for _, version := range []string{"", "..", "a/b", `a\b`, ".x", "/", "1~2"} {
		err := apply.Archive{Dir: t.TempDir()}.Apply(t.Context(), offer(t, version, tarOf(t, site("x")...)))
		wantText(t, err, "cannot name a folder")
	}
}

// packed compresses content.
func packed(t testing.TB, format, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	switch format {
	case "gzip":
		w := gzip.NewWriter(&b)
		w.Write([]byte(content))
		must(t, w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&b)
		must(t, err)
		w.Write([]byte(content))
		must(t, w.Close())
	case "xz":
		w, err := xz.NewWriter(&b)
		must(t, err)
		w.Write([]byte(content))
		must(t, w.Close())
	default:
		b.WriteString(content)
	}
	return b.Bytes()
}

func FuzzArchive(f *testing.F) {
	// A run writes files and waits for the disk, thousands of them make an input smaller: by default each new one gets a minute
	// of that, and the whole time is over before a second one is looked for.
	if limit := flag.Lookup("test.fuzzminimizetime"); limit.Value.String() == limit.DefValue {
		must(f, limit.Value.Set("1x"))
	}
	for _, tc := range hostile(f) {
		if len(tc[0]) < 1<<16 {
			f.Add([]byte(tc[0]))
		}
	}
	f.Add([]byte(tarOf(f, site("1")...)))
	f.Add([]byte(zipOf(f, site("1")[1:]...)))
	f.Fuzz(func(t *testing.T, content []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "assets")
		err := apply.Archive{Dir: dir, MaxSize: 1 << 20, MaxFiles: 50}.Apply(t.Context(), offer(t, "2.0.0", string(content)))
		if err != nil && code(err) != 5 {
			t.Errorf("code %d: %v", code(err), err)
		}
		want(t, "above", names(t, above), "assets")
		within(t, filepath.Join(dir, "versions"))
	})
}

// within fails for anything but files, folders and links that stay within dir.
func within(t *testing.T, dir string) {
	t.Helper()
	own, err := filepath.EvalSymlinks(dir)
	must(t, err)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if m := info.Mode(); m&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket|fs.ModeSetuid|fs.ModeSetgid) != 0 {
			t.Errorf("%s is %v", path, m)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := filepath.EvalSymlinks(path)
			if err == nil && to != own && !strings.HasPrefix(to, own+string(filepath.Separator)) {
				t.Errorf("%s leads to %s", path, to)
			}
		}
		return nil
	}))
}

// Killed within the removal of a version's files, what is left is never taken for that version.
func TestArchive_whatIsRemovedLosesItsNameFirst(t *testing.T) {
	dir := t.TempDir()
	a := apply.Archive{Dir: dir}
	must(t, a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, site("1.0.0")...))))
	second := offer(t, "2.0.0", tarOf(t, site("2.0.0")...))
	a.Probe = apply.ProbeFunc(func(context.Context) error { return errDone })
	a = a.Stepped(func(point string) {
		if point == "before: remove files" {
			want(t, "versions", names(t, filepath.Join(dir, "versions")), ".1.0.0.json .2.0.0.json .unpacking 1.0.0")
			must(t, os.Remove(filepath.Join(dir, "versions", ".unpacking", "index.html"))) // the first file goes
			panic("killed")
		}
	})
	func() {
		defer func() { recover() }()
		_ = a.Apply(t.Context(), second)
	}()
	must(t, apply.Archive{Dir: dir}.Apply(t.Context(), second))
	wantSite(t, dir, "2.0.0")
}
