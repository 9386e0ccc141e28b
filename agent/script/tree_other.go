//go:build !unix && !windows

package script

import "os/exec"

func shell(line string) []string { return []string{"/bin/sh", "-c", line} }

type tree struct{ cmd *exec.Cmd }

func newTree(cmd *exec.Cmd) tree { return tree{cmd} }
func (tree) started()            {}
func (tree) close()              {}
func (t tree) kill() error       { return t.cmd.Process.Kill() }
