package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lictor/test/harness"
)

func status(t *testing.T, e *env) {
	leader, err := e.Status().LeaderWithQueryOptions(e.q())
	if harness.Must(t, err); !strings.HasSuffix(leader, ":8300") {
		t.Errorf("leader %q", leader)
	}
	peers, err := e.Status().PeersWithQueryOptions(e.q())
	if harness.Must(t, err); !slices.Contains(peers, leader) {
		t.Errorf("peers %v without the leader %s", peers, leader)
	}
	dcs, err := e.Catalog().Datacenters()
	if harness.Must(t, err); !slices.Contains(dcs, "dc1") || e.dc != "" && !slices.Contains(dcs, e.dc) {
		t.Errorf("datacenters %v", dcs)
	}
	if _, _, err := e.Catalog().Nodes(&api.QueryOptions{Datacenter: "nowhere"}); err == nil || !strings.Contains(err.Error(), "No path to datacenter") {
		t.Errorf("an unknown datacenter: %v", err)
	}
}

func register(t *testing.T, e *env, node, service, id string, port int, status string) {
	t.Helper()
	_, err := e.Catalog().Register(&api.CatalogRegistration{
		Datacenter: e.dc, Node: node, Address: "10.9.8.7", NodeMeta: map[string]string{"rack": "r1"},
		Service: &api.AgentService{ID: id, Service: service, Port: port, Tags: []string{"v1", "blue"}, Meta: map[string]string{"k": "v"}},
		Checks:  api.HealthChecks{{Node: node, CheckID: id + "-check", Name: "c", Status: status, ServiceID: id}},
	}, e.w())
	harness.Must(t, err)
}

func catalog(t *testing.T, e *env) {
	register(t, e, "ext1", "db", "db1", 5432, "passing")
	register(t, e, "ext2", "db", "db2", 5433, "critical")

	nodes, meta, err := e.Catalog().Nodes(e.q())
	harness.Must(t, err)
	if meta.LastIndex == 0 || !meta.KnownLeader {
		t.Errorf("meta %+v", meta)
	}
	if !slices.ContainsFunc(nodes, func(n *api.Node) bool { return n.Node == "ext1" && n.Address == "10.9.8.7" && n.Meta["rack"] == "r1" }) {
		t.Errorf("ext1 is not in %d nodes", len(nodes))
	}
	q := e.q()
	q.Filter = `Node == "ext2"`
	nodes, _, err = e.Catalog().Nodes(q)
	if harness.Must(t, err); len(nodes) != 1 || nodes[0].Node != "ext2" {
		t.Errorf("the filter gave %d nodes", len(nodes))
	}
	q.Filter = "Node ==="
	if _, _, err := e.Catalog().Nodes(q); err == nil {
		t.Error("a filter that does not parse gave no error")
	}
	q = e.q()
	q.NodeMeta = map[string]string{"rack": "r1"}
	if nodes, _, err = e.Catalog().Nodes(q); err != nil || len(nodes) != 2 {
		t.Errorf("node-meta: %d nodes, %v", len(nodes), err)
	}
	services, _, err := e.Catalog().Services(e.q())
	harness.Must(t, err)
	if tags := services["db"]; !slices.Equal(slices.Sorted(slices.Values(tags)), []string{"blue", "v1"}) {
		t.Errorf("tags of db: %v", tags)
	}
	if _, ok := services["consul"]; !ok {
		t.Errorf("the servers' own service is not in %v", services)
	}
	inst, _, err := e.Catalog().Service("db", "v1", e.q())
	if harness.Must(t, err); len(inst) != 2 || inst[0].ServicePort == 0 || inst[0].Address != "10.9.8.7" || inst[0].ServiceMeta["k"] != "v" {
		t.Errorf("instances: %+v", inst)
	}
	if inst, _, err = e.Catalog().Service("db", "green", e.q()); err != nil || len(inst) != 0 {
		t.Errorf("a tag that nobody has: %d, %v", len(inst), err)
	}
	inst, _, err = e.Catalog().ServiceMultipleTags("db", []string{"v1", "blue"}, e.q())
	if err != nil || len(inst) != 2 {
		t.Errorf("two tags: %d, %v", len(inst), err)
	}
	node, _, err := e.Catalog().Node("ext1", e.q())
	harness.Must(t, err)
	if node == nil || node.Services["db1"] == nil || node.Services["db1"].Port != 5432 {
		t.Fatalf("node: %+v", node)
	}
	if none, _, err := e.Catalog().Node("nobody", e.q()); err != nil || none != nil {
		t.Errorf("an unknown node: %+v, %v", none, err)
	}
	list, _, err := e.Catalog().NodeServiceList("ext1", e.q())
	if err != nil || len(list.Services) != 1 {
		t.Errorf("node-services: %+v, %v", list, err)
	}
	for _, cached := range []bool{false, true} { // the second answer may come from the cache
		q := e.q()
		q.UseCache = cached
		if _, m, err := e.Catalog().Service("db", "", q); err != nil || cached && m.CacheHit {
			t.Errorf("cached=%t: %+v, %v", cached, m, err)
		}
	}
	for _, bad := range []*api.CatalogRegistration{
		{Datacenter: e.dc, Address: "1.2.3.4"},
		{Datacenter: e.dc, Node: "n"},
		{Datacenter: e.dc, Node: "n", Address: "1.2.3.4", Service: &api.AgentService{ID: "x"}},
		{Datacenter: e.dc, Node: "n", Address: "1.2.3.4", ID: "not-a-uuid"},
	} {
		if _, err := e.Catalog().Register(bad, e.w()); code(err) != http.StatusInternalServerError {
			t.Errorf("registration %+v: %v", bad, err)
		}
	}
	_, err = e.Catalog().Deregister(&api.CatalogDeregistration{Datacenter: e.dc, Node: "ext2", ServiceID: "db2"}, e.w())
	harness.Must(t, err)
	_, err = e.Catalog().Deregister(&api.CatalogDeregistration{Datacenter: e.dc, Node: "ext1"}, e.w())
	harness.Must(t, err)
	if inst, _, err = e.Catalog().Service("db", "", e.q()); err != nil || len(inst) != 0 {
		t.Errorf("after deregistration: %d, %v", len(inst), err)
	}
}

func health(t *testing.T, e *env) {
	register(t, e, "h1", "web", "web1", 80, "passing")
	register(t, e, "h2", "web", "web2", 80, "warning")
	register(t, e, "h3", "web", "web3", 80, "critical")
	count := func(passing bool, filter string) int {
		t.Helper()
		q := e.q()
		q.Filter = filter
		list, _, err := e.Health().Service("web", "", passing, q)
		harness.Must(t, err)
		return len(list)
	}
	if n := count(false, ""); n != 3 {
		t.Errorf("%d instances", n)
	}
	if n := count(true, ""); n != 1 {
		t.Errorf("%d pass", n)
	}
	if n := count(false, `Node.Node == "h2"`); n != 1 {
		t.Errorf("%d by a filter", n)
	}
	if n := count(false, `"blue" in Service.Tags and Service.Meta.k == "v"`); n != 3 {
		t.Errorf("%d by a filter on tags and meta", n)
	}
	list, _, err := e.Health().Service("web", "v1", true, e.q())
	if err != nil || len(list) != 1 || list[0].Node.Node != "h1" || list[0].Service.ID != "web1" || len(list[0].Checks) != 1 {
		t.Errorf("passing with a tag: %+v, %v", list, err)
	}
	checks, _, err := e.Health().Checks("web", e.q())
	if err != nil || len(checks) != 3 {
		t.Errorf("checks: %d, %v", len(checks), err)
	}
	if checks, _, err = e.Health().Node("h2", e.q()); err != nil || len(checks) != 1 || checks.AggregatedStatus() != "warning" {
		t.Errorf("of a node: %+v, %v", checks, err)
	}
	if checks, _, err = e.Health().State("critical", e.q()); err != nil || !slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return c.CheckID == "web3-check" }) {
		t.Errorf("critical: %+v, %v", checks, err)
	}
	harness.Must(t, harness.Poll("serfHealth of "+e.node, func() error {
		checks, _, err := e.Health().Node(e.node, e.q())
		if err == nil && !slices.ContainsFunc(checks, func(c *api.HealthCheck) bool {
			return c.CheckID == "serfHealth" && c.Status == "passing" && c.Output == "Agent alive and reachable"
		}) {
			err = fmt.Errorf("checks %+v", checks)
		}
		return err
	}))

	// A blocking query wakes for its own service, and not for another one.
	_, meta, err := e.Health().Service("web", "", false, e.q())
	harness.Must(t, err)
	woke := make(chan int, 1)
	go func() {
		q := e.q()
		q.WaitIndex, q.WaitTime = meta.LastIndex, time.Minute
		list, _, err := e.Health().Service("web", "", false, q)
		if err != nil {
			t.Error(err)
		}
		woke <- len(list)
	}()
	register(t, e, "h9", "other", "other1", 80, "passing")
	register(t, e, "h4", "web", "web4", 80, "passing")
	select {
	case n := <-woke:
		if n != 4 {
			t.Errorf("it woke with %d instances", n)
		}
	case <-time.After(harness.Patience):
		t.Error("the blocking query did not wake")
	}
}

func kv(t *testing.T, e *env) {
	k := e.KV()
	put := func(key, v string) {
		t.Helper()
		_, err := k.Put(&api.KVPair{Key: key, Value: []byte(v), Flags: 42}, e.w())
		harness.Must(t, err)
	}
	if p, _, err := k.Get("kv/none", e.q()); err != nil || p != nil {
		t.Errorf("a key that is not there: %+v, %v", p, err)
	}
	for _, key := range []string{"kv/a", "kv/b/c", "kv/b/d", "kv/sp ace/%2f+&=?", "kv/ü"} {
		put(key, "v of "+key)
	}
	p, meta, err := k.Get("kv/sp ace/%2f+&=?", e.q())
	harness.Must(t, err)
	if p == nil || string(p.Value) != "v of kv/sp ace/%2f+&=?" || p.Flags != 42 || p.ModifyIndex == 0 || meta.LastIndex < p.ModifyIndex {
		t.Errorf("%+v, meta %+v", p, meta)
	}
	list, _, err := k.List("kv/b", e.q())
	if err != nil || len(list) != 2 {
		t.Errorf("list: %d, %v", len(list), err)
	}
	keys, _, err := k.Keys("kv/", "/", e.q())
	if want := []string{"kv/a", "kv/b/", "kv/sp ace/", "kv/ü"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("keys: %q, want %q, %v", keys, want, err)
	}
	for _, q := range []*api.QueryOptions{{RequireConsistent: true}, {AllowStale: true}} {
		q.Datacenter = e.dc
		if !q.AllowStale {
			if p, _, err := k.Get("kv/a", q); err != nil || p == nil {
				t.Errorf("%+v: %+v, %v", q, p, err)
			}
			continue
		}
		harness.Must(t, harness.Poll("a stale read to have it", func() error {
			p, _, err := k.Get("kv/a", q)
			if err == nil && p == nil {
				err = fmt.Errorf("not there")
			}
			return err
		}))
	}

	// Compare and set.
	cas := func(index uint64) bool {
		t.Helper()
		ok, _, err := k.CAS(&api.KVPair{Key: "kv/cas", Value: []byte("x"), ModifyIndex: index}, e.w())
		harness.Must(t, err)
		return ok
	}
	if !cas(0) || cas(0) || cas(1) {
		t.Error("cas with index 0 or a wrong one")
	}
	p, _, err = k.Get("kv/cas", e.q())
	harness.Must(t, err)
	if !cas(p.ModifyIndex) || cas(p.ModifyIndex) {
		t.Error("cas with the index that was read")
	}
	if ok, _, err := k.DeleteCAS(p, e.w()); err != nil || ok {
		t.Errorf("delete-cas with an old index: %t, %v", ok, err)
	}
	if p, _, err = k.Get("kv/cas", e.q()); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := k.DeleteCAS(p, e.w()); err != nil || !ok {
		t.Errorf("delete-cas: %t, %v", ok, err)
	}

	// Sizes.
	if _, err := k.Put(&api.KVPair{Key: "kv/big", Value: make([]byte, 512<<10)}, e.w()); err != nil {
		t.Errorf("512 KiB: %v", err)
	}
	if _, err := k.Put(&api.KVPair{Key: "kv/big", Value: make([]byte, 512<<10+1)}, e.w()); code(err) != http.StatusRequestEntityTooLarge {
		t.Errorf("one byte more: %v", err)
	}
	_, err = k.DeleteTree("kv/", e.w())
	harness.Must(t, err)
	if keys, _, err = k.Keys("kv/", "", e.q()); err != nil || len(keys) != 0 {
		t.Errorf("after delete-tree: %q, %v", keys, err)
	}
}

func kvBlocking(t *testing.T, e *env) {
	k := e.KV()
	_, err := k.Put(&api.KVPair{Key: "block/a", Value: []byte("1")}, e.w())
	harness.Must(t, err)
	p, meta, err := k.Get("block/a", e.q())
	harness.Must(t, err)
	if p == nil {
		t.Fatal("it is not there")
	}
	type answer struct {
		v   string
		idx uint64
	}
	woke := make(chan answer, 1)
	go func() {
		q := e.q()
		q.WaitIndex, q.WaitTime = meta.LastIndex, time.Minute
		p, m, err := k.Get("block/a", q)
		if err != nil {
			t.Error(err)
			close(woke)
			return
		}
		woke <- answer{string(p.Value), m.LastIndex}
	}()
	_, err = k.Put(&api.KVPair{Key: "block/b", Value: []byte("other")}, e.w())
	harness.Must(t, err)
	_, err = k.Put(&api.KVPair{Key: "block/a", Value: []byte("2")}, e.w())
	harness.Must(t, err)
	select {
	case a := <-woke:
		if a.v != "2" || a.idx <= meta.LastIndex {
			t.Errorf("it woke with %+v", a)
		}
	case <-time.After(harness.Patience):
		t.Fatal("it did not wake")
	}
	// A query that nobody wakes ends by its time, with the same index.
	_, meta, err = k.Get("block/a", e.q())
	harness.Must(t, err)
	q := e.q()
	q.WaitIndex, q.WaitTime = meta.LastIndex, 50*time.Millisecond
	if _, m, err := k.Get("block/a", q); err != nil || m.LastIndex != meta.LastIndex {
		t.Errorf("index %+v after %d, %v", m, meta.LastIndex, err)
	}
}

func session(t *testing.T, e *env) {
	s, k := e.Session(), e.KV()
	entry := &api.SessionEntry{Name: "n", Node: e.node, TTL: "30s", Behavior: api.SessionBehaviorDelete, LockDelay: time.Millisecond}
	id, _, err := s.CreateNoChecks(entry, e.w())
	harness.Must(t, err)
	got, _, err := s.Info(id, e.q())
	if err != nil || got == nil || got.Node != e.node || got.TTL != "30s" || got.Behavior != "delete" {
		t.Fatalf("info: %+v, %v", got, err)
	}
	if r, _, err := s.Renew(id, e.w()); err != nil || r == nil {
		t.Errorf("renew: %+v, %v", r, err)
	}
	list, _, err := s.List(e.q())
	if err != nil || !slices.ContainsFunc(list, func(x *api.SessionEntry) bool { return x.ID == id }) {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, _, err = s.Node(e.node, e.q()); err != nil || len(list) == 0 {
		t.Errorf("of the node: %v, %v", list, err)
	}
	ok, _, err := k.Acquire(&api.KVPair{Key: "session/k", Value: []byte("v"), Session: id}, e.w())
	if err != nil || !ok {
		t.Fatalf("acquire: %t, %v", ok, err)
	}
	other, _, err := s.CreateNoChecks(&api.SessionEntry{Node: e.node}, e.w())
	harness.Must(t, err)
	if ok, _, err := k.Acquire(&api.KVPair{Key: "session/k", Session: other}, e.w()); err != nil || ok {
		t.Errorf("a second acquire: %t, %v", ok, err)
	}
	if ok, _, err := k.Release(&api.KVPair{Key: "session/k", Session: other}, e.w()); err != nil || ok {
		t.Errorf("a release by another: %t, %v", ok, err)
	}
	p, _, err := k.Get("session/k", e.q())
	if err != nil || p == nil || p.Session != id || p.LockIndex != 1 {
		t.Errorf("locked: %+v, %v", p, err)
	}
	_, err = s.Destroy(id, e.w())
	harness.Must(t, err)
	if p, _, err = k.Get("session/k", e.q()); err != nil || p != nil {
		t.Errorf("after its session, with behavior delete: %+v, %v", p, err)
	}
	if r, _, err := s.Renew(id, e.w()); err != nil || r != nil {
		t.Errorf("renew after destroy: %+v, %v", r, err)
	}
	for _, bad := range []*api.SessionEntry{
		{Node: "nobody"}, {Node: e.node, TTL: "5s"}, {Node: e.node, TTL: "25h"}, {Node: e.node, TTL: "x"}, {Node: e.node, Behavior: "x"},
	} {
		if _, _, err := s.CreateNoChecks(bad, e.w()); code(err) != http.StatusInternalServerError {
			t.Errorf("session %+v: %v", bad, err)
		}
	}
	if _, _, err := k.Acquire(&api.KVPair{Key: "session/k", Session: id}, e.w()); err == nil || !strings.Contains(err.Error(), "invalid session") {
		t.Errorf("acquire with a session that has ended: %v", err)
	}
	_, err = s.Destroy(other, e.w())
	harness.Must(t, err)
}

func txn(t *testing.T, e *env) {
	ok, resp, _, err := e.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "txn/a", Value: []byte("1")}},
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "txn/b", Value: []byte("2")}},
		{KV: &api.KVTxnOp{Verb: api.KVGet, Key: "txn/a"}},
	}, e.q())
	if err != nil || !ok || len(resp.Results) != 3 || string(resp.Results[2].KV.Value) != "1" {
		t.Fatalf("%t %+v, %v", ok, resp, err)
	}
	ok, resp, _, err = e.Txn().Txn(api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: "txn/c", Value: []byte("3")}},
		{KV: &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: "txn/a"}},
		{KV: &api.KVTxnOp{Verb: api.KVGet, Key: "txn/none"}},
	}, e.q())
	if err != nil || ok || len(resp.Errors) == 0 || resp.Errors[0].OpIndex != 1 {
		t.Errorf("%t %+v, %v", ok, resp, err)
	}
	if p, _, err := e.KV().Get("txn/c", e.q()); err != nil || p != nil {
		t.Errorf("a transaction that failed left %+v, %v", p, err)
	}
	ok, resp, _, err = e.Txn().Txn(api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVGetTree, Key: "txn/"}}}, e.q())
	if err != nil || !ok || len(resp.Results) != 2 {
		t.Errorf("get-tree: %t %+v, %v", ok, resp, err)
	}
	ok, resp, _, err = e.Txn().Txn(api.TxnOps{
		{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "txn-node", Address: "10.1.1.1", Datacenter: e.dc}}},
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "txn-node", Service: api.AgentService{ID: "ts", Service: "ts", Port: 1}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: "txn-node", CheckID: "tc", Name: "tc", Status: "passing", ServiceID: "ts"}}},
	}, e.q())
	if err != nil || !ok {
		t.Fatalf("catalog: %t %+v, %v", ok, resp, err)
	}
	list, _, err := e.Health().Service("ts", "", true, e.q())
	if err != nil || len(list) != 1 {
		t.Errorf("what it registered: %d, %v", len(list), err)
	}
	ops := make(api.TxnOps, 129)
	for i := range ops {
		ops[i] = &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVGet, Key: "txn/a"}}
	}
	if _, _, _, err := e.Txn().Txn(ops, e.q()); err == nil || !strings.Contains(err.Error(), "too many operations (129 > 128)") {
		t.Errorf("129 operations: %v", err)
	}
}

func lock(t *testing.T, e *env) {
	newLock := func() *api.Lock {
		l, err := e.LockOpts(&api.LockOptions{Key: "lock/k", SessionTTL: "15s", LockDelay: time.Millisecond})
		harness.Must(t, err)
		return l
	}
	a, b := newLock(), newLock()
	lost, err := a.Lock(nil)
	if err != nil || lost == nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := b.Lock(nil); got <- err }()
	select {
	case <-got:
		t.Error("two have it")
	case <-lost:
		t.Error("it was lost")
	case <-time.After(200 * time.Millisecond): // nothing must happen in this time
	}
	harness.Must(t, a.Unlock())
	select {
	case err := <-got:
		harness.Must(t, err)
	case <-time.After(harness.Patience):
		t.Fatal("the other does not get it")
	}
	if err := a.Destroy(); err != api.ErrLockInUse {
		t.Errorf("destroy while it is held: %v", err)
	}
	harness.Must(t, b.Unlock())
	harness.Must(t, a.Destroy())
}

func semaphore(t *testing.T, e *env) {
	var held []*api.Semaphore
	for range 2 {
		s, err := e.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "semaphore", Limit: 2})
		harness.Must(t, err)
		if _, err := s.Acquire(nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	third, err := e.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "semaphore", Limit: 2, SemaphoreTryOnce: true, SemaphoreWaitTime: 200 * time.Millisecond})
	harness.Must(t, err)
	if ch, err := third.Acquire(nil); err != nil || ch != nil {
		t.Errorf("a third holder: %v", err)
	}
	for _, s := range held {
		harness.Must(t, s.Release())
	}
	if ch, err := third.Acquire(nil); err != nil || ch == nil {
		t.Errorf("after they released: %v", err)
	}
	harness.Must(t, third.Release())
	harness.Must(t, third.Destroy())
}

func coordinate(t *testing.T, e *env) {
	_, err := e.Catalog().Register(&api.CatalogRegistration{Datacenter: e.dc, Node: "coord", Address: "10.1.1.2"}, e.w())
	harness.Must(t, err)
	harness.Must(t, harness.Poll("the coordinates of the servers", func() error {
		list, _, err := e.Coordinate().Nodes(e.q())
		if err == nil && !slices.ContainsFunc(list, func(c *api.CoordinateEntry) bool { return c.Node == e.node && len(c.Coord.Vec) == 8 }) {
			err = fmt.Errorf("%d nodes have one", len(list))
		}
		return err
	}))
	own, _, err := e.Coordinate().Node(e.node, e.q())
	if err != nil || len(own) == 0 {
		t.Fatalf("of %s: %v, %v", e.node, own, err)
	}
	c := own[0].Coord.Clone()
	c.Vec[0] += 0.01 // 10 ms away
	_, err = e.Coordinate().Update(&api.CoordinateEntry{Node: "coord", Coord: c}, e.w())
	harness.Must(t, err)
	harness.Must(t, harness.Poll("the coordinate that was sent", func() error {
		_, _, err := e.Coordinate().Node("coord", e.q())
		return err
	}))
	dcs, err := e.Coordinate().Datacenters()
	if err != nil || len(dcs) == 0 {
		t.Errorf("datacenters: %+v, %v", dcs, err)
	}
	q := e.q()
	q.Near = e.node
	nodes, _, err := e.Catalog().Nodes(q)
	if err != nil || len(nodes) == 0 || nodes[0].Node != e.node {
		t.Errorf("near %s: %v", e.node, err)
		for _, n := range nodes {
			t.Log(n.Node)
		}
	}
}

func event(t *testing.T, e *env) {
	id, _, err := e.Event().Fire(&api.UserEvent{Name: "deploy", Payload: []byte("x")}, e.w())
	if harness.Must(t, err); id == "" {
		t.Error("no id")
	}
	if e.dc != "" {
		return // events are listed by the agents of that datacenter
	}
	harness.Must(t, harness.Poll("the event", func() error {
		list, _, err := e.Event().List("deploy", nil)
		if err == nil && !slices.ContainsFunc(list, func(u *api.UserEvent) bool { return u.ID == id && string(u.Payload) == "x" }) {
			err = fmt.Errorf("%d events", len(list))
		}
		return err
	}))
}

func operatorRaft(t *testing.T, e *env) {
	conf, err := e.Operator().RaftGetConfiguration(e.q())
	harness.Must(t, err)
	leaders := 0
	for _, s := range conf.Servers {
		if s.Leader {
			leaders++
		}
		if !s.Voter || s.ID == "" || s.Node == "" || !strings.HasSuffix(s.Address, ":8300") {
			t.Errorf("server %+v", s)
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders in %d servers", leaders, len(conf.Servers))
	}
	if err := e.Operator().RaftRemovePeerByID("00000000-0000-0000-0000-000000000000", e.w()); err == nil {
		t.Error("an unknown server was removed")
	}
	if err := e.Operator().RaftRemovePeerByAddress("10.0.0.1:1", e.w()); err == nil {
		t.Error("an unknown address was removed")
	}
}

func operatorAutopilot(t *testing.T, e *env) {
	conf, err := e.Operator().AutopilotGetConfiguration(e.q())
	harness.Must(t, err)
	if !conf.CleanupDeadServers || conf.MaxTrailingLogs != 250 || conf.LastContactThreshold.Duration() != 200*time.Millisecond {
		t.Errorf("defaults: %+v", conf)
	}
	conf.MaxTrailingLogs = 300
	if ok, err := e.Operator().AutopilotCASConfiguration(conf, e.w()); err != nil || !ok {
		t.Errorf("cas: %t, %v", ok, err)
	}
	if ok, err := e.Operator().AutopilotCASConfiguration(conf, e.w()); err != nil || ok {
		t.Errorf("cas with an old index: %t, %v", ok, err)
	}
	if conf, err = e.Operator().AutopilotGetConfiguration(e.q()); err != nil || conf.MaxTrailingLogs != 300 {
		t.Errorf("afterwards: %+v, %v", conf, err)
	}
	harness.Must(t, harness.Poll("autopilot to find all healthy", func() error {
		h, err := e.Operator().AutopilotServerHealth(e.q())
		if err == nil && (!h.Healthy || len(h.Servers) == 0) {
			err = fmt.Errorf("%+v", h)
		}
		return err
	}))
	st, err := e.Operator().AutopilotState(e.q())
	if err != nil || !st.Healthy || st.Leader == "" || len(st.Voters) != len(st.Servers) {
		t.Errorf("state: %+v, %v", st, err)
	}
}

func operatorKeyring(t *testing.T, e *env) {
	list, err := e.Operator().KeyringList(nil)
	if err != nil || len(list) != 2 || list[0].Keys[harness.GossipKey] != list[0].NumNodes {
		t.Errorf("keyring: %+v, %v", list, err)
	}
}

func agentServices(t *testing.T, e *env) {
	a := e.Agent()
	harness.Must(t, a.ServiceRegister(&api.AgentServiceRegistration{
		ID: "app1", Name: "app", Port: 8080, Tags: []string{"x"}, Meta: map[string]string{"m": "1"},
		Check: &api.AgentServiceCheck{TTL: "1m", CheckID: "app1-ttl"},
	}))
	sync := func(what string, want int, status string) {
		t.Helper()
		harness.Must(t, harness.Poll(what, func() error {
			list, _, err := e.Health().Service("app", "", false, nil)
			if err == nil && len(list) != want {
				err = fmt.Errorf("%d instances", len(list))
			}
			if err == nil && want > 0 && list[0].Checks.AggregatedStatus() != status {
				err = fmt.Errorf("status %s", list[0].Checks.AggregatedStatus())
			}
			return err
		}))
	}
	sync("the service in the catalog", 1, "critical")
	services, err := a.Services()
	if err != nil || services["app1"] == nil || services["app1"].Port != 8080 || services["app1"].Weights.Passing != 1 {
		t.Errorf("services: %+v, %v", services, err)
	}
	harness.Must(t, a.UpdateTTL("app1-ttl", "fine", "pass"))
	sync("the status in the catalog", 1, "passing")
	state, info, err := a.AgentHealthServiceByID("app1")
	if err != nil || state != "passing" || info.Service.Service != "app" {
		t.Errorf("local health: %s %+v, %v", state, info, err)
	}
	one, meta, err := a.Service("app1", nil)
	if err != nil || one.ContentHash == "" {
		t.Fatalf("service: %+v, %v", one, err)
	}
	changed := make(chan string, 1)
	go func() {
		s, _, err := a.Service("app1", &api.QueryOptions{WaitHash: meta.LastContentHash, WaitTime: time.Minute})
		if err != nil {
			t.Error(err)
			close(changed)
			return
		}
		changed <- s.Meta["m"]
	}()
	harness.Must(t, a.ServiceRegister(&api.AgentServiceRegistration{ID: "app1", Name: "app", Port: 8080, Meta: map[string]string{"m": "2"}}))
	select {
	case m := <-changed:
		if m != "2" {
			t.Errorf("the hash query returned with m=%q", m)
		}
	case <-time.After(harness.Patience):
		t.Error("the hash query did not return")
	}
	f, err := a.ServicesWithFilter(`Service == "app"`)
	if err != nil || len(f) != 1 {
		t.Errorf("filter: %d, %v", len(f), err)
	}
	if err := a.ServiceRegister(&api.AgentServiceRegistration{Port: 1}); code(err) != http.StatusBadRequest {
		t.Errorf("without a name: %v", err)
	}
	harness.Must(t, a.ServiceDeregister("app1"))
	sync("the catalog without it", 0, "")
	if err := a.ServiceDeregister("app1"); code(err) != http.StatusNotFound {
		t.Errorf("deregister again: %v", err)
	}
	if _, _, err := a.Service("app1", nil); code(err) != http.StatusNotFound {
		t.Errorf("get after deregister: %v", err)
	}
}

func agentChecks(t *testing.T, e *env) {
	ok := true
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "hello")
	}))
	defer target.Close()
	a := e.Agent()
	harness.Must(t, a.CheckRegister(&api.AgentCheckRegistration{ID: "web", Name: "web", AgentServiceCheck: api.AgentServiceCheck{HTTP: target.URL, Interval: "1s"}}))
	harness.Must(t, a.CheckRegister(&api.AgentCheckRegistration{ID: "tcp", Name: "tcp", AgentServiceCheck: api.AgentServiceCheck{TCP: strings.TrimPrefix(target.URL, "http://"), Interval: "1s"}}))
	want := func(id, status, output string) {
		t.Helper()
		harness.Must(t, harness.Poll(id+" to be "+status, func() error {
			checks, err := a.Checks()
			if err == nil && (checks[id] == nil || checks[id].Status != status || !strings.Contains(checks[id].Output, output)) {
				err = fmt.Errorf("%+v", checks[id])
			}
			return err
		}))
	}
	want("web", "passing", "hello")
	want("tcp", "passing", "")
	for id, bad := range map[string]*api.AgentCheckRegistration{
		"no name":        {AgentServiceCheck: api.AgentServiceCheck{TTL: "10s"}},
		"no kind":        {Name: "x"},
		"no interval":    {Name: "x", AgentServiceCheck: api.AgentServiceCheck{HTTP: target.URL}},
		"ttl and period": {Name: "x", AgentServiceCheck: api.AgentServiceCheck{TTL: "10s", Interval: "10s"}},
	} {
		if err := a.CheckRegister(bad); code(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := a.CheckRegister(&api.AgentCheckRegistration{Name: "x", ServiceID: "none", AgentServiceCheck: api.AgentServiceCheck{TTL: "10s"}}); code(err) != http.StatusNotFound {
		t.Errorf("for a service that is not there: %v", err)
	}
	for _, id := range []string{"web", "tcp"} {
		harness.Must(t, a.CheckDeregister(id))
	}
	if err := a.CheckDeregister("web"); code(err) != http.StatusNotFound {
		t.Errorf("deregister again: %v", err)
	}
	if err := a.UpdateTTL("web", "", "pass"); code(err) != http.StatusNotFound {
		t.Errorf("ttl of an unknown check: %v", err)
	}
}

func maintenance(t *testing.T, e *env) {
	a := e.Agent()
	harness.Must(t, a.EnableNodeMaintenance("upgrade"))
	checks, err := a.Checks()
	if c := checks["_node_maintenance"]; err != nil || c == nil || c.Status != "critical" || c.Notes != "upgrade" {
		t.Errorf("%+v, %v", c, err)
	}
	harness.Must(t, a.DisableNodeMaintenance())
	harness.Must(t, a.ServiceRegister(&api.AgentServiceRegistration{ID: "m1", Name: "m"}))
	harness.Must(t, a.EnableServiceMaintenance("m1", "broken"))
	if s, info, err := a.AgentHealthServiceByID("m1"); err != nil || s != "critical" || info.AggregatedStatus != "maintenance" {
		t.Errorf("health: %s %+v, %v", s, info, err)
	}
	harness.Must(t, a.DisableServiceMaintenance("m1"))
	if err := a.EnableServiceMaintenance("nobody", ""); code(err) != http.StatusNotFound {
		t.Errorf("an unknown service: %v", err)
	}
	harness.Must(t, a.ServiceDeregister("m1"))
}

// snapshot is the last scenario: it puts the datacenter back to what it was.
func snapshot(t *testing.T, e *env) {
	_, err := e.KV().Put(&api.KVPair{Key: "snapshot/a", Value: []byte("1")}, e.w())
	harness.Must(t, err)
	r, meta, err := e.Snapshot().Save(e.q())
	harness.Must(t, err)
	archive, err := io.ReadAll(r)
	r.Close()
	if err != nil || len(archive) == 0 || meta.LastIndex == 0 {
		t.Fatalf("%d bytes, %+v, %v", len(archive), meta, err)
	}
	_, err = e.KV().Put(&api.KVPair{Key: "snapshot/a", Value: []byte("2")}, e.w())
	harness.Must(t, err)
	for name, bad := range map[string][]byte{"junk": []byte("junk"), "cut": archive[:len(archive)/2], "empty": nil} {
		if err := e.Snapshot().Restore(e.w(), bytes.NewReader(bad)); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
	if p, _, err := e.KV().Get("snapshot/a", e.q()); err != nil || p == nil || string(p.Value) != "2" {
		t.Errorf("after refused archives: %+v, %v", p, err)
	}
	harness.Must(t, e.Snapshot().Restore(e.w(), bytes.NewReader(archive)))
	harness.Must(t, harness.Poll("the value of the snapshot", func() error {
		p, _, err := e.KV().Get("snapshot/a", e.q())
		if err == nil && (p == nil || string(p.Value) != "1") {
			err = fmt.Errorf("%+v", p)
		}
		return err
	}))
	_, err = e.KV().Put(&api.KVPair{Key: "snapshot/a", Value: []byte("3")}, e.w())
	harness.Must(t, err)
}
