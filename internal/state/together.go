package state

import "errors"

// Together makes one transition of several: they are written at once, or, if one is refused, none of them.
func Together(steps ...func(*App) error) func(*App) error {
	return func(a *App) error {
		changed := false
		for _, step := range steps {
			err := step(a)
			if err != nil && !errors.Is(err, errUnchanged) {
				return err
			}
			changed = changed || err == nil
		}
		if !changed {
			return errUnchanged
		}
		return nil
	}
}
