//go:build unix

package script

import (
	"os"
	"os/exec"
	"syscall"
)

func shell(line string) []string {
	sh := os.Getenv("SHELL")
	if sh == "" {
		sh = "/bin/sh"
	}
	return []string{sh, "-c", line}
}

// tree is a program and the processes it started: its process group.
type tree struct{ cmd *exec.Cmd }

func newTree(cmd *exec.Cmd) tree {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return tree{cmd}
}

func (tree) started() {}
func (tree) close()   {}

func (t tree) kill() error { return syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) }
