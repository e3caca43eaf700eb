package omahaclient_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// What cannot be taken backs off like what fails: each with its code, once more at the next check, then for a day.
func TestBackoff_unusableReleases(t *testing.T) {
	good := simContent("2.0.0")
	for _, tt := range []struct {
		name string
		file testserver.File
		code int
	}{
		{"wrong hash", testserver.File{Name: "app.bin", Content: good, SHA1: testserver.SHA1Base64([]byte("other"))}, 10},
		{"wrong size", testserver.File{Name: "app.bin", Content: good, Size: 5}, 11},
		{"unsupported type", testserver.File{Name: "app.bin", Content: good, ContentType: "application/x-unheard-of"}, 3},
		{"no hash", testserver.File{Name: "app.bin", Content: good, SHA1: testserver.None}, 12},
		{"no package", testserver.File{}, 34},
		{"nothing that can be asked for it", testserver.File{Name: "ftp://payloads.example/app.bin", Content: good}, 34},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				release := testserver.Release{Version: "2.0.0", Files: []testserver.File{tt.file}}
				if tt.file.Name == "" {
					release.Files = nil
				}
				w.channel(testserver.Policy{}).Publish(release)
				m := w.machine("m")
				m.start()
				m.run()
				simPass(17 * time.Hour)
				failures := simErrors(m.record(), tt.code)
				if n := len(failures); n != 2 {
					t.Fatalf("%d attempts in 17 hours; want 2; %s", n, simHistory(m.record()))
				}
				simBackoff(t, failures, 0)
				simRare(t, m, 40, failures[1], time.Now(), 90*time.Minute)
				simWant(t, "phase", m.status().Phase, omahaclient.BackingOff)
				simWant(t, "offers", len(m.seen()), 0)
			})
		})
	}
}

// An image for an app that expects files, as Nebraska announces it: without type and hash. What helps is said, and no less safe way.
func TestBackoff_imageForAnAppOfFiles(t *testing.T) {
	const image = "registry.example/ns/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, r := range map[string]testserver.Release{
		"alone":         {Version: "2.0.0", Image: image},
		"with a port":   {Version: "2.0.0", Image: "registry.example:5000/ns/app:2.0.0"},
		"with its hash": {Version: "2.0.0", Codebases: []string{"registry.example/ns/"}, Files: []testserver.File{{Name: "app", Content: simContent("2.0.0")}}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				w.channel(testserver.Policy{}).Publish(r)
				m := w.machine("m")
				m.start()
				m.run()
				simPass(17 * time.Hour)
				if n := len(simErrors(m.record(), 34)); n != 2 {
					t.Fatalf("%d attempts in 17 hours; want 2; %s", n, simHistory(m.record()))
				}
				if err := m.status().LastError; !strings.Contains(err.Error(), "WithPayloadType") || strings.Contains(err.Error(), "Unverified") {
					t.Errorf("%v; want the option that helps", err)
				}
			})
		})
	}
}

// simLower offers a version to machines above it, as other servers than Nebraska may.
func simLower(g *testserver.Group, version string) {
	g.Publish(testserver.Release{Version: version, AnyVersion: true, Files: []testserver.File{{Name: "app.bin", Content: simContent(version)}}})
}

// A downgrade is refused, as rarely as a release that backs off is asked for.
func TestDowngrade_isRefused(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simLower(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.start(simAppAt("3.0.0"))
		m.run()
		simPass(20 * time.Minute)
		refusals := simErrors(m.record(), 36)
		simWant(t, "refusals", len(refusals), 1)
		s := m.status()
		simWant(t, "phase", s.Phase, omahaclient.BackingOff)
		if !strings.Contains(s.Reason, "WithDowngrades") || !strings.Contains(s.Reason, "2.0.0") {
			t.Errorf("reason %q; want version and option", s.Reason)
		}
		for range 3 { // restarts change nothing
			m.kill()
			m.start(simAppAt("3.0.0"))
			m.run()
			simPass(simDay)
		}
		checks := simRare(t, m, 36, refusals[0], time.Now(), 2*time.Hour)
		if checks < 6 || checks > 8 {
			t.Errorf("%d checks in 3 days; want one in 9 hours", checks)
		}
		simWant(t, "offers", len(m.seen()), 0)
		simWant(t, "downloads", w.fetched("2.0.0"), 0)

		m.kill()
		m.start(simAppAt("3.0.0", omahaclient.WithDowngrades()))
		m.run()
		simPass(20 * time.Minute)
		simWant(t, "offers with WithDowngrades", len(m.seen()), 1)
		simWant(t, "version", m.status().Version, "2.0.0")
	})
}

// After a rollback by hand, an emergency release below what ran before but above what runs is taken at the first check;
// what counts is what runs.
func TestDowngrade_emergencyReleaseAfterARollbackByHand(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		simLower(g, "2.5.0")
		m := w.machine("m")
		m.start(simAppAt("3.0.0"))
		m.run()
		simPass(3 * time.Hour)
		simWant(t, "code", m.record().ErrorCode, 36)
		m.kill()
		m.start(simAppAt("2.0.0")) // by hand
		m.run()
		simPass(15 * time.Minute)
		simWant(t, "offers", len(m.seen()), 1)
		simWant(t, "version", m.status().Version, "2.5.0")
		simWant(t, "record", m.record().Status, testserver.Complete)
	})
}

// A release that failed and was then installed by hand holds nothing back any more.
func TestBackoff_installedByHand(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		simPublish(g, "2.0.0")
		m := w.machine("m")
		m.decides(simFails)
		m.start(simAppAt("1.0.0"))
		m.run()
		simPass(3 * time.Hour)
		simWant(t, "phase", m.status().Phase, omahaclient.BackingOff)
		m.kill()
		simPublish(g, "3.0.0")
		m.decides(simInstalls)
		m.start(simAppAt("2.0.0"))
		simWant(t, "phase", m.status().Phase, omahaclient.Idle)
		m.run()
		simPass(15 * time.Minute)
		simWant(t, "version", m.status().Version, "3.0.0")
	})
}

// A server that asks for no check before a time means it, whatever comes in between.
func TestServerDelay_outlastsTheAttempt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict simVerdict
		restart bool
	}{
		{"success", simInstalls, false},
		{"failure", simFails, false},
		{"deferral", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, false},
		{"restart of the program", simInstalls, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				simPublish(w.channel(testserver.Policy{}), "2.0.0")
				w.Fail(1, testserver.Extra("Retry-After", "36000"))
				m := w.machine("m")
				m.decides(tt.verdict)
				m.start()
				m.run()
				simUntil(t, "an offer", 15*time.Minute, func() bool { return len(m.seen()) == 1 })
				if tt.restart {
					m.kill()
					m.start()
					m.run()
				}
				simPass(20 * time.Hour)
				checks := simChecks(m.contacts(time.Time{}))
				if wait := checks[1].at.Sub(checks[0].at); wait < 10*time.Hour || wait > 11*time.Hour+30*time.Minute {
					t.Errorf("next check %v after the one that asked for 10 hours", wait)
				}
			})
		})
	}
}
