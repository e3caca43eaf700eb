package apply

// FleetNote is the file that says that the app may hold the lock.
func FleetNote(dir, appID string, l FleetLock) string {
	key, _ := l.lock()
	return notePath(dir, appID, key)
}

// AskRestart is an error that asks Serve for a restart of the program at path.
func AskRestart(how Restart, path string) error {
	return &restartError{how: how, path: path, version: "2.0.0"}
}
