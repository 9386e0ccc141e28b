package state

import (
	"maps"
	"slices"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// Nodes returns the nodes, by name, that have all pairs of meta.
func (s *Store) Nodes(ws WatchSet, meta map[string]string) (uint64, []*wire.Node, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeNodes)
	nodes := []*wire.Node{}
	for n := range list[wire.Node](tx, tableNodes, byID) {
		if hasMeta(n.Meta, meta) {
			nodes = append(nodes, n)
		}
	}
	return idx, nodes, nil
}

// Node returns the node of that name, nil if there is none.
func (s *Store) Node(ws WatchSet, name string) (uint64, *wire.Node, error) {
	return s.oneNode(ws, byID, name)
}

// NodeByID returns the node with that ID, nil if there is none.
func (s *Store) NodeByID(ws WatchSet, id string) (uint64, *wire.Node, error) {
	return s.oneNode(ws, byUUID, id)
}

func (s *Store) oneNode(ws WatchSet, index, value string) (uint64, *wire.Node, error) {
	tx := s.read(ws)
	ch, n := first[wire.Node](tx, tableNodes, index, fold(value))
	ws.Add(ch)
	if n == nil {
		return last(tx, nil, scopeNodesGone), nil, nil
	}
	return n.ModifyIndex, n, nil
}

// Services returns the names of the services of the nodes that have all pairs of
// nodeMeta, each with the tags that any of its instances has.
func (s *Store) Services(ws WatchSet, nodeMeta map[string]string) (uint64, map[string][]string, error) {
	tx := s.read(ws)
	ch, sc := first[scope](tx, tableIndex, byID, scopeNames)
	ws.Add(ch)
	if sc == nil {
		return 0, map[string][]string{}, nil
	}
	if len(nodeMeta) > 0 {
		return max(sc.Index, last(tx, ws, scopeNodes)), services(tx, nodeMeta), nil
	}
	all := viewOf(sc, func() map[string][]string { return services(tx, nil) })
	return sc.Index, maps.Clone(all), nil
}

func services(tx *memdb.Txn, nodeMeta map[string]string) map[string][]string {
	out := map[string][]string{}
	fits := map[string]bool{} // by node
	for i := range list[instance](tx, tableServices, byID) {
		if len(nodeMeta) > 0 {
			ok, known := fits[i.node]
			if !known {
				ok = hasMeta(get[wire.Node](tx, tableNodes, byID, fold(i.node)).Meta, nodeMeta)
				fits[i.node] = ok
			}
			if !ok {
				continue
			}
		}
		tags := out[i.svc.Service]
		if tags == nil {
			tags = []string{}
		}
		for _, t := range i.svc.Tags {
			if at, ok := slices.BinarySearch(tags, t); !ok {
				tags = slices.Insert(tags, at, t)
			}
		}
		out[i.svc.Service] = tags
	}
	return out
}

// viewOf returns what make computes from the transaction in which sc was found,
// computing it at most a few times for as long as sc stands.
func viewOf[T any](sc *scope, compute func() T) T {
	if v, ok := sc.view.Load().(T); ok {
		return v
	}
	v := compute()
	sc.view.Store(v)
	return v
}

// ServiceNodes returns the instances of a service that have all the tags, on
// nodes that have all pairs of nodeMeta, by node.
func (s *Store) ServiceNodes(ws WatchSet, service string, tags []string, nodeMeta map[string]string) (uint64, []*wire.ServiceNode, error) {
	tx := s.read(ws)
	name := fold(service)
	sc, idx := lastOr(tx, ws, scopeCatalog+name, scopeServicesGone)
	if sc == nil {
		return idx, []*wire.ServiceNode{}, nil
	}
	all := viewOf(sc, func() (out []*wire.ServiceNode) {
		for i := range list[instance](tx, tableServices, byName, name) {
			out = append(out, joined(get[wire.Node](tx, tableNodes, byID, fold(i.node)), i.svc))
		}
		return out
	})
	if len(tags) == 0 && len(nodeMeta) == 0 {
		return idx, slices.Clone(all), nil
	}
	out := []*wire.ServiceNode{}
	for _, n := range all {
		if hasTags(n.ServiceTags, tags) && hasMeta(n.NodeMeta, nodeMeta) {
			out = append(out, n)
		}
	}
	return idx, out, nil
}

// joined is an instance and its node in one object. Its indexes are those of
// the instance.
func joined(n *wire.Node, svc *wire.NodeService) *wire.ServiceNode {
	weights := wire.Weights{Passing: 1, Warning: 1}
	if svc.Weights != nil {
		weights = *svc.Weights
	}
	return &wire.ServiceNode{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses,
		NodeMeta: n.Meta, ServiceKind: svc.Kind, ServiceID: svc.ID, ServiceName: svc.Service, ServiceTags: svc.Tags,
		ServiceAddress: svc.Address, ServiceTaggedAddresses: svc.TaggedAddresses, ServiceWeights: weights,
		ServiceMeta: svc.Meta, ServicePort: svc.Port, ServiceSocketPath: svc.SocketPath,
		ServiceEnableTagOverride: svc.EnableTagOverride, ServiceLocality: svc.Locality, PeerName: svc.PeerName,
		RaftIndex: svc.RaftIndex,
	}
}

// NodeServices returns a node and its services, nil if there is no such node.
func (s *Store) NodeServices(ws WatchSet, node string) (uint64, *wire.NodeServices, error) {
	tx := s.read(ws)
	name := fold(node)
	_, idx := lastOr(tx, ws, scopeNode+name, scopeNodesGone)
	n := get[wire.Node](tx, tableNodes, byID, name)
	if n == nil {
		return idx, nil, nil
	}
	out := &wire.NodeServices{Node: n, Services: map[string]*wire.NodeService{}}
	for i := range list[instance](tx, tableServices, byPrefix, name) {
		out.Services[i.svc.ID] = i.svc
	}
	return idx, out, nil
}

// NodeInfo returns a node with its services and checks; the list is empty if
// there is no such node.
func (s *Store) NodeInfo(ws WatchSet, node string) (uint64, []*wire.NodeInfo, error) {
	tx := s.read(ws)
	name := fold(node)
	_, idx := lastOr(tx, ws, scopeNode+name, scopeNodesGone)
	n := get[wire.Node](tx, tableNodes, byID, name)
	if n == nil {
		return idx, []*wire.NodeInfo{}, nil
	}
	return max(idx, last(tx, ws, scopeNodeChecks+name)), []*wire.NodeInfo{nodeInfo(tx, n)}, nil
}

// NodeDump returns all nodes with their services and checks.
func (s *Store) NodeDump(ws WatchSet) (uint64, []*wire.NodeInfo, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeNodes, scopeServices, scopeChecks)
	out := []*wire.NodeInfo{}
	for n := range list[wire.Node](tx, tableNodes, byID) {
		out = append(out, nodeInfo(tx, n))
	}
	return idx, out, nil
}

func nodeInfo(tx *memdb.Txn, n *wire.Node) *wire.NodeInfo {
	info := &wire.NodeInfo{
		ID: n.ID, Node: n.Node, Partition: n.Partition, PeerName: n.PeerName, Address: n.Address,
		TaggedAddresses: n.TaggedAddresses, Meta: n.Meta, Services: []*wire.NodeService{}, Checks: []*wire.HealthCheck{},
	}
	for i := range list[instance](tx, tableServices, byPrefix, fold(n.Node)) {
		info.Services = append(info.Services, i.svc)
	}
	for c := range list[wire.HealthCheck](tx, tableChecks, byPrefix, fold(n.Node)) {
		info.Checks = append(info.Checks, c)
	}
	return info
}

// Kinds that a usage report always counts.
var meshKinds = []string{"api-gateway", "connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway"}

// Usage counts nodes and services.
func (s *Store) Usage() (uint64, wire.ServiceUsage, error) {
	tx := s.read(nil)
	u := wire.ServiceUsage{ConnectServiceInstances: map[string]int{}}
	for _, k := range meshKinds {
		u.ConnectServiceInstances[k] = 0
	}
	for range list[wire.Node](tx, tableNodes, byID) {
		u.Nodes++
	}
	prev := ""
	for i := range list[instance](tx, tableServices, byName) {
		if name := fold(i.svc.Service); u.ServiceInstances == 0 || name != prev {
			u.Services++
			prev = name
		}
		u.ServiceInstances++
		if i.svc.Kind != "" {
			u.ConnectServiceInstances[i.svc.Kind]++
		} else if i.svc.Service != wire.ConsulService {
			u.BillableServiceInstances++
		}
	}
	return last(tx, nil, scopeNodes, scopeServices), u, nil
}
