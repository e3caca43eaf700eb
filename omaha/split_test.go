package omaha_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func wireSize(t testing.TB, req *omaha.Request) int {
	t.Helper()
	body, err := req.Marshal(omaha.OS{}, strings.Repeat(`"`, 64)) // the longest that Validate allows
	if err != nil {
		t.Fatal(err)
	}
	return len(body)
}

func TestRequest_Split_small(t *testing.T) {
	req := checkFor("a")
	parts := req.Split(0)
	if len(parts) != 1 || !reflect.DeepEqual(parts[0], req) {
		t.Errorf("got %+v", parts)
	}
}

func TestRequest_Split_keepsEverythingInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	nasty := []string{"plain", `q"u'o&te<>`, "tab\tline\n", "bad\xff\x00", "😀 ü \uffff", strings.Repeat("long", 50),
		strings.Repeat(`"`, 99), strings.Repeat("<", 99), strings.Repeat("\t", 99), strings.Repeat("\xff", 99), strings.Repeat("\x01", 99)}
	pick := func() string { return nasty[rng.IntN(len(nasty))] }
	for round := range 50 {
		req := &omaha.Request{SessionID: pick(), UserID: pick(), MachineID: pick(), MachineAlias: pick(), BootID: pick()}
		for i := range 1 + rng.IntN(60) {
			app := omaha.AppRequest{ID: fmt.Sprint(i, pick()), Version: pick(), Channel: pick(), Check: rng.IntN(2) == 0}
			for range rng.IntN(4) {
				app.Events = append(app.Events, omaha.Event{
					Type: 3, ErrorCode: omaha.ExitCode(rng.Int()), NextVersion: pick(), PreviousVersion: pick()})
			}
			req.Apps = append(req.Apps, app)
		}
		limit := 8<<10 + rng.IntN(8<<10)
		var apps []omaha.AppRequest
		for _, part := range req.Split(limit) {
			if size := wireSize(t, part); size > limit {
				t.Errorf("round %d: part of %d bytes, limit %d", round, size, limit)
			}
			apps = append(apps, part.Apps...)
			part.Apps = req.Apps
			if !reflect.DeepEqual(part, req) {
				t.Errorf("round %d: a part differs in more than its apps", round)
			}
		}
		if !reflect.DeepEqual(apps, req.Apps) {
			t.Fatalf("round %d: apps lost, changed or out of order", round)
		}
	}
}

func TestRequest_Split_fillsItsParts(t *testing.T) {
	req := &omaha.Request{MachineID: "m1"}
	for i := range 1000 {
		req.Apps = append(req.Apps, omaha.AppRequest{ID: fmt.Sprintf("io.example.App%d", i), Version: "1.0.0", Channel: "stable", Check: true})
	}
	total := wireSize(t, req)
	parts := req.Split(0)
	if limit := 1 + total/(omaha.MaxRequestSize-4<<10); len(parts) > limit {
		t.Errorf("%d parts for %d bytes, want at most %d", len(parts), total, limit)
	}
}

func TestRequest_Split_oneAppWithTooManyEvents(t *testing.T) {
	app := omaha.AppRequest{ID: "a", Version: "1.0.0", Check: true}
	for i := range 2000 {
		app.Events = append(app.Events, omaha.Event{Type: 3, ErrorCode: omaha.ExitCode(i + 1)})
	}
	req := &omaha.Request{Apps: []omaha.AppRequest{{ID: "before"}, app, {ID: "behind", Check: true}}}
	parts := req.Split(0)
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	got := parts[1].Apps[0]
	if size := wireSize(t, parts[1]); size > omaha.MaxRequestSize {
		t.Errorf("part of %d bytes", size)
	}
	if n := len(got.Events); n < 300 || n >= 2000 || !reflect.DeepEqual(got.Events, app.Events[:n]) {
		t.Errorf("%d events, want the first ones, as many as fit", n)
	}
	if got.Check || !got.Ping {
		t.Error("the check must not overtake the events that were left out; a ping goes instead")
	}
	if !parts[2].Apps[0].Check || len(app.Events) != 2000 || !req.Apps[1].Check {
		t.Error("other apps, and the request itself, must not change")
	}
}

func TestRequest_Split_alwaysMovesOn(t *testing.T) {
	huge := strings.Repeat("x", 100<<10)
	req := &omaha.Request{Apps: []omaha.AppRequest{
		{ID: huge, Check: true},
		{ID: "b", Events: []omaha.Event{{NextVersion: huge}, {NextVersion: huge}}},
	}}
	for _, limit := range []int{1, 600, 0} {
		parts := req.Split(limit)
		if len(parts) != 2 || !parts[0].Apps[0].Check || len(parts[1].Apps[0].Events) != 1 {
			t.Errorf("limit %d: want each app alone, the second with one event", limit)
		}
	}
}
