package server

import (
	"context"
	"fmt"

	"lictor/agent/server/state"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// Operator is what the endpoints ask of the part that runs Raft and autopilot.
// Its methods know nothing of forwarding: all but Peers, RaftStats,
// RaftGetConfiguration and AutopilotGetConfiguration are asked on the leader
// only.
type Operator interface {
	// Peers are the addresses of the servers in the Raft configuration.
	Peers(ctx context.Context, req *wire.DCSpecificRequest, reply *[]string) error
	RaftStats(ctx context.Context, req *wire.Empty, reply *wire.RaftStats) error

	RaftGetConfiguration(ctx context.Context, req *wire.DCSpecificRequest, reply *wire.RaftConfiguration) error
	RaftRemovePeerByAddress(ctx context.Context, req *wire.RaftRemovePeerRequest, reply *wire.Empty) error
	RaftRemovePeerByID(ctx context.Context, req *wire.RaftRemovePeerRequest, reply *wire.Empty) error
	TransferLeader(ctx context.Context, req *wire.TransferLeaderRequest, reply *wire.TransferLeaderResponse) error

	AutopilotGetConfiguration(ctx context.Context, req *wire.DCSpecificRequest, reply *wire.AutopilotConfig) error
	AutopilotSetConfiguration(ctx context.Context, req *wire.AutopilotSetConfigRequest, reply *bool) error
	ServerHealth(ctx context.Context, req *wire.DCSpecificRequest, reply *wire.AutopilotHealth) error
	AutopilotState(ctx context.Context, req *wire.DCSpecificRequest, reply *wire.AutopilotState) error
}

// statusMethods carry what any member learns from gossip; how Raft does in
// detail is for autopilot.
func (e *Endpoints) statusMethods() []method {
	return []method{
		unary("Status.Ping", rpc.AllowAll, func(context.Context, *wire.Empty, *wire.Empty) error { return nil }),
		anyServer(e, "Status.Leader", rpc.AllowAll, e.leader),
		anyServer(e, "Status.Peers", rpc.AllowAll, operator(e, Operator.Peers)),
		unary("Status.RaftStats", rpc.AllowServer, operator(e, Operator.RaftStats)),
	}
}

// operatorMethods are for whoever uses the HTTP API of any agent; without access
// control lists that is the operator. None is a method of Nobody.
func (e *Endpoints) operatorMethods() []method {
	return []method{
		operatorRead(e, "Operator.RaftGetConfiguration", operator(e, Operator.RaftGetConfiguration)),
		operatorRead(e, "Operator.AutopilotGetConfiguration", operator(e, Operator.AutopilotGetConfiguration)),
		leaderOnly(e, "Operator.ServerHealth", data, true, nil, operator(e, Operator.ServerHealth)),
		leaderOnly(e, "Operator.AutopilotState", data, true, nil, operator(e, Operator.AutopilotState)),
		write(e, "Operator.RaftRemovePeerByAddress", data, nil, operator(e, Operator.RaftRemovePeerByAddress)),
		write(e, "Operator.RaftRemovePeerByID", data, nil, operator(e, Operator.RaftRemovePeerByID)),
		write(e, "Operator.TransferLeader", data, nil, operator(e, Operator.TransferLeader)),
		write(e, "Operator.AutopilotSetConfiguration", data, nil, operator(e, Operator.AutopilotSetConfiguration)),
		e.usageMethod(),
	}
}

// operator is a method of e.cfg.Operator as a handler.
func operator[Req, Reply any](e *Endpoints, m func(Operator, context.Context, *Req, *Reply) error) func(context.Context, *Req, *Reply) error {
	return func(ctx context.Context, req *Req, reply *Reply) error { return m(e.cfg.Operator, ctx, req, reply) }
}

// operatorRead is a method that the leader answers, and any server where the
// request allows a stale answer.
func operatorRead[Reply any](e *Endpoints, name string, run func(context.Context, *wire.DCSpecificRequest, *Reply) error) method {
	fresh := leaderOnly(e, name, data, true, nil, run)
	stale := anyServer(e, name, data, run)
	return unary(name, data, func(ctx context.Context, req *wire.DCSpecificRequest, reply *Reply) error {
		if req.AllowStale {
			return stale.call(ctx, req, reply)
		}
		return fresh.call(ctx, req, reply)
	})
}

// usageMethod counts what a datacenter holds, or each of them; it does not block.
func (e *Endpoints) usageMethod() method {
	const name = "Operator.Usage"
	one := read(e, name, data, nil, func(s *state.Store, _ state.WatchSet, _ *wire.UsageRequest, reply *wire.UsageResponse) (uint64, error) {
		idx, usage, err := s.Usage()
		reply.Usage = map[string]wire.ServiceUsage{e.cfg.Datacenter: usage}
		return idx, err
	})
	return unary(name, data, func(ctx context.Context, in *wire.UsageRequest, reply *wire.UsageResponse) error {
		req := *in
		req.Global, req.MinQueryIndex = false, 0
		if err := one.call(ctx, &req, reply); err != nil || !in.Global || !e.here(in.Datacenter) {
			return err
		}
		for _, dc := range e.datacenters() {
			if dc == e.cfg.Datacenter {
				continue
			}
			var other wire.UsageResponse
			req.Datacenter = dc
			if err := one.call(ctx, &req, &other); err != nil {
				return fmt.Errorf("datacenter %s: %w", dc, err)
			}
			reply.Usage[dc] = other.Usage[dc]
		}
		return nil
	})
}
