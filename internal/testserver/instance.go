package testserver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver"
)

const (
	// validity is how long an instance lives in Nebraska's eyes after its last
	// recorded ping or check: its events count, it counts in its group's
	// statistics, and its row is found.
	validity = 24 * time.Hour
	// recent is how long Nebraska keeps from writing the time of another contact.
	recent = 5 * time.Minute
	// maxMachineID is the width of Nebraska's column, in bytes.
	maxMachineID = 50
)

// machine is Nebraska's row of a machine, which all its apps share.
type machine struct{ alias, ip string }

// rowKey names an app on a machine.
type rowKey struct{ machine, app string }

// row is Nebraska's row of an app on a machine.
type row struct {
	Instance
	group *Group
}

// live returns the row of an app on a machine, or nil where there is none or
// its last contact is too long ago. The caller holds s.mu.
func (s *Server) live(machineID, app string, now time.Time) *row {
	r := s.rows[rowKey{machineID, app}]
	if r == nil || !r.LastCheck.After(now.Add(-validity)) {
		return nil
	}
	return r
}

// contact is who speaks for which app: what pings and checks register.
type contact struct {
	group              *Group
	appID, app         string // as sent, and as compared
	machineID, alias   string
	ip, version, arch  string
	multipleManifestOK bool
	syncer             bool // another Nebraska
}

// register records a ping or a check. It returns the row as Nebraska sees it
// afterwards: nil where it looked before it wrote, as it does for an app whose
// row is new (or has expired) on a machine that it knows already and that has
// neither changed its alias nor its address. ok is false where Nebraska refuses
// the registration: the version is no semantic one, or the machine id does not
// fit. The caller holds s.mu.
func (s *Server) register(c contact, now time.Time) (seen *row, ok bool) {
	if _, err := semver.Make(c.version); err != nil || c.machineID == "" || len(c.machineID) > maxMachineID {
		return nil, false
	}
	m, known := s.machines[c.machineID]
	seen = s.live(c.machineID, c.app, now)
	if !known {
		s.machines[c.machineID] = machine{c.alias, c.ip}
		return s.writeRow(c, now), true
	}
	if c.alias == "" {
		c.alias = m.alias
	}
	moved := m != machine{c.alias, c.ip}
	s.machines[c.machineID] = machine{c.alias, c.ip}
	outdated := seen == nil || seen.LastCheck.Before(now.Add(-recent)) || seen.Version != c.version || seen.group != c.group
	if outdated {
		written := s.writeRow(c, now)
		if moved {
			seen = written
		}
	}
	return seen, true
}

// writeRow inserts or updates a row; its update's state stays.
func (s *Server) writeRow(c contact, now time.Time) *row {
	key := rowKey{c.machineID, c.app}
	r := s.rows[key]
	if r == nil {
		r = &row{Instance: Instance{AppID: c.appID, MachineID: c.machineID, Status: Undefined}}
		s.rows[key] = r
	}
	r.group, r.Version, r.LastCheck = c.group, c.version, now
	r.Track, r.Arch = c.group.track, c.arch
	return r
}

// cause is what changed a status, for the history.
type cause struct {
	event Event
	now   time.Time
}

// move changes a row's status. Nebraska does nothing where the status stays, and
// cannot write the history of an instance that was never granted anything, so
// that such an instance does not move at all. The caller holds s.mu.
func (r *row) move(to Status, by cause) {
	if r.Status == to || r.GrantedVersion == "" {
		return
	}
	r.Status = to
	r.InProgress = to.inProgress()
	if to == Complete {
		r.Version = r.GrantedVersion
	}
	if to == Error {
		r.ErrorCode = by.event.ErrorCode
	}
	r.History = append(r.History, Entry{
		Time: by.now, Status: to, Version: r.GrantedVersion,
		EventType: by.event.Type, EventResult: by.event.Result,
		ErrorCode: by.event.ErrorCode, PreviousVersion: by.event.PreviousVersion,
	})
}

// grant moves a row to Granted, which it is not yet.
func (r *row) grant(version string, now time.Time) {
	r.GrantedVersion, r.GrantedAt = version, now
	r.Grants++
	r.move(Granted, cause{now: now})
}

func (s Status) inProgress() bool {
	switch s {
	case Granted, Downloading, Downloaded, Installed:
		return true
	default:
		return false
	}
}

// wedged tells whether every check is refused until a final event.
func (s Status) wedged() bool { return s.inProgress() && s != Granted }

// Instance returns the record of an app on a machine.
func (s *Server) Instance(appID, machineID string) (Instance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[rowKey{machineID, appKey(appID)}]
	if r == nil {
		return Instance{}, false
	}
	return s.copyOf(r), true
}

// Instances returns the records of an app, ordered by machine id.
func (s *Server) Instances(appID string) []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Instance
	for key, r := range s.rows {
		if key.app == appKey(appID) {
			list = append(list, s.copyOf(r))
		}
	}
	slices.SortFunc(list, func(a, b Instance) int { return strings.Compare(a.MachineID, b.MachineID) })
	return list
}

func (s *Server) copyOf(r *row) Instance {
	i := r.Instance
	i.Alias = s.machines[i.MachineID].alias
	i.History = slices.Clone(i.History)
	return i
}

// PutInstance writes a record as if the instance had come to be so, for example
// wedged by events that another program sent. AppID and Track name a group that
// exists, with Arch where there are several; LastCheck defaults to now, Status
// to Undefined. InProgress follows from the status. It panics without the group.
func (s *Server) PutInstance(i Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.findGroup(i.AppID, i.Track, i.Arch)
	if g == nil {
		panic(fmt.Sprintf("testserver: put instance %s: no group %q %q, add it first", i.AppID, i.Track, i.Arch))
	}
	if i.Status == "" {
		i.Status = Undefined
	}
	if i.LastCheck.IsZero() {
		i.LastCheck = s.now()
	}
	i.InProgress = i.Status.inProgress()
	i.History = slices.Clone(i.History)
	m := s.machines[i.MachineID]
	m.alias = i.Alias
	s.machines[i.MachineID] = m
	s.rows[rowKey{i.MachineID, appKey(i.AppID)}] = &row{Instance: i, group: g}
	s.changes.announce()
}

// Grants returns how many updates were granted for an app, answers that repeat
// a held grant not counted.
func (s *Server) Grants(appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for key, r := range s.rows {
		if key.app == appKey(appID) {
			n += r.Grants
		}
	}
	return n
}
