package omaha_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

// recorded returns a file of testdata/wire.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "wire", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// recordedRequest returns a recorded request in our terms, and its document.
func recordedRequest(t testing.TB, name string) (*omaha.Request, *wire.Request) {
	t.Helper()
	doc, err := wire.ParseRequest("", bytes.NewReader(recorded(t, name+".request.xml")))
	if err != nil {
		t.Fatal(err)
	}
	req := &omaha.Request{SessionID: doc.SessionID, UserID: doc.UserID}
	for _, app := range doc.Apps {
		req.MachineID, req.BootID = app.MachineID, app.BootID
		a := omaha.AppRequest{ID: app.ID, Version: app.Version, Channel: app.Track, Ping: app.Ping != nil, Check: app.UpdateCheck != nil}
		for _, e := range app.Events {
			a.Events = append(a.Events, omaha.Event{Type: e.Type, Result: e.Result, ErrorCode: omaha.ExitCode(e.ErrorCode)})
		}
		req.Apps = append(req.Apps, a)
	}
	return req, doc
}

// replay gives the recorded answer to req, status and content type included.
func replay(t *testing.T, name string, req *omaha.Request) (*omaha.Response, error) {
	t.Helper()
	head := append(bytes.TrimRight(recorded(t, name+".headers.txt"), "\r\n"), "\r\n\r\n"...)
	head = bytes.ReplaceAll(bytes.ReplaceAll(head, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	body := name + ".response.xml"
	if _, err := os.Stat(filepath.Join("testdata", "wire", body)); err != nil {
		body = name + ".response.txt"
	}
	c := &omaha.Client{
		Endpoint: endpoint,
		OS:       omaha.OS{Platform: "linux", Arch: "x64"},
		HTTP: &http.Client{Transport: transport(func(hr *http.Request) (*http.Response, error) {
			stream := bytes.NewReader(append(slices.Clone(head), recorded(t, body)...))
			return http.ReadResponse(bufio.NewReader(stream), hr)
		})},
	}
	return c.Do(context.Background(), req)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func fileOffer() []omaha.Manifest {
	return []omaha.Manifest{{
		Version: "2.0.0",
		URLs:    []string{"http://127.0.0.1:8000/assets/"},
		Packages: []omaha.Package{{
			Name:     "myapp-2.0.0.tar.gz",
			URLs:     []string{"http://127.0.0.1:8000/assets/myapp-2.0.0.tar.gz"},
			Size:     100000,
			SHA1:     unhex("fc753b1a32aa3293ccdbf49789bedaad959a3345"),
			Required: true,
		}, {
			Name:   "extra.bin",
			URLs:   []string{"http://127.0.0.1:8000/assets/extra.bin"},
			Size:   42,
			SHA256: unhex("258a6aa968903ee858483c1fda357d322d2c74b492c15f660518717a27174d53"),
		}},
	}}
}

func imageOffer() []omaha.Manifest {
	return []omaha.Manifest{{
		Version:  "1.5.0",
		URLs:     []string{"registry.example/ns/app:1.5.0"},
		Packages: []omaha.Package{{URLs: []string{"registry.example/ns/app:1.5.0"}, Required: true}},
	}}
}

func TestClient_recordedAnswers(t *testing.T) {
	refused := func(id, status, update string) omaha.AppResponse {
		channel := "stable"
		if strings.HasPrefix(status, "nope:") {
			channel, status, _ = strings.Cut(status, ":")
		}
		return omaha.AppResponse{ID: id, Err: &omaha.StatusError{
			AppID: id, Status: status, UpdateStatus: update, Channel: channel, Arch: "x64"}}
	}
	const app, image = "io.example.AppW", "io.example.CtrW"
	for _, tt := range []struct {
		name string
		want []omaha.AppResponse
	}{
		{"01-check-update-offered", []omaha.AppResponse{{ID: app, Manifests: fileOffer()}}},
		{"02-event-download-started", []omaha.AppResponse{{ID: app, Delivered: 1}}},
		{"03-check-while-in-progress", []omaha.AppResponse{refused(app, "error-updateInProgressOnInstance", "error-internal")}},
		{"04-event-download-finished", []omaha.AppResponse{{ID: app, Delivered: 1}}},
		{"05-event-complete", []omaha.AppResponse{{ID: app, Delivered: 1}}},
		{"06-check-no-update", []omaha.AppResponse{{ID: app, NoUpdate: true}}},
		{"07-container-image-offered", []omaha.AppResponse{{ID: image, Manifests: imageOffer()}}},
		{"08-event-error", []omaha.AppResponse{{ID: image, Delivered: 1}}},
		{"09-check-after-error-granted-again", []omaha.AppResponse{{ID: image, Manifests: imageOffer()}}},
		{"10-two-apps", []omaha.AppResponse{{ID: app, Manifests: fileOffer()}, {ID: image, Manifests: imageOffer()}}},
		{"11-two-apps-again", []omaha.AppResponse{{ID: app, Manifests: fileOffer()}, {ID: image, Manifests: imageOffer()}}},
		{"12-two-apps-first-unknown", []omaha.AppResponse{
			refused("io.unknown.App", "error-failedToRetrieveUpdatePackageInfo", "error-internal"),
			{ID: app, Err: omaha.ErrMissingApp},
		}},
		{"13-version-with-v", []omaha.AppResponse{refused(app, "error-instanceRegistrationFailed", "error-internal")}},
		{"14-unknown-track", []omaha.AppResponse{refused(app, "nope:error-failedToRetrieveUpdatePackageInfo", "error-internal")}},
		{"16-arch-arm64-unmapped", []omaha.AppResponse{{ID: app, Manifests: fileOffer()}}},
		{"17-arch-aarch64", []omaha.AppResponse{refused(app, "error-failedToRetrieveUpdatePackageInfo", "error-internal")}},
		{"19-updates-disabled", []omaha.AppResponse{refused(app, "error-updatesDisabled", "error-internal")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, _ := recordedRequest(t, tt.name)
			resp, err := replay(t, tt.name, req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Server != "nebraska" || resp.RetryAfter != 0 {
				t.Errorf("server %q, retry after %v", resp.Server, resp.RetryAfter)
			}
			if len(resp.Apps) != len(tt.want) {
				t.Fatalf("%d apps, want %d", len(resp.Apps), len(tt.want))
			}
			for i, got := range resp.Apps {
				want := tt.want[i]
				if errors.Is(want.Err, omaha.ErrMissingApp) && errors.Is(got.Err, omaha.ErrMissingApp) {
					got.Err = want.Err
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("app %d:\n got %+v\nwant %+v", i, got, want)
				}
			}
		})
	}
}

func TestClient_recordedAnswersThatAreNone(t *testing.T) {
	t.Run("15-malformed", func(t *testing.T) {
		_, err := replay(t, "15-malformed", checkFor("a"))
		answer := asAnswer(t, err)
		if !errors.Is(err, omaha.ErrEmptyResponse) || answer.Code != omaha.ExitEmptyResponse || answer.StatusCode != 200 {
			t.Errorf("got %+v: %v", answer, err)
		}
		saysAll(t, err, "no element", `content type "text/xml"`, `<?xml version`)
		saysNone(t, err, "EOF")
	})
	t.Run("18-get-instead-of-post", func(t *testing.T) {
		_, err := replay(t, "18-get-instead-of-post", checkFor("a"))
		answer := asAnswer(t, err)
		if !errors.Is(err, omaha.ErrNotOmaha) || answer.Code != omaha.ExitResponseXML || !answer.Final() {
			t.Errorf("got %+v: %v", answer, err)
		}
		saysAll(t, err, "web page", "text/html; charset=utf-8", "nebraska test", "/v1/update/")
	})
}

// Our requests say what the recorded ones say, and beyond that only what Nebraska ignores. Where the recorded ones
// show a mistake, ours must not have it.
func TestRequest_recorded(t *testing.T) {
	names, err := filepath.Glob("testdata/wire/*.request.xml")
	if err != nil || len(names) < 18 {
		t.Fatal(names, err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(filepath.Base(path), ".request.xml")
		if name == "15-malformed" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			req, want := recordedRequest(t, name)
			body, err := req.Marshal(*want.OS, want.Version)
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.ParseRequest("text/xml", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got.InstallSource != "scheduler" || got.RequestID == "" || got.UpdaterVersion != want.Version {
				t.Errorf("installsource %q, requestid %q, updaterversion %q", got.InstallSource, got.RequestID, got.UpdaterVersion)
			}
			got.InstallSource, got.RequestID, got.UpdaterVersion = "", "", ""
			switch name {
			case "13-version-with-v":
				want.Apps[0].Version = "1.0.0"
			case "16-arch-arm64-unmapped":
				want.OS.Arch = "aarch64"
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("sent %s", body)
			}
		})
	}
}
