package state_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nebraska/omahaclient/internal/state"
)

// sample is a journal's file at some time, and what is in it.
type sample struct {
	file    []byte
	records map[string]string
}

// samples makes a journal with branches, pages that flow over, free pages and deleted records. It returns the last state of
// its file and, oldest first, those before it.
func samples(t testing.TB) (last sample, before []sample) {
	t.Helper()
	dir := t.TempDir()
	d := open(t, dir)
	j := d.Journal
	app := func(i int) string { return fmt.Sprintf("io.example.app-%02d", i) }
	keep := func() {
		file, err := os.ReadFile(filepath.Join(dir, "journal.db"))
		must(t, err)
		before = append(before, sample{file, all(t, j)})
	}
	for i := range 60 {
		prepare(t, j, app(i), toOffered...)
		if i%10 == 0 {
			keep()
		}
	}
	long := state.Report{Type: 1, Result: 1, Previous: strings.Repeat("long ", 2500)}
	for i := 0; i < 60; i += 5 {
		take(t, j, app(i), send(long), send(long))
		must(t, j.Forget(app(i+1)))
		must(t, j.Do(app(i), func(a *state.App) error { return a.Delivered(a.LastSeq) }))
	}
	for _, s := range []step{succeed, grant("3.0.0"), start, finish, offer} {
		take(t, j, app(7), s)
		keep()
	}
	return before[len(before)-1], before[:len(before)-1]
}

func (s sample) newestHead() (from, to int) {
	page := os.Getpagesize()
	// The transaction's number is 48 bytes into a head, and that 16 bytes into its page.
	tx := func(p int) []byte { return s.file[p*page+64 : p*page+72] }
	newest := 0
	if slices.Compare(reversed(tx(1)), reversed(tx(0))) > 0 {
		newest = 1
	}
	return newest * page, newest*page + 80 // behind that, the page is not used
}

// reversed turns a little-endian number into one that compares like it.
func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

// damages are the ways in which a disk or a file system spoils a file.
var damages = []struct {
	name  string
	times int
	do    func(rnd *rand.Rand, file []byte, before []sample) []byte
}{
	{"cut off", 60, func(rnd *rand.Rand, file []byte, _ []sample) []byte { return file[:rnd.IntN(len(file))] }},
	{"cut off at a page", 40, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		return file[:rnd.IntN(len(file)/os.Getpagesize())*os.Getpagesize()]
	}},
	{"a bit anywhere", 80, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		file[rnd.IntN(len(file))] ^= 1 << rnd.IntN(8)
		return file
	}},
	{"a bit at the start of a page", 160, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		file[rnd.IntN(len(file)/os.Getpagesize())*os.Getpagesize()+rnd.IntN(160)] ^= 1 << rnd.IntN(8)
		return file
	}},
	{"a byte at the start of a page", 100, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		file[rnd.IntN(len(file)/os.Getpagesize())*os.Getpagesize()+rnd.IntN(160)] = byte(rnd.IntN(256))
		return file
	}},
	{"zeros", 50, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		from := rnd.IntN(len(file) / 512)
		clear(file[from*512 : min(len(file), (from+1+rnd.IntN(20))*512)])
		return file
	}},
	{"junk", 50, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		from := rnd.IntN(len(file))
		for i := range file[from:min(len(file), from+rnd.IntN(8192))] {
			file[from+i] = byte(rnd.Uint32())
		}
		return file
	}},
	{"a page in another's place", 50, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		page := os.Getpagesize()
		from, to := rnd.IntN(len(file)/page)*page, rnd.IntN(len(file)/page)*page
		copy(file[to:to+page], file[from:from+page])
		return file
	}},
	{"a page from the past", 100, func(rnd *rand.Rand, file []byte, before []sample) []byte {
		page := os.Getpagesize()
		old := before[rnd.IntN(len(before))].file
		at := rnd.IntN(min(len(old), len(file))/page) * page
		copy(file[at:at+page], old[at:at+page])
		return file
	}},
	{"longer than it was", 10, func(rnd *rand.Rand, file []byte, _ []sample) []byte {
		return append(file, make([]byte, rnd.IntN(1<<16))...)
	}},
}

// opens bounds how often a way to spoil a file goes all the way through Open, for the file's being taken and not.
const opens = 25

// Whatever happened to the file: Open returns the right records, or sets it aside unchanged and starts afresh. It never
// panics, hangs or returns a record that is not the app's last one. A spoilt head alone may bring back the transaction
// before it, since that is what an unfinished transaction looks like.
func TestOpen_damagedFile(t *testing.T) {
	last, before := samples(t)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(len(d.name))))
			n := map[bool]int{}
			for i := range d.times {
				file := d.do(rnd, slices.Clone(last.file), before)
				apps, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
				if err == nil && len(file) > 0 {
					last.check(t, file, texts(t, apps), before[len(before)-1])
				}
				if n[err == nil]++; n[err == nil] <= opens {
					openDamaged(t, file, last, before[len(before)-1], err == nil || len(file) == 0)
				}
				if t.Failed() {
					t.Fatalf("try %d", i)
				}
			}
			t.Logf("%d of %d taken as they were", n[true], d.times)
		})
	}
}

// check compares the records of a spoilt file with what they must be.
func (s sample) check(t *testing.T, file []byte, got map[string]string, previous sample) {
	t.Helper()
	if from, to := s.newestHead(); len(file) < to || !bytes.Equal(file[from:to], s.file[from:to]) {
		sameRecords(t, "after the head was spoilt", got, previous.records)
	} else {
		sameRecords(t, "records", got, s.records)
	}
}

func texts(t *testing.T, apps map[string]*state.App) map[string]string {
	t.Helper()
	m := map[string]string{}
	for id, a := range apps {
		m[id] = text(t, a)
	}
	return m
}

// openDamaged opens a file, which can be taken or not, and works on what comes of it.
func openDamaged(t *testing.T, file []byte, last, previous sample, whole bool) {
	t.Helper()
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	must(t, os.WriteFile(filepath.Join(dir, "journal.db"), file, 0o600))
	d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, d.Close()) }()
	aside := setAside(t, dir)
	want(t, "taken", len(aside) == 0, whole)
	switch {
	case len(aside) == 1:
		want(t, "records in a new journal", len(d.Journal.IDs()), 0)
		kept, err := os.ReadFile(aside[0])
		must(t, err)
		want(t, "set aside unchanged", bytes.Equal(kept, file), true)
	case len(file) > 0:
		last.check(t, file, all(t, d.Journal), previous)
	}
	take(t, d.Journal, appA, sendInfo)
	must(t, d.Journal.Forget(appA))
}

// Every way to spoil one byte of a small journal: it is set aside, or nothing is lost, and bbolt sees what we see.
func TestReadJournal_everyByte(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	before := text(t, prepare(t, d.Journal, appA, toFetched...))
	after := text(t, take(t, d.Journal, appA, offer))
	must(t, d.Close())
	path := filepath.Join(dir, "journal.db")
	file, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	from, to := sample{file: file}.newestHead()
	taken, seen, matters := 0, 0, false
	for i := range file {
		if i%os.Getpagesize() == 0 {
			matters = used(file, i)
		}
		structure := matters && i%os.Getpagesize() < 300
		for n, flip := range []byte{1, 0x80, 0xFF} {
			if !structure && n != i%3 {
				continue // one of them will do
			}
			file[i] ^= flip
			apps, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
			if err == nil {
				taken++
				record := after
				if from+16 <= i && i < to { // its page's own header does not matter
					record = before
				}
				if got := text(t, apps[appA]); got != record {
					t.Fatalf("byte %d ^ %x: %s", i, flip, got)
				}
			}
			if err == nil && structure {
				seen++
				_, err := f.WriteAt(file[i:i+1], int64(i))
				must(t, err)
				v, err := state.Encode(appA, apps[appA])
				must(t, err)
				want(t, fmt.Sprintf("byte %d ^ %x: bbolt's record", i, flip), boltRecords(t, path, appA)[appA], string(v))
			}
			file[i] ^= flip
		}
		_, err = f.WriteAt(file[i:i+1], int64(i))
		must(t, err)
	}
	t.Logf("%d taken as they were, %d looked at with bbolt", taken, seen)
}

// used reports whether the page around a byte matters to a journal.
func used(file []byte, at int) bool {
	file = slices.Clone(file)
	page := at / os.Getpagesize() * os.Getpagesize()
	clear(file[page : page+os.Getpagesize()])
	_, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
	return err != nil
}

// boltRecords reads records with bbolt, which looks where the file tells it to.
func boltRecords(t *testing.T, path string, ids ...string) map[string]string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	must(t, err)
	m := map[string]string{}
	must(t, db.View(func(tx *bolt.Tx) error {
		for _, id := range ids {
			m[id] = string(tx.Bucket([]byte("apps")).Get([]byte(id)))
		}
		return nil
	}))
	must(t, db.Close())
	return m
}

// The keys of a branch lead to the records, and no checksum of ours covers them: what is taken must lead bbolt to each.
func TestReadJournal_everyByteOfABranch(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	var ids []string
	for i := range 30 {
		ids = append(ids, fmt.Sprintf("io.example.app-%02d", i))
		prepare(t, d.Journal, ids[i], toOffered...)
	}
	must(t, d.Close())
	path := filepath.Join(dir, "journal.db")
	file, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	spoilt, taken := 0, 0
	for page := 0; page < len(file); page += os.Getpagesize() {
		if file[page+8] != 1 || !used(file, page) { // the kind of page: a branch
			continue
		}
		for i := page; i < page+400; i++ {
			for _, flip := range []byte{1, 2, 4, 8, 0x80} {
				spoilt++
				file[i] ^= flip
				if _, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine); err == nil {
					taken++
					_, err := f.WriteAt(file[i:i+1], int64(i))
					must(t, err)
					for id, v := range boltRecords(t, path, ids...) {
						if v == "" {
							t.Fatalf("byte %d of page %d ^ %x: %s is lost", i-page, page/os.Getpagesize(), flip, id)
						}
					}
				}
				file[i] ^= flip
			}
			_, err := f.WriteAt(file[i:i+1], int64(i))
			must(t, err)
		}
	}
	t.Logf("%d of %d taken as they were", taken, spoilt)
	if spoilt == 0 {
		t.Error("there is no branch")
	}
}
