package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-uuid"

	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) catalogMethods() []method {
	return []method{
		write(e, "Catalog.Register", data, checkRegister, e.register),
		write(e, "Catalog.Deregister", data, checkDeregister, e.deregister),
		unary("Catalog.ListDatacenters", data, e.listDatacenters),
		read(e, "Catalog.ListNodes", data, nil, e.listNodes),
		read(e, "Catalog.ListServices", data, nil, e.listServices),
		read(e, "Catalog.ServiceList", data, nil, e.serviceList),
		read(e, "Catalog.ServiceNodes", data, serviceNamedOrAddressed, e.serviceNodes),
		read(e, "Catalog.NodeServices", data, nodeNamed, e.nodeServices),
		read(e, "Catalog.NodeServiceList", data, nodeNamed, e.nodeServiceList),
	}
}

// Validation. The texts that http-api.md gives are the family's; names are those
// of the request's fields.
var (
	errNoNode        = errors.New("Must provide node")
	errNoAddress     = errors.New("Must provide address if SkipNodeUpdate is not set")
	errNoService     = errors.New("Must provide service name")
	errNoServiceName = errors.New("Must provide service name (Service.Service) when service ID is provided")
	errNoCheck       = errors.New("Must provide check name or ID (Check.CheckID)")
)

func nodeNamed(req *wire.NodeSpecificRequest) error {
	if req.Node == "" {
		return errNoNode
	}
	return nil
}

func serviceNamed(req *wire.ServiceSpecificRequest) error {
	if req.ServiceName == "" {
		return errNoService
	}
	return nil
}

func serviceNamedOrAddressed(req *wire.ServiceSpecificRequest) error {
	if req.ServiceAddress != "" {
		return nil
	}
	return serviceNamed(req)
}

// plain refuses a name that is not wire.PlainName.
func plain(field, name string) error {
	if !wire.PlainName(name) {
		return fmt.Errorf("Invalid %s: it must not contain control characters", field)
	}
	return nil
}

func checkNode(id, node, address string, update bool) error {
	switch {
	case node == "":
		return errNoNode
	case address == "" && update:
		return errNoAddress
	}
	if id != "" {
		if _, err := uuid.ParseUUID(id); err != nil {
			return fmt.Errorf("Bad node ID: %w", err)
		}
	}
	return plain("Node", node)
}

func checkService(s *wire.NodeService) error {
	if s.Service == "" {
		return errNoServiceName
	}
	return errors.Join(plain("Service.Service", s.Service), plain("Service.ID", s.ID))
}

// checkCheck looks at a check that is registered for node.
func checkCheck(c *wire.HealthCheck, node string) error {
	switch {
	case c.CheckID == "" && c.Name == "":
		return errNoCheck
	case c.Node != "" && !strings.EqualFold(c.Node, node):
		return fmt.Errorf("check %q is of node %q, and is registered for node %q", cmp.Or(c.CheckID, c.Name), c.Node, node)
	}
	return errors.Join(plain("Check.CheckID", cmp.Or(c.CheckID, c.Name)), plain("Check.ServiceID", c.ServiceID))
}

func checkRegister(req *wire.RegisterRequest) error {
	if err := checkNode(req.ID, req.Node, req.Address, !req.SkipNodeUpdate); err != nil {
		return err
	}
	if req.Service != nil {
		if err := checkService(req.Service); err != nil {
			return err
		}
	}
	for _, c := range checksOf(req) {
		if err := checkCheck(c, req.Node); err != nil {
			return err
		}
	}
	return nil
}

func checksOf(req *wire.RegisterRequest) []*wire.HealthCheck {
	all := slices.Concat(req.Checks, []*wire.HealthCheck{req.Check})
	return slices.DeleteFunc(all, func(c *wire.HealthCheck) bool { return c == nil })
}

// completed is a service with what a registration may leave out; s is left as it
// is.
func completed(s *wire.NodeService) *wire.NodeService {
	out := *s
	out.ID = cmp.Or(s.ID, s.Service)
	if s.Weights == nil {
		out.Weights = &wire.Weights{Passing: 1, Warning: 1}
	}
	return &out
}

func completedCheck(c *wire.HealthCheck, node string) *wire.HealthCheck {
	out := *c
	out.CheckID = cmp.Or(c.CheckID, c.Name)
	out.Node = cmp.Or(c.Node, node)
	out.Status = cmp.Or(c.Status, wire.HealthCritical)
	return &out
}

func (e *Endpoints) register(ctx context.Context, in *wire.RegisterRequest, _ *wire.Empty) error {
	req := *in // the caller's own, shared with what it keeps
	req.Datacenter = e.cfg.Datacenter
	if req.Service != nil {
		req.Service = completed(req.Service)
	}
	req.Check, req.Checks = nil, checksOf(in)
	for i, c := range req.Checks {
		req.Checks[i] = completedCheck(c, req.Node)
	}
	_, err := e.apply(ctx, fsm.Register, &req, "raft apply failed")
	return err
}

func checkDeregister(req *wire.DeregisterRequest) error {
	if req.Node == "" {
		return errNoNode
	}
	return nil
}

func (e *Endpoints) deregister(ctx context.Context, req *wire.DeregisterRequest, _ *wire.Empty) error {
	_, err := e.apply(ctx, fsm.Deregister, req, "raft apply failed")
	return err
}

func (e *Endpoints) listNodes(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedNodes) (uint64, error) {
	idx, nodes, err := s.Nodes(ws, req.NodeMetaFilters)
	if err == nil {
		nodes, err = filter(req.Filter, nodes)
	}
	reply.Nodes = list(near(s, e.cfg.Datacenter, req.Source, nodes, func(n *wire.Node) string { return n.Node }))
	return idx, err
}

func (e *Endpoints) listServices(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedServices) (uint64, error) {
	if req.Filter != "" {
		return e.filteredServices(s, ws, req, reply)
	}
	idx, services, err := s.Services(ws, req.NodeMetaFilters)
	if services == nil {
		services = map[string][]string{}
	}
	reply.Services = services
	return idx, err
}

// filteredServices are the names and tags of the instances that a filter lets
// through.
func (e *Endpoints) filteredServices(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedServices) (uint64, error) {
	idx, all, err := instances(s, ws, req.NodeMetaFilters)
	if err == nil {
		all, err = filter(req.Filter, all)
	}
	if err != nil {
		return 0, err
	}
	reply.Services = map[string][]string{}
	for _, in := range all {
		tags := append(list(reply.Services[in.ServiceName]), in.ServiceTags...)
		slices.Sort(tags)
		reply.Services[in.ServiceName] = slices.Compact(tags)
	}
	return idx, nil
}

func (e *Endpoints) serviceList(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedServiceList) (uint64, error) {
	idx, services, err := s.Services(ws, req.NodeMetaFilters)
	reply.Services = make([]wire.ServiceName, 0, len(services))
	for name := range services {
		reply.Services = append(reply.Services, wire.ServiceName{Name: name})
	}
	slices.SortFunc(reply.Services, func(a, b wire.ServiceName) int { return cmp.Compare(a.Name, b.Name) })
	return idx, err
}

func (e *Endpoints) serviceNodes(s *state.Store, ws state.WatchSet, req *wire.ServiceSpecificRequest, reply *wire.IndexedServiceNodes) (uint64, error) {
	var idx uint64
	var nodes []*wire.ServiceNode
	var err error
	if req.ServiceName == "" {
		idx, nodes, err = instances(s, ws, req.NodeMetaFilters)
		nodes = slices.DeleteFunc(nodes, func(n *wire.ServiceNode) bool { return n.ServiceAddress != req.ServiceAddress })
	} else {
		idx, nodes, err = s.ServiceNodes(ws, req.ServiceName, tagsOf(req), req.NodeMetaFilters)
	}
	if mesh(req) {
		nodes = nil
	}
	if err == nil {
		nodes, err = filter(req.Filter, nodes)
	}
	reply.ServiceNodes = list(near(s, e.cfg.Datacenter, req.Source, nodes, func(n *wire.ServiceNode) string { return n.Node }))
	return idx, err
}

// mesh says whether a request asks for proxies of a service mesh, which there
// are none of.
func mesh(req *wire.ServiceSpecificRequest) bool { return req.Connect || req.Ingress }

// tagsOf are the tags that an instance must have; of old peers one at most.
func tagsOf(req *wire.ServiceSpecificRequest) []string {
	switch {
	case !req.TagFilter:
		return nil
	case len(req.ServiceTags) == 0 && req.ServiceTag != "":
		return []string{req.ServiceTag}
	}
	return req.ServiceTags
}

// instances are all instances of all services on nodes with the given metadata.
func instances(s *state.Store, ws state.WatchSet, meta map[string]string) (uint64, []*wire.ServiceNode, error) {
	idx, all, err := s.ServiceDump(ws, "", false)
	if err != nil {
		return 0, nil, err
	}
	out := make([]*wire.ServiceNode, 0, len(all))
	for _, in := range all {
		if in.Node != nil && in.Service != nil && hasMeta(in.Node.Meta, meta) {
			out = append(out, serviceNode(in.Node, in.Service))
		}
	}
	return idx, out, nil
}

func hasMeta(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func serviceNode(n *wire.Node, s *wire.NodeService) *wire.ServiceNode {
	out := &wire.ServiceNode{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceKind: s.Kind, ServiceID: s.ID, ServiceName: s.Service, ServiceTags: s.Tags, ServiceAddress: s.Address,
		ServiceTaggedAddresses: s.TaggedAddresses, ServiceMeta: s.Meta, ServicePort: s.Port, ServiceSocketPath: s.SocketPath,
		ServiceEnableTagOverride: s.EnableTagOverride, ServiceLocality: s.Locality, PeerName: s.PeerName, RaftIndex: s.RaftIndex,
	}
	if s.Weights != nil {
		out.ServiceWeights = *s.Weights
	}
	return out
}

func (e *Endpoints) nodeServices(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedNodeServices) (uint64, error) {
	idx, ns, err := s.NodeServices(ws, req.Node)
	reply.NodeServices = nil
	if err != nil {
		return 0, err
	}
	if ns == nil {
		return idx, errNothing
	}
	if req.Filter != "" {
		kept, err := filterMap(req.Filter, ns.Services)
		if err != nil {
			return 0, err
		}
		ns = &wire.NodeServices{Node: ns.Node, Services: kept}
	}
	reply.NodeServices = ns
	return idx, nil
}

func (e *Endpoints) nodeServiceList(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedNodeServiceList) (uint64, error) {
	idx, ns, err := s.NodeServices(ws, req.Node)
	reply.NodeServices = wire.NodeServiceList{}
	if err != nil {
		return 0, err
	}
	if ns == nil {
		return idx, errNothing
	}
	all := make([]*wire.NodeService, 0, len(ns.Services))
	for _, s := range ns.Services {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *wire.NodeService) int { return cmp.Compare(a.ID, b.ID) })
	if all, err = filter(req.Filter, all); err != nil {
		return 0, err
	}
	reply.NodeServices = wire.NodeServiceList{Node: ns.Node, Services: all}
	return idx, nil
}
