package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/agent/server/consensus"
	"lictor/rpc/wire"
)

func (c *raftCluster) ids(n *raftServer, voters bool) []string {
	out := []string{}
	for _, s := range n.Servers() {
		if !voters || s.Suffrage == 0 {
			out = append(out, string(s.ID))
		}
	}
	slices.Sort(out)
	return out
}

// three is a cluster of three servers that joined one after the other.
func (c *raftCluster) three(change func(*consensus.Config, *server.LeaderConfig)) []*raftServer {
	c.t.Helper()
	steady := func(cc *consensus.Config, lc *server.LeaderConfig) {
		// The machine that runs the tests is busy: elections are not to be won by
		// accident.
		cc.Dev, cc.Settings.Multiplier = false, 1
		if change != nil {
			change(cc, lc)
		}
	}
	out := []*raftServer{c.first(steady)}
	for _, id := range []string{"b", "c"} {
		n := c.start(id, steady)
		c.join(n)
		out = append(out, n)
	}
	eventually(c.t, "three servers have a vote, and autopilot knows", func() bool {
		var st wire.AutopilotState
		return len(c.ids(out[0], true)) == 3 && server.NewCluster(out[0].leader).AutopilotState(c.t.Context(), nil, &st) == nil && len(st.Voters) == 3
	})
	return out
}

func (c *raftCluster) leader(nodes ...*raftServer) *raftServer {
	c.t.Helper()
	var lead *raftServer
	eventually(c.t, "a leader", func() bool {
		for _, n := range nodes {
			if n.ReadyForConsistentReads() {
				lead = n
			}
		}
		return lead != nil
	})
	return lead
}

func TestServersJoinGetAVoteAndLeave(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	nodes := c.three(nil)
	m := serverMember("node-b", "b", nodes[1].addr)
	m.Status = serf.StatusLeft
	c.lan.set(m, serf.EventMemberLeave)
	eventually(t, "it is out of the cluster", func() bool { return slices.Equal(c.ids(nodes[0], false), []string{"a", "c"}) })
	eventually(t, "it is out of the catalog", func() bool { return c.node(nodes[0], "node-b") == nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := nodes[1].AwaitRemoval(ctx); err != nil {
		t.Log("the server that left was not told, which Raft does not promise:", err)
	}
	c.join(nodes[1])
	eventually(t, "it is back", func() bool { return len(c.ids(nodes[0], true)) == 3 })
}

func TestADeadServerIsCleanedUp(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	nodes := c.three(nil)
	dead := nodes[2]
	c.stop(dead)
	m := serverMember("node-c", "c", dead.addr)
	m.Status = serf.StatusFailed
	c.lan.set(m, serf.EventMemberFailed)
	eventually(t, "it is out of the cluster", func() bool { return slices.Equal(c.ids(nodes[0], false), []string{"a", "b"}) })
	// Of two servers the other one is not removed, whatever gossip says: nobody
	// would be left to agree. Autopilot has to have seen that there are two.
	passes := c.lan.passes()
	eventually(t, "a few passes", func() bool { return c.lan.passes() > passes+20 })
	m = serverMember("node-b", "b", nodes[1].addr)
	m.Status = serf.StatusFailed
	c.lan.set(m, serf.EventMemberFailed)
	eventually(t, "it is critical", func() bool { status, _ := c.health(nodes[0], "node-b"); return status == "critical" })
	passes = c.lan.passes()
	eventually(t, "more passes", func() bool { return c.lan.passes() > passes+40 })
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	if slices.Contains(c.lan.forced, "node-b") {
		t.Error("the last but one server was removed")
	}
}

// Two clusters whose gossip has met keep their data.
func TestAServerOfAnotherClusterIsNotAdded(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	other := newRaftCluster(t)
	foreign := other.start("z", foundsAlone)
	eventually(t, "the other cluster has its leader", foreign.ReadyForConsistentReads)
	c.mu.Lock()
	c.nodes[foreign.addr] = foreign
	c.mu.Unlock()
	c.join(foreign)
	eventually(t, "it is refused", func() bool { return strings.Contains(n.log.String(), "two clusters have joined each other's gossip") })
	passes := c.lan.passes()
	eventually(t, "more passes", func() bool { return c.lan.passes() > passes+40 })
	if got := c.ids(n, false); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the cluster is %q", got)
	}
	if got := strings.Count(n.log.String(), "not adding a server"); got != 1 {
		t.Errorf("it is said %d times", got)
	}
	// It is still seen in the catalog: that it is alive is true.
	eventually(t, "it is in the catalog", func() bool { return c.node(n, "node-z") != nil })
}

func TestServersThatAreUnfitAreNotAdded(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(func(_ *consensus.Config, lc *server.LeaderConfig) { lc.Bootstrap = true })
	free := c.start("b", nil)
	for name, spoil := range map[string]func(*serf.Member){
		"no id":          func(m *serf.Member) { delete(m.Tags, "id") },
		"our id":         func(m *serf.Member) { m.Tags["id"] = "a" },
		"bootstrap too":  func(m *serf.Member) { m.Tags["bootstrap"] = "1" },
		"other protocol": func(m *serf.Member) { m.Tags["raft_vsn"] = "2" },
		"no answer":      func(m *serf.Member) { m.Tags["port"] = "1" },
	} {
		m := serverMember("bad "+name, "id "+name, free.addr)
		spoil(&m)
		c.lan.set(m, serf.EventMemberJoin)
	}
	eventually(t, "four are refused", func() bool { return strings.Count(n.log.String(), "not adding a server") == 4 })
	passes := c.lan.passes()
	eventually(t, "more passes", func() bool { return c.lan.passes() > passes+40 })
	if got := c.ids(n, false); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the cluster is %q", got)
	}
}

func TestAServerComesBackWithAnotherAddress(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	nodes := c.three(nil)
	c.stop(nodes[2])
	// Raft reads the old address without its lock at the end of a call that has
	// succeeded; by now there is none.
	eventually(t, "the leader misses it", func() bool { return strings.Contains(nodes[0].log.String(), "failed to heartbeat to: peer="+nodes[2].addr) })
	again := c.start("c", nil)
	c.join(again)
	eventually(t, "the cluster has its new address", func() bool { return slices.Contains(nodes[0].Peers(), again.addr) && len(nodes[0].Peers()) == 3 })
	eventually(t, "it has the state", func() bool { return c.node(again, "node-a") != nil })
}

func TestOperatorAnswers(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	nodes := c.three(nil)
	lead := c.leader(nodes...)
	op := server.NewCluster(lead.leader)
	ctx := t.Context()

	var conf wire.RaftConfiguration
	if err := op.RaftGetConfiguration(ctx, &wire.DCSpecificRequest{}, &conf); err != nil {
		t.Fatal(err)
	}
	if len(conf.Servers) != 3 {
		t.Fatalf("configuration: %+v", conf)
	}
	for _, s := range conf.Servers {
		if s.Node != "node-"+s.ID || !s.Voter || s.ProtocolVersion != "3" || s.Leader != (s.ID == lead.id) {
			t.Errorf("server: %+v", s)
		}
	}
	var peers []string
	if err := op.Peers(ctx, nil, &peers); err != nil || len(peers) != 3 {
		t.Errorf("peers: %q, %v", peers, err)
	}
	for _, n := range nodes {
		var stats wire.RaftStats
		if err := server.NewCluster(n.leader).RaftStats(ctx, nil, &stats); err != nil {
			t.Error(err)
		}
		if d, err := time.ParseDuration(stats.LastContact); err != nil || (d == 0) != (n == lead) || stats.LastTerm == 0 {
			t.Errorf("%s: %+v, %v", n.id, stats, err)
		}
	}

	var health wire.AutopilotHealth
	eventually(t, "all servers are healthy", func() bool {
		return op.ServerHealth(ctx, nil, &health) == nil && health.Healthy && len(health.Servers) == 3 && health.FailureTolerance == 1
	})
	var st wire.AutopilotState
	if err := op.AutopilotState(ctx, nil, &st); err != nil {
		t.Fatal(err)
	}
	if st.Leader != lead.id || len(st.Voters) != 3 || st.Servers[lead.id].Status != "leader" || st.Servers[lead.id].NodeType != "voter" || st.Servers[lead.id].NodeStatus != "alive" {
		t.Errorf("state: %+v %+v", st, st.Servers[lead.id])
	}

	var ap wire.AutopilotConfig
	if err := op.AutopilotGetConfiguration(ctx, nil, &ap); err != nil || !ap.CleanupDeadServers || ap.MaxTrailingLogs != 250 {
		t.Fatalf("autopilot: %+v, %v", ap, err)
	}
	set := func(cas bool, index uint64) bool {
		t.Helper()
		next := ap
		next.MaxTrailingLogs++
		next.ModifyIndex = index
		var done bool
		if err := op.AutopilotSetConfiguration(ctx, &wire.AutopilotSetConfigRequest{Config: next, CAS: cas}, &done); err != nil {
			t.Fatal(err)
		}
		return done
	}
	if set(true, ap.ModifyIndex+1000) || !set(true, ap.ModifyIndex) || !set(false, 0) {
		t.Error("set with an old index, or not set with the right one, or with none")
	}
	var done bool
	if err := op.AutopilotSetConfiguration(ctx, &wire.AutopilotSetConfigRequest{Config: wire.AutopilotConfig{LastContactThreshold: -1}}, &done); err == nil || done {
		t.Error("a negative threshold was taken")
	}

	for _, c := range []struct {
		err  error
		want string
	}{
		{op.RaftRemovePeerByID(ctx, &wire.RaftRemovePeerRequest{ID: "zz"}, nil), `id "zz" was not found in the Raft configuration`},
		{op.RaftRemovePeerByAddress(ctx, &wire.RaftRemovePeerRequest{Address: "1.2.3.4:5"}, nil), `address "1.2.3.4:5" was not found in the Raft configuration`},
		{op.TransferLeader(ctx, &wire.TransferLeaderRequest{ID: "zz"}, &wire.TransferLeaderResponse{}), "Could not find address for server id zz"},
	} {
		if fmt.Sprint(c.err) != c.want {
			t.Errorf("the error is %v, want %s", c.err, c.want)
		}
	}

	next := nodes[(slices.Index(nodes, lead)+1)%3]
	var moved wire.TransferLeaderResponse
	if err := op.TransferLeader(ctx, &wire.TransferLeaderRequest{ID: next.id}, &moved); err != nil || !moved.Success {
		t.Fatalf("transfer: %v", err)
	}
	eventually(t, "the other one leads", next.ReadyForConsistentReads)
	op = server.NewCluster(next.leader)
	if err := op.RaftRemovePeerByAddress(ctx, &wire.RaftRemovePeerRequest{Address: lead.addr}, nil); err != nil {
		t.Error(err)
	}
}
