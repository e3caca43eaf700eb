package state_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"hash/fnv"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// checksummed puts the checksum before a record's content that belongs there.
func checksummed(id string, body []byte) []byte {
	sum := crc32.Checksum(append([]byte(id), body...), crc32.MakeTable(crc32.Castagnoli))
	return append(binary.BigEndian.AppendUint32(nil, sum), body...)
}

// A record is decoded to what was encoded, or not at all, and every transition can work on it.
func FuzzDecode(f *testing.F) {
	for _, steps := range [][]step{nil, toGranted, toOffered, toInstalled, append(toOffered[:4:4], fail), append(toOffered[:4:4], succeed)} {
		a := &state.App{}
		for _, s := range steps {
			must(f, s.do(a))
		}
		v, err := state.Encode(appA, a)
		must(f, err)
		f.Add(v, true)
		f.Add(v, false)
	}
	for _, seq := range []uint64{math.MaxUint64, state.MaxSeq + 1, state.MaxSeq, state.MaxSeq - 1} {
		v, err := state.Encode(appA, &state.App{LastSeq: seq})
		must(f, err)
		f.Add(v, true)
	}
	f.Fuzz(func(t *testing.T, v []byte, repair bool) {
		if repair && len(v) >= 4 {
			v = checksummed(appA, v[4:]) // else hardly anything passes
		}
		a, err := state.Decode(appA, v)
		if err != nil {
			return
		}
		must(t, a.Sound())
		once, err := state.Encode(appA, a)
		if err != nil {
			return // a time that JSON does not have
		}
		b, err := state.Decode(appA, once)
		must(t, err)
		twice, err := state.Encode(appA, b)
		must(t, err)
		want(t, "encoded again", string(twice), string(once))
		if _, err := state.Decode(appB, once); err == nil {
			t.Error("taken for another app's")
		}
		if a.LastSeq == state.MaxSeq {
			return // there is no number left for a transition to give: the journal refuses what it makes of the record
		}
		for _, r := range rules {
			c := deepCopy(a)
			if err := r.do(c, args{version: "2.0.0", report: at(failure, epoch), now: epoch, payload: "[]", burst: 1}); err == nil {
				must(t, c.Sound())
			}
		}
	})
}

// A journal's file is read without a panic and without end whatever is in it, and bbolt can work on what passes.
func FuzzReadJournal(f *testing.F) {
	journal := largeJournal(f) // some leaves and a branch
	for at := range len(journal) / os.Getpagesize() {
		f.Add(uint32(at*os.Getpagesize()+16), []byte{1, 0, 0, 0}, uint32(0), true)
	}
	f.Add(uint32(os.Getpagesize()+16+9), []byte{0x20}, uint32(0), true) // the other head's size of a page
	f.Add(uint32(16+42), []byte{1}, uint32(0), true)                    // the number of pages, and the other head's
	f.Add(uint32(os.Getpagesize()+16+42), []byte{1}, uint32(0), true)
	f.Add(uint32(16+40), []byte{1}, uint32(0), true)
	f.Add(uint32(os.Getpagesize()+16+40), []byte{1}, uint32(0), true)
	for head := range 2 { // its number of the transaction
		for _, tx := range []uint64{math.MaxUint64, math.MaxUint64 - 1, state.MaxTx + 1, state.MaxTx, state.MaxTx - 1, state.MaxTx - 3} {
			f.Add(uint32(head*os.Getpagesize()+16+48), binary.NativeEndian.AppendUint64(nil, tx), uint32(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, cut uint32, repair bool) {
		file := bytes.Clone(journal)
		copy(file[int(at)%len(file):], patch)
		if repair {
			repairHeads(file)
		}
		file = file[:len(file)-int(cut)%len(file)]
		apps, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
		if err != nil {
			return
		}
		tx, err := state.Transactions(bytes.NewReader(file))
		must(t, err)
		if tx > state.MaxTx {
			t.Errorf("transaction %d is believed", tx)
		}
		if tx > state.MaxTx-3 {
			return // those below would be beyond what the next start believes
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "journal.db"), file, 0o600))
		d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
		must(t, err)
		want(t, "set aside", len(setAside(t, dir)), 0)
		want(t, "records", len(d.Journal.IDs()), len(apps))
		must(t, d.Journal.Forget("io.example.20"))
		take(t, d.Journal, "io.example.39", sendInfo)
		sameRecords(t, "written", all(t, crashed(t, dir).Journal), all(t, d.Journal))
		want(t, "set aside in the end", len(setAside(t, dir)), 0)
		must(t, d.Close())
	})
}

// repairHeads puts right checksums on the heads of a file, so that what they say is believed.
func repairHeads(file []byte) {
	for at := 16; at < 2*os.Getpagesize(); at += os.Getpagesize() {
		sum := fnv.New64a()
		sum.Write(file[at : at+56])
		binary.NativeEndian.PutUint64(file[at+56:], sum.Sum64())
	}
}
