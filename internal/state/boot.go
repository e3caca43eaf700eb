package state

// BootID returns what tells this boot of the machine from every other, or "" where the system does not say.
func BootID() string { return bootID() }
