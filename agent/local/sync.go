package local

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"lictor/rpc/wire"
)

// Timings of anti-entropy (limits-and-defaults.md, 7).
const (
	syncInterval  = time.Minute
	syncRetry     = 15 * time.Second
	syncJoined    = 3 * time.Second
	syncStale     = 2 * time.Second
	syncTimeout   = time.Minute // of one call
	syncThreshold = 128         // nodes up to which the interval is not stretched
)

// noMethod is in the error of a server that does not know a method.
const noMethod = "can't find method"

// stretch is the factor of the interval in a cluster of n nodes.
func stretch(n int) int {
	if n <= syncThreshold {
		return 1
	}
	return int(math.Ceil(math.Log2(float64(n))-math.Log2(syncThreshold))) + 1
}

// about is d to 2d.
func about(d time.Duration) time.Duration { return d + rand.N(d) }

// sync keeps the servers in agreement until ctx ends: everything is compared
// now and then, what changes here is sent at once.
func (s *State) sync(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	broken := true // the last attempt failed, or there was none
	soon := false  // the timer is set for a server that joined
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.full:
			if !soon {
				soon = true
				timer.Reset(rand.N(syncJoined))
			}
			continue
		case <-s.dirty:
			if broken {
				continue // the comparison to come sends it, too
			}
			err = s.push(ctx)
			if err == nil {
				continue
			}
		case <-timer.C:
			soon = false
			err = s.compare(ctx)
			if err == nil {
				err = s.push(ctx)
			}
		}
		if ctx.Err() != nil {
			return
		}
		broken = err != nil
		if broken {
			s.log.Warn("the servers were not brought in agreement with this agent; trying again", "error", err)
			timer.Reset(about(syncRetry))
		} else {
			timer.Reset(about(syncInterval * time.Duration(stretch(s.cfg.Nodes()))))
		}
	}
}

func (s *State) call(ctx context.Context, method string, args, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	return s.cfg.RPC.Call(ctx, method, args, reply)
}

// compare marks what the servers do not have as this agent has it, and what they
// have and it has not.
func (s *State) compare(ctx context.Context) error {
	node, services, err := s.remoteServices(ctx)
	if err != nil {
		return err
	}
	req := s.readRequest()
	var reply wire.IndexedHealthChecks
	if err := s.call(ctx, "Health.NodeChecks", req, &reply); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodeInSync = node != nil && sameNode(node, &s.node)
	s.compareServicesLocked(services)
	s.compareChecksLocked(reply.HealthChecks)
	return nil
}

func (s *State) readRequest() *wire.NodeSpecificRequest {
	req := &wire.NodeSpecificRequest{Datacenter: s.cfg.Node.Datacenter, Node: s.cfg.Node.Node}
	req.AllowStale, req.MaxStaleDuration = true, syncStale
	return req
}

// remoteServices is the servers' view of this node; of older servers it asks the
// older way. The node is nil where they do not know it.
func (s *State) remoteServices(ctx context.Context) (*wire.Node, []*wire.NodeService, error) {
	var list wire.IndexedNodeServiceList
	err := s.call(ctx, "Catalog.NodeServiceList", s.readRequest(), &list)
	if err == nil {
		return list.NodeServices.Node, list.NodeServices.Services, nil
	}
	if !strings.Contains(err.Error(), noMethod) {
		return nil, nil, err
	}
	var old wire.IndexedNodeServices
	if err := s.call(ctx, "Catalog.NodeServices", s.readRequest(), &old); err != nil {
		return nil, nil, err
	}
	if old.NodeServices == nil {
		return nil, nil, nil
	}
	return old.NodeServices.Node, slices.Collect(maps.Values(old.NodeServices.Services)), nil
}

func (s *State) compareServicesLocked(remote []*wire.NodeService) {
	there := map[string]bool{}
	for _, r := range remote {
		there[r.ID] = true
		e := s.services[r.ID]
		if e == nil {
			if _, known := s.goneServices[r.ID]; !known && r.ID != wire.ConsulService {
				s.goneServices[r.ID] = ""
			}
			continue
		}
		if e.ns.EnableTagOverride && !slices.Equal(e.ns.Tags, normal(r).Tags) {
			ns := *e.ns
			ns.Tags = normal(r).Tags
			e.ns = &ns
			for _, c := range s.checks {
				s.nameServiceLocked(c)
			}
			s.changedLocked()
		}
		e.inSync = sameService(e.ns, r)
	}
	for id, e := range s.services {
		e.inSync = e.inSync && there[id]
	}
	for id := range s.goneServices {
		if !there[id] {
			delete(s.goneServices, id)
		}
	}
}

func (s *State) compareChecksLocked(remote []*wire.HealthCheck) {
	there := map[string]bool{}
	for _, r := range remote {
		there[r.CheckID] = true
		e := s.checks[r.CheckID]
		if e == nil {
			if _, known := s.goneChecks[r.CheckID]; !known && r.CheckID != wire.SerfHealth {
				s.goneChecks[r.CheckID] = goneCheck{service: r.ServiceID}
			}
			continue
		}
		// An output that waits for its time does not count as a difference.
		e.inSync = sameCheck(e.hc, r) && (e.hc.Output == r.Output || e.later != nil)
	}
	for id, e := range s.checks {
		e.inSync = e.inSync && there[id]
	}
	for id := range s.goneChecks {
		if !there[id] {
			delete(s.goneChecks, id)
		}
	}
}

// push sends what is not in sync, and returns the first error that another try may
// mend. One thing that the servers do not take does not hold up the others; that
// nobody answers does. A refusal is logged and not tried again before the next
// comparison.
func (s *State) push(ctx context.Context) error {
	r := round{unanswered: s.cfg.Unanswered}
	s.pushGone(ctx, &r)
	s.pushServices(ctx, &r)
	s.pushChecks(ctx, &r)
	r.each(ctx, []string{s.cfg.Node.Node}, func(string) error { return s.pushNode(ctx) })
	return r.first
}

// round sends one thing after the other, and is over when nobody answers.
type round struct {
	unanswered func(error) bool
	first      error // of what went wrong
	over       bool
}

// each sends what has these ids.
func (r *round) each(ctx context.Context, ids []string, send func(id string) error) {
	for _, id := range ids {
		if r.over {
			return
		}
		err := send(id)
		if err == nil {
			continue
		}
		if r.first == nil {
			r.first = err
		}
		r.over = ctx.Err() != nil || r.unanswered(err)
	}
}

// refused says whether trying again would change nothing.
func refused(err error) bool {
	return strings.Contains(err.Error(), "Permission denied") || strings.Contains(err.Error(), "ACL not found")
}

func (s *State) pushGone(ctx context.Context, r *round) {
	s.mu.Lock()
	services, gone := maps.Clone(s.goneServices), maps.Clone(s.goneChecks)
	s.mu.Unlock()
	r.each(ctx, slices.Sorted(maps.Keys(services)), func(id string) error {
		if err := s.deregisterRemote(ctx, services[id], id, ""); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.goneServices, id)
		for check, g := range s.goneChecks {
			if g.service == id { // the servers forgot them with the service
				delete(s.goneChecks, check)
				delete(gone, check)
			}
		}
		return nil
	})
	r.each(ctx, slices.Sorted(maps.Keys(gone)), func(id string) error {
		if err := s.deregisterRemote(ctx, gone[id].token, "", id); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.goneChecks, id)
		return nil
	})
}

func (s *State) deregisterRemote(ctx context.Context, token, service, check string) error {
	req := &wire.DeregisterRequest{Datacenter: s.cfg.Node.Datacenter, Node: s.cfg.Node.Node, ServiceID: service, CheckID: check}
	req.Token = token
	err := s.call(ctx, "Catalog.Deregister", req, &wire.Empty{})
	if err != nil && refused(err) {
		s.log.Warn("the servers refuse to forget a registration", "service", service, "check", check, "error", err)
		return nil
	}
	if err == nil {
		s.log.Info("deregistered", "service", service, "check", check)
	}
	return err
}

// registration is a request that says what this node is, if the servers do not
// know. It expects mu.
func (s *State) registrationLocked(token string) *wire.RegisterRequest {
	req := &wire.RegisterRequest{
		Datacenter: s.node.Datacenter, ID: s.node.ID, Node: s.node.Node, Address: s.node.Address,
		TaggedAddresses: s.node.TaggedAddresses, NodeMeta: s.node.Meta, Locality: s.node.Locality, SkipNodeUpdate: s.nodeInSync,
	}
	req.Token = token
	return req
}

// register sends one request, and then marks what it held if that is still what
// this agent has.
func (s *State) registerRemote(ctx context.Context, req *wire.RegisterRequest, done func()) error {
	meta := req.NodeMeta
	err := s.call(ctx, "Catalog.Register", req, &wire.Empty{})
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.nodeInSync = s.nodeInSync || !req.SkipNodeUpdate && maps.Equal(meta, s.node.Meta)
	case refused(err):
		s.log.Warn("the servers refuse a registration", "error", err)
	default:
		return err
	}
	done()
	return nil
}

func (s *State) pushServices(ctx context.Context, r *round) {
	s.mu.Lock()
	var ids []string
	for id, e := range s.services {
		if !e.inSync {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	slices.Sort(ids)
	r.each(ctx, ids, func(id string) error { return s.pushService(ctx, id) })
}

// pushService registers a service, and the checks of it that have its token, if it
// is still there.
func (s *State) pushService(ctx context.Context, id string) error {
	s.mu.Lock()
	e := s.services[id]
	if e == nil {
		s.mu.Unlock()
		return nil
	}
	ns := *e.ns // whoever answers in this process may fill in what is not set
	sent := e.ns
	req := s.registrationLocked(e.svc.Token)
	req.Service = &ns
	held := map[*check]*wire.HealthCheck{}
	for _, c := range s.checks {
		if c.def.ServiceID == id && !c.inSync && c.def.Token == e.svc.Token {
			hc := *c.hc
			req.Checks, held[c] = append(req.Checks, &hc), c.hc
		}
	}
	slices.SortFunc(req.Checks, func(a, b *wire.HealthCheck) int { return strings.Compare(a.CheckID, b.CheckID) })
	s.mu.Unlock()
	err := s.registerRemote(ctx, req, func() {
		if e.ns == sent {
			e.inSync = true
		}
		for c, hc := range held {
			c.sentLocked(hc)
		}
	})
	if err == nil {
		s.log.Debug("registered", "service", id)
	}
	return err
}

// sentLocked marks a check as the servers have it, if it has not changed since,
// and takes back the wish to tell of its output.
func (c *check) sentLocked(hc *wire.HealthCheck) {
	if c.hc != hc {
		return
	}
	c.inSync = true
	if c.later != nil {
		c.later.Stop()
		c.later = nil
	}
}

func (s *State) pushChecks(ctx context.Context, r *round) {
	s.mu.Lock()
	var ids []string
	for id, e := range s.checks {
		if !e.inSync {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	slices.Sort(ids)
	r.each(ctx, ids, func(id string) error { return s.pushCheck(ctx, id) })
}

// pushCheck registers a check, if it is there and did not go with its service.
func (s *State) pushCheck(ctx context.Context, id string) error {
	s.mu.Lock()
	e := s.checks[id]
	if e == nil || e.inSync {
		s.mu.Unlock()
		return nil
	}
	sent, hc := e.hc, *e.hc
	req := s.registrationLocked(e.def.Token)
	req.Check = &hc
	s.mu.Unlock()
	err := s.registerRemote(ctx, req, func() { e.sentLocked(sent) })
	if err == nil {
		s.log.Debug("registered", "check", id)
	}
	return err
}

// pushNode tells what the node is when nothing else did.
func (s *State) pushNode(ctx context.Context) error {
	s.mu.Lock()
	if s.nodeInSync {
		s.mu.Unlock()
		return nil
	}
	req := s.registrationLocked("")
	s.mu.Unlock()
	return s.registerRemote(ctx, req, func() {})
}

// normal is ns with what is not set in its one form.
func normal(ns *wire.NodeService) *wire.NodeService {
	c := *ns
	if c.Tags == nil {
		c.Tags = []string{}
	}
	if c.Meta == nil {
		c.Meta = map[string]string{}
	}
	if c.Weights == nil {
		c.Weights = &wire.Weights{Passing: 1, Warning: 1}
	}
	c.RaftIndex = wire.RaftIndex{}
	return &c
}

func sameLocality(a, b *wire.Locality) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameNode(a, b *wire.Node) bool {
	return a.ID == b.ID && a.Node == b.Node && a.Address == b.Address && sameLocality(a.Locality, b.Locality) &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta)
}

func sameService(a, b *wire.NodeService) bool {
	a, b = normal(a), normal(b)
	return a.Kind == b.Kind && a.ID == b.ID && a.Service == b.Service && slices.Equal(a.Tags, b.Tags) && a.Address == b.Address &&
		a.Port == b.Port && a.SocketPath == b.SocketPath && maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) &&
		*a.Weights == *b.Weights && a.EnableTagOverride == b.EnableTagOverride && sameLocality(a.Locality, b.Locality)
}

// sameCheck leaves out the output, and the tags, which the servers take from the
// service.
func sameCheck(a, b *wire.HealthCheck) bool {
	return a.Name == b.Name && a.Status == b.Status && a.Notes == b.Notes && a.ServiceID == b.ServiceID && a.ServiceName == b.ServiceName &&
		a.Type == b.Type && a.Interval == b.Interval && a.Timeout == b.Timeout
}
