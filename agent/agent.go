// Package agent is the node: it starts its parts in order, stops them in
// reverse, reloads them, and answers the interfaces that ask about all of them.
// It holds no protocol code: gossip, the RPC transport, the HTTP API and the
// local RPC are packages of their own, each given the few fields it needs.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lictor/agent/config"
	"lictor/agent/httpapi"
	"lictor/agent/local"
	"lictor/agent/localrpc"
	"lictor/agent/logs"
	"lictor/agent/watches"
	"lictor/gossip"
	"lictor/rpc"
	"lictor/tlsutil"
)

// Options are what New needs besides the configuration.
type Options struct {
	// Output receives the log, besides the log file and syslog.
	Output io.Writer
	// Load reads the configuration again for a reload. Nil means that this agent
	// cannot be reloaded.
	Load func() (*config.Config, error)
}

// Agent is one running agent. All its methods may be called from any goroutine
// once Start has returned.
type Agent struct {
	load      func() (*config.Config, error)
	nodeID    string
	started   time.Time
	log       *logs.Log
	metrics   *telemetry
	dev       *dev // nil but for -dev
	tls       *tlsutil.Configurator
	listeners listeners
	lan       *gossip.Pool
	wan       *gossip.Pool // nil on clients and where federation is off
	router    *rpc.Router
	conns     *rpc.Pool
	servers   *directory
	server    *serverPart // nil on clients
	registry  *local.State
	watches   *watches.Set
	api       *httpapi.API
	events    *events

	cfg  atomic.Pointer[config.Config]
	life lifecycle
}

// lifecycle is when the agent stops and who is waited for.
type lifecycle struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	done   chan struct{} // closed when the agent wants to end

	reload sync.Mutex // one reload at a time
	leave  func(context.Context) error

	mu    sync.Mutex // guards the fields below
	ended bool
	err   error
}

// New checks what can be checked without binding a port, opens the log and
// loads the TLS material. An error leaves nothing open.
func New(cfg *config.Config, o Options) (_ *Agent, err error) {
	a := &Agent{load: o.Load, events: newEvents(), servers: newDirectory(), started: time.Now()}
	a.life.done = make(chan struct{})
	a.life.leave = onceError(a.leave)
	a.cfg.Store(cfg)

	if a.log, err = openLog(cfg.Log, o.Output); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.log.Close()
		}
	}()
	for _, w := range cfg.Warnings {
		a.log.Warn(w)
	}
	if a.metrics, err = newTelemetry(cfg.Telemetry); err != nil {
		return nil, err
	}
	if cfg.Node.DataDir != "" && !cfg.Node.Dev {
		if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("data_dir: %w", err)
		}
	}
	if a.nodeID, err = nodeID(cfg.Node); err != nil {
		return nil, fmt.Errorf("node_id: %w", err)
	}
	if cfg.Node.Dev {
		if a.dev, err = newDev(cfg); err != nil {
			return nil, fmt.Errorf("dev certificates: %w", err)
		}
	}
	if a.tls, err = tlsutil.New(a.tlsConfig(cfg), a.log.Named("tls")); err != nil {
		return nil, err
	}
	return a, nil
}

func openLog(cfg config.Log, out io.Writer) (*logs.Log, error) {
	o := logs.Options{Level: cfg.Level, JSON: cfg.JSON, Output: out}
	if cfg.File != "" {
		f, err := logs.OpenFile(logs.FileOptions{
			Path: cfg.File, Duration: cfg.RotateDuration, Bytes: cfg.RotateBytes, MaxFiles: cfg.RotateMaxFiles,
		})
		if err != nil {
			return nil, err
		}
		o.Extra = append(o.Extra, f)
	}
	if cfg.Syslog {
		w, err := logs.OpenSyslog(cfg.SyslogFacility)
		if err != nil {
			return nil, err
		}
		o.Extra = append(o.Extra, w)
	}
	return logs.New(o)
}

func (a *Agent) tlsConfig(cfg *config.Config) tlsutil.Config {
	tc := cfg.TLSUtil()
	if a.dev != nil {
		a.dev.apply(&tc)
	}
	return tc
}

// Start binds every port, joins the pools, and serves. It returns when all
// listeners answer; joining goes on behind it. On an error everything that was
// started has been stopped.
func (a *Agent) Start(ctx context.Context) (err error) {
	cfg := a.cfg.Load()
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.life.cancel = cancel
	defer func() {
		if err != nil {
			a.halt()
		}
	}()

	if a.listeners, err = bind(ctx, cfg); err != nil {
		return err
	}
	a.tellLocalRPC(cfg)
	a.conns = rpc.NewPool(rpc.PoolConfig{
		TLS:         a.tls,
		Log:         a.log.Named("rpc"),
		LocalAddr:   sourceAddr(cfg.Network.Bind),
		CallTimeout: cfg.Limits.RPCClientTimeout,
	})
	a.router = rpc.NewRouter(cfg.Node.Datacenter, a.conns, rpc.RouterOptions{
		Log:         a.log.Named("router"),
		HoldTimeout: cfg.Limits.RPCHoldTimeout,
		Rate:        cfg.Limits.RPCRate,
		Burst:       cfg.Limits.RPCMaxBurst,
		Nodes:       a.nodes,
		// A server passes on to the leader itself, and knows it from Raft.
		FollowLeader: !cfg.Node.Server,
	})
	if err := a.openPools(ctx, cfg); err != nil {
		return err
	}
	if a.registry, err = a.newRegistry(cfg); err != nil {
		return err
	}
	if cfg.Node.Server {
		if err := a.openServer(cfg); err != nil {
			return err
		}
	}
	a.watch(run)
	if a.server != nil {
		a.serveRPC(run)
	}
	if err := a.serveClients(run, cfg); err != nil {
		return err
	}
	a.serve(run, "expiry", a.recheck)
	a.serve(run, "services and checks", a.registry.Run)
	a.watches = a.newWatches()
	a.watches.Replace(cfg.Watches)
	a.serve(run, "watches", a.watches.Run)
	if !cfg.HTTP.DisableCoordinates {
		a.serve(run, "coordinates", a.sendCoordinates)
	}
	if err := writePidFile(cfg.Node.PidFile); err != nil {
		return err
	}
	a.join(run, cfg)
	return nil
}

// sourceAddr is the address that outgoing RPC connections come from: the bound
// one, so that peers without certificates can find it in the gossip list.
func sourceAddr(bind netip.Addr) netip.Addr {
	if bind.IsUnspecified() {
		return netip.Addr{}
	}
	return bind
}

func writePidFile(path string) error {
	if path == "" {
		return nil
	}
	// Others read it; what is at path, a symlink perhaps, is replaced and not
	// written to.
	if err := tlsutil.Replace(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("pid_file: %w", err)
	}
	return nil
}

// serve runs a part until ctx ends. A part that ends before is a reason to stop
// the whole agent.
func (a *Agent) serve(ctx context.Context, name string, run func(context.Context) error) {
	a.life.tasks.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("a part of the agent stopped", "part", name, "error", err)
			a.stop(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (a *Agent) serveRPC(ctx context.Context) {
	for _, ln := range a.listeners[listenRPC] {
		a.serve(ctx, "RPC server", func(ctx context.Context) error { return a.server.rpc.Serve(ctx, ln) })
	}
	a.serve(ctx, "leader", a.server.leader.Run)
}

// A request's body may have minBody bytes, and more where values may be larger
// than that; bodyRoom is for what is in it besides a value or a transaction.
const (
	minBody  = 1 << 20
	bodyRoom = 256 << 10
)

func rpcLimits(l config.Limits) rpc.Limits {
	return rpc.Limits{
		HandshakeTimeout: l.RPCHandshakeTimeout, MaxConnsPerClient: l.RPCMaxConnsPerClient,
		BodyBytes: max(minBody, max(l.KVMaxValueSize, l.TxnMaxReqLen)+bodyRoom),
	}
}

func (a *Agent) apiConfig(cfg *config.Config) httpapi.Config {
	return httpapi.Config{
		Backend:            a,
		Log:                a.log.Named("http"),
		TLS:                a.tls,
		MaxConnsPerClient:  cfg.Limits.HTTPMaxConnsPerClient,
		HandshakeTimeout:   cfg.Limits.HTTPSHandshakeTimeout,
		MaxHeaderBytes:     cfg.HTTP.MaxHeaderBytes,
		BlockEndpoints:     cfg.HTTP.BlockEndpoints,
		ResponseHeaders:    cfg.HTTP.ResponseHeaders,
		AllowWriteHTTPFrom: cfg.HTTP.AllowWriteHTTPFrom,
		DisablePathFilter:  cfg.HTTP.DisablePathFilter,
		EnableDebug:        cfg.HTTP.EnableDebug,
		Pretty:             cfg.Node.Dev,
		Metrics:            a.metrics.memory,
		Prometheus:         a.metrics.gatherer(),
		Data: httpapi.Data{
			Datacenter:        cfg.Node.Datacenter,
			Node:              cfg.Node.Name,
			DefaultQueryTime:  cfg.Limits.DefaultQueryTime,
			MaxQueryTime:      cfg.Limits.MaxQueryTime,
			HoldTimeout:       cfg.Limits.RPCHoldTimeout,
			KVMaxValueSize:    int64(cfg.Limits.KVMaxValueSize),
			TxnMaxReqLen:      int64(cfg.Limits.TxnMaxReqLen),
			NoCache:           !cfg.HTTP.UseCache,
			NoCoordinates:     cfg.HTTP.DisableCoordinates,
			TranslateWAN:      cfg.HTTP.TranslateWAN,
			DiscoveryMaxStale: cfg.HTTP.DiscoveryMaxStale,
		},
	}
}

func (a *Agent) serveClients(ctx context.Context, cfg *config.Config) error {
	var err error
	if a.api, err = httpapi.New(a.apiConfig(cfg)); err != nil {
		return err
	}
	local, err := localrpc.New(localrpc.Config{
		Backend: a,
		AuthKey: cfg.HTTP.RPCAuthKey.Bytes(),
		Log:     a.log.Named("local_rpc"),
	})
	if err != nil {
		return err
	}
	for kind, lns := range a.listeners {
		for _, ln := range lns {
			switch kind {
			case listenHTTP, listenHTTPS:
				a.serve(ctx, string(kind), func(ctx context.Context) error { return a.api.Serve(ctx, ln, kind == listenHTTPS) })
			case listenLocalRPC:
				a.serve(ctx, string(kind), func(ctx context.Context) error { return local.Serve(ctx, ln) })
			}
		}
	}
	return nil
}

// join keeps trying to join the pools, and keeps the servers of this
// datacenter in each other's WAN pool.
func (a *Agent) join(ctx context.Context, cfg *config.Config) {
	j := cfg.Join
	retry := func(name string, pool *gossip.Pool, o gossip.RetryOptions) {
		if pool != nil && len(o.Addrs) > 0 {
			a.serve(ctx, name, func(ctx context.Context) error { return pool.RetryJoin(ctx, o) })
		}
	}
	retry("retry_join", a.lan, gossip.RetryOptions{Addrs: j.RetryLAN, Interval: j.RetryIntervalLAN, Max: j.RetryMaxLAN})
	retry("retry_join_wan", a.wan, gossip.RetryOptions{Addrs: j.RetryWAN, Interval: j.RetryIntervalWAN, Max: j.RetryMaxWAN})
	if a.wan != nil {
		a.serve(ctx, "WAN flood", func(ctx context.Context) error { return gossip.Flood(ctx, a.lan, a.wan) })
	}
	a.serve(ctx, "router", a.router.Run)
	if cfg.RunTime.AutoReload && a.load != nil {
		a.serve(ctx, "auto_reload_config", a.autoReload)
	}
}

// Done is closed when the agent wants to end: after a leave, or because a part
// of it failed. The owner then calls Shutdown.
func (a *Agent) Done() <-chan struct{} { return a.life.done }

// ExitError is why Done was closed; nil after a leave.
func (a *Agent) ExitError() error {
	a.life.mu.Lock()
	defer a.life.mu.Unlock()
	return a.life.err
}

func (a *Agent) stop(err error) {
	a.life.mu.Lock()
	defer a.life.mu.Unlock()
	if a.life.ended {
		return
	}
	a.life.ended, a.life.err = true, err
	close(a.life.done)
}

// Leave leaves the cluster gracefully: the others see this node as left, not as
// failed. It blocks until they had time to hear of it, at the latest until ctx
// ends. Done is closed once the leave has ended, also where its caller no longer
// waits: a client that hangs up has still asked for it. A second call waits for
// the first.
func (a *Agent) Leave(ctx context.Context) error { return a.life.leave(ctx) }

func (a *Agent) leave(ctx context.Context) error {
	a.log.Info("leaving the cluster")
	var errs []error
	if a.server != nil {
		// A leader hands its office over before anybody misses it. Where it cannot,
		// leaving goes on: the others elect another.
		if err := a.server.raft.Leave(ctx); err != nil {
			a.log.Warn("could not hand over before leaving", "error", err)
		}
	}
	if a.wan != nil {
		errs = append(errs, a.wan.Leave(ctx))
	}
	errs = append(errs, a.lan.Leave(ctx))
	if a.server != nil {
		errs = append(errs, a.drain(ctx))
	}
	err := errors.Join(errs...)
	a.stop(err)
	return err
}

// drain waits until calls on their way to this server may have arrived, and the
// others have taken it out of the cluster or had time enough to.
func (a *Agent) drain(ctx context.Context) error {
	timer := time.NewTimer(a.cfg.Load().Join.LeaveDrainTime)
	defer timer.Stop()
	removal, cancel := context.WithTimeout(ctx, removalWait)
	defer cancel()
	if err := a.server.raft.AwaitRemoval(removal); err != nil && ctx.Err() == nil {
		a.log.Warn("this server is still in the Raft configuration: nobody has taken it out in time", "error", err)
	}
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onceError makes a function that runs fn at the first call, on its own time:
// callers wait for its end or that of their ctx, and fn goes on where a caller
// does not.
func onceError(fn func(context.Context) error) func(context.Context) error {
	var once sync.Once
	var err error
	done := make(chan struct{})
	return func(ctx context.Context) error {
		once.Do(func() {
			go func() {
				defer close(done)
				err = fn(context.WithoutCancel(ctx))
			}()
		})
		select {
		case <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Shutdown stops everything without leaving, in the reverse of the order of
// Start, and returns when all of it has stopped.
func (a *Agent) Shutdown() {
	a.stop(nil)
	a.halt()
	a.log.Info("agent stopped")
	a.log.Close()
	if path := a.cfg.Load().Node.PidFile; path != "" {
		os.Remove(path)
	}
}

func (a *Agent) halt() {
	a.life.cancel()
	a.listeners.close()
	for _, p := range []*gossip.Pool{a.wan, a.lan} {
		if p != nil {
			if err := p.Shutdown(); err != nil {
				a.log.Warn("gossip pool did not shut down cleanly", "error", err)
			}
		}
	}
	if a.server != nil {
		a.server.stop()
	}
	a.life.tasks.Wait()
	if a.conns != nil {
		a.conns.Close()
	}
}
