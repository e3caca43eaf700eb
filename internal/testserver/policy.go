package testserver

import (
	"math"
	"time"
)

// The defaults of a policy's durations.
const (
	defaultPeriod  = 15 * time.Minute
	defaultTimeout = time.Hour
)

// App statuses of Nebraska's answers.
const (
	statusOK               = "ok"
	statusUnknown          = "error-failedToRetrieveUpdatePackageInfo"
	statusRegistration     = "error-instanceRegistrationFailed"
	statusInProgress       = "error-updateInProgressOnInstance"
	statusNoPackage        = "error-noPackageFound"
	statusDisabled         = "error-updatesDisabled"
	statusMaxPerPeriod     = "error-maxUpdatesPerPeriodLimitReached"
	statusMaxConcurrent    = "error-maxConcurrentUpdatesLimitReached"
	statusMaxTimedOut      = "error-maxTimedOutUpdatesLimitReached"
	checkOK, checkNoUpdate = "ok", "noupdate"
	checkError             = "error-internal"
)

// groupStats are what Nebraska counts of a group before it grants.
type groupStats struct {
	attempted        int // instances that have settled a grant of the present version
	grantedInPeriod  int // instances whose last grant is younger than the period
	inProgress       int // grants under way
	timedOut         int // grants under way for longer than the timeout
	period, patience time.Duration
}

// stats counts the live instances of a group. An instance counts once, by its
// last grant, however often it was granted an update. The caller holds s.mu.
func (s *Server) stats(g *Group, now time.Time) groupStats {
	n := groupStats{period: g.policy.Period, patience: g.policy.Timeout}
	if n.period <= 0 {
		n.period = defaultPeriod
	}
	if n.patience <= 0 {
		n.patience = defaultTimeout
	}
	for _, r := range s.rows {
		if r.group != g || !r.LastCheck.After(now.Add(-validity)) || r.GrantedVersion == "" {
			continue
		}
		age := now.Sub(r.GrantedAt)
		if age < n.period {
			n.grantedInPeriod++
		}
		switch {
		case !r.InProgress:
			if r.GrantedVersion == g.release.Version {
				n.attempted++
			}
		case age <= n.patience:
			n.inProgress++
		default:
			n.timedOut++
		}
	}
	return n
}

// refusal returns the app status by which the group's policy refuses a new
// grant, "" if it does not. Where it refuses by a limit, the instance is put on
// hold; where updates in safe mode have timed out, the whole group is switched
// off. The caller holds s.mu.
func (s *Server) refusal(g *Group, r *row, now time.Time) string {
	p := &g.policy
	if p.Disabled {
		return statusDisabled
	}
	if p.MaxUpdates <= 0 && !p.SafeMode {
		return ""
	}
	limit := p.MaxUpdates
	if limit <= 0 {
		limit = math.MaxInt
	}
	n := s.stats(g, now)
	if p.SafeMode && n.attempted == 0 {
		limit = 1 // the canary goes first, alone
	}
	var status string
	switch {
	case n.grantedInPeriod >= limit:
		status = statusMaxPerPeriod
	case n.inProgress >= limit:
		status = statusMaxConcurrent
	case p.SafeMode && n.timedOut >= limit:
		status = statusMaxTimedOut
		p.Disabled = true
	default:
		return ""
	}
	if r != nil {
		r.move(OnHold, cause{now: now})
	}
	return status
}
