package server

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"

	"lictor/agent/answers"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) healthMethods() []method {
	return []method{
		read(e, "Health.ChecksInState", data, stateNamed, e.checksInState),
		read(e, "Health.NodeChecks", data, nodeNamed, e.nodeChecks),
		read(e, "Health.ServiceChecks", data, serviceNamed, e.serviceChecks),
		read(e, "Health.ServiceNodes", data, serviceNamed, e.healthServiceNodes),
		read(e, "Health.ServiceNodesJSON", data, func(req *wire.ServiceNodesJSONRequest) error {
			return serviceNamed(&req.ServiceSpecificRequest)
		}, e.healthServiceNodesJSON),
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

// healthServiceNodesJSON is healthServiceNodes, answered with the JSON of the HTTP
// API. Only this family's own agents call it, so that what was encoded once serves
// all who ask, on whatever agent, until the service changes.
//
// What is sorted by distance is encoded each time: coordinates have no part in the
// index. So is what names no instances by itself, the mesh.
func (e *Endpoints) healthServiceNodesJSON(s *state.Store, ws state.WatchSet, req *wire.ServiceNodesJSONRequest, reply *wire.EncodedAnswer) (uint64, error) {
	kept := req.Source.Node == "" && !mesh(&req.ServiceSpecificRequest)
	var room [256]byte
	var key []byte
	if kept {
		key = serviceNodesKey(room[:0], req)
		idx := s.HealthIndex(ws, req.ServiceName)
		if body, ok := e.encoded.get(s.AbandonCh(), key, idx); ok {
			reply.Body = body
			return idx, nil
		}
	}
	var plain wire.IndexedCheckServiceNodes
	idx, err := e.healthServiceNodes(s, ws, &req.ServiceSpecificRequest, &plain)
	if err != nil {
		return idx, err
	}
	reply.Body = answers.AppendInstances(nil, plain.Nodes, req.Passing)
	if kept {
		e.encoded.put(s.AbandonCh(), key, idx, reply.Body)
	}
	return idx, nil
}

// serviceNodesKey appends all of a request that an answer which is kept depends
// on. Each part has its length before it, so that no two requests look alike.
func serviceNodesKey(b []byte, req *wire.ServiceNodesJSONRequest) []byte {
	part := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	part(req.ServiceName)
	part(req.Filter)
	part(strconv.FormatBool(req.Passing))
	tags := tagsOf(&req.ServiceSpecificRequest)
	b = binary.AppendUvarint(b, uint64(len(tags)))
	for _, tag := range tags {
		part(tag)
	}
	for _, k := range slices.Sorted(maps.Keys(req.NodeMetaFilters)) {
		part(k)
		part(req.NodeMetaFilters[k])
	}
	return b
}
