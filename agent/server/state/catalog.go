package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lictor/rpc/wire"
)

// EnsureRegistration writes a node, and a service and checks of it. A node is
// known by its ID as well as by its name: a known ID with another name renames
// the node, and what was registered under the old name is gone.
func (s *Store) EnsureRegistration(idx uint64, r *wire.RegisterRequest) error {
	return s.write(func(w *Write) error { return w.EnsureRegistration(idx, r) })
}

// EnsureRegistration is Store.EnsureRegistration as part of w.
func (w *Write) EnsureRegistration(idx uint64, r *wire.RegisterRequest) error {
	node, svc := r.Node, r.Service
	if node == "" {
		return errors.New("Must provide node")
	}
	if svc != nil {
		copied := *svc
		svc = &copied
		if err := completeService(svc); err != nil {
			return err
		}
	}
	checks := append(make([]*wire.HealthCheck, 0, len(r.Checks)+1), r.Checks...)
	if r.Check != nil {
		checks = append(checks, r.Check)
	}
	for i, c := range checks {
		if c == nil {
			return errors.New("Must provide a check ID or name")
		}
		if c.Node != "" && fold(c.Node) != fold(node) {
			return fmt.Errorf("check %q is of node %q, not %q", c.CheckID, c.Node, node)
		}
		copied := *c
		checks[i] = &copied
		if err := completeCheck(&copied); err != nil {
			return err
		}
		if id := copied.ServiceID; id != "" && (svc == nil || svc.ID != id) && w.instance(node, id) == nil {
			return ErrMissingService
		}
	}
	// From here on nothing fails.
	cur := w.node(node)
	if cur == nil || !r.SkipNodeUpdate {
		cur = w.ensureNode(idx, &wire.Node{
			ID: r.ID, Node: node, Address: r.Address, Datacenter: r.Datacenter, TaggedAddresses: r.TaggedAddresses,
			Meta: r.NodeMeta, Locality: r.Locality, PeerName: r.PeerName,
		})
	}
	if svc != nil {
		w.ensureService(idx, cur, svc)
	}
	for _, c := range checks {
		w.ensureCheck(idx, cur, c)
	}
	return nil
}

// completeService fills in what may be left out.
func completeService(svc *wire.NodeService) error {
	if svc.Service == "" {
		return errors.New("Must provide service name (Service.Service) when service ID is provided")
	}
	if svc.ID == "" {
		svc.ID = svc.Service
	}
	return nil
}

func completeCheck(c *wire.HealthCheck) error {
	if c.CheckID == "" {
		c.CheckID = c.Name
	}
	if c.CheckID == "" {
		return errors.New("Must provide a check ID or name")
	}
	if c.Status == "" {
		c.Status = wire.HealthCritical
	}
	return nil
}

func (w *Write) node(name string) *wire.Node {
	return get[wire.Node](w.Txn, tableNodes, byID, fold(name))
}

func (w *Write) nodeByID(id string) *wire.Node {
	return get[wire.Node](w.Txn, tableNodes, byUUID, fold(id))
}

func (w *Write) instance(node, id string) *instance {
	return get[instance](w.Txn, tableServices, byID, fold(node), id)
}

func (w *Write) check(node, id string) *wire.HealthCheck {
	return get[wire.HealthCheck](w.Txn, tableChecks, byID, fold(node), id)
}

// ensureNode writes n, which becomes the store's, and returns what is in the
// store then. An ID that the node had stays where n has none.
func (w *Write) ensureNode(idx uint64, n *wire.Node) *wire.Node {
	var created uint64
	if n.ID != "" {
		if old := w.nodeByID(n.ID); old != nil && fold(old.Node) != fold(n.Node) {
			created = old.CreateIndex
			w.deleteNode(idx, old)
		}
	}
	if cur := w.node(n.Node); cur != nil {
		if n.ID == "" {
			n.ID = cur.ID
		}
		if sameNode(cur, n) {
			return cur
		}
		if fold(cur.ID) != fold(n.ID) {
			w.touch(idx, scopeNodesGone) // who watches the old ID
		}
		created = cur.CreateIndex
	}
	stamp(&n.RaftIndex, created, idx)
	w.insert(tableNodes, n)
	name := fold(n.Node)
	w.touch(idx, scopeNodes, scopeNode+name)
	w.touchServicesOf(idx, name, scopeCatalog, scopeHealth)
	return n
}

// touchServicesOf notes a change of a node for those who watch its services.
func (w *Write) touchServicesOf(idx uint64, node string, scopes ...string) {
	for i := range list[instance](w.Txn, tableServices, byPrefix, node) {
		for _, k := range scopes {
			w.touch(idx, k+fold(i.svc.Service))
		}
	}
}

// ensureService writes svc, which becomes the store's.
func (w *Write) ensureService(idx uint64, node *wire.Node, svc *wire.NodeService) *wire.NodeService {
	cur := w.instance(node.Node, svc.ID)
	var created uint64
	if cur != nil {
		if sameService(cur.svc, svc) {
			return cur.svc
		}
		created = cur.svc.CreateIndex
	}
	stamp(&svc.RaftIndex, created, idx)
	w.insert(tableServices, &instance{node.Node, svc})
	w.touch(idx, scopeServices, scopeNode+fold(node.Node), scopeCatalog+fold(svc.Service), scopeHealth+fold(svc.Service))
	if cur == nil {
		w.touch(idx, scopeNames)
		return svc
	}
	if cur.svc.Service == svc.Service && slices.Equal(cur.svc.Tags, svc.Tags) {
		return svc
	}
	w.touch(idx, scopeNames)
	if fold(cur.svc.Service) != fold(svc.Service) {
		w.leaveName(idx, cur.svc.Service)
	}
	// Checks carry the name and the tags of their service.
	for c := range list[wire.HealthCheck](w.Txn, tableChecks, byService, fold(node.Node), svc.ID) {
		w.ensureCheck(idx, node, new(*c))
	}
	return svc
}

// leaveName notes that a service has one instance less.
func (w *Write) leaveName(idx uint64, service string) {
	name := fold(service)
	if get[instance](w.Txn, tableServices, byName, name) != nil {
		w.touch(idx, scopeCatalog+name, scopeHealth+name)
		return
	}
	w.forget(scopeCatalog+name, scopeHealth+name, scopeSvcChecks+name)
	w.touch(idx, scopeServicesGone)
}

// ensureCheck writes c, which becomes the store's, and ends the sessions that
// depend on it if it is critical. The service of c exists.
func (w *Write) ensureCheck(idx uint64, node *wire.Node, c *wire.HealthCheck) *wire.HealthCheck {
	c.Node, c.ServiceName, c.ServiceTags = node.Node, "", nil
	if c.ServiceID != "" {
		svc := w.instance(node.Node, c.ServiceID).svc
		c.ServiceName, c.ServiceTags = svc.Service, svc.Tags
	}
	cur := w.check(node.Node, c.CheckID)
	var created uint64
	if cur != nil {
		if sameCheck(cur, c) {
			return cur
		}
		created = cur.CreateIndex
		w.touchCheck(idx, cur)
	}
	stamp(&c.RaftIndex, created, idx)
	w.insert(tableChecks, c)
	w.touchCheck(idx, c)
	if c.Status == wire.HealthCritical {
		w.endSessionsOf(idx, c)
	}
	return c
}

// touchCheck notes a change of c in every scope that it is part of.
func (w *Write) touchCheck(idx uint64, c *wire.HealthCheck) {
	node := fold(c.Node)
	w.touch(idx, scopeChecks, scopeNodeChecks+node)
	if ownScope(c.Status) {
		w.touch(idx, scopeStatus+c.Status)
	}
	if c.ServiceID == "" {
		w.touchServicesOf(idx, node, scopeHealth)
		return
	}
	// A service that has changed its name has left the old one behind.
	if name := fold(c.ServiceName); get[instance](w.Txn, tableServices, byName, name) != nil {
		w.touch(idx, scopeSvcChecks+name, scopeHealth+name)
	}
}

// ownScope says whether checks in a state have a scope: only states that we
// know, so that nobody can fill the store with scopes.
func ownScope(status string) bool {
	switch status {
	case wire.HealthPassing, wire.HealthWarning, wire.HealthCritical, wire.HealthMaint:
		return true
	}
	return false
}

// DeleteNode deletes a node with its services, checks and coordinates, and ends
// its sessions. A node that is not there is not an error.
func (s *Store) DeleteNode(idx uint64, node string) error {
	return s.write(func(w *Write) error { return w.DeleteNode(idx, node) })
}

// DeleteNode is Store.DeleteNode as part of w.
func (w *Write) DeleteNode(idx uint64, node string) error {
	if n := w.node(node); n != nil {
		w.deleteNode(idx, n)
	}
	return nil
}

func (w *Write) deleteNode(idx uint64, n *wire.Node) {
	name := fold(n.Node)
	for i := range list[instance](w.Txn, tableServices, byPrefix, name) {
		w.deleteService(idx, i)
	}
	for c := range list[wire.HealthCheck](w.Txn, tableChecks, byPrefix, name) {
		if w.check(name, c.CheckID) != nil { // those of services are gone
			w.deleteCheck(idx, c)
		}
	}
	for c := range list[nodeCoordinate](w.Txn, tableCoordinates, byPrefix, name) {
		w.remove(tableCoordinates, c)
		w.touch(idx, scopeCoordinates)
	}
	for sess := range list[wire.Session](w.Txn, tableSessions, byNode, name) {
		w.endSession(idx, sess)
	}
	w.remove(tableNodes, n)
	w.touch(idx, scopeNodes, scopeNodesGone)
	w.forget(scopeNode+name, scopeNodeChecks+name, scopeNodeSessions+name)
}

// DeleteService deletes a service of a node, and its checks. What is not there
// is not an error.
func (s *Store) DeleteService(idx uint64, node, serviceID string) error {
	return s.write(func(w *Write) error { return w.DeleteService(idx, node, serviceID) })
}

// DeleteService is Store.DeleteService as part of w.
func (w *Write) DeleteService(idx uint64, node, serviceID string) error {
	if i := w.instance(node, serviceID); i != nil {
		w.deleteService(idx, i)
	}
	return nil
}

func (w *Write) deleteService(idx uint64, i *instance) {
	for c := range list[wire.HealthCheck](w.Txn, tableChecks, byService, fold(i.node), i.svc.ID) {
		w.deleteCheck(idx, c)
	}
	w.remove(tableServices, i)
	w.touch(idx, scopeServices, scopeNames, scopeNode+fold(i.node))
	w.leaveName(idx, i.svc.Service)
}

// DeleteCheck deletes a check of a node, and ends the sessions that depend on
// it. What is not there is not an error.
func (s *Store) DeleteCheck(idx uint64, node, checkID string) error {
	return s.write(func(w *Write) error { return w.DeleteCheck(idx, node, checkID) })
}

// DeleteCheck is Store.DeleteCheck as part of w.
func (w *Write) DeleteCheck(idx uint64, node, checkID string) error {
	if c := w.check(node, checkID); c != nil {
		w.deleteCheck(idx, c)
	}
	return nil
}

func (w *Write) deleteCheck(idx uint64, c *wire.HealthCheck) {
	w.remove(tableChecks, c)
	w.touchCheck(idx, c)
	w.endSessionsOf(idx, c)
}

// hasTags says whether tags contain all of want, case aside.
func hasTags(tags, want []string) bool {
	for _, t := range want {
		if !slices.ContainsFunc(tags, func(s string) bool { return strings.EqualFold(s, t) }) {
			return false
		}
	}
	return true
}

// hasMeta says whether meta has all pairs of want.
func hasMeta(meta, want map[string]string) bool {
	for k, v := range want {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}
