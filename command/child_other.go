//go:build !unix

package command

import (
	"os/exec"
	"time"
)

// There are no process groups here: only the program itself is ended, at once.

func ownGroup(*exec.Cmd)                    {}
func terminateGroup(cmd *exec.Cmd)          { _ = cmd.Process.Kill() }
func killGroup(cmd *exec.Cmd)               { _ = cmd.Process.Kill() }
func waitGroup(*exec.Cmd, <-chan time.Time) {}
