package state

import "time"

// Fresh is how fresh the app's knowledge of its releases is. It is written when it has changed by much, not at each contact.
type Fresh struct {
	Answer  time.Time `json:"answer"`            // last authentic answer to an update check; the first look where there was none
	Head    time.Time `json:"head"`              // last fresh release index; the first look where there was none
	Version string    `json:"version,omitempty"` // newest release that the index names, and that does not run here
	Behind  time.Time `json:"behind,omitzero"`   // since when the index has named one that does not
}

// Watch notes how fresh the app's knowledge is.
func (a *App) Watch(f Fresh) error {
	a.Fresh = &f
	return nil
}
