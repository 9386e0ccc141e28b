// Package consensus is the agreement among the servers of one datacenter: Raft
// over connections of the RPC port, its log and snapshots on disk, and who is in
// the cluster. It knows commands as bytes that package fsm makes, and nothing of
// what they mean.
//
// On disk, under DATA/raft: wal/ is the log and the term and vote (raft-wal),
// snapshots/ are the snapshots, peers.json is an operator's word on who is left
// after a loss of quorum. A log or snapshot that is damaged is an error that
// names the file; it is never written over. What was written last and not yet
// acknowledged when the machine stopped is not damage: it is cut off.
//
// A peer that can open a Raft connection is a server of this datacenter, by its
// certificate or by its address in the gossip list (package rpc decides that).
// Such a peer is trusted: this package does not defend against a server that
// lies.
package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Config is what a node is made of. NodeID, Address, FSM and Dial are required.
type Config struct {
	NodeID   string
	NodeName string
	// Address is the advertised ip:port of this server's RPC port.
	Address string
	// DataDir holds the log and the snapshots; "" keeps both in memory.
	DataDir string
	FSM     raft.BatchingFSM
	// Dial opens a Raft connection to the server at addr. It is called from any
	// goroutine.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Resolve gives the address that gossip has for a server now, where that is
	// known. It comes before the address in the Raft configuration. May be nil.
	Resolve func(id string) (addr string, ok bool)

	Bootstrap Bootstrap
	Settings  Settings
	// Dev makes elections fast: for one server on one machine.
	Dev             bool
	PreVoteDisabled bool
	// SegmentSize is the size of one file of the log in bytes; 0: 64 MiB.
	SegmentSize int
	// RejoinAgeMax is server_rejoin_age_max: a server that was away longer does
	// not start; 0: no limit.
	RejoinAgeMax time.Duration
	Log          hclog.Logger // nil: no log
}

// Settings are what can change while the node runs (Node.Reload). Zero fields
// take their default.
type Settings struct {
	Multiplier        int           // performance.raft_multiplier; 5
	SnapshotThreshold uint64        // raft_snapshot_threshold; 16384 entries
	SnapshotInterval  time.Duration // raft_snapshot_interval; 30s
	TrailingLogs      uint64        // raft_trailing_logs; 10240 entries
}

func (s Settings) withDefaults() Settings {
	s.Multiplier = cmp.Or(s.Multiplier, 5)
	s.SnapshotThreshold = cmp.Or(s.SnapshotThreshold, 16384)
	s.SnapshotInterval = cmp.Or(s.SnapshotInterval, 30*time.Second)
	s.TrailingLogs = cmp.Or(s.TrailingLogs, 10240)
	return s
}

// Bootstrap says how a cluster that does not exist yet comes to be. The zero
// value waits for a leader that adds this server.
type Bootstrap struct {
	// Alone makes this server a cluster of its own, unless it has Raft state
	// already.
	Alone bool
	// Expect is how many servers found the cluster together; 0 or 1: not so.
	Expect int
	// Servers are the servers of this datacenter that gossip sees alive, this one
	// included. Required with Expect.
	Servers func() []Candidate
	// Peers asks the server at addr for its Raft peers (Status.Peers). Required
	// with Expect.
	Peers func(ctx context.Context, addr string) ([]string, error)
}

// Candidate is one server that may found a cluster.
type Candidate struct {
	ID, Name, Addr string
	Expect         int  // its bootstrap_expect; 0: none
	Alone          bool // it founds a cluster of its own
}

// Sentinels. ErrLeadershipLost and ErrRestored say that a write may or may not
// have been done.
var (
	// ErrCorrupt: a file of the log or of a snapshot is damaged. The text names it
	// and says what to do.
	ErrCorrupt = errors.New("damaged")
	// ErrInUse: another process has the data directory.
	ErrInUse = errors.New("in use by another agent")
	// ErrTooOld: this server was away for longer than server_rejoin_age_max.
	ErrTooOld = errors.New("this server was away for too long")
	// ErrLeadershipLost: the leader lost its office while a write was under way.
	ErrLeadershipLost = raft.ErrLeadershipLost
	// ErrRestored: a snapshot was restored while a write was under way.
	ErrRestored = raft.ErrAbortedByRestore
	// ErrShutdown: the node has stopped.
	ErrShutdown = raft.ErrRaftShutdown
	// ErrEntryTooLarge: a command that the log could not hold. Nothing was done.
	ErrEntryTooLarge = errors.New("command too large for the log")
	// ErrUnknownServer: the Raft configuration has no such server.
	ErrUnknownServer = errors.New("no such server in the Raft configuration")
)

func (c *Config) check() error {
	switch {
	case c.NodeID == "":
		return errors.New("consensus: a server needs a node id")
	case c.FSM == nil || c.Dial == nil:
		return errors.New("consensus: no state machine, or no way to dial")
	case c.Settings.Multiplier < 0 || c.Settings.Multiplier > 10:
		return fmt.Errorf("consensus: raft_multiplier is %d, must be 1 to 10", c.Settings.Multiplier)
	case c.Bootstrap.Expect > 1 && (c.Bootstrap.Servers == nil || c.Bootstrap.Peers == nil):
		return errors.New("consensus: bootstrap_expect without a list of servers")
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("consensus: address %q: %w", c.Address, err)
	}
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	c.Settings = c.Settings.withDefaults()
	return nil
}

// Raft's timers before the multiplier (limits-and-defaults.md, section 3), and
// those of -dev.
const (
	heartbeatTimeout = time.Second
	leaseTimeout     = 500 * time.Millisecond
	commitTimeout    = 50 * time.Millisecond
	maxAppend        = 64
	logCache         = 512
	snapshotsKept    = 2

	devHeartbeat = 100 * time.Millisecond
	devLease     = 50 * time.Millisecond
	devCommit    = 5 * time.Millisecond
)

func (c *Config) raft(log hclog.Logger) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.Logger = log
	rc.PreVoteDisabled = c.PreVoteDisabled
	rc.NoLegacyTelemetry = true
	// A leader that is removed stays as a follower without a vote: it may be added
	// again without a restart.
	rc.ShutdownOnRemove = false
	rc.MaxAppendEntries = maxAppend
	rc.BatchApplyCh = true
	m := time.Duration(c.Settings.Multiplier)
	rc.HeartbeatTimeout, rc.ElectionTimeout = heartbeatTimeout*m, heartbeatTimeout*m
	rc.LeaderLeaseTimeout, rc.CommitTimeout = leaseTimeout*m, commitTimeout
	if c.Dev {
		rc.HeartbeatTimeout, rc.ElectionTimeout = devHeartbeat, devHeartbeat
		rc.LeaderLeaseTimeout, rc.CommitTimeout = devLease, devCommit
	}
	rc.SnapshotThreshold = c.Settings.SnapshotThreshold
	rc.SnapshotInterval = c.Settings.SnapshotInterval
	rc.TrailingLogs = c.Settings.TrailingLogs
	return rc
}
