// Package script runs the programs of health checks and watches: bounded in
// time and in output, and ended together with the processes they started. A
// program runs as the agent's user with the agent's environment; who may name
// one is decided by the callers.
package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// waitForPipes is how long to wait for output once the program itself has ended:
// what it left running may keep its output open for ever.
const waitForPipes = time.Second

// Command is one program to run. Args is not changed.
type Command struct {
	Args      []string  // the program and its arguments
	Stdin     io.Reader // nil: nothing
	Env       []string  // besides the agent's own
	MaxOutput int       // bytes of output to keep, the newest
}

// Shell is the command that has the system's shell run a line.
func Shell(line string) []string { return shell(line) }

// Result is how a program ended.
type Result struct {
	Output string // standard output and error, clipped
	Code   int    // exit status; -1 when a signal ended it
}

// Run runs the program and waits for it. When ctx ends first, the program and
// the processes it started are killed and the error is ctx's; the output until
// then is there all the same. A program that ends with a status is no error.
func (c Command) Run(ctx context.Context) (Result, error) {
	if len(c.Args) == 0 {
		return Result{}, errors.New("no program to run")
	}
	out := NewOutput(c.MaxOutput)
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, out, out
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.WaitDelay = waitForPipes
	tree := newTree(cmd)
	defer tree.close()
	cmd.Cancel = tree.kill
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	tree.started()
	err := cmd.Wait()
	r := Result{Output: out.String(), Code: -1}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && r.Code != 0:
		return r, ctx.Err()
	case errors.As(err, &exit), errors.Is(err, exec.ErrWaitDelay):
		return r, nil
	}
	return r, err
}

// Output keeps the newest part of what is written to it. One goroutine at a time.
type Output struct {
	most  int
	buf   []byte
	total int64
}

// NewOutput keeps most bytes, at least one.
func NewOutput(most int) *Output { return &Output{most: max(most, 1)} }

// Write never fails.
func (o *Output) Write(p []byte) (int, error) {
	n := len(p)
	o.total += int64(n)
	if len(p) > o.most {
		p = p[len(p)-o.most:]
	}
	if over := len(o.buf) + len(p) - o.most; over > 0 {
		o.buf = o.buf[:copy(o.buf, o.buf[over:])]
	}
	o.buf = append(o.buf, p...)
	return n, nil
}

// String is what was kept; when that is not all, it says so first. What is not
// UTF-8 reads as question marks.
func (o *Output) String() string {
	text := strings.ToValidUTF8(string(o.buf), "?")
	if o.total > int64(len(o.buf)) {
		return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", len(o.buf), o.total, text)
	}
	return text
}

// Clip is text as an Output of this size would have kept it.
func Clip(text string, most int) string {
	o := NewOutput(most)
	_, _ = io.WriteString(o, text)
	return o.String()
}
