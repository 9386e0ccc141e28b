package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/answers"
	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

// servers is a small imitation of what the servers hold: enough to see whether a
// request arrives as it was meant and its reply as it was given.
type servers struct {
	mu        sync.Mutex
	index     uint64
	restores  int // each wakes all who wait
	waiting   int // calls that wait for a change
	changed   chan struct{}
	kv        map[string]*wire.DirEntry
	sessions  map[string]*wire.Session
	nodes     map[string]*wire.Node
	services  map[string]map[string]*wire.NodeService // by node, then id
	checks    map[string][]*wire.HealthCheck          // by node
	coords    map[string]*coordinate.Coordinate
	autopilot wire.AutopilotConfig
	unhealthy bool
	archive   []byte // of the last restore
	unclosed  int    // restores whose answer was not closed

	old   bool // they have the family's methods alone
	calls map[string]int
	args  map[string]any // of the last call of a method
	err   error          // of every call
	meta  wire.QueryMeta // of every reply, but for the index
}

func newServers() *servers {
	return &servers{
		index: 10, changed: make(chan struct{}), kv: map[string]*wire.DirEntry{}, sessions: map[string]*wire.Session{},
		nodes: map[string]*wire.Node{}, services: map[string]map[string]*wire.NodeService{}, checks: map[string][]*wire.HealthCheck{},
		coords: map[string]*coordinate.Coordinate{}, calls: map[string]int{}, args: map[string]any{},
		meta:      wire.QueryMeta{KnownLeader: true, ConsistencyLevel: "leader"},
		autopilot: wire.AutopilotConfig{CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond, MaxTrailingLogs: 250},
	}
}

func (s *servers) change() uint64 {
	s.index++
	close(s.changed)
	s.changed = make(chan struct{})
	return s.index
}

// count is how often a method was called.
func (s *servers) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func lastCall[T any](t testing.TB, s *servers, method string) T {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	args, ok := s.args[method].(T)
	if !ok {
		t.Fatalf("%s was called with %T", method, s.args[method])
	}
	return args
}

// RPC is Backend.RPC.
func (s *servers) RPC(ctx context.Context, method string, args, reply any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
	s.args[method] = args
	if s.err != nil {
		return s.err
	}
	if read, ok := args.(wire.ReadRequest); ok {
		if read.RequestDatacenter() == "nowhere" {
			return errors.New("No path to datacenter")
		}
		o := read.Options()
		after, restores := time.After(o.MaxQueryTime), s.restores
		for o.MinQueryIndex > 0 && s.index <= o.MinQueryIndex && s.restores == restores {
			changed := s.changed
			s.waiting++
			s.mu.Unlock()
			select {
			case <-changed:
			case <-after:
				o = &wire.QueryOptions{}
			case <-ctx.Done():
				s.mu.Lock()
				s.waiting--
				return ctx.Err()
			}
			s.mu.Lock()
			s.waiting--
		}
	}
	if m, ok := reply.(interface{ Meta() *wire.QueryMeta }); ok {
		defer func() {
			*m.Meta() = s.meta
			m.Meta().Index = s.index
		}()
	}
	return s.do(method, args, reply)
}

func (s *servers) do(method string, args, reply any) error {
	family, _, _ := strings.Cut(method, ".")
	switch family {
	case "KVS", "Txn":
		return s.doKV(method, args, reply)
	case "Session":
		return s.doSession(method, args, reply)
	case "Catalog", "Health", "Internal":
		return s.doCatalog(method, args, reply)
	}
	return s.doOperator(method, args, reply)
}

func (s *servers) doKV(method string, args, reply any) error {
	switch method {
	case "KVS.Get":
		if e := s.kv[args.(*wire.KeyRequest).Key]; e != nil {
			reply.(*wire.IndexedDirEntries).Entries = []*wire.DirEntry{e}
		}
	case "KVS.List":
		for _, k := range slices.Sorted(maps.Keys(s.kv)) {
			if strings.HasPrefix(k, args.(*wire.KeyRequest).Key) {
				r := reply.(*wire.IndexedDirEntries)
				r.Entries = append(r.Entries, s.kv[k])
			}
		}
	case "KVS.ListKeys":
		req := args.(*wire.KeyListRequest)
		for _, k := range slices.Sorted(maps.Keys(s.kv)) {
			rest, ok := strings.CutPrefix(k, req.Prefix)
			if !ok {
				continue
			}
			if i := strings.Index(rest, req.Seperator); req.Seperator != "" && i >= 0 {
				k = req.Prefix + rest[:i+len(req.Seperator)]
			}
			if r := reply.(*wire.IndexedKeyList); !slices.Contains(r.Keys, k) {
				r.Keys = append(r.Keys, k)
			}
		}
	case "KVS.Apply":
		req := args.(*wire.KVSRequest)
		done, err := s.applyKV(req.Op, req.DirEnt)
		*reply.(*bool) = done && req.Op != wire.KVSet
		return err
	case "Txn.Read", "Txn.Apply":
		return s.doTxn(args, reply)
	}
	return nil
}

func (s *servers) applyKV(op wire.KVOp, e wire.DirEntry) (bool, error) {
	old := s.kv[e.Key]
	index := e.ModifyIndex
	set := func(session string) {
		e.CreateIndex, e.ModifyIndex = s.change(), s.index
		if old != nil {
			e.CreateIndex, e.LockIndex = old.CreateIndex, old.LockIndex
		}
		e.Session = session
		s.kv[e.Key] = &e
	}
	holder := ""
	if old != nil {
		holder = old.Session
	}
	switch op {
	case wire.KVSet:
		set(holder)
	case wire.KVCAS:
		if index == 0 && old != nil || index > 0 && (old == nil || old.ModifyIndex != index) {
			return false, nil
		}
		set(holder)
	case wire.KVLock:
		if s.sessions[e.Session] == nil {
			return false, fmt.Errorf("raft apply failed: invalid session %q", e.Session)
		}
		if holder != "" && holder != e.Session {
			return false, nil
		}
		set(e.Session)
	case wire.KVUnlock:
		if holder == "" || holder != e.Session {
			return false, nil
		}
		set("")
	case wire.KVDelete:
		delete(s.kv, e.Key)
		s.change()
	case wire.KVDeleteCAS:
		if old == nil || index == 0 || old.ModifyIndex != index {
			return false, nil
		}
		delete(s.kv, e.Key)
		s.change()
	case wire.KVDeleteTree:
		for k := range s.kv {
			if strings.HasPrefix(k, e.Key) {
				delete(s.kv, k)
			}
		}
		s.change()
	}
	return true, nil
}

func (s *servers) doTxn(args, reply any) error {
	var ops []*wire.TxnOp
	var out *wire.TxnResponse
	if req, ok := args.(*wire.TxnReadRequest); ok {
		ops, out = req.Ops, &reply.(*wire.TxnReadResponse).TxnResponse
	} else {
		ops, out = args.(*wire.TxnRequest).Ops, reply.(*wire.TxnResponse)
	}
	for i, op := range ops {
		r := &wire.TxnResult{}
		switch {
		case op.KV != nil && op.KV.Verb == wire.KVGet:
			if r.KV = s.kv[op.KV.DirEnt.Key]; r.KV == nil {
				out.Errors = append(out.Errors, &wire.TxnError{OpIndex: i, What: fmt.Sprintf("key %q doesn't exist", op.KV.DirEnt.Key)})
			}
		case op.KV != nil && op.KV.Verb == wire.KVSet:
			s.applyKV(wire.KVSet, op.KV.DirEnt)
			e := *s.kv[op.KV.DirEnt.Key]
			e.Value = nil
			r.KV = &e
		case op.Node != nil:
			r.Node = &op.Node.Node
		case op.Service != nil:
			r.Service = &op.Service.Service
		case op.Check != nil:
			r.Check = &op.Check.Check
		default:
			out.Errors = append(out.Errors, &wire.TxnError{OpIndex: i, What: "unknown verb"})
		}
		out.Results = append(out.Results, r)
	}
	return nil
}

func (s *servers) doSession(method string, args, reply any) error {
	if method == "Session.Apply" {
		req := args.(*wire.SessionRequest)
		if req.Op == wire.SessionDestroy {
			delete(s.sessions, req.Session.ID)
			s.change()
			return nil
		}
		if req.Session.Behavior != wire.SessionRelease && req.Session.Behavior != wire.SessionDelete {
			return fmt.Errorf("Invalid Behavior setting '%s'", req.Session.Behavior)
		}
		id := fmt.Sprintf("%08d-0000-0000-0000-000000000000", s.change())
		c := req.Session
		c.ID, c.CreateIndex, c.ModifyIndex = id, s.index, s.index
		s.sessions[id] = &c
		*reply.(*string) = id
		return nil
	}
	out := reply.(*wire.IndexedSessions)
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		switch req := args.(type) {
		case *wire.SessionSpecificRequest:
			if req.SessionID == "" || req.SessionID == id {
				out.Sessions = append(out.Sessions, s.sessions[id])
			}
		case *wire.NodeSpecificRequest:
			if s.sessions[id].Node == req.Node {
				out.Sessions = append(out.Sessions, s.sessions[id])
			}
		}
	}
	return nil
}

func (s *servers) register(req *wire.RegisterRequest) error {
	if req.Node == "" {
		return errors.New("Must provide node")
	}
	index := wire.RaftIndex{CreateIndex: s.change(), ModifyIndex: s.index}
	s.nodes[req.Node] = &wire.Node{
		ID: req.ID, Node: req.Node, Address: req.Address, Datacenter: "dc1", Meta: req.NodeMeta, TaggedAddresses: req.TaggedAddresses, RaftIndex: index,
	}
	if req.Service != nil {
		if s.services[req.Node] == nil {
			s.services[req.Node] = map[string]*wire.NodeService{}
		}
		svc := *req.Service
		svc.RaftIndex = index
		s.services[req.Node][svc.ID] = &svc
	}
	list := req.Checks
	if req.Check != nil {
		list = append(list, req.Check)
	}
	for _, c := range list {
		own := *c
		own.Node, own.RaftIndex = req.Node, index
		s.checks[req.Node] = append(slices.DeleteFunc(s.checks[req.Node], func(o *wire.HealthCheck) bool { return o.CheckID == c.CheckID }), &own)
	}
	return nil
}

// instances of a service, or of all where it is "".
func (s *servers) instances(service string) []wire.CheckServiceNode {
	var out []wire.CheckServiceNode
	for _, node := range slices.Sorted(maps.Keys(s.nodes)) {
		for _, id := range slices.Sorted(maps.Keys(s.services[node])) {
			if svc := s.services[node][id]; service == "" || svc.Service == service {
				i := wire.CheckServiceNode{Node: s.nodes[node], Service: svc}
				for _, c := range s.checks[node] {
					if c.ServiceID == "" || c.ServiceID == id {
						i.Checks = append(i.Checks, c)
					}
				}
				out = append(out, i)
			}
		}
	}
	return out
}

func (s *servers) info(node string) *wire.NodeInfo {
	n := s.nodes[node]
	out := &wire.NodeInfo{ID: n.ID, Node: n.Node, Address: n.Address, Meta: n.Meta, Checks: s.checks[node]}
	for _, id := range slices.Sorted(maps.Keys(s.services[node])) {
		out.Services = append(out.Services, s.services[node][id])
	}
	return out
}

func (s *servers) doCatalog(method string, args, reply any) error {
	switch method {
	case "Catalog.Register":
		return s.register(args.(*wire.RegisterRequest))
	case "Catalog.Deregister":
		req := args.(*wire.DeregisterRequest)
		s.change()
		switch {
		case req.ServiceID != "":
			delete(s.services[req.Node], req.ServiceID)
		case req.CheckID != "":
			s.checks[req.Node] = slices.DeleteFunc(s.checks[req.Node], func(o *wire.HealthCheck) bool { return o.CheckID == req.CheckID })
		default:
			delete(s.nodes, req.Node)
		}
	case "Catalog.ListDatacenters":
		*reply.(*[]string) = []string{"dc1", "dc2"}
	case "Catalog.ListNodes":
		for _, n := range slices.Sorted(maps.Keys(s.nodes)) {
			r := reply.(*wire.IndexedNodes)
			r.Nodes = append(r.Nodes, s.nodes[n])
		}
	case "Catalog.ListServices":
		r := reply.(*wire.IndexedServices)
		r.Services = map[string][]string{}
		for _, i := range s.instances("") {
			r.Services[i.Service.Service] = append(r.Services[i.Service.Service], i.Service.Tags...)
		}
	case "Catalog.ServiceNodes":
		r := reply.(*wire.IndexedServiceNodes)
		for _, i := range s.instances(args.(*wire.ServiceSpecificRequest).ServiceName) {
			r.ServiceNodes = append(r.ServiceNodes, &wire.ServiceNode{
				Node: i.Node.Node, Address: i.Node.Address, ServiceID: i.Service.ID, ServiceName: i.Service.Service, ServicePort: i.Service.Port,
				ServiceTags: i.Service.Tags, ServiceMeta: i.Service.Meta, NodeMeta: i.Node.Meta, TaggedAddresses: i.Node.TaggedAddresses,
				ServiceAddress: i.Service.Address, ServiceTaggedAddresses: i.Service.TaggedAddresses,
			})
		}
	case "Catalog.NodeServices":
		if n := args.(*wire.NodeSpecificRequest).Node; s.nodes[n] != nil {
			reply.(*wire.IndexedNodeServices).NodeServices = &wire.NodeServices{Node: s.nodes[n], Services: s.services[n]}
		}
	case "Catalog.NodeServiceList":
		if n := args.(*wire.NodeSpecificRequest).Node; s.nodes[n] != nil {
			reply.(*wire.IndexedNodeServiceList).NodeServices = wire.NodeServiceList{Node: s.nodes[n], Services: s.info(n).Services}
		}
	case "Health.ServiceNodes":
		reply.(*wire.IndexedCheckServiceNodes).Nodes = s.instances(args.(*wire.ServiceSpecificRequest).ServiceName)
	case "Health.ServiceNodesJSON":
		req := args.(*wire.ServiceNodesJSONRequest)
		if s.old {
			return errors.New("rpc error making call: rpc: can't find method Health.ServiceNodesJSON")
		}
		reply.(*wire.EncodedAnswer).Body = answers.AppendInstances(nil, s.instances(req.ServiceName), req.Passing)
	case "Health.NodeChecks":
		reply.(*wire.IndexedHealthChecks).HealthChecks = s.checks[args.(*wire.NodeSpecificRequest).Node]
	case "Health.ServiceChecks", "Health.ChecksInState":
		r := reply.(*wire.IndexedHealthChecks)
		for _, n := range slices.Sorted(maps.Keys(s.checks)) {
			for _, c := range s.checks[n] {
				switch req := args.(type) {
				case *wire.ServiceSpecificRequest:
					if c.ServiceName == req.ServiceName {
						r.HealthChecks = append(r.HealthChecks, c)
					}
				case *wire.ChecksInStateRequest:
					if req.State == wire.HealthAny || c.Status == req.State {
						r.HealthChecks = append(r.HealthChecks, c)
					}
				}
			}
		}
	case "Internal.NodeDump":
		for _, n := range slices.Sorted(maps.Keys(s.nodes)) {
			r := reply.(*wire.IndexedNodeDump)
			r.Dump = append(r.Dump, s.info(n))
		}
	case "Internal.NodeInfo":
		if n := args.(*wire.NodeSpecificRequest).Node; s.nodes[n] != nil {
			reply.(*wire.IndexedNodeDump).Dump = []*wire.NodeInfo{s.info(n)}
		}
	case "Internal.ServiceDump":
		reply.(*wire.IndexedCheckServiceNodes).Nodes = s.instances("")
	case "Internal.CatalogOverview":
		reply.(*wire.CatalogOverview).Nodes = []wire.HealthSummary{{Total: len(s.nodes)}}
	default:
		return errors.New("rpc: can't find method " + method)
	}
	return nil
}

func (s *servers) doOperator(method string, args, reply any) error {
	switch method {
	case "Coordinate.ListDatacenters":
		*reply.(*[]wire.DatacenterMap) = []wire.DatacenterMap{{Datacenter: "dc1", AreaID: "wan"}}
	case "Coordinate.ListNodes", "Coordinate.Node":
		r := reply.(*wire.IndexedCoordinates)
		for _, n := range slices.Sorted(maps.Keys(s.coords)) {
			if req, ok := args.(*wire.NodeSpecificRequest); !ok || req.Node == n {
				r.Coordinates = append(r.Coordinates, &wire.Coordinate{Node: n, Coord: s.coords[n]})
			}
		}
	case "Coordinate.Update":
		req := args.(*wire.CoordinateUpdateRequest)
		s.coords[req.Node] = req.Coord
		s.change()
	case "Operator.RaftGetConfiguration":
		reply.(*wire.RaftConfiguration).Servers = []*wire.RaftServer{{ID: "id1", Node: "s1", Address: "10.0.0.1:8300", Leader: true, Voter: true}}
	case "Operator.RaftRemovePeerByID":
		if id := args.(*wire.RaftRemovePeerRequest).ID; id != "id1" {
			return fmt.Errorf("id %q was not found in the Raft configuration", id)
		}
	case "Operator.RaftRemovePeerByAddress":
	case "Operator.TransferLeader":
		reply.(*wire.TransferLeaderResponse).Success = true
	case "Operator.AutopilotGetConfiguration":
		*reply.(*wire.AutopilotConfig) = s.autopilot
	case "Operator.AutopilotSetConfiguration":
		req := args.(*wire.AutopilotSetConfigRequest)
		if req.CAS && req.Config.ModifyIndex != s.autopilot.ModifyIndex {
			return nil
		}
		s.autopilot = req.Config
		s.autopilot.ModifyIndex = s.change()
		*reply.(*bool) = true
	case "Operator.ServerHealth":
		*reply.(*wire.AutopilotHealth) = wire.AutopilotHealth{Healthy: !s.unhealthy, Servers: []wire.AutopilotServerHealth{
			{ID: "id1", Name: "s1", SerfStatus: serf.StatusAlive, LastContact: 15 * time.Millisecond, Healthy: true, StableSince: time.Unix(1, 0)},
		}}
	case "Operator.AutopilotState":
		*reply.(*wire.AutopilotState) = wire.AutopilotState{Healthy: true, Leader: "id1", Voters: []string{"id1"}, Servers: map[string]*wire.AutopilotServerState{
			"id1": {ID: "id1", Status: "leader", LastContact: time.Millisecond},
		}}
	case "Operator.Usage":
		reply.(*wire.UsageResponse).Usage = map[string]wire.ServiceUsage{"dc1": {Nodes: len(s.nodes)}}
	default:
		return errors.New("rpc: can't find method " + method)
	}
	return nil
}

// Snapshot is Backend.Snapshot; an archive is what the last restore brought.
func (s *servers) Snapshot(_ context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.QueryMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.args["Snapshot"] = req
	if s.err != nil {
		return nil, nil, s.err
	}
	if req.Op == wire.SnapshotSave {
		meta := s.meta
		meta.Index = s.index
		return &meta, io.NopCloser(strings.NewReader(string(s.archive))), nil
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(string(b), "junk") {
		return nil, nil, errors.New("failed to decompress snapshot: gzip: invalid header")
	}
	s.archive = b
	s.unclosed++
	return &wire.QueryMeta{}, restored{s}, nil
}

// restored is what a restore returns: nothing to read, and to be closed.
type restored struct{ s *servers }

func (restored) Read([]byte) (int, error) { return 0, io.EOF }

func (r restored) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.unclosed--
	return nil
}

// registry is what an agent registered, in memory.
type registry struct {
	mu       sync.Mutex
	services map[string]*wire.NodeService
	checks   map[string]*wire.HealthCheck
	changed  chan struct{}
	tokens   []string
}

func newRegistry() *registry {
	return &registry{services: map[string]*wire.NodeService{}, checks: map[string]*wire.HealthCheck{}, changed: make(chan struct{})}
}

func (g *registry) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *registry) Services() map[string]*wire.NodeService {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.services)
}

func (g *registry) Service(id string) (*wire.NodeService, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.services[id]
	return s, ok
}

func (g *registry) Checks() map[string]*wire.HealthCheck {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.checks)
}

func (g *registry) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// kind is an error with a text of its own.
type kind struct {
	text string
	error
}

func (k kind) Error() string { return k.text }
func (k kind) Unwrap() error { return k.error }

func invalidService(text string) error { return kind{text, local.ErrInvalid} }

func unknownService(id string) error {
	return kind{fmt.Sprintf("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id), local.ErrUnknownService}
}

func unknownCheck(id string) error {
	return kind{fmt.Sprintf("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id), local.ErrUnknownCheck}
}

func (g *registry) RegisterService(svc *local.Service, replace bool) error {
	if err := svc.Validate(); err != nil {
		return invalidService(err.Error())
	}
	for _, c := range svc.Checks {
		if c.RunsPrograms() {
			return local.ErrScriptsDisabled
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := svc.NodeService
	if s.ID == "" {
		s.ID = s.Service
	}
	if replace {
		maps.DeleteFunc(g.checks, func(_ string, c *wire.HealthCheck) bool { return c.ServiceID == s.ID })
	}
	g.services[s.ID] = &s
	g.tokens = append(g.tokens, svc.Token)
	for _, c := range svc.Checks {
		g.checks[c.ID] = &wire.HealthCheck{CheckID: c.ID, Name: c.Name, Status: wire.HealthCritical, ServiceID: s.ID, ServiceName: s.Service, Type: c.Kind()}
	}
	g.change()
	return nil
}

func (g *registry) DeregisterService(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.services[id] == nil {
		return unknownService(id)
	}
	delete(g.services, id)
	g.change()
	return nil
}

func (g *registry) RegisterCheck(def *checks.Definition) error {
	if def.Name == "" {
		return invalidService("Missing check name")
	}
	if err := def.Validate(); err != nil {
		return invalidService("Invalid check: " + err.Error())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if def.ServiceID != "" && g.services[def.ServiceID] == nil {
		return kind{fmt.Sprintf("ServiceID %q does not exist", def.ServiceID), local.ErrUnknownService}
	}
	id := def.ID
	if id == "" {
		id = def.Name
	}
	g.checks[id] = &wire.HealthCheck{CheckID: id, Name: def.Name, Status: wire.HealthCritical, ServiceID: def.ServiceID, Type: def.Kind()}
	g.change()
	return nil
}

func (g *registry) DeregisterCheck(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.checks[id] == nil {
		return unknownCheck(id)
	}
	delete(g.checks, id)
	g.change()
	return nil
}

func (g *registry) UpdateTTL(id, status, output string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.checks[id]
	if c == nil || c.Type != checks.KindTTL {
		return unknownCheck(id)
	}
	own := *c
	own.Status, own.Output = status, output
	g.checks[id] = &own
	g.change()
	return nil
}

func (g *registry) maintenance(id, serviceID string, on bool, why string) {
	if delete(g.checks, id); on {
		g.checks[id] = &wire.HealthCheck{CheckID: id, Status: wire.HealthCritical, ServiceID: serviceID, Notes: why, Type: "maintenance"}
	}
	g.change()
}

func (g *registry) ServiceMaintenance(id string, on bool, why, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.services[id] == nil {
		return unknownService(id)
	}
	g.maintenance(wire.ServiceMaintPrefix+id, id, on, why)
	return nil
}

func (g *registry) NodeMaintenance(on bool, why, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.maintenance(wire.NodeMaint, "", on, why)
	return nil
}
