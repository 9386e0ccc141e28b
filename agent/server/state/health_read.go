package state

import (
	"cmp"
	"slices"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// NodeChecks returns the checks of a node and of its services.
func (s *Store) NodeChecks(ws WatchSet, node string) (uint64, []*wire.HealthCheck, error) {
	tx := s.read(ws)
	name := fold(node)
	_, idx := lastOr(tx, ws, scopeNodeChecks+name, scopeNodesGone)
	return idx, checksOf(tx, nil, byPrefix, name), nil
}

// ServiceChecks returns the checks of the instances of a service on nodes that
// have all pairs of nodeMeta; those of the nodes are not among them.
func (s *Store) ServiceChecks(ws WatchSet, service string, nodeMeta map[string]string) (uint64, []*wire.HealthCheck, error) {
	tx := s.read(ws)
	name := fold(service)
	_, idx := lastOr(tx, ws, scopeSvcChecks+name, scopeServicesGone)
	if len(nodeMeta) > 0 {
		idx = max(idx, last(tx, ws, scopeNodes))
	}
	return idx, checksOf(tx, nodeMeta, byName, name), nil
}

// ChecksInState returns the checks in a state, or all for "any", on nodes that
// have all pairs of nodeMeta.
func (s *Store) ChecksInState(ws WatchSet, state string, nodeMeta map[string]string) (uint64, []*wire.HealthCheck, error) {
	tx := s.read(ws)
	var idx uint64
	var checks []*wire.HealthCheck
	switch {
	case state == wire.HealthAny:
		idx, checks = last(tx, ws, scopeChecks), checksOf(tx, nodeMeta, byID)
	case ownScope(state):
		idx, checks = last(tx, ws, scopeStatus+state), checksOf(tx, nodeMeta, byStatus, state)
	default:
		idx, checks = last(tx, ws, scopeChecks), checksOf(tx, nodeMeta, byStatus, state)
	}
	if len(nodeMeta) > 0 {
		idx = max(idx, last(tx, ws, scopeNodes))
	}
	return idx, checks, nil
}

func checksOf(tx *memdb.Txn, nodeMeta map[string]string, index string, args ...any) []*wire.HealthCheck {
	out := []*wire.HealthCheck{}
	for c := range list[wire.HealthCheck](tx, tableChecks, index, args...) {
		if len(nodeMeta) == 0 || hasMeta(get[wire.Node](tx, tableNodes, byID, fold(c.Node)).Meta, nodeMeta) {
			out = append(out, c)
		}
	}
	return out
}

// HealthIndex returns the index that CheckServiceNodes would return, and watches
// what it would, at the price of one lookup: for as long as it does not change,
// neither does the answer.
func (s *Store) HealthIndex(ws WatchSet, service string) uint64 {
	_, idx := lastOr(s.read(ws), ws, scopeHealth+fold(service), scopeServicesGone)
	return idx
}

// CheckServiceNodes returns the instances of a service that have all the tags,
// on nodes that have all pairs of nodeMeta, by node: each with its node and the
// checks of both, those of the node first.
//
// The answer without tags and pairs is put together once after each change.
func (s *Store) CheckServiceNodes(ws WatchSet, service string, tags []string, nodeMeta map[string]string) (uint64, []wire.CheckServiceNode, error) {
	tx := s.read(ws)
	name := fold(service)
	sc, idx := lastOr(tx, ws, scopeHealth+name, scopeServicesGone)
	if sc == nil {
		return idx, []wire.CheckServiceNode{}, nil
	}
	all := viewOf(sc, func() (out []wire.CheckServiceNode) {
		for i := range list[instance](tx, tableServices, byName, name) {
			out = append(out, withChecks(tx, i))
		}
		return slices.Clip(out)
	})
	if len(tags) == 0 && len(nodeMeta) == 0 {
		return idx, slices.Clone(all), nil
	}
	out := []wire.CheckServiceNode{}
	for _, n := range all {
		if hasTags(n.Service.Tags, tags) && hasMeta(n.Node.Meta, nodeMeta) {
			out = append(out, n)
		}
	}
	return idx, out, nil
}

func withChecks(tx *memdb.Txn, i *instance) wire.CheckServiceNode {
	node := fold(i.node)
	n := wire.CheckServiceNode{Node: get[wire.Node](tx, tableNodes, byID, node), Service: i.svc}
	n.Checks = append(checksOf(tx, nil, byService, node, ""), checksOf(tx, nil, byService, node, i.svc.ID)...)
	return n
}

// ServiceDump returns all instances of all services, or with useKind those of a
// kind, each with its node and the checks of both.
func (s *Store) ServiceDump(ws WatchSet, kind string, useKind bool) (uint64, []wire.CheckServiceNode, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeNodes, scopeServices, scopeChecks)
	out := []wire.CheckServiceNode{}
	for i := range list[instance](tx, tableServices, byName) {
		if !useKind || i.svc.Kind == kind {
			out = append(out, withChecks(tx, i))
		}
	}
	return idx, out, nil
}

// Overview counts nodes, instances by service and checks by name, each by the
// worst state of its checks.
func (s *Store) Overview(ws WatchSet) (uint64, *wire.CatalogOverview, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeNodes, scopeServices, scopeChecks)
	var nodes wire.HealthSummary
	services, checks := map[string]*wire.HealthSummary{}, map[string]*wire.HealthSummary{}
	for n := range list[wire.Node](tx, tableNodes, byID) {
		count(&nodes, checksOf(tx, nil, byService, fold(n.Node), "")...)
	}
	for i := range list[instance](tx, tableServices, byName) {
		count(named(services, i.svc.Service), withChecks(tx, i).Checks...)
	}
	for c := range list[wire.HealthCheck](tx, tableChecks, byID) {
		count(named(checks, c.Name), c)
	}
	return idx, &wire.CatalogOverview{
		Nodes: []wire.HealthSummary{nodes}, Services: sorted(services), Checks: sorted(checks),
	}, nil
}

func named(m map[string]*wire.HealthSummary, name string) *wire.HealthSummary {
	if m[name] == nil {
		m[name] = &wire.HealthSummary{Name: name}
	}
	return m[name]
}

func sorted(m map[string]*wire.HealthSummary) []wire.HealthSummary {
	out := make([]wire.HealthSummary, 0, len(m))
	for _, h := range m {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b wire.HealthSummary) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// count adds one thing that has these checks.
func count(h *wire.HealthSummary, checks ...*wire.HealthCheck) {
	h.Total++
	status := wire.HealthPassing
	for _, c := range checks {
		switch c.Status {
		case wire.HealthPassing:
		case wire.HealthWarning:
			if status == wire.HealthPassing {
				status = c.Status
			}
		default:
			status = wire.HealthCritical
		}
	}
	switch status {
	case wire.HealthPassing:
		h.Passing++
	case wire.HealthWarning:
		h.Warning++
	default:
		h.Critical++
	}
}
