//go:build unix

package command

import (
	"os/exec"
	"syscall"
	"time"
)

// ownGroup puts the program and what it starts into a process group of its own.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminateGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// waitGroup returns when nothing of the group is left, or at the limit.
func waitGroup(cmd *exec.Cmd, limit <-chan time.Time) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for syscall.Kill(-cmd.Process.Pid, 0) == nil {
		select {
		case <-look.C:
		case <-limit:
			return
		}
	}
}
