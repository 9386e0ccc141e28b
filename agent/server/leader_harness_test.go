package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// pool is a gossip pool that a test writes by hand.
type pool struct {
	mu      sync.Mutex
	members map[string]serf.Member
	events  []chan serf.Event
	fired   []string
	looked  int // how often the members were listed
	forced  []string
}

func newPool() *pool { return &pool{members: map[string]serf.Member{}} }

func (p *pool) Members() []serf.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked++
	out := []serf.Member{}
	for _, m := range p.members {
		out = append(out, m)
	}
	return out
}

func (p *pool) ForceLeave(node string, _ bool) error {
	p.mu.Lock()
	m, ok := p.members[node]
	p.forced = append(p.forced, node)
	p.mu.Unlock()
	if !ok {
		return errors.New("no such member")
	}
	m.Status = serf.StatusLeft
	p.set(m, serf.EventMemberLeave)
	return nil
}

func (p *pool) UserEvent(name string, payload []byte, _ bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fired = append(p.fired, name+"="+string(payload))
	return nil
}

func (p *pool) subscribe() (<-chan serf.Event, func()) {
	ch := make(chan serf.Event, 100)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, ch)
	return ch, func() {}
}

// set makes m what the pool says of its member, and tells those who listen. The
// test may change m afterwards.
func (p *pool) set(m serf.Member, e serf.EventType) {
	m.Tags = maps.Clone(m.Tags)
	p.mu.Lock()
	p.members[m.Name] = m
	p.mu.Unlock()
	p.tell(m, e)
}

func (p *pool) tell(m serf.Member, e serf.EventType) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ch := range p.events {
		select {
		case ch <- serf.MemberEvent{Type: e, Members: []serf.Member{m}}:
		default:
		}
	}
}

func (p *pool) reap(m serf.Member) {
	p.mu.Lock()
	delete(p.members, m.Name)
	p.mu.Unlock()
	p.tell(m, serf.EventMemberReap)
}

func (p *pool) passes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looked
}

func client(name, ip string) serf.Member {
	return serf.Member{Name: name, Addr: net.ParseIP(ip), Status: serf.StatusAlive, Tags: map[string]string{
		"role": "node", "dc": "dc1", "id": "id-of-" + name, "vsn": "2", "build": "1.2.3:abcd",
	}}
}

func serverMember(name, id, addr string) serf.Member {
	ap := netip.MustParseAddrPort(addr)
	m := client(name, ap.Addr().String())
	m.Tags["role"], m.Tags["id"], m.Tags["port"], m.Tags["raft_vsn"] = "consul", id, strconv.Itoa(int(ap.Port())), "3"
	m.ProtocolMin, m.ProtocolMax, m.ProtocolCur = 1, 5, 2
	return m
}

// raftServer is a server without its listeners: Raft, the state, and the leader's part.
type raftServer struct {
	*consensus.Node
	fsm    *fsm.FSM
	leader *server.Leader
	ln     net.Listener
	id     string
	addr   string
	log    *logBuffer
}

func (n *raftServer) state() *state.Store { return n.fsm.State() }

// raftCluster is servers that share one pool and call each other without a network.
type raftCluster struct {
	t   *testing.T
	lan *pool

	mu    sync.Mutex
	nodes map[string]*raftServer // by address
}

func newRaftCluster(t *testing.T) *raftCluster {
	return &raftCluster{t: t, lan: newPool(), nodes: map[string]*raftServer{}}
}

var errGone = errors.New("nobody there")

// call is what Status.* of a server answers.
func (c *raftCluster) call(_ context.Context, addr, method string, _, reply any) error {
	c.mu.Lock()
	n := c.nodes[addr]
	c.mu.Unlock()
	if n == nil {
		return errGone
	}
	switch method {
	case "Status.Peers":
		return server.NewCluster(n.leader).Peers(context.Background(), nil, reply.(*[]string))
	case "Status.RaftStats":
		return server.NewCluster(n.leader).RaftStats(context.Background(), nil, reply.(*wire.RaftStats))
	}
	return fmt.Errorf("no method %s", method)
}

// start starts a server. It is not a member before join.
func (c *raftCluster) start(id string, change func(*consensus.Config, *server.LeaderConfig)) *raftServer {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	n := &raftServer{ln: ln, id: id, addr: ln.Addr().String(), log: &logBuffer{}}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: n.log})
	if n.fsm, err = fsm.New(log); err != nil {
		c.t.Fatal(err)
	}
	cc := consensus.Config{
		NodeID: id, NodeName: "node-" + id, Address: n.addr, FSM: n.fsm, Dev: true, Log: log.Named("raft"),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	}
	lc := server.LeaderConfig{
		Node: "node-" + id, NodeID: id, Datacenter: "dc1", LAN: c.lan, Events: c.lan.subscribe,
		State: n.fsm.State, Call: c.call, Log: log,
		Autopilot: wire.AutopilotConfig{
			CleanupDeadServers: true, LastContactThreshold: 10 * time.Second, MaxTrailingLogs: 250,
		},
		Times: server.LeaderTimes{
			Reconcile: 20 * time.Millisecond, Retry: 20 * time.Millisecond, Forget: time.Hour,
			CoordinateFlush: 20 * time.Millisecond, SessionRetry: 10 * time.Millisecond,
			AutopilotLoop: 20 * time.Millisecond, AutopilotHealth: 20 * time.Millisecond,
		},
	}
	if change != nil {
		change(&cc, &lc)
	}
	if n.Node, err = consensus.New(cc); err != nil {
		c.t.Fatal(err)
	}
	lc.Raft = n.Node
	n.leader = server.NewLeader(lc)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			n.Accept(conn)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { n.leader.Run(ctx) })
	c.mu.Lock()
	c.nodes[n.addr] = n
	c.mu.Unlock()
	c.t.Cleanup(func() {
		cancel()
		run.Wait()
		c.stop(n)
		if c.t.Failed() {
			c.t.Logf("log of %s:\n%s", id, n.log.tail(60))
		}
	})
	return n
}

func (c *raftCluster) stop(n *raftServer) {
	c.mu.Lock()
	delete(c.nodes, n.addr)
	c.mu.Unlock()
	n.ln.Close()
	n.Shutdown()
}

func foundsAlone(cc *consensus.Config, lc *server.LeaderConfig) { cc.Bootstrap.Alone = true }

// first starts a server that founds a cluster, as a member.
func (c *raftCluster) first(change func(*consensus.Config, *server.LeaderConfig)) *raftServer {
	c.t.Helper()
	n := c.start("a", func(cc *consensus.Config, lc *server.LeaderConfig) {
		foundsAlone(cc, lc)
		if change != nil {
			change(cc, lc)
		}
	})
	c.join(n)
	eventually(c.t, "the first server leads", n.ReadyForConsistentReads)
	eventually(c.t, "it is in the catalog", func() bool { return c.node(n, "node-a") != nil })
	return n
}

func (c *raftCluster) join(n *raftServer) {
	c.lan.set(serverMember("node-"+n.id, n.id, n.addr), serf.EventMemberJoin)
}

func (c *raftCluster) node(n *raftServer, name string) *wire.Node {
	c.t.Helper()
	_, out, err := n.state().Node(nil, name)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *raftCluster) health(n *raftServer, name string) (status, output string) {
	c.t.Helper()
	_, checks, err := n.state().NodeChecks(nil, name)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, check := range checks {
		if check.CheckID == wire.SerfHealth {
			return check.Status, check.Output
		}
	}
	return "", ""
}

func (n *raftServer) must(t *testing.T, typ fsm.MessageType, msg any) any {
	t.Helper()
	answer, err := n.Apply(t.Context(), typ, msg)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(n int) string {
	all := strings.Split(l.String(), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
