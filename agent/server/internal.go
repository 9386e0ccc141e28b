package server

import (
	"context"

	"lictor/agent/server/state"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// internalMethods are what agents ask for themselves. AgentInfo carries what any
// member learns from gossip. A keyring operation shows and changes keys, so it
// wants an agent of this cluster, or an operator. Logs go to servers and to
// operators only.
func (e *Endpoints) internalMethods() []method {
	return []method{
		anyServer(e, "Internal.AgentInfo", rpc.AllowAll, e.agentInfo),
		anyServer(e, "Internal.EventFire", operators, e.eventFire),
		unary("Internal.KeyringOperation", operators, e.keyringOperation),
		{name: "Agent.Monitor", access: rpc.AllowServer | rpc.AllowCLI, stream: true, handle: e.monitor},
		read(e, "Internal.NodeInfo", data, nodeNamed, e.nodeInfo),
		read(e, "Internal.NodeDump", data, nil, e.nodeDump),
		read(e, "Internal.ServiceDump", data, nil, e.serviceDump),
		read(e, "Internal.CatalogOverview", data, nil, e.catalogOverview),
	}
}

func (e *Endpoints) agentInfo(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.NodeStatus) error {
	*reply = e.cfg.Info()
	return nil
}

// EventPrefix is put before a user's event name on the wire (wire.md, 5.5).
const EventPrefix = "consul:event:"

// eventFire sends a user event through the LAN pool. Its error names the limit
// where the event is too large.
func (e *Endpoints) eventFire(_ context.Context, req *wire.EventFireRequest, _ *wire.EventFireResponse) error {
	return e.cfg.LAN.UserEvent(EventPrefix+req.Name, req.Payload, false)
}

func (e *Endpoints) nodeInfo(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedNodeDump) (uint64, error) {
	idx, dump, err := s.NodeInfo(ws, req.Node)
	reply.Dump = list(dump)
	return idx, err
}

func (e *Endpoints) nodeDump(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedNodeDump) (uint64, error) {
	idx, dump, err := s.NodeDump(ws)
	if err == nil {
		dump, err = filter(req.Filter, dump)
	}
	reply.Dump = list(dump)
	return idx, err
}

func (e *Endpoints) serviceDump(s *state.Store, ws state.WatchSet, req *wire.ServiceDumpRequest, reply *wire.IndexedCheckServiceNodes) (uint64, error) {
	idx, nodes, err := s.ServiceDump(ws, req.ServiceKind, req.UseServiceKind)
	if err == nil {
		nodes, err = filter(req.Filter, nodes)
	}
	reply.Nodes = list(near(s, e.cfg.Datacenter, req.Source, nodes, instanceNode))
	return idx, err
}

func (e *Endpoints) catalogOverview(s *state.Store, ws state.WatchSet, _ *wire.DCSpecificRequest, reply *wire.CatalogOverview) (uint64, error) {
	idx, o, err := s.Overview(ws)
	if err != nil {
		return 0, err
	}
	reply.Nodes, reply.Services, reply.Checks = list(o.Nodes), list(o.Services), list(o.Checks)
	return idx, nil
}
