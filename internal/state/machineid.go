package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/internal/durable"
)

const machineIDFile = "machine-id"

// keptMachineID returns the id that the directory keeps, making one where there is none, and the file's second line. That is host, a hash
// of the host's own /etc/machine-id (see hostHash): on a cloned disk it differs, and the clone gets an id of its own, since two machines with
// one id would free and finish each other's updates on the server.
func keptMachineID(dir, host string, log *slog.Logger) (id, hash string, err error) {
	path := filepath.Join(dir, machineIDFile)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("read machine id: %w", err)
	}
	id, hash = parseMachineID(content)
	switch {
	case err != nil:
		id = ""
	case !isUUID(id):
		log.Warn("machine id file is damaged, making a new id", "path", path)
		id = ""
	case hash != "" && host != "" && hash != host:
		log.Warn("machine id file comes from another machine (a cloned disk), making a new id", "path", path)
		id = ""
	case hash != "" || host == "":
		return id, hash, nil
	}
	if id == "" {
		id = newUUID()
	}
	return id, host, writeMachineID(path, id, host)
}

func parseMachineID(content []byte) (id, hash string) {
	id, hash, _ = strings.Cut(string(content), "\n")
	return strings.TrimSpace(id), strings.TrimSpace(hash)
}

func writeMachineID(path, id, hash string) error {
	if err := writeDurably(path, []byte(id+"\n"+hash+"\n")); err != nil {
		return fmt.Errorf("write machine id: %w", err)
	}
	return nil
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func isUUID(s string) bool {
	if len(s) != 36 || strings.Count(s, "-") != 4 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	_, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil
}

// writeDurably replaces a file, which nobody else writes.
func writeDurably(path string, content []byte) error { return durable.Write(path, content) }
