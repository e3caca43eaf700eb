package omahaclient_test

import (
	"math/rand/v2"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// spoil makes the server and its payload host as bad as one life is to have them.
func (s *story) spoil() {
	s.Offline(s.rng.IntN(12) == 0)
	s.Payloads.Offline(s.rng.IntN(16) == 0)
	if s.rng.IntN(3) == 0 {
		s.FailFunc(nil)
		s.Payloads.FailFunc(nil)
		return
	}
	s.FailFunc(func(testserver.Request) testserver.Fault {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.outage > 0 {
			s.outage--
			return testserver.LostRequest()
		}
		return s.omahaFault(s.fate)
	})
	s.Payloads.FailFunc(func(testserver.FileRequest) testserver.FileFault {
		s.mu.Lock()
		defer s.mu.Unlock()
		return fileFault(s.fate)
	})
}

func (s *story) heal() {
	s.Offline(false)
	s.Payloads.Offline(false)
	s.Heal()
	s.Payloads.Heal()
	for _, a := range s.apps {
		a.group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = false })
	}
}

// omahaFault draws what befalls an exchange with the Omaha server. mu is held.
func (s *story) omahaFault(r *rand.Rand) testserver.Fault {
	switch r.IntN(60) {
	case 0, 1, 2:
		return testserver.LostAnswer()
	case 3, 4:
		return testserver.LostRequest()
	case 5:
		return testserver.StatusFault(503)
	case 6:
		f := testserver.StatusFault(502)
		f.Unseen = true
		return f
	case 7:
		return testserver.HTMLPage()
	case 8:
		return testserver.Truncated(r.IntN(400))
	case 9:
		return testserver.DropEvents()
	case 10:
		return testserver.DropApps(r.IntN(4))
	case 11:
		return testserver.AppError("error-couldNotCheckUpdatesStats")
	case 12:
		s.outage = r.IntN(15)
		return testserver.LostAnswer()
	case 13:
		return testserver.Fault{Delay: time.Duration(r.IntN(50)) * time.Millisecond}
	case 14:
		if r.IntN(6) == 0 {
			return testserver.Extra("Retry-After", "1")
		}
	case 15:
		return testserver.Fault{Stall: true} // for a kill to end
	}
	return testserver.Fault{}
}

// fileFault draws what befalls a download.
func fileFault(r *rand.Rand) testserver.FileFault {
	after := r.Int64N(30 << 10)
	switch r.IntN(20) {
	case 0, 1:
		return testserver.FileFault{Cut: true, After: after}
	case 2:
		return testserver.FileFault{Reset: true, After: after}
	case 3:
		return testserver.FileFault{Stall: true, After: after}
	case 4:
		return testserver.FileFault{Status: 503}
	case 5:
		return testserver.FileFault{IgnoreRange: true, Cut: true, After: after}
	case 6:
		return testserver.FileFault{Rate: 400 << 10}
	case 7:
		if r.IntN(3) == 0 {
			return testserver.FileFault{Corrupt: true, CorruptAt: r.Int64N(4 << 10)}
		}
	}
	return testserver.FileFault{}
}

// wedge makes the server believe in an update of a machine that has finished it, as if its last event had been lost.
func (s *story) wedge(a *crashedApp) {
	for _, i := range s.Instances(a.ID) {
		if i.Status == testserver.Complete {
			i.Status = testserver.Installed
			s.PutInstance(i)
		}
	}
}
