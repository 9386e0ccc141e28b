package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

// What the check serfHealth says; existing tools match the texts.
const (
	serfAlive  = "Agent alive and reachable"
	serfFailed = "Agent not live or unreachable"
	serfName   = "Serf Health Status"
)

// versionMeta is the key of a node's metadata with the version of its agent.
const versionMeta = "consul-version"

// memberSync brings the members of the LAN pool into the catalog, for as long as
// this server leads. It belongs to one goroutine.
type memberSync struct {
	*Leader
	// unknown is since when a node of the catalog that was once a member has been
	// missing from gossip altogether.
	unknown map[string]time.Time
	// refused is why servers are not added to the cluster, so that it is said once.
	refused map[string]string
}

// reconcileMembers reconciles all members at once, from time to time, and each
// one of which gossip has news, until ctx ends.
func (l *Leader) reconcileMembers(ctx context.Context) {
	events, stop := l.cfg.Events()
	defer stop()
	m := &memberSync{Leader: l, unknown: map[string]time.Time{}, refused: map[string]string{}}
	full := time.NewTicker(l.cfg.Times.Reconcile)
	defer full.Stop()
	var retry <-chan time.Time
	again := func(ok bool) {
		if !ok && retry == nil {
			retry = time.After(l.cfg.Times.Retry)
		}
	}
	again(m.all(ctx))
	for {
		select {
		case <-ctx.Done():
			return
		case <-full.C:
			again(m.all(ctx))
		case <-retry:
			retry = nil
			again(m.all(ctx))
		case ev, ok := <-events:
			if !ok {
				events = nil // the pool has stopped
				continue
			}
			if e, is := ev.(serf.MemberEvent); is {
				again(m.news(ctx, e.Members))
			}
		}
	}
}

// all reconciles every member, and the nodes that are members no more. It reports
// whether all of it was done.
func (m *memberSync) all(ctx context.Context) bool {
	ok := true
	known := map[string]bool{}
	for _, member := range m.cfg.LAN.Members() {
		known[member.Name] = true
		ok = m.one(ctx, member) && ok
	}
	return m.missing(ctx, known) && ok
}

// news reconciles members of which an event spoke, by what the pool says of them
// now: events can be late, and overtake each other.
func (m *memberSync) news(ctx context.Context, of []serf.Member) bool {
	now := map[string]serf.Member{}
	for _, member := range m.cfg.LAN.Members() {
		now[member.Name] = member
	}
	ok := true
	for _, member := range of {
		current, is := now[member.Name]
		if !is {
			current = member
			current.Status = serf.StatusLeft // reaped
		}
		ok = m.one(ctx, current) && ok
	}
	return ok
}

// one reconciles one member.
func (m *memberSync) one(ctx context.Context, member serf.Member) bool {
	if ctx.Err() != nil {
		return true
	}
	if role := member.Tags["role"]; role != "consul" && role != "node" || member.Tags["dc"] != m.cfg.Datacenter {
		return true
	}
	delete(m.unknown, member.Name)
	var err error
	switch member.Status {
	case serf.StatusAlive:
		err = errors.Join(m.addServer(ctx, member), m.alive(ctx, member))
	case serf.StatusFailed:
		err = m.failed(ctx, member)
	case serf.StatusLeft:
		err = m.left(ctx, member)
	}
	if err != nil && ctx.Err() == nil {
		m.log.Warn("could not bring a member into the catalog, will try again", "member", member.Name, "error", err)
	}
	return err == nil
}

// catalogEntry is what the catalog has of a node.
type catalogEntry struct {
	node    *wire.Node
	health  *wire.HealthCheck
	service *wire.NodeService
}

func (m *memberSync) look(name string) (e catalogEntry, err error) {
	s := m.cfg.State()
	if _, e.node, err = s.Node(nil, name); err != nil || e.node == nil {
		return e, err
	}
	_, checks, err := s.NodeChecks(nil, name)
	if err != nil {
		return e, err
	}
	for _, c := range checks {
		if c.CheckID == wire.SerfHealth {
			e.health = c
		}
	}
	_, services, err := s.NodeServices(nil, name)
	if err == nil && services != nil {
		e.service = services.Services[wire.ConsulService]
	}
	return e, err
}

// registration is what a member's node and its check should be. An existing node
// keeps what only its agent knows.
func (m *memberSync) registration(member serf.Member, e catalogEntry, status, output string) *wire.RegisterRequest {
	addr := memberAddr(member)
	req := &wire.RegisterRequest{
		Datacenter: m.cfg.Datacenter,
		ID:         member.Tags["id"],
		Node:       member.Name,
		Address:    addr,
		Check: &wire.HealthCheck{
			Node: member.Name, CheckID: wire.SerfHealth, Name: serfName, Status: status, Output: output,
		},
	}
	if e.node != nil {
		req.NodeMeta = maps.Clone(e.node.Meta)
		req.TaggedAddresses = maps.Clone(e.node.TaggedAddresses)
		req.Locality = e.node.Locality
	}
	if req.NodeMeta == nil {
		req.NodeMeta = map[string]string{}
	}
	req.NodeMeta[versionMeta] = memberBuild(member)
	if e.node == nil || e.node.Address != addr {
		if req.TaggedAddresses == nil {
			req.TaggedAddresses = map[string]string{}
		}
		maps.Copy(req.TaggedAddresses, m.tagged(member))
	}
	req.SkipNodeUpdate = e.node != nil && m.sameNode(member, e.node)
	return req
}

// sameNode says whether the catalog's node is the member. The version is compared
// only where the node has one: agents of the family that do not write it would
// take it out again and again.
func (m *memberSync) sameNode(member serf.Member, n *wire.Node) bool {
	version, has := n.Meta[versionMeta]
	return strings.EqualFold(n.ID, member.Tags["id"]) && n.Address == memberAddr(member) && (!has || version == memberBuild(member))
}

func sameCheck(c *wire.HealthCheck, status, output string) bool {
	return c != nil && c.Status == status && c.Output == output && c.Name == serfName
}

func memberAddr(member serf.Member) string {
	addr, ok := netip.AddrFromSlice(member.Addr)
	if !ok {
		return ""
	}
	return addr.Unmap().String()
}

// memberBuild is the version in a member's tags, without its revision.
func memberBuild(member serf.Member) string {
	v, _, _ := strings.Cut(member.Tags["build"], ":")
	return v
}

// tagged are the tagged addresses of a node that the leader knows of: its agent
// adds others.
func (m *memberSync) tagged(member serf.Member) map[string]string {
	lan := memberAddr(member)
	wan := lan
	if m.cfg.WAN != nil && member.Tags["role"] == "consul" {
		for _, w := range m.cfg.WAN.Members() {
			if w.Name == member.Name+"."+m.cfg.Datacenter {
				wan = memberAddr(w)
			}
		}
	}
	out := map[string]string{"lan": lan, "wan": wan}
	for tag, addr := range map[string]string{"lan": lan, "wan": wan} {
		family := "_ipv4"
		if strings.Contains(addr, ":") {
			family = "_ipv6"
		}
		out[tag+family] = addr
	}
	return out
}

// consulService is the service "consul" of a server.
func consulService(member serf.Member, s Server) *wire.NodeService {
	return &wire.NodeService{
		ID: wire.ConsulService, Service: wire.ConsulService, Tags: []string{}, Port: int(s.Addr.Port()),
		Weights: &wire.Weights{Passing: 1, Warning: 1},
		Meta: map[string]string{
			"non_voter":             "false",
			"read_replica":          "false",
			"raft_version":          member.Tags["raft_vsn"],
			"serf_protocol_current": strconv.Itoa(int(member.ProtocolCur)),
			"serf_protocol_min":     strconv.Itoa(int(member.ProtocolMin)),
			"serf_protocol_max":     strconv.Itoa(int(member.ProtocolMax)),
			"version":               s.Build,
		},
	}
}

// alive registers a member that is alive, unless the catalog has it all.
func (m *memberSync) alive(ctx context.Context, member serf.Member) error {
	e, err := m.look(member.Name)
	if err != nil {
		return err
	}
	var svc *wire.NodeService
	if s, ok := ParseServer(member); ok {
		svc = consulService(member, s)
	}
	if e.node != nil && m.sameNode(member, e.node) && sameCheck(e.health, wire.HealthPassing, serfAlive) &&
		(svc == nil || e.service != nil && e.service.Port == svc.Port && maps.Equal(e.service.Meta, svc.Meta)) {
		return nil
	}
	m.log.Info("member joined, marking health alive", "member", member.Name)
	req := m.registration(member, e, wire.HealthPassing, serfAlive)
	req.Service = svc
	return m.apply(ctx, fsm.Register, req)
}

// failed marks a member that is not reachable; its node and its services stay.
func (m *memberSync) failed(ctx context.Context, member serf.Member) error {
	e, err := m.look(member.Name)
	if err != nil {
		return err
	}
	if e.node != nil {
		if id := member.Tags["id"]; !strings.EqualFold(e.node.ID, id) && e.node.ID != "" {
			return nil // the node's name has gone to another machine
		}
		if sameCheck(e.health, wire.HealthCritical, serfFailed) {
			return nil
		}
	}
	m.log.Info("member failed, marking health critical", "member", member.Name)
	req := m.registration(member, e, wire.HealthCritical, serfFailed)
	req.SkipNodeUpdate = e.node != nil
	return m.apply(ctx, fsm.Register, req)
}

// left takes a member that has left out of the cluster and out of the catalog,
// with all it had.
func (m *memberSync) left(ctx context.Context, member serf.Member) error {
	if member.Name == m.cfg.Node {
		m.log.Warn("this server is said to have left; the leader does not deregister itself", "member", member.Name)
		return nil
	}
	if err := m.removeServer(member); err != nil {
		return err
	}
	return m.deregister(ctx, member.Name, "member left")
}

func (m *memberSync) deregister(ctx context.Context, node, why string) error {
	if _, n, err := m.cfg.State().Node(nil, node); err != nil || n == nil {
		return err
	}
	m.log.Info("deregistering a node", "node", node, "reason", why)
	return m.apply(ctx, fsm.Deregister, &wire.DeregisterRequest{Datacenter: m.cfg.Datacenter, Node: node})
}

// missing looks for nodes that were members once and that gossip does not know
// any more: they were reaped while nobody led, or this server has come up a
// moment ago and has not heard of them yet. They are marked as failed at the
// second look, and go after LeaderTimes.Forget.
func (m *memberSync) missing(ctx context.Context, known map[string]bool) bool {
	_, checks, err := m.cfg.State().ChecksInState(nil, wire.HealthAny, nil)
	if err != nil {
		m.log.Warn("could not read the checks", "error", err)
		return false
	}
	ok := true
	seen := map[string]bool{}
	for _, c := range checks {
		if c.CheckID != wire.SerfHealth || known[c.Node] || c.Node == m.cfg.Node || ctx.Err() != nil {
			continue
		}
		seen[c.Node] = true
		since, before := m.unknown[c.Node]
		switch {
		case !before:
			m.unknown[c.Node] = time.Now()
			continue
		case time.Since(since) >= m.cfg.Times.Forget:
			err = m.deregister(ctx, c.Node, "it is no member any more")
		case !sameCheck(c, wire.HealthCritical, serfFailed):
			err = m.markMissing(ctx, c)
		default:
			continue
		}
		if err != nil && ctx.Err() == nil {
			m.log.Warn("could not update a node that is no member any more", "node", c.Node, "error", err)
			ok = false
		}
	}
	for node := range m.unknown {
		if !seen[node] {
			delete(m.unknown, node)
		}
	}
	return ok
}

func (m *memberSync) markMissing(ctx context.Context, c *wire.HealthCheck) error {
	_, n, err := m.cfg.State().Node(nil, c.Node)
	if err != nil || n == nil {
		return err
	}
	check := *c
	check.Status, check.Output = wire.HealthCritical, serfFailed
	return m.apply(ctx, fsm.Register, &wire.RegisterRequest{
		Datacenter: m.cfg.Datacenter, ID: n.ID, Node: n.Node, Address: n.Address, Check: &check, SkipNodeUpdate: true,
	})
}

// errForeign: a server that is in another cluster.
var errForeign = errors.New("it has a cluster of its own")

// peersTimeout bounds the question whether a server is in a cluster.
const peersTimeout = 2 * time.Second

// addServer adds a server that is alive to the cluster, or gives it its new
// address there. Autopilot gives it a vote when it is stable.
func (m *memberSync) addServer(ctx context.Context, member serf.Member) error {
	s, ok := ParseServer(member)
	if !ok {
		return nil
	}
	if why := m.unfit(member, s); why != "" {
		if m.refused[s.Name] != why {
			m.log.Error("not adding a server to the cluster", "member", s.Name, "reason", why)
			m.refused[s.Name] = why
		}
		return nil
	}
	ours, listed := map[string]bool{}, false
	for _, peer := range m.cfg.Raft.Servers() {
		ours[string(peer.Address)] = true
		if string(peer.ID) == s.ID {
			listed = true
			if string(peer.Address) == s.Addr.String() {
				delete(m.refused, s.Name)
				return nil
			}
		}
	}
	if !listed {
		switch err := m.foreign(ctx, s, ours); {
		case errors.Is(err, errForeign):
			if m.refused[s.Name] != err.Error() {
				m.log.Error("not adding a server to the cluster, which would take its data from it: two clusters have joined each other's gossip. "+
					"If it is to become part of this one, stop it and move its data directory away", "member", s.Name, "reason", err)
				m.refused[s.Name] = err.Error()
			}
			return nil
		case err != nil:
			return fmt.Errorf("ask server %s whether it is in a cluster: %w", s.Name, err)
		}
	}
	delete(m.refused, s.Name)
	m.log.Info("adding a server to the cluster", "member", s.Name, "id", s.ID, "addr", s.Addr)
	return m.autopilot.AddServer(pilotServer(member, s, false))
}

// unfit is why a server may not be in this cluster; "" where it may.
func (m *memberSync) unfit(member serf.Member, s Server) string {
	switch {
	case s.ID == "":
		return "it has no node id"
	case s.ID == m.cfg.NodeID && s.Name != m.cfg.Node:
		return "it has the node id of this server"
	case s.Bootstrap && m.cfg.Bootstrap && s.ID != m.cfg.NodeID:
		return "both this server and it are in bootstrap mode; only one server may be"
	case member.Tags["raft_vsn"] != "" && member.Tags["raft_vsn"] != "3":
		return "its Raft protocol is " + member.Tags["raft_vsn"] + ", and ours is 3"
	}
	return ""
}

// foreign is errForeign for a server that is in a cluster to which none of ours
// belongs. To add it would make it throw its data away.
func (m *memberSync) foreign(ctx context.Context, s Server, ours map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	var peers []string
	if err := m.cfg.Call(ctx, s.Addr.String(), "Status.Peers", &wire.DCSpecificRequest{Datacenter: m.cfg.Datacenter}, &peers); err != nil {
		return err
	}
	for _, p := range peers {
		if ours[p] {
			return nil // it was one of us
		}
	}
	if len(peers) > 0 {
		return fmt.Errorf("%w: %s", errForeign, strings.Join(peers, ", "))
	}
	return nil
}

// removeServer takes a server that has left out of the cluster.
func (m *memberSync) removeServer(member serf.Member) error {
	s, ok := ParseServer(member)
	if !ok || s.ID == "" || s.ID == m.cfg.NodeID {
		return nil
	}
	for _, other := range Servers(m.cfg.LAN.Members()) {
		if other.ID == s.ID && other.Name != s.Name && other.Alive() {
			return nil // it goes by another name now
		}
	}
	return m.autopilot.RemoveServer(raftID(s.ID))
}
