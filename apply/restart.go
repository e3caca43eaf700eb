package apply

import (
	"fmt"

	"github.com/nebraska/omahaclient"
)

// Restart says how a program that has replaced itself comes to run its new version.
type Restart int

const (
	// RestartByUser leaves the restart to somebody else: Serve goes on, and the app only pings until then.
	RestartByUser Restart = iota
	// RestartExec makes Serve close the Client and execute the new version in this process's place (execve(2)): same
	// process id, arguments and environment. Files that Go opened are closed by it. Windows cannot; there it is RestartExit, and
	// wherever the Client's Close or the execution fails.
	RestartExec
	// RestartExit makes Serve return an error that is omahaclient.ErrRestartRequired, for main to end the program with.
	// A supervisor (systemd: Restart=always) starts it again.
	RestartExit
)

// restartError asks Serve for a restart of the program.
type restartError struct {
	how     Restart
	path    string // of the executable
	version string // that will run
}

func (e *restartError) Error() string {
	return fmt.Sprintf("version %s of %s is in place: restart the program", e.version, e.path)
}

func (e *restartError) Unwrap() error { return omahaclient.ErrRestartRequired }

// restart is the last that Serve does. All its errors ask for the restart: the new version is in place.
func (e *restartError) restart(client *omahaclient.Client) error {
	if e.how != RestartExec || !canExec {
		return e
	}
	if err := client.Close(); err != nil { // reports first: the next process delivers what is left
		return fmt.Errorf("%w: close client before: %w", e, err)
	}
	return fmt.Errorf("%w: %w", e, execSelf(e.path))
}
