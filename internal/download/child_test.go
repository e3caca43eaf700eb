package download_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

// children are the programs that tests run as processes of their own: this test binary again, told by its environment.
var children = map[string]func(args []string) int{
	"fetch":                   childFetch,
	"fetch onto a small disk": childFetchSmallDisk,
}

// child prepares to run one of children.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "DOWNLOAD_TEST_CHILD="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// childFetch fetches: folder, URL, size and SHA-256 are its arguments. It prints its progress, line by line, and its error.
func childFetch(args []string) int {
	root, err := os.OpenRoot(args[0])
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	n, _ := strconv.ParseInt(args[2], 10, 64)
	sum, _ := hex.DecodeString(args[3])
	_, err = download.Fetch(context.Background(), download.Job{
		Root: root, Name: "blob.bin", URLs: args[1:2], Size: n, SHA256: sum, Client: download.NewClient(),
		Progress: func(done, _ int64) { fmt.Println(done) },
		Limits:   download.Limits{BufferSize: 1000},
	})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func fetchArgs(job download.Job) []string {
	return []string{job.Root.Name(), job.URLs[0], strconv.FormatInt(job.Size, 10), hex.EncodeToString(job.SHA256)}
}

// A process that is killed in mid-body costs nothing but what it held in memory: the next one fetches only the rest.
func TestFetch_resumesAfterKill(t *testing.T) {
	data := blob(size)
	h := newHost(data, stall(60_000))
	job := newJob(t, data, h.serve(t))
	cmd := child(t, "fetch", fetchArgs(job)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "60000" {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Fatal(lines.Text())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	if got := fetched(t, job, data); got.Received != 40_000 {
		t.Errorf("received %d for the rest", got.Received)
	}
	if got := h.requests()[1]; got.Header.Get("Range") != "bytes=60000-99999" || got.Header.Get("If-Range") != `"v1"` {
		t.Errorf("asked with %v", got.Header)
	}
}
