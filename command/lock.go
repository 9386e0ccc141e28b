package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/posener/complete"
)

// lockTTL is after how long without a renewal a lock is given up.
const lockTTL = "15s"

func lockCommand() *command {
	return &command{
		name:     "lock",
		args:     "PREFIX CHILD...",
		synopsis: "Execute a command holding a lock",
		about: "Takes the lock at PREFIX in the KV store, waiting for it where somebody else has it, runs CHILD while it is held, and gives it back. With -n greater than 1 so many may hold it at once. " +
			"CHILD has LICTOR_LOCK_HELD=true and CONSUL_LOCK_HELD=true in its environment.\n" +
			"When the lock is lost while CHILD runs, CHILD and all it has started get SIGTERM, and SIGKILL 5 seconds later.\n" +
			"The status is 0 where CHILD ran, however it ended; 2 where it failed and -child-exit-code is given; 1 where the lock was not had or was lost.",
		example:     "lock service/db/leader 'run-leader --once'\nlock -n=3 -timeout=30s -shell=false batch/slots batch-job -v",
		usesAPI:     true,
		picksServer: true,
		positional:  complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			o := &lockOptions{}
			fs.IntVar(&o.limit, "n", 1, "The `number` of holders that there may be at once. All that use the prefix must agree.")
			fs.StringVar(&o.name, "name", "", "`name` of the session that holds the lock. The default says the program and the prefix.")
			fs.DurationVar(&o.timeout, "timeout", 0, "Give up after this `duration`. The default is to wait forever.")
			fs.DurationVar(&o.timeout, "try", 0, "Older name of -timeout: a `duration`.")
			fs.IntVar(&o.retries, "monitor-retry", 3, "The `number` of times to ask again, a second apart, before the lock counts as lost when the servers do not answer.")
			fs.BoolVar(&o.exitCode, "child-exit-code", false, "Have the status 2 when CHILD fails.")
			fs.BoolVar(&o.passStdin, "pass-stdin", false, "Give our standard input to CHILD.")
			fs.BoolVar(&o.shell, "shell", true, "Have the shell run CHILD. With -shell=false it is a program and its arguments.")
			fs.BoolVar(&o.verbose, "verbose", false, "Say what is done.")
			return o.run
		},
	}
}

type lockOptions struct {
	limit, retries             int
	name                       string
	timeout                    time.Duration
	exitCode, passStdin, shell bool
	verbose                    bool
}

// held is a lock or a semaphore of the API module.
type held struct {
	acquire          func(stop <-chan struct{}) (lost <-chan struct{}, err error)
	release, destroy func() error
}

func (o *lockOptions) run(ctx context.Context, in *invocation) int {
	switch {
	case len(in.args) < 2:
		return in.misuse("Key prefix and child command must be specified")
	case o.limit <= 0:
		return in.misuse("Lock holder limit must be positive")
	case o.timeout < 0 || o.retries < 0:
		return in.misuse("Neither -timeout nor -monitor-retry may be negative")
	}
	prefix := kvKey(in.args[0])
	say := func(format string, args ...any) {
		if o.verbose {
			in.ui.Output(fmt.Sprintf(format, args...))
		}
	}

	// Waiting for the lock ends when we are interrupted; once it is had nothing is
	// cut off, so that it is given back. The session always outlives it.
	work, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	waiting := context.AfterFunc(ctx, cutOff)
	c, ok := in.api(work)
	if !ok {
		return 1
	}
	defer c.Close()
	always, ok := in.api(context.WithoutCancel(ctx))
	if !ok {
		return 1
	}
	defer always.Close()
	session, err := o.session(always.c, in.args)
	if err != nil {
		return in.fail("Lock acquisition failed: failed to create session: %s", always.explain(err))
	}
	defer keepSession(always.c, session)()

	h, err := o.prepare(c.c, prefix, session)
	if err != nil {
		return in.fail("Lock setup failed: %s", err)
	}
	if o.limit == 1 {
		say("Setting up lock at path: %s", path.Join(prefix, api.DefaultSemaphoreKey))
	} else {
		say("Setting up semaphore (limit %d) at prefix: %s", o.limit, prefix)
	}
	say("Attempting lock acquisition")
	lost, err := h.acquire(ctx.Done())
	switch {
	case !waiting():
		return in.fail("Shutdown triggered during lock acquisition")
	case err != nil:
		return in.fail("Lock acquisition failed: %s", c.explain(err))
	case lost == nil:
		return in.fail("Lock acquisition failed: it was not free within %s", o.timeout)
	}
	say("Starting handler")
	status := o.handle(ctx, in, lost)
	say("Child terminated, releasing lock")
	if err := h.release(); err != nil {
		in.ui.Error(fmt.Sprintf("Lock release failed: %s", c.explain(err)))
		return 1
	}
	switch err := h.destroy(); {
	case errors.Is(err, api.ErrLockInUse), errors.Is(err, api.ErrSemaphoreInUse):
		say("Cleanup aborted, lock in use")
	case err != nil:
		in.ui.Error(fmt.Sprintf("Lock cleanup failed: %s", c.explain(err)))
		return 1
	default:
		say("Cleanup succeeded")
	}
	return status
}

// session makes the session that holds the lock.
func (o *lockOptions) session(c *api.Client, args []string) (string, error) {
	s := &api.SessionEntry{
		Name: o.name, TTL: lockTTL, LockDelay: 15 * time.Second, Behavior: api.SessionBehaviorRelease,
	}
	if s.Name == "" {
		s.Name = fmt.Sprintf("Lictor lock for '%s' at '%s'", childName(args[1:]), args[0])
	}
	if o.limit > 1 {
		s.Behavior = api.SessionBehaviorDelete
	}
	id, _, err := c.Session().Create(s, nil)
	return id, err
}

// keepSession renews a session until the function it returns is called, which
// destroys it.
func keepSession(c *api.Client, id string) (destroy func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		// Its error is the loss of the session, which shows as that of the lock.
		_ = c.Session().RenewPeriodic(lockTTL, id, nil, stop)
	}()
	return func() {
		close(stop)
		<-ended
	}
}

func (o *lockOptions) prepare(c *api.Client, prefix, session string) (*held, error) {
	if o.limit > 1 {
		s, err := c.SemaphoreOpts(&api.SemaphoreOptions{
			Prefix: prefix, Limit: o.limit, Session: session, MonitorRetries: o.retries, MonitorRetryTime: time.Second,
			SemaphoreTryOnce: o.timeout > 0, SemaphoreWaitTime: o.timeout,
		})
		if err != nil {
			return nil, err
		}
		return &held{s.Acquire, s.Release, s.Destroy}, nil
	}
	l, err := c.LockOpts(&api.LockOptions{
		Key: path.Join(prefix, api.DefaultSemaphoreKey), Session: session, MonitorRetries: o.retries, MonitorRetryTime: time.Second,
		LockTryOnce: o.timeout > 0, LockWaitTime: o.timeout,
	})
	if err != nil {
		return nil, err
	}
	return &held{l.Lock, l.Unlock, l.Destroy}, nil
}

// handle runs the child while the lock is held and returns the status.
func (o *lockOptions) handle(ctx context.Context, in *invocation, lost <-chan struct{}) int {
	run, end := context.WithCancel(ctx)
	defer end()
	var isLost atomic.Bool
	go func() {
		select {
		case <-lost:
			isLost.Store(true)
			end()
		case <-run.Done():
		}
	}()
	c := child{args: in.args[1:], shell: o.shell, env: []string{"LICTOR_LOCK_HELD=true", "CONSUL_LOCK_HELD=true"}}
	if o.passStdin {
		c.stdin = in.env.stdin
	}
	err := c.run(run, in.env)
	var exit *exec.ExitError
	switch {
	case isLost.Load():
		return in.fail("Lock lost, the child was ended")
	case ctx.Err() != nil:
		return in.fail("Shutdown triggered, the child was ended")
	case errors.As(err, &exit):
		in.ui.Error(fmt.Sprintf("Error running handler: %s", err))
		if o.exitCode {
			return 2
		}
		return 0
	case err != nil:
		return in.fail("Error running handler: %s", err)
	}
	return 0
}
