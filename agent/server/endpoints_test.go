package server_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server"
	"lictor/agent/server/fsm"
	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// cluster is some servers whose consensus is a list that is applied to all of
// them at once, or to those that are not cut off.
type cluster struct {
	mu     sync.Mutex // guards the fields below, and raftNode's
	index  uint64
	leader *raftNode // nil: none
	nodes  []*raftNode
}

// raftNode is a server's view of the cluster. It is a server.Consensus and a
// server.Duties.
type raftNode struct {
	c    *cluster
	fsm  *fsm.FSM
	id   string
	addr string

	// All are guarded by c.mu.
	notReady    bool
	behind      bool  // entries do not reach it
	refuse      error // of VerifyLeader
	verified    int
	applies     int
	lastContact time.Duration
	afterApply  func() // called without the lock, before Apply returns
	sessions    map[string]time.Duration
	coordinates []*wire.CoordinateUpdateRequest
}

func newRaftNode(t testing.TB, c *cluster, id string) *raftNode {
	t.Helper()
	f, err := fsm.New(hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	n := &raftNode{c: c, fsm: f, id: id, sessions: map[string]time.Duration{}}
	c.nodes = append(c.nodes, n)
	return n
}

func (n *raftNode) locked(fn func()) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	fn()
}

func (n *raftNode) IsLeader() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.leader == n
}

func (n *raftNode) Leader() (addr, id string) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.leader == nil {
		return "", ""
	}
	return n.c.leader.addr, n.c.leader.id
}

func (n *raftNode) Apply(_ context.Context, t fsm.MessageType, msg any) (any, error) {
	data, err := fsm.Encode(t, msg)
	if err != nil {
		return nil, err
	}
	n.c.mu.Lock()
	if n.c.leader != n {
		n.c.mu.Unlock()
		return nil, rpc.ErrNoLeader
	}
	n.c.index++
	n.applies++
	var result any
	for _, other := range n.c.nodes {
		if other.behind && other != n {
			continue
		}
		r := other.fsm.Apply(&raft.Log{Index: n.c.index, Type: raft.LogCommand, Data: data})
		if other == n {
			result = r
		}
	}
	after := n.afterApply
	n.c.mu.Unlock()
	if after != nil {
		after()
	}
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

func (n *raftNode) VerifyLeader(context.Context) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.verified++
	return n.refuse
}

func (n *raftNode) ReadyForConsistentReads() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return !n.notReady
}

func (n *raftNode) LastContact() time.Duration {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.lastContact
}

func (n *raftNode) ResetSession(id string, ttl time.Duration) {
	n.locked(func() { n.sessions[id] = ttl })
}
func (n *raftNode) ClearSession(id string) { n.locked(func() { delete(n.sessions, id) }) }
func (n *raftNode) UpdateCoordinate(req *wire.CoordinateUpdateRequest) error {
	n.locked(func() { n.coordinates = append(n.coordinates, req) })
	return nil
}

// operators is a server.Operator that says which method it was.
type operators struct{ last string }

func (o *operators) Peers(_ context.Context, _ *wire.DCSpecificRequest, reply *[]string) error {
	*reply = []string{"10.0.0.1:8300"}
	return nil
}
func (o *operators) RaftStats(_ context.Context, _ *wire.Empty, reply *wire.RaftStats) error {
	reply.LastIndex = 7
	return nil
}
func (o *operators) RaftGetConfiguration(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.RaftConfiguration) error {
	reply.Index = 9
	return nil
}
func (o *operators) RaftRemovePeerByAddress(context.Context, *wire.RaftRemovePeerRequest, *wire.Empty) error {
	o.last = "address"
	return nil
}
func (o *operators) RaftRemovePeerByID(_ context.Context, req *wire.RaftRemovePeerRequest, _ *wire.Empty) error {
	return errors.New("id \"" + req.ID + "\" was not found in the Raft configuration")
}
func (o *operators) TransferLeader(_ context.Context, _ *wire.TransferLeaderRequest, reply *wire.TransferLeaderResponse) error {
	reply.Success = true
	return nil
}
func (o *operators) AutopilotGetConfiguration(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotConfig) error {
	reply.MaxTrailingLogs = 250
	return nil
}
func (o *operators) AutopilotSetConfiguration(_ context.Context, _ *wire.AutopilotSetConfigRequest, reply *bool) error {
	*reply = true
	return nil
}
func (o *operators) ServerHealth(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotHealth) error {
	reply.Healthy = true
	return nil
}
func (o *operators) AutopilotState(_ context.Context, _ *wire.DCSpecificRequest, reply *wire.AutopilotState) error {
	reply.Leader = "a"
	return nil
}

// node is a whole server but for Raft and gossip.
type node struct {
	*server.Endpoints
	raft   *raftNode
	router *rpc.Router
	pool   *rpc.Pool
	server *rpc.Server
	target rpc.Target
	ln     *cuttable
	stop   func() // returns when nothing of the server runs any more
}

type options struct {
	dc       string
	stanza   tlsutil.Stanza
	addrRole func(netip.Addr) tlsutil.Role
}

// startNode runs a server on a free port until the test ends. Without
// certificates everybody's address is a server's.
func startNode(t testing.TB, c *cluster, id string, o options) *node {
	t.Helper()
	if o.dc == "" {
		o.dc = "dc1"
	}
	if o.addrRole == nil {
		o.addrRole = func(netip.Addr) tlsutil.Role { return tlsutil.RoleServer }
	}
	tls, err := tlsutil.New(tlsutil.Config{InternalRPC: o.stanza, Datacenter: o.dc, Domain: "consul"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{raft: newRaftNode(t, c, id), ln: &cuttable{Listener: ln}}
	n.raft.addr = ln.Addr().String()
	n.target = rpc.Target{Addr: n.raft.addr, Datacenter: o.dc, Name: id}
	n.pool = rpc.NewPool(rpc.PoolConfig{TLS: tls})
	n.router = rpc.NewRouter(o.dc, n.pool, rpc.RouterOptions{HoldTimeout: 2 * time.Second})
	n.Endpoints = newEndpoints(n.raft, n.router, o.dc)
	n.server, err = rpc.NewServer(rpc.ServerConfig{Table: n.Table(), TLS: tls, AddrRole: o.addrRole})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.server.Serve(ctx, n.ln) }()
	n.stop = sync.OnceFunc(func() {
		n.pool.Close()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve did not return: a handler is still waiting")
		}
	})
	t.Cleanup(n.stop)
	return n
}

func newEndpoints(r *raftNode, router *rpc.Router, dc string) *server.Endpoints {
	return server.New(server.Config{
		Datacenter: dc,
		NodeID:     r.id,
		Router:     router,
		Log:        hclog.NewNullLogger(),
		Consensus:  r,
		State:      r.fsm.State,
		Duties:     r,
		Operator:   &operators{},
		Info:       func() wire.NodeStatus { return wire.NodeStatus{Node: r.id} },
	})
}

// startCluster runs servers a, b, ... of one datacenter; a is the leader.
func startCluster(t testing.TB, ids ...string) (*cluster, []*node) {
	t.Helper()
	c := &cluster{}
	var nodes []*node
	for _, id := range ids {
		nodes = append(nodes, startNode(t, c, id, options{}))
	}
	c.lead(nodes[0].raft)
	for _, n := range nodes {
		var others []rpc.Target
		for _, o := range nodes {
			if o != n {
				others = append(others, o.target)
			}
		}
		n.router.SetServers("dc1", others)
	}
	return c, nodes
}

// lead makes a node the leader; nil: nobody.
func (c *cluster) lead(n *raftNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = n
}

// cuttable is a listener whose connections a test can cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *cuttable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// alone is a server that leads itself and has no network.
func alone(t testing.TB) (*server.Endpoints, *raftNode) {
	t.Helper()
	c := &cluster{}
	r := newRaftNode(t, c, "a")
	r.addr = "10.0.0.1:8300"
	c.leader = r
	pool := rpc.NewPool(rpc.PoolConfig{})
	t.Cleanup(func() { pool.Close() })
	return newEndpoints(r, rpc.NewRouter("dc1", pool, rpc.RouterOptions{}), "dc1"), r
}

// call calls a method that must succeed.
func call[Reply any](t testing.TB, e *server.Endpoints, method string, args any) Reply {
	t.Helper()
	var reply Reply
	if err := e.Call(testContext(t), method, args, &reply); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return reply
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of fake time, where that is what there is
	t.Cleanup(cancel)
	return ctx
}

func set(t testing.TB, e *server.Endpoints, key, value string) {
	t.Helper()
	call[bool](t, e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte(value)}})
}

func get(t testing.TB, e *server.Endpoints, req wire.KeyRequest) wire.IndexedDirEntries {
	t.Helper()
	return call[wire.IndexedDirEntries](t, e, "KVS.Get", &req)
}

// register registers a node with a service and a check for it; "" for none.
func register(t testing.TB, e *server.Endpoints, nodeName, service string, tags ...string) {
	t.Helper()
	req := &wire.RegisterRequest{Node: nodeName, Address: "10.0.0.9", NodeMeta: map[string]string{"rack": nodeName}}
	if service != "" {
		req.Service = &wire.NodeService{Service: service, Tags: tags, Port: 80, Meta: map[string]string{"v": "1"}}
		req.Checks = []*wire.HealthCheck{{CheckID: "c-" + service, Name: "c", Status: wire.HealthPassing, ServiceID: service}}
	}
	call[wire.Empty](t, e, "Catalog.Register", req)
}

// place gives nodes coordinates at a distance from the origin, in seconds.
func place(t testing.TB, r *raftNode, at map[string]float64) {
	t.Helper()
	var updates []*wire.Coordinate
	for name, seconds := range at {
		c := coordinate.NewCoordinate(coordinate.DefaultConfig())
		c.Vec[0] = seconds
		updates = append(updates, &wire.Coordinate{Node: name, Coord: c})
	}
	if _, err := r.Apply(context.Background(), fsm.CoordinateBatch, &fsm.CoordinateBatchRequest{Updates: updates}); err != nil {
		t.Fatal(err)
	}
}

func withDeadline(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
