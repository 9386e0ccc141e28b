// Package gossip is membership: a Pool is one Serf instance with its keyring,
// its posture, its events, and the rules for who may be in it. LAN and WAN are
// two pools.
//
// Everybody who holds the key is a full member: the key says "of this cluster"
// and nothing about which node. There is no defence here against a member that
// lies, nor against the replay of a recent packet; what must be proved about a
// single node is proved by its certificate, in package rpc.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
)

// Member is a member of a pool.
type Member = serf.Member

// Kind says which of the two pools one is.
type Kind uint8

// LAN holds all agents of one datacenter; WAN the servers of all datacenters,
// under the names "<node>.<datacenter>".
const (
	LAN Kind = iota
	WAN
)

func (k Kind) String() string {
	if k == WAN {
		return "WAN"
	}
	return "LAN"
}

// Timers are the tunables of a pool; a zero field takes the library's default
// for the kind.
type Timers struct {
	GossipNodes    int
	GossipInterval time.Duration
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	SuspicionMult  int
	RetransmitMult int
}

// Config is what a pool is made of.
type Config struct {
	Kind             Kind
	Node             string // this node's name, without the datacenter
	NodeID           string
	Datacenter       string
	Server           bool
	Tags             map[string]string
	Bind             netip.AddrPort
	Advertise        netip.AddrPort // port 0: the bound one
	Allowed          []netip.Prefix // who may talk to this pool; empty: everyone
	Timers           Timers
	SnapshotPath     string // "": none, and nothing is remembered
	RejoinAfterLeave bool
	ReconnectTimeout time.Duration // 0: 72 h
	// LeavePropagateDelay is how long a leave waits for others to hear of it;
	// 0: 3 s.
	LeavePropagateDelay time.Duration
	Keyring             KeyringConfig
	Log                 hclog.Logger
}

// Defaults of limits-and-defaults.md, sections 1 and 2.
const (
	defaultReconnectTimeout = 72 * time.Hour
	defaultLeavePropagate   = 3 * time.Second
	minQueueDepth           = 4096
	queueDepthWarning       = 1_000_000
	wanGossipNodes          = 3
	eventBuffer             = 2048
)

// ErrNoMember: there is no member of the name given.
var ErrNoMember = errors.New("gossip: no such member")

// Pool is one running pool. Its methods may be called from any goroutine. The
// caller of Open ends it with Shutdown, after Leave for a graceful end.
type Pool struct {
	cfg     Config
	log     hclog.Logger
	serf    *serf.Serf
	keyring *memberlist.Keyring // nil without encryption
	leave   func() error
	limit   *limiter // of log lines
	// started is serf once Open has it, for what Serf itself calls meanwhile.
	started atomic.Pointer[serf.Serf]

	mu     sync.Mutex // guards the fields below
	subs   map[*Subscription]struct{}
	closed bool

	pump sync.WaitGroup
	stop chan struct{}
}

// Open binds the pool's port, starts Serf, and rejoins the members of its
// snapshot in the background. On an error nothing stays behind: no socket, no
// file. It does not join anybody new: see Join and RetryJoin.
func Open(ctx context.Context, cfg Config) (_ *Pool, err error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	p := &Pool{cfg: cfg, log: cfg.Log, subs: map[*Subscription]struct{}{}, stop: make(chan struct{}), limit: newLimiter()}
	if p.keyring, err = cfg.loadKeyring(p.log); err != nil {
		return nil, err
	}
	transport, err := newTransport(ctx, cfg, p.log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			transport.Shutdown()
		}
	}()
	if err := cfg.persist(p.keyring); err != nil {
		return nil, err
	}
	events := make(chan serf.Event, eventBuffer)
	p.pump.Go(func() { p.deliver(events) })
	if p.serf, err = serf.Create(p.serfConfig(transport, events)); err != nil {
		close(p.stop)
		p.pump.Wait()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	p.started.Store(p.serf)
	p.leave = sync.OnceValue(p.serf.Leave)
	if cfg.Keyring.Path != "" || cfg.SnapshotPath != "" {
		p.pump.Go(p.secureFiles)
	}
	primary, _ := p.Fingerprints()
	p.log.Info("pool started", "pool", cfg.Kind.String(), "addr", cfg.Bind, "posture", p.Posture(), "key", primary)
	return p, nil
}

func (c Config) name() string {
	if c.Kind == WAN {
		return c.Node + "." + c.Datacenter
	}
	return c.Node
}

// announced is the address that other members know this node by, as far as it
// is configured.
func (c Config) announced() netip.AddrPort {
	addr := c.Advertise.Addr()
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = c.Bind.Addr()
	}
	return netip.AddrPortFrom(addr.Unmap(), orDefault(c.Advertise.Port(), c.Bind.Port()))
}

func (p *Pool) serfConfig(t memberlist.Transport, events chan serf.Event) *serf.Config {
	c := p.cfg
	logger := newLogger(p.log, p.fingerprint)
	sc := serf.DefaultConfig()
	sc.NodeName = c.name()
	sc.Tags = c.Tags
	sc.EventCh = events
	sc.Logger = logger
	sc.SnapshotPath = c.SnapshotPath
	sc.RejoinAfterLeave = c.RejoinAfterLeave
	sc.ReconnectTimeout = orDefault(c.ReconnectTimeout, defaultReconnectTimeout)
	sc.LeavePropagateDelay = orDefault(c.LeavePropagateDelay, defaultLeavePropagate)
	sc.MinQueueDepth, sc.QueueDepthWarning = minQueueDepth, queueDepthWarning
	sc.KeyringFile = c.Keyring.Path
	sc.Merge = &mergeRules{kind: c.Kind, dc: c.Datacenter, id: c.NodeID, name: c.name(), addr: c.announced(), log: p.log, known: p.known}
	sc.ReconnectTimeoutOverride = reconnectOverride{}
	// A client that finds its name taken gives way to the majority's; a server
	// does not, or a stranger's join could take it out (wire.md, 5.4).
	sc.EnableNameConflictResolution = !c.Server

	mc := memberlist.DefaultLANConfig()
	if c.Kind == WAN {
		mc = memberlist.DefaultWANConfig()
		mc.GossipNodes = wanGossipNodes
	}
	sc.MemberlistConfig = mc
	mc.Transport = t
	mc.Logger = logger
	mc.BindAddr, mc.BindPort = c.Bind.Addr().String(), int(c.Bind.Port())
	if a := c.Advertise.Addr(); a.IsValid() && !a.IsUnspecified() {
		mc.AdvertiseAddr = a.String()
	}
	mc.AdvertisePort = int(c.announced().Port())
	mc.GossipVerifyIncoming = c.Keyring.VerifyIncoming
	mc.GossipVerifyOutgoing = c.Keyring.VerifyOutgoing
	mc.DeadNodeReclaimTime = 30 * time.Second
	if p.keyring != nil {
		mc.Keyring = p.keyring
	}
	for _, a := range c.Allowed {
		a = a.Masked()
		bits := a.Addr().BitLen()
		mc.CIDRsAllowed = append(mc.CIDRsAllowed, net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), bits)})
	}
	t2 := c.Timers
	mc.GossipNodes = orDefault(t2.GossipNodes, mc.GossipNodes)
	mc.GossipInterval = orDefault(t2.GossipInterval, mc.GossipInterval)
	mc.ProbeInterval = orDefault(t2.ProbeInterval, mc.ProbeInterval)
	mc.ProbeTimeout = orDefault(t2.ProbeTimeout, mc.ProbeTimeout)
	mc.SuspicionMult = orDefault(t2.SuspicionMult, mc.SuspicionMult)
	mc.RetransmitMult = orDefault(t2.RetransmitMult, mc.RetransmitMult)
	return sc
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// reconnectOverride lets a client say by its tag rc_tm how long it is kept as
// failed (wire.md, 5.3).
type reconnectOverride struct{}

func (reconnectOverride) ReconnectTimeout(m *serf.Member, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(m.Tags["rc_tm"]); err == nil && d > 0 {
		return d
	}
	return def
}

// known is Members while Serf may still be starting.
func (p *Pool) known() []Member {
	if s := p.started.Load(); s != nil {
		return s.Members()
	}
	return nil
}

// Members are all members that are known, also failed and left ones.
func (p *Pool) Members() []Member { return p.serf.Members() }

// LocalMember is this node as the pool sees it.
func (p *Pool) LocalMember() Member { return p.serf.LocalMember() }

// NumAlive is how many members are alive, this one included.
func (p *Pool) NumAlive() int { return p.serf.Memberlist().NumMembers() }

// Leave tells the others that this node leaves and waits until they had time to
// hear of it, or ctx ends. It may be called more than once.
func (p *Pool) Leave(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- p.leave() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown stops the pool at once and returns when all it started has stopped.
// It may be called more than once.
func (p *Pool) Shutdown() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	err := p.serf.Shutdown()
	if first {
		close(p.stop)
	}
	p.pump.Wait()
	return err
}

// Done is closed when Serf has stopped, also where it stopped by itself: a
// client that lost a conflict about its name does.
func (p *Pool) Done() <-chan struct{} { return p.serf.ShutdownCh() }

// ForceLeave turns a failed member into one that left; with prune it is
// forgotten. The error is ErrNoMember for an unknown name.
func (p *Pool) ForceLeave(node string, prune bool) error {
	for _, m := range p.serf.Members() {
		if m.Name != node {
			continue
		}
		if prune {
			return p.serf.RemoveFailedNodePrune(node)
		}
		return p.serf.RemoveFailedNode(node)
	}
	return ErrNoMember
}

// UserEvent sends an event to all members. Name and payload together have at
// most 512 bytes.
func (p *Pool) UserEvent(name string, payload []byte, coalesce bool) error {
	return p.serf.UserEvent(name, payload, coalesce)
}

// Query asks all members, or those params selects. The caller reads the
// response until it is finished.
func (p *Pool) Query(name string, payload []byte, params *serf.QueryParam) (*serf.QueryResponse, error) {
	if params == nil {
		params = p.serf.DefaultQueryParams()
	}
	return p.serf.Query(name, payload, params)
}

// DefaultQueryParams are the parameters of a query to everybody.
func (p *Pool) DefaultQueryParams() *serf.QueryParam { return p.serf.DefaultQueryParams() }

// SetTags replaces this node's tags and tells the others.
func (p *Pool) SetTags(tags map[string]string) error { return p.serf.SetTags(tags) }

// Stats are Serf's counters, as text.
func (p *Pool) Stats() map[string]string { return p.serf.Stats() }

// Coordinate is the network coordinate of a node, if one is known.
func (p *Pool) Coordinate(node string) (*coordinate.Coordinate, bool) {
	if node == p.cfg.name() {
		c, err := p.serf.GetCoordinate()
		return c, err == nil
	}
	return p.serf.GetCachedCoordinate(node)
}

// Encrypted says whether the pool has a key.
func (p *Pool) Encrypted() bool { return p.serf.EncryptionEnabled() }

// Posture is the pool's rung on the ladder of DESIGN.md: plain, ready, sending
// or strict. A combination that the ladder does not have (refusing plaintext
// while sending it) is named "ready", the least of what it gives.
func (p *Pool) Posture() string {
	k := p.cfg.Keyring
	switch {
	case !p.Encrypted():
		return "plain"
	case !k.VerifyOutgoing:
		return "ready"
	case !k.VerifyIncoming:
		return "sending"
	}
	return "strict"
}

// secureDir makes the folder of the pool's files, 0700, and the snapshot 0600:
// Serf itself would make them readable by all.
func (c Config) secureDir() error {
	for _, path := range []string{c.SnapshotPath, c.Keyring.Path} {
		if path == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("gossip: %s is a symlink, which is not followed", path)
		}
	}
	if c.SnapshotPath == "" {
		return nil
	}
	f, err := os.OpenFile(c.SnapshotPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), narrow(c.SnapshotPath))
}
