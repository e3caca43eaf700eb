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
		take(t, j, app(i), toOffered...)
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

// Whatever happened to the file: Open returns the right records, or sets it aside unchanged and starts afresh. It never
// panics, hangs or returns a record that is not the app's last one. A spoilt head alone may bring back the transaction
// before it, since that is what an unfinished transaction looks like.
func TestOpen_damagedFile(t *testing.T) {
	last, before := samples(t)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(len(d.name))))
			intact := 0
			for i := range d.times {
				file := d.do(rnd, slices.Clone(last.file), before)
				if openDamaged(t, file, last, before[len(before)-1]) {
					intact++
				}
				if t.Failed() {
					t.Fatalf("try %d", i)
				}
			}
			t.Logf("%d of %d taken as they were", intact, d.times)
		})
	}
}

// openDamaged opens a file and checks what comes of it. It reports whether the file was taken.
func openDamaged(t *testing.T, file []byte, last, previous sample) bool {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "journal.db"), file, 0o600))
	d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, d.Close()) }()
	got := all(t, d.Journal)
	aside := setAside(t, dir)
	if len(aside) == 1 {
		want(t, "records in a new journal", len(got), 0)
		kept, err := os.ReadFile(aside[0])
		must(t, err)
		want(t, "set aside unchanged", bytes.Equal(kept, file), true)
	} else if len(file) > 0 {
		from, to := last.newestHead()
		if len(file) < to || !bytes.Equal(file[from:to], last.file[from:to]) {
			sameRecords(t, "after the head was spoilt", got, previous.records)
		} else {
			sameRecords(t, "records", got, last.records)
		}
	}
	take(t, d.Journal, appA, sendInfo)
	must(t, d.Journal.Forget(appA))
	return len(aside) == 0
}

// Every way to spoil one byte of a small journal: it is set aside, or nothing is lost.
func TestReadJournal_everyByte(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	before := text(t, take(t, d.Journal, appA, toOffered...))
	after := text(t, take(t, d.Journal, appA, offer))
	must(t, d.Close())
	file, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	must(t, err)
	from, to := sample{file: file}.newestHead()
	taken := 0
	for i := range file {
		flip := []byte{1, 0x80, 0xFF}[i%3]
		file[i] ^= flip
		apps, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
		file[i] ^= flip
		if err != nil {
			continue
		}
		taken++
		record := after
		if from+16 <= i && i < to { // its page's own header does not matter
			record = before
		}
		if got := text(t, apps[appA]); got != record {
			t.Fatalf("byte %d ^ %x: %s", i, flip, got)
		}
	}
	t.Logf("%d of %d taken as they were", taken, len(file))
}
