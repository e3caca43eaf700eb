package state_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// startOn opens a directory on a host, adds a report, and closes it again.
func startOn(t *testing.T, dir, host string) (id string, reports int) {
	t.Helper()
	d, err := state.OpenOn(dir, "", host, slog.New(slog.DiscardHandler))
	must(t, err)
	take(t, d.Journal, appA, sendInfo)
	must(t, d.Close())
	return d.MachineID, len(d.Journal.Get(appA).Outbox)
}

func TestMachineID_isARandomUUID(t *testing.T) {
	id, _ := startOn(t, t.TempDir(), "host-1")
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("id %q", id)
	}
	if other, _ := startOn(t, t.TempDir(), "host-1"); other == id {
		t.Error("two machines have one id")
	}
}

func TestMachineID_overStarts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hosts [3]string // of three starts; "" where it has no id of its own
		same  [2]bool   // whether the second and the third start have the id, and the journal, of the one before
	}{
		{"same host", [3]string{"1", "1", "1"}, [2]bool{true, true}},
		{"cloned disk", [3]string{"1", "2", "2"}, [2]bool{false, true}},
		{"cloned and back", [3]string{"1", "2", "1"}, [2]bool{false, false}},
		{"no host id", [3]string{"", "", ""}, [2]bool{true, true}},
		{"host id for a while", [3]string{"1", "", "1"}, [2]bool{true, true}},
		{"host id lost, then cloned", [3]string{"1", "", "2"}, [2]bool{true, false}},
		{"host id comes later, then cloned", [3]string{"", "1", "2"}, [2]bool{true, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			id, reports := startOn(t, dir, tc.hosts[0])
			aside := 0
			for i, host := range tc.hosts[1:] {
				newID, newReports := startOn(t, dir, host)
				want(t, "same id", newID == id, tc.same[i])
				want(t, "same journal", newReports == reports+1, tc.same[i])
				if !tc.same[i] {
					aside++
				}
				want(t, "journals set aside", len(setAside(t, dir)), aside)
				id, reports = newID, newReports
			}
		})
	}
}

// The id outlives the journal.
func TestMachineID_survivesADamagedJournal(t *testing.T) {
	dir := t.TempDir()
	id, _ := startOn(t, dir, "1")
	must(t, os.WriteFile(filepath.Join(dir, "journal.db"), []byte("junk"), 0o600))
	again, reports := startOn(t, dir, "1")
	want(t, "id", again, id)
	want(t, "reports", reports, 1)
}

func TestMachineID_damagedFile(t *testing.T) {
	good := "0b8a2a40-6b7e-4c1f-9a31-111111111111"
	for _, tc := range []struct{ name, content string }{
		{"empty", ""},
		{"cut off", good[:20]},
		{"junk", "\x00\x01\x02"},
		{"not hexadecimal", strings.Replace(good, "0b8", "xyz", 1)},
		{"dashes in wrong places", strings.ReplaceAll(good, "-", "0")},
		{"too long", good + "0"},
		{"dashes alone", strings.Repeat("-", len(good))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "machine-id"), []byte(tc.content), 0o600))
			var log logged
			d, err := state.OpenOn(dir, "", "1", log.logger())
			must(t, err)
			must(t, d.Close())
			want(t, "logged", strings.Contains(log.String(), "machine-id"), true)
			again, _ := startOn(t, dir, "1")
			want(t, "id at the next start", again, d.MachineID)
		})
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "machine-id"), []byte(" "+good+"\r\n"), 0o600))
	id, _ := startOn(t, dir, "1")
	want(t, "id written by hand", id, good)
}

// An id that is given wins, and is not kept.
func TestMachineID_given(t *testing.T) {
	dir := t.TempDir()
	take(t, open(t, dir).Journal, appA, sendInfo)
	if _, err := os.Stat(filepath.Join(dir, "machine-id")); !os.IsNotExist(err) {
		t.Errorf("machine-id: %v", err)
	}
}

// Another id that is given is another machine to the server: the journal of the one before is not for it.
func TestMachineID_givenAnotherOne(t *testing.T) {
	dir := t.TempDir()
	must(t, tryOpen(dir))
	d, err := state.Open(dir, "machine-2", slog.New(slog.DiscardHandler))
	must(t, err)
	want(t, "id", d.MachineID, "machine-2")
	must(t, d.Close())
	want(t, "journals set aside", len(setAside(t, dir)), 1)
}

// The file says nothing of the host but a hash, which is not the same for other programs.
func TestMachineID_hidesTheHosts(t *testing.T) {
	dir := t.TempDir()
	d, err := state.Open(dir, "", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, d.Close())
	host, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(strings.TrimSpace(string(host))) == 0 {
		t.Log("this host has no id")
		return
	}
	kept, err := os.ReadFile(filepath.Join(dir, "machine-id"))
	must(t, err)
	want(t, "the host's id is in it", strings.Contains(string(kept), strings.TrimSpace(string(host))), false)
}

// A link that somebody planted under the temporary name is not followed.
func TestMachineID_plantedLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	must(t, os.Symlink(victim, filepath.Join(dir, "machine-id.new")))
	id, _ := startOn(t, dir, "1")
	content, err := os.ReadFile(victim)
	must(t, err)
	want(t, "the file elsewhere", string(content), "precious")
	again, _ := startOn(t, dir, "1")
	want(t, "id at the next start", again, id)
}
