package state

import "time"

// maxDelay is the longest that a server may ask for.
const maxDelay = 24 * time.Hour

// PutBack corrects times that lie ahead of now: the clock was put back since they were noted. It may be wrong now (a machine
// without a battery for its clock begins each boot in the past) or have been wrong then (somebody has put it right). So what
// was to last for a while lasts as long from now on, but no shorter than it would have by the clock of before, should that come back.
func (a *App) PutBack(now time.Time) error {
	ahead := a.LastCheck.Sub(now)
	if ahead <= time.Hour && a.NotBefore.Sub(now) <= maxDelay {
		return errUnchanged
	}
	if a.NotBefore.Sub(now) > maxDelay {
		a.NotBefore = time.Time{}
	}
	if ahead > 0 {
		a.Wait.putBack(a.LastCheck, ahead)
		a.LastCheck = now
		if a.Seen != nil && a.Seen.At.After(now) {
			a.Seen.At = now // the wait for its age remembers better
		}
	}
	return nil
}

// putBack notes that the clock, which showed last before, was put back by ahead.
func (w *Wait) putBack(last time.Time, ahead time.Duration) {
	switch {
	case w == nil || w.Until.IsZero():
	case last.Before(w.PutBackFrom): // put back once more
		w.PutBackUntil = w.PutBackUntil.Add(-ahead)
	default:
		w.PutBackFrom, w.PutBackUntil = last, w.Until.Add(-ahead)
	}
}

// served reports whether w is over by a clock that was put back. Then it is over for good: a clock that stays put back is
// not to begin it again once it has caught up.
func (w *Wait) served(now time.Time) bool {
	return w != nil && now.Before(w.PutBackFrom) && !w.Active(now)
}
