package command

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"lictor/agent"
	"lictor/agent/config"

	"github.com/posener/complete"
)

const (
	// leaveTimeout bounds a graceful leave, besides the configured drain time.
	leaveTimeout = 15 * time.Second

	// gateBytes bounds the log lines held back until the banner is printed.
	gateBytes = 256 << 10
)

func agentCommand() *command {
	return &command{
		name:     "agent",
		synopsis: "Runs a Lictor agent",
		example:  "agent -dev\nagent -config-dir=/etc/lictor.d",
		about: "Runs the agent until it is told to stop. SIGHUP reloads its configuration; an interrupt or SIGTERM stops it, " +
			"leaving the cluster first where skip_leave_on_interrupt and leave_on_terminate say so; a second one stops it at once. " +
			"The status is 0 after a graceful leave and 1 otherwise.",
		ownSignals: true,
		values: complete.Flags{
			"-config-format": complete.PredictSet("hcl", "json"),
			"-config-file":   complete.PredictFiles("*"),
			"-log-level":     complete.PredictSet("TRACE", "DEBUG", "INFO", "WARN", "ERROR"),
		},
		define: func(fs *flag.FlagSet) action {
			flags := &config.Flags{}
			flags.Register(fs)
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) > 0 {
					return in.fail("==> Unexpected extra arguments: %q", in.args)
				}
				load := func() (*config.Config, error) { return config.Load(*flags) }
				cfg, err := load()
				if err != nil {
					return in.fail("==> %s", err)
				}
				signals, stop := notify()
				defer stop()
				r := &agentRun{
					in:       in,
					signals:  signals,
					quiet:    cfg.Log.JSON,
					onInt:    !cfg.Join.SkipLeaveOnInterrupt,
					onTerm:   cfg.Join.LeaveOnTerminate,
					leaveMax: max(leaveTimeout, cfg.Join.LeaveDrainTime+leaveTimeout/2),
					gate:     &gate{w: in.env.stdout},
				}
				return r.run(ctx, func() (node, error) {
					n, err := agent.New(cfg, agent.Options{Output: r.gate, Load: load})
					if err != nil {
						return nil, err
					}
					return n, nil
				})
			}
		},
	}
}

// notify collects the signals that the agent handles. SIGPIPE is swallowed: a
// reader of our output that goes away does not stop the agent.
func notify() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return signals, func() { signal.Stop(signals); signal.Stop(pipe) }
}

// node is what agentRun needs of an *agent.Agent.
type node interface {
	Start(context.Context) error
	Banner() agent.Banner
	Done() <-chan struct{}
	ExitError() error
	Reload(context.Context) error
	Leave(context.Context) error
	Shutdown()
}

// agentRun is one agent from its start to its end.
type agentRun struct {
	in            *invocation
	signals       <-chan os.Signal
	quiet         bool // no banner and no progress: the output is JSON
	onInt, onTerm bool // leave at an interrupt, at SIGTERM
	leaveMax      time.Duration
	gate          *gate
}

func (r *agentRun) say(format string, args ...any) {
	if !r.quiet {
		r.in.ui.Output(fmt.Sprintf(format, args...))
	}
}

// run starts the node that build makes and returns the exit status once it has
// stopped.
func (r *agentRun) run(ctx context.Context, build func() (node, error)) int {
	r.say("==> Starting Lictor agent...")
	n, err := build()
	if err == nil {
		var ok bool
		if ok, err = r.start(ctx, n); err == nil && !ok {
			r.gate.open()
			return 1
		}
	}
	if err != nil {
		r.gate.open()
		return r.in.fail("==> Error starting agent: %s", err)
	}
	if !r.quiet {
		r.in.ui.Output(banner(n.Banner()))
	}
	r.gate.open()
	return r.wait(ctx, n)
}

// start runs n.Start. It returns false where a signal stopped it.
func (r *agentRun) start(ctx context.Context, n node) (bool, error) {
	startCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- n.Start(startCtx) }()
	interrupted := false
	for {
		select {
		case err := <-started:
			if interrupted {
				if err == nil {
					n.Shutdown()
				}
				return false, nil
			}
			return err == nil, err
		case s := <-r.signals:
			if s == syscall.SIGHUP {
				continue // it is reading its configuration as it is
			}
			if interrupted {
				return false, nil
			}
			r.say("==> Caught signal: %s", s)
			interrupted = true
			cancel()
		}
	}
}

// wait serves signals until n has ended or has to.
func (r *agentRun) wait(ctx context.Context, n node) int {
	reloads := make(chan struct{}, 1) // a reload that is due covers all hangups before it
	var reloader sync.WaitGroup
	reloader.Go(func() {
		for range reloads {
			_ = n.Reload(ctx) // it has logged why it could not
		}
	})
	endReloads := sync.OnceFunc(func() { close(reloads); reloader.Wait() })

	for {
		select {
		case <-ctx.Done():
			return r.shutdown(n, endReloads, 1)
		case <-n.Done():
			if err := n.ExitError(); err != nil {
				r.in.ui.Error(fmt.Sprintf("==> Agent stopped: %s", err))
				return r.shutdown(n, endReloads, 1)
			}
			return r.shutdown(n, endReloads, 0)
		case s := <-r.signals:
			if s == syscall.SIGHUP {
				r.say("==> Caught signal: %s, reloading configuration", s)
				select {
				case reloads <- struct{}{}:
				default:
				}
				continue
			}
			r.say("==> Caught signal: %s", s)
			if s == os.Interrupt && !r.onInt || s == syscall.SIGTERM && !r.onTerm {
				return r.shutdown(n, endReloads, 1)
			}
			return r.shutdown(n, endReloads, r.leave(ctx, n))
		}
	}
}

// leave leaves the cluster and returns the exit status. A second signal or
// leaveMax ends the attempt.
func (r *agentRun) leave(ctx context.Context, n node) int {
	r.say("==> Gracefully shutting down agent...")
	ctx, cancel := context.WithTimeout(ctx, r.leaveMax)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- n.Leave(ctx) }()
	for {
		select {
		case err := <-left:
			if err != nil {
				return r.in.fail("==> Error leaving the cluster: %s", err)
			}
			r.say("==> Graceful leave complete")
			return 0
		case <-ctx.Done():
			return r.in.fail("==> Graceful leave did not finish in %s, stopping without it", r.leaveMax)
		case s := <-r.signals:
			if s == syscall.SIGHUP {
				continue
			}
			return r.in.fail("==> Caught second signal: %s, stopping without leaving", s)
		}
	}
}

// shutdown stops n and returns status. A signal during it returns 1 at once.
func (r *agentRun) shutdown(n node, endReloads func(), status int) int {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		endReloads()
		n.Shutdown()
	}()
	for {
		select {
		case <-stopped:
			return status
		case s := <-r.signals:
			if s == syscall.SIGHUP {
				continue
			}
			return 1
		}
	}
}

// banner is the start banner as the guide prints it.
func banner(b agent.Banner) string {
	text := ""
	if b.RPC > 0 {
		text = "==> Starting Lictor agent RPC...\n"
	}
	text += "==> Lictor agent running!\n"
	for _, line := range [][2]string{
		{"Node name", fmt.Sprintf("'%s'", clean(b.NodeName))},
		{"Datacenter", fmt.Sprintf("'%s'", clean(b.Datacenter))},
		{"Server", fmt.Sprintf("%t (bootstrap: %t)", b.Server, b.Bootstrap)},
		{"Client Addr", fmt.Sprintf("%s (HTTP: %d, HTTPS: %d, DNS: %d, RPC: %d)", b.ClientAddr, b.HTTP, b.HTTPS, b.DNS, b.RPC)},
		{"Cluster Addr", fmt.Sprintf("%s (LAN: %d, WAN: %d)", b.ClusterAddr, b.LAN, b.WAN)},
		{"Gossip encrypt", fmt.Sprintf("%t, RPC-TLS: %t, TLS-Incoming: %t", b.GossipEncrypt, b.RPCTLS, b.TLSIncoming)},
	} {
		text += fmt.Sprintf("%18s: %s\n", line[0], line[1])
	}
	return text + "\n==> Log data will now stream in as it occurs:"
}

// gate holds back what is written to it until it is opened, up to gateBytes;
// what does not fit is counted and dropped. It is safe for concurrent use.
type gate struct {
	w io.Writer

	mu      sync.Mutex // guards the fields below, and the order of writes to w
	isOpen  bool
	held    []byte
	dropped int
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.isOpen:
		return g.w.Write(p)
	case len(g.held)+len(p) > gateBytes:
		g.dropped++
	default:
		g.held = append(g.held, p...)
	}
	return len(p), nil
}

// open writes what was held back and lets everything after it through. It may
// be called again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return
	}
	g.isOpen = true
	// An output that cannot be written has nowhere to be reported.
	_, _ = g.w.Write(g.held)
	if g.dropped > 0 {
		fmt.Fprintf(g.w, "(%d log lines before this one were dropped)\n", g.dropped)
	}
	g.held = nil
}
