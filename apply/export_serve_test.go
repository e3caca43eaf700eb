package apply

// FleetNote is the file that says that the app may hold the lock.
func FleetNote(dir, appID string, l FleetLock) string {
	key, _ := l.lock()
	return notePath(dir, appID, key)
}

// AskRestart is an error that asks Serve for a restart of the program.
func AskRestart(how Restart) error { return &restartError{how: how, path: "agent", version: "2.0.0"} }
