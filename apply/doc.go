// Package apply takes an update from a verified payload to a running, healthy program, or back:
//
//	err := apply.Serve(ctx, client, apply.Mux{
//		"io.example.agent":  apply.Binary{Path: "/usr/local/bin/agent", Probe: apply.Exec("agent", "--self-test")},
//		"io.example.assets": apply.Archive{Dir: "/srv/assets", Keep: 3},
//		"io.example.hooks":  apply.Command{Args: []string{"/usr/local/lib/example/update"}},
//	})
//
// Serve receives the offers of a client and settles each with what its Applier returns. An Applier installs one kind of
// update: Binary one executable (the running program's own, too), Archive a tree of files, Command whatever a program of
// yours does, Func a function. Containers are in package apply/container, a module of its own.
//
// A Probe tells whether what was installed is healthy: Exec, HTTP, TCP, Systemd or a function (ProbeFunc). Where it fails,
// the version from before is put back, and the server is told so.
//
// During keeps updates to maintenance windows. FleetLock lets a cluster restart a few machines at a time.
//
// What is no verdict goes to the Client's logger: why a version was rolled back, what could not be put right after a crash, the
// stack of a panic.
//
// # What is reported
//
//	1   an error without a code of its own; also where the version from before could not be put back, and the new one stays
//	5   the update was refused before anything was replaced (it is damaged, or does not even start)
//	44  the update was in place, proved to be bad (or could not be synced), and the version from before was put back
//
// # Crashes
//
// Each Applier may be killed, or lose its power, at any step. It documents what is on disk then; always that is the old
// version or the new one, whole. At its next start Serve ends what was begun (Restorer): what had not been proved is now, or
// the version from before is put back. The offer was not settled, so it comes again (UpdateOffer.Attempt counts), unless it
// was withdrawn meanwhile.
package apply
