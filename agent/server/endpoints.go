// Package server is what only server agents run: the RPC methods they answer
// and the table that says who may call each.
//
// It knows the gossip pools and the router it is given, and nothing of the
// agent around it. Authority comes from the method table alone (DESIGN.md,
// rule 2): a handler here may assume that its caller was allowed to call it.
package server

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/logs"
	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/gossip"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// Consensus is what the endpoints need of Raft; *consensus.Node is one.
type Consensus interface {
	IsLeader() bool
	// Leader is the RPC address and the id of the leader, "" while there is none.
	Leader() (addr, id string)
	// Apply commits a log entry and returns what the state machine made of it.
	// rpc.ErrNoLeader says that the entry is not in the log and never will be.
	Apply(ctx context.Context, t fsm.MessageType, msg any) (any, error)
	// VerifyLeader returns nil once a majority has said that this is the leader.
	VerifyLeader(ctx context.Context) error
	ReadyForConsistentReads() bool
	LastContact() time.Duration
}

// Duties is what the endpoints ask of the leader's part; *Leader is one. It is
// asked only where this server is the leader.
type Duties interface {
	// ResetSession starts the time of a session's TTL anew.
	ResetSession(id string, ttl time.Duration)
	ClearSession(id string)
	UpdateCoordinate(req *wire.CoordinateUpdateRequest) error
}

// Config is what the endpoints need. All of it must be set but WAN, which is nil
// where federation is off, and what has a default.
type Config struct {
	Datacenter string
	NodeID     string
	LAN, WAN   *gossip.Pool
	Router     *rpc.Router
	Log        hclog.Logger

	Consensus Consensus
	State     func() *state.Store // the store of now: a restored snapshot replaces it
	Duties    Duties
	Operator  Operator

	DefaultQueryTime time.Duration // default_query_time; 300s
	MaxQueryTime     time.Duration // max_query_time; 600s
	SessionTTLMin    time.Duration // session_ttl_min; 10s

	// Monitor opens a stream of this agent's own log.
	Monitor func(level string, json bool) (*logs.Stream, error)
	// Info says what this agent is.
	Info func() wire.NodeStatus
}

// Endpoints are the RPC methods of one server. They keep no state of their own but
// answers that may be given again, and are safe for concurrent use.
type Endpoints struct {
	cfg     Config
	log     hclog.Logger
	methods map[string]method
	blocked atomic.Int64 // blocking queries that wait now
	encoded encodedAnswers
}

// New makes the endpoints; it starts nothing.
func New(cfg Config) *Endpoints {
	cfg.DefaultQueryTime = cmp.Or(cfg.DefaultQueryTime, defaultQueryTime)
	cfg.MaxQueryTime = cmp.Or(cfg.MaxQueryTime, maxQueryTime)
	cfg.SessionTTLMin = cmp.Or(cfg.SessionTTLMin, sessionTTLMin)
	e := &Endpoints{cfg: cfg, log: cfg.Log.Named("server"), methods: map[string]method{}}
	for _, family := range [][]method{
		e.statusMethods(), e.internalMethods(), e.catalogMethods(), e.healthMethods(), e.kvsMethods(),
		e.sessionMethods(), e.txnMethods(), e.coordinateMethods(), e.operatorMethods(),
	} {
		for _, m := range family {
			e.methods[m.name] = m
		}
	}
	return e
}

// Who may call what. A class that a row leaves out has no business there; where
// verify_incoming is off nobody is identified, and an agent is who has an agent's
// address in the gossip list.
const (
	// data is for what agents do with the catalog, the key-value store and the
	// rest of the state: client agents for themselves and for those who use their
	// HTTP API, servers for what they pass on, of other datacenters too. An
	// operator's certificate is for the HTTP API and the command line.
	data = rpc.AllowClient | rpc.AllowServer | rpc.AllowRemoteServer
	// operators is data and the holders of an operator's certificate.
	operators = data | rpc.AllowCLI
)

func (e *Endpoints) leader(_ context.Context, _ *wire.DCSpecificRequest, reply *string) error {
	*reply, _ = e.cfg.Consensus.Leader()
	return nil
}

// monitorIdle is how often a monitor looks whether its reader is still there
// while nothing is logged.
const monitorIdle = 30 * time.Second

func (e *Endpoints) monitor(ctx context.Context, c *rpc.Call) error {
	var req wire.MonitorRequest
	if err := c.Decode(&req); err != nil {
		return err
	}
	stream, err := e.cfg.Monitor(req.LogLevel, req.LogJSON)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := c.Reply(wire.Empty{}); err != nil {
		return err
	}
	idle := time.NewTicker(monitorIdle)
	defer idle.Stop()
	for {
		var frame wire.LogFrame
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-stream.C:
			if !ok {
				return nil
			}
			frame.Log = line
		case <-idle.C:
		}
		if err := c.Send(frame); err != nil {
			return nil // the reader has gone; there is nobody to tell
		}
	}
}
