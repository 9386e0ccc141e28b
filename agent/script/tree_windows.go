package script

import (
	"os/exec"

	"golang.org/x/sys/windows"
)

func shell(line string) []string { return []string{"cmd", "/C", line} }

// tree is a program and the processes it started: a job object. A process that
// the program started before it was put in the job is not in it.
type tree struct {
	cmd *exec.Cmd
	job windows.Handle
}

func newTree(cmd *exec.Cmd) *tree {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		job = 0
	}
	return &tree{cmd, job}
}

func (t *tree) started() {
	if t.job == 0 {
		return
	}
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(t.cmd.Process.Pid))
	if err != nil {
		return // it has ended already
	}
	defer windows.CloseHandle(h)
	_ = windows.AssignProcessToJobObject(t.job, h) // kill ends the program all the same
}

func (t *tree) kill() error {
	if t.job != 0 {
		_ = windows.TerminateJobObject(t.job, 1)
	}
	return t.cmd.Process.Kill()
}

func (t *tree) close() {
	if t.job != 0 {
		windows.CloseHandle(t.job)
	}
}
