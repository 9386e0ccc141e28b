package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Node is this server's part in the consensus. Its methods may be called from
// any goroutine. The caller of New ends it with Shutdown.
type Node struct {
	cfg     Config
	log     hclog.Logger
	store   *storage
	streams *streams
	trans   *raft.NetworkTransport
	raft    *raft.Raft
	verify  verifier

	done  chan struct{} // closed by Shutdown
	stop  sync.Once
	tasks sync.WaitGroup

	// ready is the term whose barrier has passed; reads of that term's leader are
	// consistent.
	ready atomic.Uint64

	mu      sync.Mutex // guards the fields below
	reign   *reign     // while this server leads
	changed chan struct{}
}

// transportTimeout and transportPool are those of wire.md, section 6.
const (
	transportTimeout = 10 * time.Second
	transportPool    = 3
)

// New opens the log and the snapshots and starts Raft. What it finds on disk it
// either takes up completely or leaves as it is: an error changes no file. It
// returns before there is a leader.
func New(cfg Config) (_ *Node, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := checkAge(cfg.DataDir, cfg.RejoinAgeMax); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, done: make(chan struct{}), changed: make(chan struct{})}
	rc := cfg.raft(cfg.Log)
	if n.store, err = openStorage(&cfg, cfg.Log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && n.raft == nil {
			n.store.close()
		}
	}()
	n.streams = newStreams(&cfg)
	tc := &raft.NetworkTransportConfig{
		Stream: n.streams, MaxPool: transportPool, Timeout: transportTimeout, Logger: cfg.Log.Named("transport"),
	}
	if cfg.Resolve != nil {
		tc.ServerAddressProvider = resolver{&cfg}
	}
	n.trans = raft.NewNetworkTransportWithConfig(tc)
	defer func() {
		if err != nil && n.raft == nil {
			n.trans.Close()
		}
	}()
	if err := n.start(rc); err != nil {
		return nil, err
	}
	n.tasks.Go(n.watch)
	if cfg.DataDir != "" {
		n.tasks.Go(n.noteAge)
	}
	if n.alone() {
		n.tasks.Go(n.elect)
	} else if cfg.Bootstrap.Expect > 1 && n.raft.LastIndex() == 0 {
		n.tasks.Go(n.expect)
	}
	return n, nil
}

// start brings Raft up from what is on disk.
func (n *Node) start(rc *raft.Config) (err error) {
	fsm := &machine{BatchingFSM: n.cfg.FSM}
	undo, err := n.store.begin()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil { // Raft panics where it cannot read its log
			err = corrupt(n.store.dir, filepath.Join(n.store.dir, walDir), "%v", p)
		}
		switch {
		case err == nil:
		case n.store.snaps.failed != nil:
			err = n.store.snaps.failed
		case fsm.failed != nil:
			err = fmt.Errorf("consensus: the newest snapshot in %s cannot be restored: %w; nothing was changed", filepath.Join(n.store.dir, snapshotDir), fsm.failed)
		}
		if err != nil {
			undo()
		}
	}()
	if err := n.store.recoverPeers(rc, fsm, n.trans); err != nil {
		return err
	}
	if n.cfg.Bootstrap.Alone {
		servers := raft.Configuration{Servers: []raft.Server{n.self()}}
		err := raft.BootstrapCluster(rc, n.store.logs, n.store.stable, n.store.snaps, n.trans, servers)
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("consensus: bootstrap: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(rc, fsm, n.store.logs, n.store.stable, n.store.snaps, n.trans); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	n.store.snaps.started.Store(true)
	fsm.started.Store(true)
	return nil
}

func (n *Node) self() raft.Server {
	return raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.NodeID), Address: raft.ServerAddress(n.cfg.Address)}
}

// resolver lets gossip's word on where a server is come before the one in the
// Raft configuration: a server that came back with another address has to be
// reached before the configuration can be changed.
type resolver struct{ cfg *Config }

// ServerAddr implements raft.ServerAddressProvider.
func (r resolver) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if string(id) == r.cfg.NodeID {
		return raft.ServerAddress(r.cfg.Address), nil
	}
	if addr, ok := r.cfg.Resolve(string(id)); ok {
		return raft.ServerAddress(addr), nil
	}
	return "", ErrUnknownServer
}

// Accept takes over a connection whose first byte was 1 and whose peer may speak
// Raft. It returns at once, or when Raft takes the connection.
func (n *Node) Accept(c net.Conn) { n.streams.give(c) }

// CloseConns closes every Raft connection; new ones are made at once, under the
// TLS settings in force then.
func (n *Node) CloseConns() {
	n.trans.CloseStreams()
	n.streams.closeAll()
}

// Reload takes over new settings. The leader's lease stays what it was at the
// start, and the heartbeat never falls below it.
func (n *Node) Reload(s Settings) error {
	next := n.cfg
	next.Settings = s
	if err := next.check(); err != nil {
		return err
	}
	rc := next.raft(n.log)
	lease := n.cfg.raft(n.log).LeaderLeaseTimeout
	return n.raft.ReloadConfig(raft.ReloadableConfig{
		TrailingLogs: rc.TrailingLogs, SnapshotInterval: rc.SnapshotInterval, SnapshotThreshold: rc.SnapshotThreshold,
		HeartbeatTimeout: max(rc.HeartbeatTimeout, lease), ElectionTimeout: max(rc.ElectionTimeout, lease),
	})
}

// Raft is the library's own handle, for autopilot.
func (n *Node) Raft() *raft.Raft { return n.raft }

// Stats are Raft's counters, as text: the group "raft" of "lictor info".
func (n *Node) Stats() map[string]string { return n.raft.Stats() }

// Shutdown stops Raft at once and returns when all it started has stopped and
// the log is closed. It may be called more than once.
func (n *Node) Shutdown() {
	n.stop.Do(func() {
		close(n.done)
		if err := n.raft.Shutdown().Error(); err != nil {
			n.log.Warn("Raft did not stop cleanly", "error", err)
		}
		n.trans.Close()
		n.tasks.Wait()
		if err := n.store.finish(); err != nil {
			n.log.Warn("the log was not closed cleanly", "error", err)
		}
		if err := writeAge(n.cfg.DataDir); err != nil {
			n.log.Warn("could not note that this server was seen", "error", err)
		}
	})
}

// background waits for a future of Raft: until it is done, ctx ends, or the node
// stops. Raft forgets some futures when it stops.
func (n *Node) background(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
	}
	select { // Raft is stopping: what it still answers, it answers now
	case err := <-done:
		return err
	case <-time.After(time.Second):
		return ErrShutdown
	}
}
