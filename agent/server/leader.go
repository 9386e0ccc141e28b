package server

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/gossip"
	"lictor/rpc/wire"
)

// Gossip is what the leader needs of a pool; *gossip.Pool is one.
type Gossip interface {
	Members() []serf.Member
	ForceLeave(node string, prune bool) error
	UserEvent(name string, payload []byte, coalesce bool) error
}

// LeaderConfig is what the leader's duties need. WAN is nil where federation is
// off; all else must be set but what has a default.
type LeaderConfig struct {
	Node       string // this server's name
	NodeID     string
	Datacenter string
	// Bootstrap says that this server was started to found a cluster of its own.
	Bootstrap bool
	LAN, WAN  Gossip
	// Events subscribes to the LAN pool's events. What it misses is made good by
	// the next full pass.
	Events func() (events <-chan serf.Event, stop func())

	Raft  *consensus.Node
	State func() *state.Store
	// Call calls a method of the server at addr.
	Call func(ctx context.Context, addr, method string, args, reply any) error
	// Autopilot is written to the state by the first leader of a cluster.
	Autopilot wire.AutopilotConfig
	Log       hclog.Logger

	Times LeaderTimes
}

// LeaderTimes are the times of the duties; zero fields take their default
// (limits-and-defaults.md, sections 7 to 11). Tests shorten them.
type LeaderTimes struct {
	Reconcile       time.Duration // between full passes over the members; 60s
	Retry           time.Duration // after a member that could not be reconciled; 3s
	Forget          time.Duration // a node that gossip does not know at all is kept for; 5m
	TombstoneTTL    time.Duration // 15m
	TombstoneGrain  time.Duration // 30s
	CoordinateFlush time.Duration // 5s
	SessionRetry    time.Duration // first pause after a session could not be ended; 10s
	AutopilotLoop   time.Duration // 10s
	AutopilotHealth time.Duration // 2s
}

func (t LeaderTimes) withDefaults() LeaderTimes {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.Reconcile, time.Minute},
		{&t.Retry, 3 * time.Second},
		{&t.Forget, 5 * time.Minute},
		{&t.TombstoneTTL, 15 * time.Minute},
		{&t.TombstoneGrain, 30 * time.Second},
		{&t.CoordinateFlush, 5 * time.Second},
		{&t.SessionRetry, 10 * time.Second},
		{&t.AutopilotLoop, autopilot.DefaultReconcileInterval},
		{&t.AutopilotHealth, autopilot.DefaultUpdateInterval},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return t
}

// PoolEvents is LeaderConfig.Events for a pool.
func PoolEvents(p *gossip.Pool) func() (<-chan serf.Event, func()) {
	return func() (<-chan serf.Event, func()) {
		sub := p.Subscribe(memberEvents)
		return sub.C, sub.Close
	}
}

const memberEvents = 256

// Leader does, while this server leads, what only one server may do: it brings
// the members into the catalog, ends sessions whose time is over, collects
// tombstones, writes coordinates, and lets autopilot look after the servers.
// Its methods may be called from any goroutine, also where this server does not
// lead: they do nothing then.
type Leader struct {
	cfg        LeaderConfig
	log        hclog.Logger
	sessions   *sessionTimers
	tombstones *tombstones
	coords     *coordinates
	autopilot  *autopilot.Autopilot
	restart    chan struct{} // the state was replaced: begin anew

	mu    sync.Mutex // guards since
	since time.Time  // begin of the duties; zero while there are none
}

// NewLeader makes the leader's part; Run runs it.
func NewLeader(cfg LeaderConfig) *Leader {
	cfg.Times = cfg.Times.withDefaults()
	l := &Leader{cfg: cfg, log: cfg.Log.Named("leader"), restart: make(chan struct{}, 1)}
	l.sessions = newSessionTimers(l)
	l.tombstones = newTombstones(l)
	l.coords = newCoordinates(l)
	l.autopilot = autopilot.New(cfg.Raft.Raft(), &pilot{l},
		autopilot.WithLogger(cfg.Log),
		autopilot.WithReconcileInterval(cfg.Times.AutopilotLoop),
		autopilot.WithUpdateInterval(cfg.Times.AutopilotHealth))
	return l
}

// Run does the duties whenever this server leads, until ctx ends.
func (l *Leader) Run(ctx context.Context) error {
	l.cfg.Raft.Lead(ctx, func(ctx context.Context) {
		for ctx.Err() == nil {
			l.lead(ctx)
		}
	})
	return nil
}

// Restored begins the duties anew: the state is another one. The one who restored
// a snapshot calls it.
func (l *Leader) Restored() {
	select {
	case l.restart <- struct{}{}:
	default:
	}
}

// NewLeaderEvent is the name of the Serf event that tells the members who leads;
// its payload is the leader's name (wire.md, 5.5).
const NewLeaderEvent = "consul:new-leader"

// lead does the duties until ctx ends or the state is replaced.
func (l *Leader) lead(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.log.Info("this server leads now", "node", l.cfg.Node)
	l.began(time.Now())
	defer l.began(time.Time{})
	if err := l.cfg.LAN.UserEvent(NewLeaderEvent, []byte(l.cfg.Node), false); err != nil {
		l.log.Warn("could not tell the members who leads", "error", err)
	}
	if err := l.seedAutopilot(ctx); err != nil && ctx.Err() == nil {
		l.log.Error("could not write autopilot's first configuration", "error", err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { l.reconcileMembers(ctx) })
	tasks.Go(func() { l.sessions.run(ctx) })
	tasks.Go(func() { l.tombstones.run(ctx) })
	tasks.Go(func() { l.coords.run(ctx) })
	tasks.Go(func() {
		l.autopilot.Start(ctx)
		<-ctx.Done()
		<-l.autopilot.Stop()
	})
	select {
	case <-ctx.Done():
		l.log.Info("this server leads no more", "node", l.cfg.Node)
	case <-l.restart:
	}
	cancel()
	tasks.Wait()
}

func (l *Leader) began(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = at
}

// leadsFor is how long the duties have been done; false while they are not.
func (l *Leader) leadsFor() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.since), !l.since.IsZero()
}

func (l *Leader) apply(ctx context.Context, t fsm.MessageType, msg any) error {
	_, err := l.cfg.Raft.Apply(ctx, t, msg)
	return err
}
