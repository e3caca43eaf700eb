package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	checksumSize = 4
	maxSeq       = 1 << 63 // behind it, the numbers of updates and reports would begin anew some day
)

// encode puts a checksum of the app's id and its record before the record's JSON: bbolt guards its own heads alone.
func encode(id string, a *App) ([]byte, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	v := make([]byte, checksumSize, checksumSize+len(body))
	binary.BigEndian.PutUint32(v, checksum(id, body))
	return append(v, body...), nil
}

func decode(id string, v []byte) (*App, error) {
	if len(v) < checksumSize || binary.BigEndian.Uint32(v) != checksum(id, v[checksumSize:]) {
		return nil, errors.New("wrong checksum")
	}
	a := &App{}
	if err := json.Unmarshal(v[checksumSize:], a); err != nil {
		return nil, err
	}
	return a, a.sound()
}

func checksum(id string, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum([]byte(id), table), table, body)
}

// total is the checksum of all records of a journal together. A page that the disk lost, or brought back from the past,
// shows in it though each record there is whole.
type total struct {
	sums map[string]uint32 // of each app's record
	sum  uint32            // all of them
}

// with returns the total once these records are written (nil: deleted), as it is written itself.
func (t *total) with(values map[string][]byte) []byte {
	count, sum := len(t.sums), t.sum
	for id, v := range values {
		if old, ok := t.sums[id]; ok {
			count, sum = count-1, sum^old
		}
		if v != nil {
			count, sum = count+1, sum^binary.BigEndian.Uint32(v)
		}
	}
	return fmt.Appendf(nil, "%d records, checksum %08x", count, sum)
}

// written notes that these records are written.
func (t *total) written(values map[string][]byte) {
	if t.sums == nil {
		t.sums = make(map[string]uint32, len(values))
	}
	for id, v := range values {
		t.sum ^= t.sums[id]
		delete(t.sums, id)
		if v != nil {
			t.sums[id] = binary.BigEndian.Uint32(v)
			t.sum ^= t.sums[id]
		}
	}
}

// sound checks what every record must be like. The transitions keep it so; whatever breaks it is refused, before it is
// written and after it is read.
func (a *App) sound() error {
	switch u, p, w, t := a.Update, a.Pending, a.Wait, a.Tried; {
	case a.LastSeq > maxSeq:
		return fmt.Errorf("%d updates and reports are too many", a.LastSeq)
	case u != nil && p != nil:
		return errors.New("an update is open while another waits for a restart")
	case u != nil && (u.Identity == "" || u.Phase.rank() == 0 || u.Seq == 0 || u.Seq > a.LastSeq):
		return fmt.Errorf("update %d %q in phase %q is none", u.Seq, u.Identity, u.Phase)
	case u != nil && u.Phase.rank() >= Fetched.rank() && len(u.Payloads) == 0:
		return errors.New("a fetched update has no payloads")
	case u != nil && !t.is(u.Identity), p != nil && !t.is(p.Identity), w != nil && !t.is(w.Identity):
		return errors.New("an update, restart or wait is not of the release that was tried last")
	case a.Last != nil && !a.Last.Report.Final():
		return errors.New("the last verdict is none")
	case len(a.Outbox) > maxFinalReports:
		return errors.New("the outbox is too long")
	}
	seq := uint64(0)
	for _, r := range a.Outbox {
		if r.Seq <= seq || r.Seq > a.LastSeq {
			return errors.New("the outbox is out of order")
		}
		seq = r.Seq
	}
	return nil
}

// is reports whether t is about the release with this identity.
func (t *Tried) is(identity string) bool { return t != nil && t.Identity == identity }

// rank numbers the phases from 1 on; 0 is no phase.
func (p Phase) rank() int {
	switch p {
	case Granted:
		return 1
	case Fetching:
		return 2
	case Fetched:
		return 3
	case Offered:
		return 4
	default:
		return 0
	}
}
