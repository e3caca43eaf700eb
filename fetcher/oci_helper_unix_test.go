//go:build unix

package fetcher_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOCI_asksDockersCredentialHelper(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000))
	h.Spoil(basic)
	dir := t.TempDir()
	helper := "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get " + h.host() + "\" ] && echo '{\"ServerURL\":\"\",\"Username\":\"" + user + "\",\"Secret\":\"" + password + "\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-fake"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credHelpers":{"`+h.host()+`":"fake"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	o := quickOCI()
	o.Credentials = nil
	mustPull(t, o, newImageJob(t, h.ref("ns/app", img.Manifest)))
}
