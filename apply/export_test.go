package apply

// What tests need of the inside.
var FleetNote = noteOf

// Stepped returns b with a function that is told of its steps.
func (b Binary) Stepped(fn func(point string)) Binary { b.steps = fn; return b }

// Stepped returns a with a function that is told of its steps.
func (a Archive) Stepped(fn func(point string)) Archive { a.steps = fn; return a }

// RecoverStepped is Recover with a function that is told of its steps.
func RecoverStepped(stateDir string, fn func(point string)) error { return recoverSelf(stateDir, fn) }
