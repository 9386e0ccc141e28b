package server_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

func TestMembersComeIntoTheCatalogOnceAndStayAsTheyAre(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	c.lan.set(client("web", "10.1.2.3"), serf.EventMemberJoin)
	v6 := client("six", "2001:db8::1")
	c.lan.set(v6, serf.EventMemberJoin)
	other := client("other-dc", "10.9.9.9")
	other.Tags["dc"] = "dc2"
	c.lan.set(other, serf.EventMemberJoin)
	stranger := client("stranger", "10.9.9.8")
	stranger.Tags["role"] = "camera"
	c.lan.set(stranger, serf.EventMemberJoin)

	eventually(t, "both clients are in the catalog", func() bool { return c.node(n, "web") != nil && c.node(n, "six") != nil })
	web := c.node(n, "web")
	if web.ID != "id-of-web" || web.Address != "10.1.2.3" || web.Datacenter != "dc1" && web.Datacenter != "" {
		t.Errorf("registered %+v", web)
	}
	if got := fmt.Sprint(web.TaggedAddresses); got != "map[lan:10.1.2.3 lan_ipv4:10.1.2.3 wan:10.1.2.3 wan_ipv4:10.1.2.3]" {
		t.Errorf("tagged addresses: %s", got)
	}
	if got := fmt.Sprint(c.node(n, "six").TaggedAddresses); got != "map[lan:2001:db8::1 lan_ipv6:2001:db8::1 wan:2001:db8::1 wan_ipv6:2001:db8::1]" {
		t.Errorf("tagged addresses: %s", got)
	}
	if web.Meta["consul-version"] != "1.2.3" {
		t.Errorf("meta: %v", web.Meta)
	}
	if status, output := c.health(n, "web"); status != "passing" || output != "Agent alive and reachable" {
		t.Errorf("serfHealth is %s: %q", status, output)
	}
	_, services, err := n.state().NodeServices(nil, "node-a")
	if err != nil || services == nil || services.Services["consul"] == nil {
		t.Fatalf("the server's services: %+v, %v", services, err)
	}
	consul := services.Services["consul"]
	_, port, _ := net.SplitHostPort(n.addr)
	if fmt.Sprint(consul.Port) != port || consul.Meta["raft_version"] != "3" || consul.Meta["serf_protocol_max"] != "5" || consul.Meta["version"] != "1.2.3" {
		t.Errorf("the service consul: %+v", consul)
	}
	if _, web, _ := n.state().NodeServices(nil, "web"); web != nil && len(web.Services) != 0 {
		t.Errorf("a client has %v", web.Services)
	}
	if c.node(n, "other-dc") != nil || c.node(n, "stranger") != nil {
		t.Error("members of another datacenter, or of no known role, are in the catalog")
	}

	before, passes := n.LastIndex(), c.lan.passes()
	c.lan.tell(client("web", "10.1.2.3"), serf.EventMemberUpdate)
	eventually(t, "five more passes", func() bool { return c.lan.passes() > passes+40 })
	if after := n.LastIndex(); after != before {
		t.Errorf("wrote %d entries about members that had not changed", after-before)
	}
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	if !slices.Equal(c.lan.fired, []string{"consul:new-leader=node-a"}) {
		t.Errorf("told the members %q", c.lan.fired)
	}
}

func TestAMemberFailsAndComesBack(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	m := client("web", "10.1.2.3")
	c.lan.set(m, serf.EventMemberJoin)
	eventually(t, "it is there", func() bool { return c.node(n, "web") != nil })
	// What only its agent knows.
	n.must(t, fsm.Register, &wire.RegisterRequest{
		Node: "web", ID: "id-of-web", Address: "10.1.2.3", NodeMeta: map[string]string{"rack": "7", "consul-version": "1.2.3"},
		TaggedAddresses: map[string]string{"lan": "192.168.1.1", "wan": "198.51.100.1"},
		Service:         &wire.NodeService{ID: "s", Service: "s"},
	})

	m.Status = serf.StatusFailed
	c.lan.set(m, serf.EventMemberFailed)
	eventually(t, "it is critical", func() bool {
		status, output := c.health(n, "web")
		return status == "critical" && output == "Agent not live or unreachable"
	})
	if _, s, _ := n.state().NodeServices(nil, "web"); s == nil || s.Services["s"] == nil {
		t.Error("its service is gone")
	}
	m.Status = serf.StatusAlive
	c.lan.set(m, serf.EventMemberJoin)
	eventually(t, "it is passing", func() bool { status, _ := c.health(n, "web"); return status == "passing" })
	node := c.node(n, "web")
	if node.Meta["rack"] != "7" || node.TaggedAddresses["wan"] != "198.51.100.1" || node.TaggedAddresses["lan"] != "192.168.1.1" {
		t.Errorf("what its agent had written was changed: %+v", node)
	}

	// With a new address the leader knows better, for those that it knows.
	m.Addr = net.ParseIP("10.1.2.4")
	m.Tags["build"] = "1.3.0:beef"
	c.lan.set(m, serf.EventMemberUpdate)
	eventually(t, "it has its new address", func() bool { return c.node(n, "web").Address == "10.1.2.4" })
	node = c.node(n, "web")
	if node.Meta["rack"] != "7" || node.Meta["consul-version"] != "1.3.0" || node.TaggedAddresses["lan"] != "10.1.2.4" {
		t.Errorf("registered %+v", node)
	}

	// One that nobody knew before it failed is there too, and critical.
	unknown := client("late", "10.1.2.9")
	unknown.Status = serf.StatusFailed
	c.lan.set(unknown, serf.EventMemberFailed)
	eventually(t, "the unknown one is critical", func() bool { status, _ := c.health(n, "late"); return status == "critical" })
	before, passes := n.LastIndex(), c.lan.passes()
	eventually(t, "more passes", func() bool { return c.lan.passes() > passes+40 })
	if after := n.LastIndex(); after != before {
		t.Errorf("wrote %d entries about members that had not changed", after-before)
	}
}

func TestAMemberThatLeftOrWasReapedGoesWithAllItHad(t *testing.T) {
	t.Parallel()
	for name, go1 := range map[string]func(*raftCluster, serf.Member){
		"left": func(c *raftCluster, m serf.Member) {
			m.Status = serf.StatusLeft
			c.lan.set(m, serf.EventMemberLeave)
		},
		"reaped": func(c *raftCluster, m serf.Member) {
			m.Status = serf.StatusFailed
			c.lan.reap(m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newRaftCluster(t)
			n := c.first(nil)
			m := client("web", "10.1.2.3")
			c.lan.set(m, serf.EventMemberJoin)
			eventually(t, "it is there", func() bool { return c.node(n, "web") != nil })
			n.must(t, fsm.Register, &wire.RegisterRequest{
				Node: "web", ID: "id-of-web", Address: "10.1.2.3", SkipNodeUpdate: true,
				Service: &wire.NodeService{ID: "s", Service: "s"}, Check: &wire.HealthCheck{CheckID: "c", ServiceID: "s", Status: "passing"},
			})
			go1(c, m)
			eventually(t, "it is gone", func() bool { return c.node(n, "web") == nil })
			if _, nodes, _ := n.state().ServiceNodes(nil, "s", nil, nil); len(nodes) != 0 {
				t.Error("its service is still there")
			}
			// Nodes that were never members stay.
			n.must(t, fsm.Register, &wire.RegisterRequest{Node: "external", Address: "203.0.113.1"})
			passes := c.lan.passes()
			eventually(t, "more passes", func() bool { return c.lan.passes() > passes+20 })
			if c.node(n, "external") == nil {
				t.Error("a node that was never a member is gone")
			}
		})
	}
}

func TestTheLeaderNeverDeregistersItself(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(func(_ *consensus.Config, lc *server.LeaderConfig) { lc.Times.Forget = time.Millisecond })
	m := serverMember("node-a", "a", n.addr)
	m.Status = serf.StatusLeft
	c.lan.set(m, serf.EventMemberLeave)
	eventually(t, "it says so", func() bool { return strings.Contains(n.log.String(), "does not deregister itself") })
	c.lan.reap(m)
	passes := c.lan.passes()
	eventually(t, "more passes", func() bool { return c.lan.passes() > passes+20 })
	if c.node(n, "node-a") == nil {
		t.Error("the leader has deregistered itself")
	}
	if len(n.Peers()) != 1 {
		t.Errorf("the cluster is %q", n.Peers())
	}
}

// A leader whose gossip knows a node no more keeps it for a while: the leader may
// have come up a moment ago.
func TestANodeThatGossipDoesNotKnow(t *testing.T) {
	t.Parallel()
	register := func(n *raftServer) {
		n.must(t, fsm.Register, &wire.RegisterRequest{
			Node: "old", ID: "id-of-old", Address: "10.1.2.3",
			Check: &wire.HealthCheck{CheckID: wire.SerfHealth, Name: "Serf Health Status", Status: "passing", Output: "Agent alive and reachable"},
		})
	}
	t.Run("is critical", func(t *testing.T) {
		c := newRaftCluster(t)
		n := c.first(nil)
		register(n)
		eventually(t, "it is critical", func() bool { status, _ := c.health(n, "old"); return status == "critical" })
		c.lan.set(client("old", "10.1.2.3"), serf.EventMemberJoin)
		eventually(t, "it is back", func() bool { status, _ := c.health(n, "old"); return status == "passing" })
	})
	t.Run("is forgotten", func(t *testing.T) {
		c := newRaftCluster(t)
		n := c.first(func(_ *consensus.Config, lc *server.LeaderConfig) { lc.Times.Forget = 100 * time.Millisecond })
		register(n)
		eventually(t, "it is gone", func() bool { return c.node(n, "old") == nil })
	})
}

func (n *raftServer) session(t *testing.T, id, ttl string) {
	t.Helper()
	n.must(t, fsm.Session, &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{ID: id, Node: "node-a", TTL: ttl}})
}

func (n *raftServer) hasSession(id string) bool {
	_, s, err := n.state().SessionGet(nil, id)
	return err == nil && s != nil
}

func TestASessionEndsAfterTwiceItsTTL(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	ids := []string{}
	for i := range 5 {
		ids = append(ids, fmt.Sprintf("00000000-0000-0000-0000-00000000000%d", i))
		n.session(t, ids[i], "10s")
	}
	begun := time.Now()
	const ttl = 50 * time.Millisecond
	n.leader.ResetSession(ids[0], ttl)
	n.leader.ResetSession(ids[1], time.Hour)
	n.leader.ResetSession(ids[2], ttl)
	n.leader.ResetSession(ids[2], 0) // no TTL any more
	n.leader.ResetSession(ids[3], ttl)
	n.leader.ClearSession(ids[3])
	n.leader.ResetSession(ids[4], ttl)
	n.leader.ResetSession(ids[4], time.Hour) // renewed
	eventually(t, "the first is over", func() bool { return !n.hasSession(ids[0]) })
	if took := time.Since(begun); took < 2*ttl {
		t.Errorf("it was over after %s", took)
	}
	n.leader.ResetSession("00000000-0000-0000-0000-00000000000f", time.Nanosecond) // there is none
	for _, id := range ids[1:] {
		if !n.hasSession(id) {
			t.Errorf("session %s is gone", id)
		}
	}
}

// A session that a leader finds in the state has its whole time before it, and
// one whose leader stopped leading is the next one's business.
func TestANewLeaderKeepsTheTimeOfOldSessions(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	id := "00000000-0000-0000-0000-000000000001"
	n.session(t, id, "50ms") // as a session_ttl_min of tests allows
	n.leader.Restored()
	eventually(t, "the duties begin anew", func() bool { return strings.Count(n.log.String(), "this server leads now") == 2 })
	eventually(t, "it is over", func() bool { return !n.hasSession(id) })
}

func TestTombstonesAreCollected(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(func(_ *consensus.Config, lc *server.LeaderConfig) {
		lc.Times.TombstoneTTL, lc.Times.TombstoneGrain = 50*time.Millisecond, 10*time.Millisecond
	})
	left := func() int {
		snap := n.state().Snapshot()
		defer snap.Close()
		count := 0
		for range snap.Tombstones() {
			count++
		}
		return count
	}
	for _, key := range []string{"a", "b"} {
		n.must(t, fsm.KVS, &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte("v")}})
		n.must(t, fsm.KVS, &wire.KVSRequest{Op: wire.KVDelete, DirEnt: wire.DirEntry{Key: key}})
		if left() == 0 {
			t.Fatal("a delete left no tombstone")
		}
		eventually(t, "it is collected", func() bool { return left() == 0 })
	}
}

func TestCoordinatesAreWrittenInBatches(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	c.lan.set(client("web", "10.1.2.3"), serf.EventMemberJoin)
	eventually(t, "it is there", func() bool { return c.node(n, "web") != nil })
	coord := coordinate.NewCoordinate(coordinate.DefaultConfig())
	for i := range 10 {
		coord.Vec[0] = float64(i)
		if err := n.leader.UpdateCoordinate(&wire.CoordinateUpdateRequest{Node: "web", Coord: coord}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the newest is written", func() bool {
		_, got, err := n.state().NodeCoordinates(nil, "web")
		return err == nil && len(got) == 1 && got[0].Coord.Vec[0] == 9
	})
	for i := range 2000 {
		if err := n.leader.UpdateCoordinate(&wire.CoordinateUpdateRequest{Node: fmt.Sprint("n", i), Coord: coord}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "what is too much is dropped, and said", func() bool { return strings.Contains(n.log.String(), "dropped coordinates") })
	for name, bad := range map[string]*coordinate.Coordinate{"none": nil, "not a number": {Vec: []float64{nan()}}} {
		if err := n.leader.UpdateCoordinate(&wire.CoordinateUpdateRequest{Node: "web", Coord: bad}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func nan() float64 { z := 0.0; return z / z }
