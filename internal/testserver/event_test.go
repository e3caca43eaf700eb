package testserver_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestEvents_leadToStatuses(t *testing.T) {
	tests := []struct {
		name         string
		kind, result int
		want         testserver.Status
		inProgress   bool
		version      string
	}{
		{"download started", 13, 1, testserver.Downloading, true, "1.0.0"},
		{"download finished", 14, 1, testserver.Downloaded, true, "1.0.0"},
		{"installed", 800, 1, testserver.Installed, true, "1.0.0"},
		{"complete", 3, 1, testserver.Complete, false, "2.0.0"},
		{"complete after restart", 3, 2, testserver.Complete, false, "2.0.0"},
		{"failed", 3, 0, testserver.Error, false, "1.0.0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.group(testserver.Policy{})
			b.offers("2.0.0", both)
			a := b.one(event(test.kind, test.result, `errorcode="10"`))
			if len(a.Events) != 1 || a.Events[0].Status != "ok" || a.Status != "ok" {
				t.Errorf("event answered %+v", a)
			}
			i := b.is(test.want)
			if i.InProgress != test.inProgress || i.Version != test.version {
				t.Errorf("in progress %v version %s, want %v %s", i.InProgress, i.Version, test.inProgress, test.version)
			}
			last := i.History[len(i.History)-1]
			if len(i.History) != 2 || last.EventType != test.kind || last.EventResult != test.result || last.Version != "2.0.0" {
				t.Errorf("history %+v", i.History)
			}
			if test.want == testserver.Error && (i.ErrorCode != 10 || last.ErrorCode != 10) {
				t.Errorf("error code %d in the record, %d in the history, want 10", i.ErrorCode, last.ErrorCode)
			}
		})
	}
}

func TestEvents_unknownAreAcknowledgedAndDropped(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	for _, e := range [][2]int{{2, 1}, {2, 0}, {6, 1}, {13, 0}, {14, 0}, {3, 4}, {800, 0}, {13, 2}, {0, 0}} {
		if a := b.one(event(e[0], e[1])); len(a.Events) != 1 || a.Events[0].Status != "ok" {
			t.Errorf("event %v answered %+v", e, a.Events)
		}
		if i := b.is(testserver.Granted); len(i.History) != 1 {
			t.Errorf("event %v left %+v", e, i.History)
		}
	}
}

func TestEvents_withoutGrantAreDropped(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	if a := b.one(event(13, 1)); len(a.Events) != 1 || a.Events[0].Status != "ok" {
		t.Errorf("event of an unknown machine answered %+v", a)
	}
	if _, known := b.Instance(appA, "m1"); known {
		t.Error("an event registered its instance")
	}
	b.one(ping)
	b.one(event(13, 1))
	b.is(testserver.Undefined)
	b.offers("2.0.0", both)
	b.one(event(3, 1))
	b.one(event(3, 0, `errorcode="9"`))
	if i := b.is(testserver.Complete); i.ErrorCode != 0 {
		t.Errorf("an event after the final one was taken: %+v", i)
	}
}

// The order within an app is events, ping, check, whatever the order of the
// elements: 3/0 with a check gives back and is granted again.
func TestEvents_comeBeforePingAndCheck(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	b.one(event(13, 1))
	a := b.one(both + event(3, 0, `errorcode="36"`))
	if a.offered() != "2.0.0" || len(a.Events) != 1 || a.Ping == nil {
		t.Errorf("answered %+v", a)
	}
	i := b.is(testserver.Granted)
	if len(i.History) != 4 || i.History[2].Status != testserver.Error || i.Grants != 2 {
		t.Errorf("history %+v, %d grants", i.History, i.Grants)
	}
}

func TestEvents_ofOneAppAreTakenInOrder(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	a := b.one(event(14, 1) + event(13, 1) + event(13, 1) + event(3, 1))
	if len(a.Events) != 4 {
		t.Errorf("%d events acknowledged, want 4", len(a.Events))
	}
	var got []testserver.Status
	for _, h := range b.is(testserver.Complete).History {
		got = append(got, h.Status)
	}
	want := []testserver.Status{testserver.Granted, testserver.Downloaded, testserver.Downloading, testserver.Complete}
	if len(got) != len(want) {
		t.Fatalf("history %v, want %v: a repeated event leaves no second entry", got, want)
	}
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("history %v, want %v: any order is taken as it comes", got, want)
		}
	}
}

func TestEvents_countFor24HoursAfterLastContact(t *testing.T) {
	tests := []struct {
		name    string
		silence time.Duration
		first   string // a request of its own before the event
		with    string // beside the event
		want    testserver.Status
	}{
		{"just in time", 24*time.Hour - time.Second, "", "", testserver.Complete},
		{"too late", 24 * time.Hour, "", "", testserver.Downloading},
		{"ping in the same request comes too late", 25 * time.Hour, "", ping, testserver.Downloading},
		{"ping before", 25 * time.Hour, ping, "", testserver.Complete},
		{"check before", 25 * time.Hour, check, "", testserver.Complete},
		{"event before is no contact", 25 * time.Hour, event(14, 1), "", testserver.Downloading},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.group(testserver.Policy{})
			b.offers("2.0.0", both)
			b.one(event(13, 1))
			b.clock.advance(test.silence)
			if test.first != "" {
				b.one(test.first)
			}
			if a := b.one(event(3, 1) + test.with); len(a.Events) != 1 || a.Events[0].Status != "ok" {
				t.Errorf("event answered %+v, want it acknowledged in any case", a)
			}
			b.is(test.want)
		})
	}
}

func TestEvents_onWrongTrackOrAppAreLost(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{})
	b.offers("2.0.0", both)
	for _, sent := range []string{
		app(appA, event(3, 1), "track=beta"),
		app("io.example.Unknown", event(3, 1)),
	} {
		a := b.send(sent)[0]
		if a.Status != "error-failedToRetrieveUpdatePackageInfo" || len(a.Events) != 0 || a.offered() != a.Status+"/error-internal" {
			t.Errorf("answered %+v, want an error and no <event>", a)
		}
	}
	b.is(testserver.Granted)
}

func TestEvents_ofFlatcar(t *testing.T) {
	const flatcar = "{E96281A6-D1AF-4bde-9a0a-97b76e56dc57}"
	tests := []struct {
		name, event string
		want        testserver.Status
	}{
		{"3/1 is logged only", event(3, 1), testserver.Installed},
		{"3/2 with a previous version", event(3, 2, `previousversion="1.0.0"`), testserver.Complete},
		{"3/2 forced", event(3, 2, `previousversion="0.0.0"`), testserver.Complete},
		{"3/2 without", event(3, 2), testserver.Undefined},
		{"3/2 of a fresh machine", event(3, 2, `previousversion="0.0.0.0"`), testserver.Undefined},
		{"3/0", event(3, 0), testserver.Error},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.AddGroup(flatcar, "stable", testserver.AMD64, testserver.Policy{}).
				Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "f.gz", Content: []byte("f")}}})
			b.send(app(flatcar, both))
			b.send(app(flatcar, event(800, 1)))
			b.send(app(flatcar, test.event))
			i, _ := b.Instance(flatcar, "m1")
			if i.Status != test.want || i.InProgress != (test.want == testserver.Installed) {
				t.Errorf("%s (in progress %v), want %s", i.Status, i.InProgress, test.want)
			}
		})
	}
}
