package server

import (
	"errors"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) healthMethods() []method {
	return []method{
		read(e, "Health.ChecksInState", data, stateNamed, e.checksInState),
		read(e, "Health.NodeChecks", data, nodeNamed, e.nodeChecks),
		read(e, "Health.ServiceChecks", data, serviceNamed, e.serviceChecks),
		read(e, "Health.ServiceNodes", data, serviceNamed, e.healthServiceNodes),
	}
}

var errNoState = errors.New("Must provide check state")

func stateNamed(req *wire.ChecksInStateRequest) error {
	if req.State == "" {
		return errNoState
	}
	return nil
}

func checkNodeName(c *wire.HealthCheck) string { return c.Node }

func (e *Endpoints) checksInState(s *state.Store, ws state.WatchSet, req *wire.ChecksInStateRequest, reply *wire.IndexedHealthChecks) (uint64, error) {
	idx, checks, err := s.ChecksInState(ws, req.State, req.NodeMetaFilters)
	if err == nil {
		checks, err = filter(req.Filter, checks)
	}
	reply.HealthChecks = list(near(s, e.cfg.Datacenter, req.Source, checks, checkNodeName))
	return idx, err
}

func (e *Endpoints) nodeChecks(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedHealthChecks) (uint64, error) {
	idx, checks, err := s.NodeChecks(ws, req.Node)
	if err == nil {
		checks, err = filter(req.Filter, checks)
	}
	reply.HealthChecks = list(checks)
	return idx, err
}

func (e *Endpoints) serviceChecks(s *state.Store, ws state.WatchSet, req *wire.ServiceSpecificRequest, reply *wire.IndexedHealthChecks) (uint64, error) {
	idx, checks, err := s.ServiceChecks(ws, req.ServiceName, req.NodeMetaFilters)
	if err == nil {
		checks, err = filter(req.Filter, checks)
	}
	reply.HealthChecks = list(near(s, e.cfg.Datacenter, req.Source, checks, checkNodeName))
	return idx, err
}

func instanceNode(n wire.CheckServiceNode) string {
	if n.Node == nil {
		return ""
	}
	return n.Node.Node
}

func (e *Endpoints) healthServiceNodes(s *state.Store, ws state.WatchSet, req *wire.ServiceSpecificRequest, reply *wire.IndexedCheckServiceNodes) (uint64, error) {
	idx, nodes, err := s.CheckServiceNodes(ws, req.ServiceName, tagsOf(req), req.NodeMetaFilters)
	if mesh(req) {
		nodes = nil
	}
	if err == nil {
		nodes, err = filter(req.Filter, nodes)
	}
	reply.Nodes = list(near(s, e.cfg.Datacenter, req.Source, nodes, instanceNode))
	return idx, err
}
