package command

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"lictor/agent/script"
)

const (
	// childGrace is how long a child may take to end once it is asked to.
	childGrace = 5 * time.Second
	// childPipes is how long to wait for output once the child itself has ended.
	childPipes = time.Second
)

// child is a program that a command runs for its user.
type child struct {
	args  []string // the program and its arguments, or the words of a shell line
	shell bool     // have the system's shell run the words
	stdin io.Reader
	env   []string // besides our own
}

// run runs the program and waits for it; its output is ours. When ctx ends
// first, the program and the processes it started get SIGTERM, and SIGKILL
// where some of them are left after childGrace. The error says that the program
// could not start, or is an exec.ExitError.
func (c child) run(ctx context.Context, env *environment) error {
	args := c.args
	if c.shell {
		args = script.Shell(strings.Join(args, " "))
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = env.stdout, env.stderr
	cmd.Env = append(os.Environ(), c.env...)
	cmd.WaitDelay = childPipes
	ownGroup(cmd)
	if c.stdin != nil {
		// A pipe also where it is a terminal, from which a group in the background
		// may not read. It is not waited for: Wait closes it.
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(in, c.stdin)
			in.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit := time.NewTimer(childGrace)
	defer limit.Stop()
	terminateGroup(cmd)
	select {
	case err := <-ended:
		waitGroup(cmd, limit.C)
		killGroup(cmd) // what did not listen
		return err
	case <-limit.C:
		killGroup(cmd)
		return <-ended
	}
}
