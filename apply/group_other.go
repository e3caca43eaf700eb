//go:build !unix

package apply

import "os/exec"

// ownGroup does nothing: there are no process groups here, so that only cmd itself ends.
func ownGroup(*exec.Cmd) {}

func endGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
func killGroup(cmd *exec.Cmd)      { _ = cmd.Process.Kill() }
