package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/httpapi"
	"lictor/agent/logs"
	"lictor/agent/server"
	"lictor/gossip"
	"lictor/rpc/wire"
	"lictor/version"
)

// This file is what the HTTP API and the local RPC ask of the agent. Both
// interfaces are served by the same methods, so that a command gives the same
// answer over either.

// errNoWAN answers a WAN request on an agent that has no WAN pool.
var errNoWAN = errors.New("this agent is not in a WAN pool: only servers are, and only where ports.serf_wan is on")

func (a *Agent) pool(wan bool) (*gossip.Pool, error) {
	if !wan {
		return a.lan, nil
	}
	if a.wan == nil {
		return nil, errNoWAN
	}
	return a.wan, nil
}

// Members are the members of a pool; nil for the WAN pool of an agent that is
// in none.
func (a *Agent) Members(wan bool) []serf.Member {
	pool, err := a.pool(wan)
	if err != nil {
		return nil
	}
	return pool.Members()
}

// LocalMember is this agent as its LAN pool sees it.
func (a *Agent) LocalMember() serf.Member { return a.lan.LocalMember() }

// LAN is the LAN pool, for what only Serf itself can answer.
func (a *Agent) LAN() *gossip.Pool { return a.lan }

// Join joins a pool through the given addresses and returns how many answered.
// The error lists each that did not, also when others did.
func (a *Agent) Join(ctx context.Context, addrs []string, wan bool) (int, error) {
	pool, err := a.pool(wan)
	if err != nil {
		return 0, err
	}
	n, failed := pool.Join(ctx, addrs)
	var errs []error
	kind := gossip.LAN
	if wan {
		kind = gossip.WAN
	}
	for _, f := range failed {
		a.log.Warn("join failed", "pool", kind, "addr", f.Addr, "error", f.Err)
		errs = append(errs, fmt.Errorf("%s: %w", f.Addr, f.Err))
	}
	return n, errors.Join(errs...)
}

// ForceLeave makes a failed member a left one, or with prune forgets it. The
// error of an unknown name is the family's.
func (a *Agent) ForceLeave(node string, prune, wan bool) error {
	pools := []*gossip.Pool{a.lan}
	if wan {
		pool, err := a.pool(true)
		if err != nil {
			return err
		}
		pools = []*gossip.Pool{pool}
	} else if a.wan != nil {
		pools = append(pools, a.wan)
	}
	found := false
	for _, p := range pools {
		name := node
		if p == a.wan && !wan {
			name = node + "." + a.cfg.Load().Node.Datacenter
		}
		switch err := p.ForceLeave(name, prune); {
		case err == nil:
			found = true
		case !errors.Is(err, gossip.ErrNoMember):
			return err
		}
	}
	if !found {
		return fmt.Errorf("agent: No node found with name '%s'", node)
	}
	return nil
}

// Keyring runs a keyring operation across the LAN and WAN pools and all
// datacenters: here on a server, by way of one on a client.
func (a *Agent) Keyring(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	reply := &wire.KeyringResponses{}
	err := a.RPC(ctx, "Internal.KeyringOperation", req, reply)
	reply.DropNil()
	return reply, err
}

// RPC calls a method of the servers: of this process on a server, and on a
// client of a server of its datacenter. Either passes it on where it names
// another datacenter. What reply refers to may be shared and is not changed.
func (a *Agent) RPC(ctx context.Context, method string, args, reply any) error {
	if a.server != nil {
		return a.server.endpoints.Call(ctx, method, args, reply)
	}
	dc := a.cfg.Load().Node.Datacenter
	if wantsLeader(dc, method, args) {
		return a.router.CallLeader(ctx, method, args, reply)
	}
	return a.router.Call(ctx, dc, method, args, reply)
}

// answeredAnywhere are the methods that every server answers, or passes on in its
// own way, besides Status.*.
var answeredAnywhere = map[string]bool{
	"Catalog.ListDatacenters": true, "Coordinate.ListDatacenters": true,
	"Internal.AgentInfo": true, "Internal.EventFire": true, "Internal.KeyringOperation": true,
}

// wantsLeader says whether the leader of dc has to answer a call: a write, and a
// read that may not be stale. For another datacenter any server will do.
func wantsLeader(dc, method string, args any) bool {
	if answeredAnywhere[method] || strings.HasPrefix(method, "Status.") {
		return false
	}
	if r, ok := args.(interface{ RequestDatacenter() string }); ok {
		if to := r.RequestDatacenter(); to != "" && to != dc {
			return false
		}
	}
	if r, ok := args.(wire.ReadRequest); ok {
		o := r.Options()
		return !o.AllowStale || o.RequireConsistent
	}
	return true
}

// FireEvent sends a user event to a datacenter, "" for this agent's own, and
// sets its ID.
func (a *Agent) FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) error {
	blob, err := encodeUserEvent(ev)
	if err != nil {
		return err
	}
	if dc == "" || dc == a.cfg.Load().Node.Datacenter {
		if err := a.lan.UserEvent(server.EventPrefix+ev.Name, blob, false); err != nil {
			return fmt.Errorf("error broadcasting event: %w", err)
		}
		return nil
	}
	req := &wire.EventFireRequest{Datacenter: dc, Name: ev.Name, Payload: blob, QueryOptions: wire.QueryOptions{AllowStale: true}}
	return a.RPC(ctx, "Internal.EventFire", req, &wire.EventFireResponse{})
}

// Events are the user events received, oldest first.
func (a *Agent) Events() []wire.UserEvent { return a.events.list() }

// EventsChanged is closed when the next user event arrives.
func (a *Agent) EventsChanged() <-chan struct{} { return a.events.wait() }

// Monitor streams this agent's log. The caller closes the stream.
func (a *Agent) Monitor(level string, json bool) (*logs.Stream, error) {
	return a.log.Monitor(level, json)
}

// StatusLeader is the address of a datacenter's Raft leader, "" for none.
func (a *Agent) StatusLeader(ctx context.Context, dc string) (string, error) {
	req := &wire.DCSpecificRequest{Datacenter: dc}
	var leader string
	err := a.RPC(ctx, "Status.Leader", req, &leader)
	return leader, err
}

// StatusPeers are the RPC addresses of a datacenter's servers.
func (a *Agent) StatusPeers(ctx context.Context, dc string) ([]string, error) {
	req := &wire.DCSpecificRequest{Datacenter: dc}
	peers := []string{}
	err := a.RPC(ctx, "Status.Peers", req, &peers)
	return peers, err
}

// Self is this agent's configuration, secrets hidden, and its place in the
// network.
func (a *Agent) Self() httpapi.Self {
	cfg := a.cfg.Load()
	coord, _ := a.lan.Coordinate(cfg.Node.Name)
	return httpapi.Self{
		Config: httpapi.SelfConfig{
			Datacenter:        cfg.Node.Datacenter,
			PrimaryDatacenter: cfg.Node.PrimaryDatacenter,
			NodeName:          cfg.Node.Name,
			NodeID:            a.nodeID,
			Revision:          version.Get().Revision,
			Server:            cfg.Node.Server,
			Version:           version.Version,
			BuildDate:         version.Get().BuildDate,
		},
		DebugConfig: cfg.DebugMap(),
		Coord:       coord,
		Meta:        nodeMeta(cfg),
	}
}

// info is what this agent says of itself to others.
func (a *Agent) info() wire.NodeStatus {
	cfg, settings := a.cfg.Load(), a.tls.RPC()
	s := wire.NodeStatus{
		Node:       cfg.Node.Name,
		Datacenter: cfg.Node.Datacenter,
		ID:         a.nodeID,
		Address:    a.lan.LocalMember().Addr.String(),
		Build:      version.Tag(),
		Server:     cfg.Node.Server,
		GossipLAN:  a.lan.Posture(),
		RPC:        a.rpcPosture(),
	}
	if a.wan != nil {
		s.GossipWAN = a.wan.Posture()
	}
	if settings.HasCert {
		s.Certificate, s.CertNotAfter = settings.CertRole.String(), settings.CertNotAfter
	}
	return s
}
