// Package server is what only server agents run: the RPC methods they answer
// and the table that says who may call each.
//
// It knows the gossip pools and the router it is given, and nothing of the
// agent around it. Authority comes from the method table alone (DESIGN.md,
// rule 2): a handler here may assume that its caller was allowed to call it.
package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/logs"
	"lictor/gossip"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// Config is what the endpoints need. LAN must be set; WAN is nil where
// federation is off.
type Config struct {
	Datacenter string
	LAN, WAN   *gossip.Pool
	Router     *rpc.Router
	Log        hclog.Logger

	// Monitor opens a stream of this agent's own log.
	Monitor func(level string, json bool) (*logs.Stream, error)
	// Info says what this agent is.
	Info func() wire.NodeStatus
}

// Endpoints are the RPC methods of one server. They keep no state of their own
// and are safe for concurrent use.
type Endpoints struct {
	cfg Config
	log hclog.Logger
}

// New makes the endpoints; it starts nothing.
func New(cfg Config) *Endpoints {
	return &Endpoints{cfg: cfg, log: cfg.Log.Named("server")}
}

// Table is the method table: every method and who may call it.
//
// Status.* and AgentInfo carry what any member learns from gossip. A keyring
// operation shows and changes keys, so it wants an agent of this cluster: by
// its certificate, or, where verify_incoming is off and nobody is identified,
// by an address that the gossip list has as a member's. Logs go to servers and
// to operators only.
func (e *Endpoints) Table() rpc.Table {
	const agents = rpc.AllowClient | rpc.AllowCLI | rpc.AllowServer | rpc.AllowRemoteServer
	return rpc.Table{
		"Status.Ping":               {Access: rpc.AllowAll, Handle: e.ping},
		"Status.Leader":             {Access: rpc.AllowAll, Handle: e.leader},
		"Status.Peers":              {Access: rpc.AllowAll, Handle: e.peers},
		"Status.RaftStats":          {Access: rpc.AllowServer, Handle: e.raftStats},
		"Internal.KeyringOperation": {Access: agents, Handle: e.keyringOperation},
		"Internal.EventFire":        {Access: agents, Handle: e.eventFire},
		"Internal.AgentInfo":        {Access: rpc.AllowAll, Handle: e.agentInfo},
		"Agent.Monitor":             {Access: rpc.AllowServer | rpc.AllowCLI, Handle: e.monitor, Stream: true},
	}
}

// forward passes a request on to the datacenter it names and reports whether it
// did. The reply is decoded into reply.
func (e *Endpoints) forward(ctx context.Context, method, dc string, args, reply any) (bool, error) {
	if dc == "" || dc == e.cfg.Datacenter {
		return false, nil
	}
	if err := e.cfg.Router.Call(ctx, dc, method, args, reply); err != nil {
		return true, fmt.Errorf("rpc error making call: %w", err) // one prefix a hop (wire.md, section 3)
	}
	return true, nil
}

func (e *Endpoints) ping(_ context.Context, c *rpc.Call) error {
	var req wire.Empty
	if err := c.Decode(&req); err != nil {
		return err
	}
	return c.Reply(wire.Empty{})
}

func (e *Endpoints) leader(ctx context.Context, c *rpc.Call) error {
	var req wire.DCSpecificRequest
	if err := c.Decode(&req); err != nil {
		return err
	}
	leader, err := e.Leader(ctx, &req)
	if err != nil {
		return err
	}
	return c.Reply(leader)
}

// Leader is the address of the Raft leader, "" while there is none. There is no
// consensus among Lictor servers yet, so there is never one.
func (e *Endpoints) Leader(ctx context.Context, req *wire.DCSpecificRequest) (string, error) {
	var leader string
	_, err := e.forward(ctx, "Status.Leader", req.Datacenter, req, &leader)
	return leader, err
}

func (e *Endpoints) peers(ctx context.Context, c *rpc.Call) error {
	var req wire.DCSpecificRequest
	if err := c.Decode(&req); err != nil {
		return err
	}
	peers, err := e.Peers(ctx, &req)
	if err != nil {
		return err
	}
	return c.Reply(peers)
}

// Peers are the RPC addresses ("ip:port") of the datacenter's servers that are
// alive, as the gossip pool knows them.
func (e *Endpoints) Peers(ctx context.Context, req *wire.DCSpecificRequest) ([]string, error) {
	peers := []string{}
	if done, err := e.forward(ctx, "Status.Peers", req.Datacenter, req, &peers); done {
		return peers, err
	}
	for _, s := range Servers(e.cfg.LAN.Members()) {
		if s.Alive() && s.Datacenter == e.cfg.Datacenter {
			peers = append(peers, s.Addr.String())
		}
	}
	return peers, nil
}

func (e *Endpoints) raftStats(_ context.Context, c *rpc.Call) error {
	return errors.New("Raft is not running on this server")
}

func (e *Endpoints) agentInfo(ctx context.Context, c *rpc.Call) error {
	var req wire.DCSpecificRequest
	if err := c.Decode(&req); err != nil {
		return err
	}
	var status wire.NodeStatus
	if done, err := e.forward(ctx, "Internal.AgentInfo", req.Datacenter, &req, &status); err != nil {
		return err
	} else if !done {
		status = e.cfg.Info()
	}
	return c.Reply(status)
}

func (e *Endpoints) eventFire(ctx context.Context, c *rpc.Call) error {
	var req wire.EventFireRequest
	if err := c.Decode(&req); err != nil {
		return err
	}
	resp, err := e.EventFire(ctx, &req)
	if err != nil {
		return err
	}
	return c.Reply(resp)
}

// EventPrefix is put before a user's event name on the wire (wire.md, 5.5).
const EventPrefix = "consul:event:"

// EventFire sends a user event through the LAN pool of the datacenter asked
// for. Its error names the limit where the event is too large.
func (e *Endpoints) EventFire(ctx context.Context, req *wire.EventFireRequest) (*wire.EventFireResponse, error) {
	resp := &wire.EventFireResponse{}
	if done, err := e.forward(ctx, "Internal.EventFire", req.Datacenter, req, resp); done {
		return resp, err
	}
	return resp, e.cfg.LAN.UserEvent(EventPrefix+req.Name, req.Payload, false)
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
