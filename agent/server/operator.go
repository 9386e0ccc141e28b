package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

// Cluster answers what operators and other servers ask about Raft and autopilot.
// It forwards nothing: what only the leader can answer, a server that does not
// lead answers wrongly or with an error. Its methods may be called from any
// goroutine.
type Cluster struct {
	l    *Leader
	raft *consensus.Node
}

// NewCluster returns the answers of this server.
func NewCluster(l *Leader) *Cluster { return &Cluster{l: l, raft: l.cfg.Raft} }

func raftStats(n *consensus.Node) wire.RaftStats {
	s := wire.RaftStats{LastContact: never, LastTerm: n.LastTerm(), LastIndex: n.LastIndex()}
	switch d := n.LastContact(); {
	case n.IsLeader():
		s.LastContact = "0"
	case d < 1<<62:
		s.LastContact = d.String()
	}
	return s
}

// Peers are the addresses of the servers in the Raft configuration.
func (c *Cluster) Peers(_ context.Context, _ *wire.DCSpecificRequest, reply *[]string) error {
	*reply = c.raft.Peers()
	return nil
}

// RaftStats say how far this server is.
func (c *Cluster) RaftStats(_ context.Context, _ *wire.Empty, reply *wire.RaftStats) error {
	*reply = raftStats(c.raft)
	return nil
}

// RaftGetConfiguration is who is in the cluster. LastIndex is what autopilot last
// saw, and is 0 where this server does not lead. Index is 0: the library does not
// tell, here as in the family's agents.
func (c *Cluster) RaftGetConfiguration(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.RaftConfiguration) error {
	members := map[string]serf.Member{}
	for _, m := range c.l.cfg.LAN.Members() {
		if old, ok := members[m.Tags["id"]]; !ok || old.Status != serf.StatusAlive {
			members[m.Tags["id"]] = m
		}
	}
	state := c.l.autopilot.GetState()
	_, leader := c.raft.Leader()
	reply.Servers = []*wire.RaftServer{}
	for _, s := range c.raft.Servers() {
		out := &wire.RaftServer{
			ID: string(s.ID), Node: "(unknown)", Address: string(s.Address), Leader: string(s.ID) == leader,
			ProtocolVersion: "3", Voter: s.Suffrage == raft.Voter,
		}
		if m, ok := members[string(s.ID)]; ok {
			out.Node, out.ProtocolVersion = m.Name, cmp.Or(m.Tags["raft_vsn"], "3")
		}
		if seen := state.Servers[s.ID]; seen != nil {
			out.LastIndex = seen.Stats.LastIndex
		}
		if string(s.ID) == c.l.cfg.NodeID {
			out.LastIndex = c.raft.LastIndex()
		}
		reply.Servers = append(reply.Servers, out)
	}
	return nil
}

// RaftRemovePeerByAddress takes the server with this address out of the cluster.
func (c *Cluster) RaftRemovePeerByAddress(ctx context.Context, req *wire.RaftRemovePeerRequest, _ *wire.Empty) error {
	for _, s := range c.raft.Servers() {
		if string(s.Address) == req.Address {
			return c.remove(ctx, string(s.ID))
		}
	}
	return fmt.Errorf("address %q was not found in the Raft configuration", req.Address)
}

// RaftRemovePeerByID takes the server with this id out of the cluster.
func (c *Cluster) RaftRemovePeerByID(ctx context.Context, req *wire.RaftRemovePeerRequest, _ *wire.Empty) error {
	return c.remove(ctx, req.ID)
}

func (c *Cluster) remove(ctx context.Context, id string) error {
	err := c.raft.RemoveServer(ctx, id)
	if errors.Is(err, consensus.ErrUnknownServer) {
		return fmt.Errorf("id %q was not found in the Raft configuration", id)
	}
	if err == nil {
		c.l.log.Warn("removed a server from the cluster, as an operator asked", "id", id)
	}
	return err
}

// TransferLeader hands the leader's office to another server.
func (c *Cluster) TransferLeader(ctx context.Context, req *wire.TransferLeaderRequest, reply *wire.TransferLeaderResponse) error {
	err := c.raft.TransferLeadership(ctx, req.ID)
	reply.Success = err == nil
	return err
}

// AutopilotGetConfiguration is autopilot's configuration.
func (c *Cluster) AutopilotGetConfiguration(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotConfig) error {
	_, conf, err := c.l.cfg.State().AutopilotConfig()
	if err == nil && conf == nil {
		err = errors.New("autopilot config not initialized yet")
	}
	if err == nil {
		*reply = *conf
	}
	return err
}

// AutopilotSetConfiguration replaces autopilot's configuration, with CAS only
// where it is still the one with the index given; the reply says whether it did.
func (c *Cluster) AutopilotSetConfiguration(ctx context.Context, req *wire.AutopilotSetConfigRequest, reply *bool) error {
	switch conf := &req.Config; {
	case conf.LastContactThreshold < 0:
		return fmt.Errorf("LastContactThreshold is %s, must not be negative", conf.LastContactThreshold)
	case conf.ServerStabilizationTime < 0:
		return fmt.Errorf("ServerStabilizationTime is %s, must not be negative", conf.ServerStabilizationTime)
	}
	answer, err := c.raft.Apply(ctx, fsm.Autopilot, req)
	if err != nil {
		return err
	}
	done, ok := answer.(bool)
	*reply = done || !ok
	return nil
}

var serfStatus = map[autopilot.NodeStatus]serf.MemberStatus{
	autopilot.NodeAlive:  serf.StatusAlive,
	autopilot.NodeFailed: serf.StatusFailed,
	autopilot.NodeLeft:   serf.StatusLeft,
}

// ServerHealth is how the servers do, as the leader sees them.
func (c *Cluster) ServerHealth(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotHealth) error {
	state, err := c.l.pilotState()
	if err != nil {
		return err
	}
	*reply = wire.AutopilotHealth{Healthy: state.Healthy, FailureTolerance: state.FailureTolerance, Servers: []wire.AutopilotServerHealth{}}
	for _, s := range state.Servers {
		reply.Servers = append(reply.Servers, wire.AutopilotServerHealth{
			ID: string(s.Server.ID), Name: s.Server.Name, Address: string(s.Server.Address),
			SerfStatus: serfStatus[s.Server.NodeStatus], Version: s.Server.Version, Leader: s.State == autopilot.RaftLeader,
			LastContact: max(s.Stats.LastContact, 0), LastTerm: s.Stats.LastTerm, LastIndex: s.Stats.LastIndex,
			Healthy: s.Health.Healthy, Voter: s.HasVotingRights(), StableSince: s.Health.StableSince.UTC().Truncate(time.Second),
		})
	}
	slices.SortFunc(reply.Servers, func(a, b wire.AutopilotServerHealth) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

// AutopilotState is all that autopilot knows.
func (c *Cluster) AutopilotState(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotState) error {
	state, err := c.l.pilotState()
	if err != nil {
		return err
	}
	*reply = wire.AutopilotState{
		Healthy: state.Healthy, FailureTolerance: state.FailureTolerance, OptimisticFailureTolerance: state.FailureTolerance,
		Servers: map[string]*wire.AutopilotServerState{}, Leader: string(state.Leader), Voters: []string{},
	}
	for _, id := range state.Voters {
		reply.Voters = append(reply.Voters, string(id))
	}
	for id, s := range state.Servers {
		reply.Servers[string(id)] = &wire.AutopilotServerState{
			ID: string(id), Name: s.Server.Name, Address: string(s.Server.Address), NodeStatus: string(s.Server.NodeStatus),
			Version: s.Server.Version, LastContact: max(s.Stats.LastContact, 0), LastTerm: s.Stats.LastTerm, LastIndex: s.Stats.LastIndex,
			Healthy: s.Health.Healthy, StableSince: s.Health.StableSince.UTC().Truncate(time.Second),
			Status: string(s.State), Meta: s.Server.Meta, NodeType: string(s.Server.NodeType),
		}
	}
	return nil
}
