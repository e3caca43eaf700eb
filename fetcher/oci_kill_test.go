package fetcher_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// pullEnv makes this test binary pull an image: its arguments are Dir, Shared and the reference.
const pullEnv = "FETCHER_TEST_PULL"

func pullMain(args []string) int {
	_, err := quickOCI().Fetch(context.Background(), fetcher.Job{
		Source: fetcher.Source{Name: "image", URLs: args[2:]}, Dir: args[0], Shared: args[1],
		Progress: func(done, _ int64) { fmt.Println(done) },
	})
	fmt.Println("ended", err)
	return 0
}

// A process that is killed in the middle of a layer costs what it had not written yet; the next one fetches the rest.
func TestOCI_resumesAfterKill(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 4_000_000), noise(2, 1_000_000))
	path := img.Layers[0].Digest.String()
	h.Spoil(testregistry.Times(100, path, testregistry.Stall(3_000_000)))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, job.Dir, job.Shared, job.Source.URLs[0])
	cmd.Env = append(os.Environ(), pullEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The other layer, the config and the manifest are complete, and what fills whole buffers of the stalled one.
	complete := img.Size() - 4_000_000
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "ended") {
			t.Fatal(lines.Text())
		}
		if n, _ := strconv.ParseInt(lines.Text(), 10, 64); n >= complete+5*(512<<10) && !killed {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !killed {
		t.Fatal("it was not killed")
	}
	noIndex(t, job)

	h.Spoil(nil)
	mustPull(t, quickOCI(), job)
	asked := h.asked("/")
	if len(asked) != 1 || !strings.Contains(asked[0], path+" bytes=") || h.Bytes("") > 4_000_000-5*(512<<10) {
		t.Errorf("asked %q, %d bytes came", asked, h.Bytes(""))
	}
}
