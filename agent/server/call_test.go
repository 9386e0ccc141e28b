package server_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"lictor/rpc"
	"lictor/rpc/wire"
)

func TestCallIsTyped(t *testing.T) {
	e, _ := alone(t)
	set(t, e, "a", "1")
	var entries wire.IndexedDirEntries
	if err := e.Call(testContext(t), "KVS.Get", wire.KeyRequest{Key: "a"}, &entries); err != nil || len(entries.Entries) != 1 {
		t.Errorf("a request by value: %+v, %v", entries, err)
	}
	if err := e.Call(testContext(t), "KVS.Get", &wire.KeyRequest{Key: "a"}, nil); err != nil {
		t.Errorf("nobody wants the reply: %v", err)
	}
	for name, row := range map[string]struct {
		method      string
		args, reply any
		want        string
	}{
		"wrong request":        {"KVS.Get", &wire.KVSRequest{}, &entries, "server: KVS.Get takes *wire.KeyRequest, not *wire.KVSRequest"},
		"wrong reply":          {"KVS.Get", &wire.KeyRequest{}, new(bool), "server: KVS.Get gives *wire.IndexedDirEntries, not *bool"},
		"no such method":       {"KVS.Steal", &wire.KeyRequest{}, &entries, "rpc: can't find method KVS.Steal"},
		"not one for a caller": {"Agent.Monitor", &wire.MonitorRequest{}, nil, "rpc: can't find method Agent.Monitor"},
	} {
		if err := e.Call(testContext(t), row.method, row.args, row.reply); err == nil || err.Error() != row.want {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

// What a caller gave stays as it was: the agent keeps what it registers.
func TestCallDoesNotChangeItsArguments(t *testing.T) {
	e, _ := alone(t)
	svc := &wire.NodeService{Service: "web"}
	check := &wire.HealthCheck{Name: "c"}
	req := &wire.RegisterRequest{Node: "n", Address: "10.0.0.1", Service: svc, Check: check}
	call[wire.Empty](t, e, "Catalog.Register", req)
	if svc.ID != "" || svc.Weights != nil || check.CheckID != "" || check.Node != "" || req.Check != check || req.Checks != nil {
		t.Errorf("changed: %+v, %+v, %+v", req, svc, check)
	}
	session := &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{Node: "n"}}
	call[string](t, e, "Session.Apply", session)
	if session.Session.ID != "" || session.Session.Behavior != "" {
		t.Errorf("changed: %+v", session)
	}
}

func TestForwardToLeader(t *testing.T) {
	c, nodes := startCluster(t, "a", "b", "c")
	for i, n := range nodes {
		set(t, n.Endpoints, n.target.Name, "1")
		for _, from := range nodes {
			if got := get(t, from.Endpoints, wire.KeyRequest{Key: n.target.Name}); len(got.Entries) != 1 || got.LastContact != 0 {
				t.Errorf("%d: at %s: %+v", i, from.target.Name, got)
			}
		}
	}
	// Errors of the leader come with one prefix, those of the request with none.
	bad := &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{Node: "nobody"}}
	err := nodes[1].Call(testContext(t), "Session.Apply", bad, nil)
	if err == nil || err.Error() != "rpc error making call: apply failed: Missing node registration" {
		t.Errorf("an error of the leader: %v", err)
	}
	err = nodes[1].Call(testContext(t), "Catalog.Register", &wire.RegisterRequest{}, nil)
	if err == nil || err.Error() != "Must provide node" {
		t.Errorf("an error of the request: %v", err)
	}

	// Another server becomes the leader.
	c.lead(nodes[2].raft)
	set(t, nodes[0].Endpoints, "after", "1")
	if got := get(t, nodes[1].Endpoints, wire.KeyRequest{Key: "after"}); len(got.Entries) != 1 {
		t.Errorf("got %+v", got)
	}
}

// A blocking query at a follower waits on the leader, and nobody waits for a
// caller that has gone.
func TestForwardedBlockingQuery(t *testing.T) {
	_, nodes := startCluster(t, "a", "b")
	set(t, nodes[0].Endpoints, "a", "1")
	idx := get(t, nodes[1].Endpoints, wire.KeyRequest{Key: "a"}).Index

	done := make(chan error, 1)
	var reply wire.IndexedDirEntries
	go func() {
		req := &wire.KeyRequest{Key: "a", QueryOptions: wire.QueryOptions{MinQueryIndex: idx, MaxQueryTime: patience}}
		done <- nodes[1].Call(testContext(t), "KVS.Get", req, &reply)
	}()
	set(t, nodes[1].Endpoints, "a", "2")
	if err := <-done; err != nil || string(reply.Entries[0].Value) != "2" {
		t.Errorf("got %+v, %v", reply, err)
	}

	// Of a thousand and more that were given up, none holds a stream: the session
	// would take no more (Limits.MaxStreams).
	for range 12 {
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				ctx, cancel := withDeadline(10 * time.Millisecond)
				defer cancel()
				req := &wire.KeyRequest{Key: "a", QueryOptions: wire.QueryOptions{MinQueryIndex: 1 << 40, MaxQueryTime: time.Hour}}
				nodes[1].Call(ctx, "KVS.Get", req, nil)
			})
		}
		callers.Wait()
	}
	set(t, nodes[1].Endpoints, "a", "3")
}

// A client's blocking query outlives the server that it waits at: its router
// asks another one.
func TestBlockingQueryOutlivesItsServer(t *testing.T) {
	_, nodes := startCluster(t, "a", "b", "c")
	set(t, nodes[0].Endpoints, "a", "1")
	pool := rpc.NewPool(rpc.PoolConfig{})
	t.Cleanup(func() { pool.Close() })
	client := rpc.NewRouter("dc1", pool, rpc.RouterOptions{})
	client.SetServers("dc1", []rpc.Target{nodes[2].target}) // stays the first
	if err := client.Call(testContext(t), "", "Status.Ping", wire.Empty{}, nil); err != nil {
		t.Fatal(err)
	}
	for client.Servers("dc1")[0] != nodes[2].target || len(client.Servers("dc1")) < 2 {
		client.SetServers("dc1", []rpc.Target{nodes[2].target})
		client.SetServers("dc1", []rpc.Target{nodes[2].target, nodes[1].target})
	}
	idx := get(t, nodes[0].Endpoints, wire.KeyRequest{Key: "a"}).Index
	var reply wire.IndexedDirEntries
	done := make(chan error, 1)
	go func() {
		o := wire.QueryOptions{MinQueryIndex: idx, MaxQueryTime: patience, AllowStale: true}
		done <- client.Call(testContext(t), "", "KVS.Get", &wire.KeyRequest{Key: "a", QueryOptions: o}, &reply)
	}()
	nodes[2].stop()
	set(t, nodes[0].Endpoints, "a", "2")
	if err := <-done; err != nil || string(reply.Entries[0].Value) != "2" {
		t.Errorf("got %+v, %v", reply.Entries, err)
	}
}

// A write whose connection broke after it was sent is not sent again: it may
// have been done, and here it was. A read is.
func TestWriteIsNotSentTwice(t *testing.T) {
	_, nodes := startCluster(t, "a", "b")
	leader, follower := nodes[0], nodes[1]
	set(t, follower.Endpoints, "a", "1")
	leader.raft.locked(func() { leader.raft.applies = 0; leader.raft.afterApply = leader.ln.cut })

	err := follower.Call(testContext(t), "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "a", Value: []byte("2")}}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "rpc error making call: ") || errors.Is(err, rpc.ErrNoLeader) {
		t.Errorf("got %v, want an error that says that the answer is not known", err)
	}
	leader.raft.locked(func() {
		if leader.raft.applies != 1 {
			t.Errorf("the write was done %d times", leader.raft.applies)
		}
		leader.raft.afterApply = nil
	})
	leader.ln.cut()
	if got := get(t, follower.Endpoints, wire.KeyRequest{Key: "a"}); string(got.Entries[0].Value) != "2" {
		t.Errorf("got %+v", got)
	}
}

// A write for a leader that is gone waits for the next one.
func TestWriteWaitsForTheNextLeader(t *testing.T) {
	c, nodes := startCluster(t, "a", "b", "c")
	gone := newRaftNode(t, &cluster{}, "gone")
	gone.addr = "127.0.0.1:1"
	c.lead(gone)
	done := make(chan error, 1)
	go func() {
		done <- nodes[1].Call(testContext(t), "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "a"}}, nil)
	}()
	c.lead(nodes[2].raft)
	if err := <-done; err != nil {
		t.Error(err)
	}
	nodes[2].raft.locked(func() {
		if nodes[2].raft.applies != 1 {
			t.Errorf("the write was done %d times", nodes[2].raft.applies)
		}
	})
}

func TestOtherDatacenters(t *testing.T) {
	_, east := startCluster(t, "a", "b")
	westCluster := &cluster{}
	west := startNode(t, westCluster, "w", options{dc: "dc2"})
	westCluster.lead(west.raft)
	east[1].router.SetServers("dc2", []rpc.Target{west.target})

	call[bool](t, east[1].Endpoints, "KVS.Apply", &wire.KVSRequest{Datacenter: "dc2", Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "west"}})
	if got := get(t, west.Endpoints, wire.KeyRequest{Key: "west"}); len(got.Entries) != 1 {
		t.Errorf("in dc2: %+v", got)
	}
	if got := get(t, east[1].Endpoints, wire.KeyRequest{Datacenter: "dc2", Key: "west"}); len(got.Entries) != 1 {
		t.Errorf("from dc1: %+v", got)
	}
	if got := get(t, east[1].Endpoints, wire.KeyRequest{Datacenter: "dc1", Key: "west"}); len(got.Entries) != 0 {
		t.Errorf("in dc1: %+v", got)
	}
	if got := call[string](t, east[1].Endpoints, "Status.Leader", &wire.DCSpecificRequest{Datacenter: "dc2"}); got != west.target.Addr {
		t.Errorf("leader of dc2: %q", got)
	}
	usage := call[wire.UsageResponse](t, east[1].Endpoints, "Operator.Usage", &wire.UsageRequest{Global: true})
	if len(usage.Usage) != 2 {
		t.Errorf("usage of everywhere: %+v", usage.Usage)
	}
	err := east[1].Call(testContext(t), "KVS.Get", &wire.KeyRequest{Datacenter: "dc9", Key: "x"}, nil)
	if err == nil || err.Error() != "No path to datacenter" {
		t.Errorf("unknown datacenter: %v", err)
	}
	err = east[1].Call(testContext(t), "Catalog.Register", &wire.RegisterRequest{Datacenter: "dc2"}, nil)
	if err == nil || err.Error() != "rpc error making call: Must provide node" {
		t.Errorf("an error of dc2: %v", err)
	}
}

func TestOperatorMethods(t *testing.T) {
	c, nodes := startCluster(t, "a", "b")
	e := nodes[1].Endpoints
	if got := call[wire.RaftConfiguration](t, e, "Operator.RaftGetConfiguration", &wire.DCSpecificRequest{}); got.Index != 9 {
		t.Errorf("got %+v", got)
	}
	if got := call[[]string](t, e, "Status.Peers", &wire.DCSpecificRequest{}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	err := e.Call(testContext(t), "Operator.RaftRemovePeerByID", &wire.RaftRemovePeerRequest{ID: "zz"}, nil)
	if err == nil || !strings.HasSuffix(err.Error(), `id "zz" was not found in the Raft configuration`) {
		t.Errorf("got %v", err)
	}
	// Without a leader only what was asked for stale is answered.
	c.lead(nil)
	nodes[1].router.SetHoldTimeout(1)
	stale := &wire.DCSpecificRequest{QueryOptions: wire.QueryOptions{AllowStale: true}}
	call[wire.RaftConfiguration](t, e, "Operator.RaftGetConfiguration", stale)
	for _, method := range []string{"Operator.RaftGetConfiguration", "Operator.ServerHealth", "Operator.AutopilotState"} {
		if err := e.Call(testContext(t), method, &wire.DCSpecificRequest{}, nil); !errors.Is(err, rpc.ErrNoLeader) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// The pool may send again what the server says runs twice without harm, and
// nothing that writes.
func TestWhatRoutersSendAgain(t *testing.T) {
	e, _ := alone(t)
	writes := map[string]bool{
		"Catalog.Register": true, "Catalog.Deregister": true, "KVS.Apply": true, "Session.Apply": true, "Txn.Apply": true,
		"Operator.RaftRemovePeerByAddress": true, "Operator.RaftRemovePeerByID": true, "Operator.TransferLeader": true,
		"Operator.AutopilotSetConfiguration": true, "Internal.EventFire": true, "Agent.Monitor": true,
	}
	for name := range e.Table() {
		if rpc.DefaultReadOnly(name) == writes[name] {
			t.Errorf("%s: sent again after a lost connection: %v", name, rpc.DefaultReadOnly(name))
		}
	}
}
