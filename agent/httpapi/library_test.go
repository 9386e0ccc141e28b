package httpapi

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"

	"lictor/rpc/wire"
)

// These tests use every family of endpoints through the family's client library.

func library(t *testing.T, cfg Config) (*api.Client, *fake) {
	t.Helper()
	f := newFake(t, 3)
	cfg.Backend = f
	_, addr := serve(t, cfg, false)
	c, err := api.NewClient(&api.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLibraryKV(t *testing.T) {
	c, f := library(t, Config{})
	kv := c.KV()
	for _, key := range []string{"a", "dir/b", "dir/c", "sp ace/%2f+&=?#ü"} {
		_, err := kv.Put(&api.KVPair{Key: key, Value: []byte("of " + key), Flags: 1 << 63}, nil)
		must(t, err)
	}
	p, meta, err := kv.Get("sp ace/%2f+&=?#ü", nil)
	if err != nil || p == nil || string(p.Value) != "of sp ace/%2f+&=?#ü" || p.Flags != 1<<63 || meta.LastIndex == 0 || !meta.KnownLeader {
		t.Errorf("%+v %+v %v", p, meta, err)
	}
	if p, _, err := kv.Get("none", nil); err != nil || p != nil {
		t.Errorf("a key that is not there: %v, %v", p, err)
	}
	list, _, err := kv.List("dir/", nil)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	keys, _, err := kv.Keys("", "/", nil)
	if err != nil || !slices.Equal(keys, []string{"a", "dir/", "sp ace/"}) {
		t.Errorf("%q, %v", keys, err)
	}
	cas := func(index uint64) bool {
		t.Helper()
		ok, _, err := kv.CAS(&api.KVPair{Key: "cas", ModifyIndex: index}, nil)
		must(t, err)
		return ok
	}
	if !cas(0) || cas(0) || cas(1) {
		t.Error("cas")
	}
	p, _, err = kv.Get("cas", nil)
	must(t, err)
	if p.Value != nil {
		t.Errorf("an empty value is %q", p.Value)
	}
	if ok, _, err := kv.DeleteCAS(&api.KVPair{Key: "cas", ModifyIndex: 1}, nil); err != nil || ok {
		t.Errorf("delete-cas: %t, %v", ok, err)
	}
	if ok, _, err := kv.DeleteCAS(p, nil); err != nil || !ok {
		t.Errorf("delete-cas: %t, %v", ok, err)
	}
	_, err = kv.Delete("a", nil)
	must(t, err)
	_, err = kv.DeleteTree("dir/", &api.WriteOptions{Datacenter: "dc2", Token: "secret"})
	must(t, err)
	if req := lastCall[*wire.KVSRequest](t, f.servers, "KVS.Apply"); req.Datacenter != "dc2" || req.Token != "secret" || req.Op != wire.KVDeleteTree {
		t.Errorf("%+v", req)
	}

	ok, resp, _, err := kv.Txn(api.KVTxnOps{
		{Verb: api.KVSet, Key: "t", Value: []byte("1"), Flags: 7}, {Verb: api.KVGet, Key: "t"},
	}, nil)
	if err != nil || !ok || len(resp.Results) != 2 || resp.Results[0].Value != nil || string(resp.Results[1].Value) != "1" || resp.Results[1].Flags != 7 {
		t.Errorf("%t %+v %v", ok, resp, err)
	}
	ok, resp, _, err = kv.Txn(api.KVTxnOps{{Verb: api.KVGet, Key: "none"}}, &api.QueryOptions{AllowStale: true})
	if err != nil || ok || len(resp.Errors) != 1 || resp.Errors[0].What != `key "none" doesn't exist` {
		t.Errorf("%t %+v %v", ok, resp, err)
	}
	if req := lastCall[*wire.TxnReadRequest](t, f.servers, "Txn.Read"); !req.AllowStale {
		t.Errorf("%+v", req)
	}
}

func TestLibraryBlocks(t *testing.T) {
	c, f := library(t, Config{})
	_, err := c.KV().Put(&api.KVPair{Key: "k", Value: []byte("1")}, nil)
	must(t, err)
	_, meta, err := c.KV().Get("k", nil)
	must(t, err)
	woke := make(chan string, 1)
	go func() {
		p, m, err := c.KV().Get("k", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute})
		if err != nil || m.LastIndex <= meta.LastIndex {
			t.Errorf("%+v, %v", m, err)
			close(woke)
			return
		}
		woke <- string(p.Value)
	}()
	for end := time.Now().Add(patience); f.count("KVS.Get") < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_, err = c.KV().Put(&api.KVPair{Key: "k", Value: []byte("2")}, nil)
	must(t, err)
	select {
	case v := <-woke:
		if v != "2" {
			t.Errorf("it woke with %q", v)
		}
	case <-time.After(patience):
		t.Fatal("it did not wake")
	}
	_, meta, err = c.KV().Get("k", &api.QueryOptions{WaitIndex: 1 << 40, WaitTime: time.Millisecond})
	if err != nil || meta.LastIndex > 1<<40 {
		t.Errorf("a wait that ends: %+v, %v", meta, err)
	}
	if req := lastCall[*wire.KeyRequest](t, f.servers, "KVS.Get"); req.MinQueryIndex != 1<<40 || req.MaxQueryTime != time.Millisecond {
		t.Errorf("%+v", req)
	}
}

func TestLibrarySessionAndLock(t *testing.T) {
	c, f := library(t, Config{})
	s := c.Session()
	id, _, err := s.Create(&api.SessionEntry{Name: "n", LockDelay: time.Minute, TTL: "20s", Behavior: "delete", ServiceChecks: []api.ServiceCheck{{ID: "c"}}}, nil)
	must(t, err)
	got, _, err := s.Info(id, nil)
	if err != nil || got.Name != "n" || got.Node != "node-0" || got.LockDelay != time.Minute || got.TTL != "20s" || got.Behavior != "delete" ||
		!slices.Equal(got.NodeChecks, []string{"serfHealth"}) || len(got.ServiceChecks) != 1 || got.ServiceChecks[0].ID != "c" {
		t.Errorf("%+v, %v", got, err)
	}
	other, _, err := s.CreateNoChecks(nil, nil)
	must(t, err)
	if got, _, err := s.Info(other, nil); err != nil || len(got.NodeChecks) != 0 || got.LockDelay != 15*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
	if r, _, err := s.Renew(id, nil); err != nil || r == nil || r.ID != id {
		t.Errorf("%+v, %v", r, err)
	}
	if r, _, err := s.Renew("none", nil); err != nil || r != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if l, _, err := s.List(nil); err != nil || len(l) != 2 {
		t.Errorf("%v, %v", l, err)
	}
	if l, _, err := s.Node("node-0", nil); err != nil || len(l) != 2 {
		t.Errorf("%v, %v", l, err)
	}
	if ok, _, err := c.KV().Acquire(&api.KVPair{Key: "k", Session: id}, nil); err != nil || !ok {
		t.Errorf("acquire: %t, %v", ok, err)
	}
	if ok, _, err := c.KV().Release(&api.KVPair{Key: "k", Session: other}, nil); err != nil || ok {
		t.Errorf("release by another: %t, %v", ok, err)
	}
	if _, _, err := c.KV().Acquire(&api.KVPair{Key: "k", Session: "none"}, nil); err == nil || !strings.Contains(err.Error(), `500 (raft apply failed: invalid session "none")`) {
		t.Errorf("an unknown session: %v", err)
	}
	_, err = s.Destroy(id, nil)
	must(t, err)
	if got, _, err := s.Info(id, nil); err != nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	l, err := c.LockKey("lock")
	must(t, err)
	lost, err := l.Lock(nil)
	if err != nil || lost == nil {
		t.Fatalf("%v", err)
	}
	must(t, l.Unlock())
	if f.count("Session.Apply") < 3 {
		t.Error("the lock made no session")
	}
}

func register(t *testing.T, c *api.Client, node, id, status string) {
	t.Helper()
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: "10.0.0.1", NodeMeta: map[string]string{"rack": "1"}, TaggedAddresses: map[string]string{"lan": "10.0.0.1", "wan": "192.0.2.1"},
		Service: &api.AgentService{ID: id, Service: "web", Port: 80, Tags: []string{"v1"}, Meta: map[string]string{"k": "<v>"},
			TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "192.0.2.2", Port: 8080}}},
		Checks: api.HealthChecks{{Node: node, CheckID: "c-" + id, Name: "c", Status: status, ServiceID: id, ServiceName: "web",
			Definition: api.HealthCheckDefinition{HTTP: "http://x/", IntervalDuration: 5 * time.Second}}},
	}, nil)
	must(t, err)
}

func TestLibraryCatalogAndHealth(t *testing.T) {
	c, f := library(t, Config{})
	register(t, c, "n1", "w1", "passing")
	register(t, c, "n2", "w2", "critical")
	cat, health := c.Catalog(), c.Health()
	if dcs, err := cat.Datacenters(); err != nil || len(dcs) != 2 {
		t.Errorf("%v, %v", dcs, err)
	}
	nodes, meta, err := cat.Nodes(&api.QueryOptions{Near: "_agent", NodeMeta: map[string]string{"rack": "1"}, Filter: "x", AllowStale: true, Datacenter: "dc2"})
	if err != nil || len(nodes) != 2 || nodes[0].Meta["rack"] != "1" || meta.LastIndex == 0 {
		t.Errorf("%v, %+v, %v", nodes, meta, err)
	}
	req := lastCall[*wire.DCSpecificRequest](t, f.servers, "Catalog.ListNodes")
	if req.Source != (wire.QuerySource{Datacenter: "dc1", Node: "node-0"}) || req.NodeMetaFilters["rack"] != "1" || req.Filter != "x" || !req.AllowStale || req.Datacenter != "dc2" {
		t.Errorf("%+v", req)
	}
	if s, _, err := cat.Services(nil); err != nil || !slices.Equal(s["web"], []string{"v1", "v1"}) {
		t.Errorf("%v, %v", s, err)
	}
	inst, _, err := cat.ServiceMultipleTags("web", []string{"v1", "v2"}, nil)
	if err != nil || len(inst) != 2 || inst[0].ServicePort != 80 || inst[0].ServiceMeta["k"] != "<v>" {
		t.Errorf("%+v, %v", inst, err)
	}
	if req := lastCall[*wire.ServiceSpecificRequest](t, f.servers, "Catalog.ServiceNodes"); !slices.Equal(req.ServiceTags, []string{"v1", "v2"}) || !req.TagFilter {
		t.Errorf("%+v", req)
	}
	node, _, err := cat.Node("n1", nil)
	if err != nil || node.Node.Node != "n1" || node.Services["w1"].Weights.Passing != 1 {
		t.Errorf("%+v, %v", node, err)
	}
	if node, _, err := cat.Node("none", nil); err != nil || node != nil {
		t.Errorf("%+v, %v", node, err)
	}
	if l, _, err := cat.NodeServiceList("n1", nil); err != nil || len(l.Services) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, _, err := cat.NodeServiceList("none", nil); err != nil || l.Node != nil {
		t.Errorf("%+v, %v", l, err)
	}

	for passing, want := range map[bool]int{false: 2, true: 1} {
		list, _, err := health.Service("web", "", passing, nil)
		if err != nil || len(list) != want || list[0].Checks[0].Definition.IntervalDuration != 5*time.Second {
			t.Errorf("passing %t: %d, %v", passing, len(list), err)
		}
	}
	if l, _, err := health.Checks("web", nil); err != nil || len(l) != 2 {
		t.Errorf("%v, %v", l, err)
	}
	if l, _, err := health.Node("n1", nil); err != nil || len(l) != 1 || l.AggregatedStatus() != "passing" {
		t.Errorf("%v, %v", l, err)
	}
	if l, _, err := health.State("critical", nil); err != nil || len(l) != 1 {
		t.Errorf("%v, %v", l, err)
	}
	_, err = cat.Deregister(&api.CatalogDeregistration{Node: "n2"}, &api.WriteOptions{Datacenter: "dc2"})
	must(t, err)
	if req := lastCall[*wire.DeregisterRequest](t, f.servers, "Catalog.Deregister"); req.Node != "n2" {
		t.Errorf("%+v", req)
	}

	ok, resp, _, err := c.Txn().Txn(api.TxnOps{
		{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "t", Address: "1.2.3.4"}}},
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "t", Service: api.AgentService{ID: "s", Service: "s"}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckCAS, Check: api.HealthCheck{Node: "t", CheckID: "c", ModifyIndex: 9,
			Definition: api.HealthCheckDefinition{TimeoutDuration: time.Second}}}},
	}, nil)
	if err != nil || !ok || resp.Results[0].Node.Node != "t" || resp.Results[1].Service.ID != "s" || resp.Results[2].Check.Definition.TimeoutDuration != time.Second {
		t.Errorf("%t %+v %v", ok, resp, err)
	}
	ops := lastCall[*wire.TxnRequest](t, f.servers, "Txn.Apply").Ops
	if ops[2].Check.Verb != "cas" || ops[2].Check.Check.ModifyIndex != 9 || ops[1].Service.Service.Weights != nil {
		t.Errorf("%+v", ops[2].Check)
	}
}

func TestLibraryCached(t *testing.T) {
	c, f := library(t, Config{})
	register(t, c, "n1", "w1", "passing")
	cached := &api.QueryOptions{UseCache: true}
	get := func(q *api.QueryOptions) (int, *api.QueryMeta) {
		t.Helper()
		list, meta, err := c.Health().Service("web", "", false, q)
		must(t, err)
		return len(list), meta
	}
	if n, m := get(cached); n != 1 || m.CacheHit {
		t.Errorf("the first: %d %+v", n, m)
	}
	n, m := get(cached)
	if n != 1 || !m.CacheHit {
		t.Errorf("the second: %d %+v", n, m)
	}
	// The cache follows what the servers have.
	woke := make(chan int, 1)
	go func() {
		list, _, err := c.Health().Service("web", "", false, &api.QueryOptions{UseCache: true, WaitIndex: m.LastIndex, WaitTime: time.Minute})
		if err != nil {
			t.Error(err)
		}
		woke <- len(list)
	}()
	register(t, c, "n2", "w2", "passing")
	select {
	case n := <-woke:
		if n != 2 {
			t.Errorf("it woke with %d", n)
		}
	case <-time.After(patience):
		t.Fatal("a cached query did not wake")
	}
	if _, meta, err := c.Catalog().Services(cached); err != nil || meta.CacheHit {
		t.Errorf("%+v, %v", meta, err)
	}
	if _, meta, err := c.Catalog().Service("web", "", cached); err != nil || meta.CacheHit {
		t.Errorf("another question: %+v, %v", meta, err)
	}
	_ = f
}

func TestLibraryAgent(t *testing.T) {
	c, f := library(t, Config{})
	a := c.Agent()
	must(t, a.ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: "w1", Name: "web", Port: 80, Tags: []string{"x"}, Check: &api.AgentServiceCheck{CheckID: "ttl", TTL: "1m"},
	}, api.ServiceRegisterOpts{ReplaceExistingChecks: true, Token: "secret"}))
	if f.reg.tokens[0] != "secret" {
		t.Errorf("token %q", f.reg.tokens)
	}
	services, err := a.Services()
	if err != nil || services["w1"].Port != 80 || services["w1"].Weights.Warning != 1 || services["w1"].Datacenter != "dc1" {
		t.Errorf("%+v, %v", services, err)
	}
	for filter, want := range map[string]int{`Service == "web"`: 1, `"y" in Tags`: 0, `Port == 80 and Meta is empty`: 1} {
		if s, err := a.ServicesWithFilter(filter); err != nil || len(s) != want {
			t.Errorf("%s: %v, %v", filter, s, err)
		}
	}
	checks, err := a.Checks()
	if err != nil || checks["ttl"].Status != "critical" || checks["ttl"].ServiceID != "w1" {
		t.Errorf("%+v, %v", checks, err)
	}
	if c, err := a.ChecksWithFilter(`Type == "ttl"`); err != nil || len(c) != 1 {
		t.Errorf("%v, %v", c, err)
	}
	for _, row := range []struct {
		call func() error
		want string
	}{
		{func() error { return a.UpdateTTL("ttl", "o", "warn") }, "warning"},
		{func() error { return a.PassTTL("ttl", "o") }, "passing"},
		{func() error { return a.EnableServiceMaintenance("w1", "why") }, "maintenance"},
		{func() error { return a.DisableServiceMaintenance("w1") }, "passing"},
		{func() error { return a.EnableNodeMaintenance("why") }, "maintenance"},
		{a.DisableNodeMaintenance, "passing"},
		{func() error { return a.WarnTTL("ttl", "o") }, "warning"},
		{func() error { return a.FailTTL("ttl", "o") }, "critical"},
	} {
		must(t, row.call())
		status, info, err := a.AgentHealthServiceByID("w1")
		if err != nil || info.AggregatedStatus != row.want || status != strings.Replace(row.want, "maintenance", "critical", 1) || info.Service.Service != "web" || len(info.Checks) == 0 {
			t.Errorf("by id: %s %+v, %v, want %s", status, info, err, row.want)
		}
		status, list, err := a.AgentHealthServiceByName("web")
		if err != nil || status != strings.Replace(row.want, "maintenance", "critical", 1) || len(list) != 1 || list[0].AggregatedStatus != row.want {
			t.Errorf("by name: %s %+v, %v, want %s", status, list, err, row.want)
		}
	}
	one, meta, err := a.Service("w1", nil)
	if err != nil || one.ContentHash == "" || meta.LastContentHash != one.ContentHash {
		t.Fatalf("%+v, %v", one, err)
	}
	changed := make(chan int, 1)
	go func() {
		s, _, err := a.Service("w1", &api.QueryOptions{WaitHash: one.ContentHash, WaitTime: time.Minute})
		if err != nil {
			t.Error(err)
			close(changed)
			return
		}
		changed <- s.Port
	}()
	must(t, a.CheckRegister(&api.AgentCheckRegistration{ID: "c2", Name: "c2", AgentServiceCheck: api.AgentServiceCheck{TTL: "1s"}})) // changes nothing of it
	must(t, a.ServiceRegister(&api.AgentServiceRegistration{ID: "w1", Name: "web", Port: 81}))
	select {
	case port := <-changed:
		if port != 81 {
			t.Errorf("it woke with port %d", port)
		}
	case <-time.After(patience):
		t.Fatal("the hash query did not wake")
	}
	if s, _, err := a.Service("w1", &api.QueryOptions{WaitHash: hashOf(t, a), WaitTime: time.Millisecond}); err != nil || s.Port != 81 {
		t.Errorf("a hash query that ends: %+v, %v", s, err)
	}
	must(t, a.CheckDeregister("c2"))
	must(t, a.ServiceDeregister("w1"))
}

func hashOf(t *testing.T, a *api.Agent) string {
	t.Helper()
	s, _, err := a.Service("w1", nil)
	must(t, err)
	return s.ContentHash
}

func TestLibraryOperator(t *testing.T) {
	c, f := library(t, Config{})
	op := c.Operator()
	conf, err := op.RaftGetConfiguration(nil)
	if err != nil || len(conf.Servers) != 1 || !conf.Servers[0].Leader {
		t.Errorf("%+v, %v", conf, err)
	}
	must(t, op.RaftRemovePeerByID("id1", nil))
	if err := op.RaftRemovePeerByID("zz", nil); err == nil || !strings.Contains(err.Error(), `500 (id "zz" was not found in the Raft configuration)`) {
		t.Errorf("%v", err)
	}
	must(t, op.RaftRemovePeerByAddress("10.0.0.1:8300", nil))
	if r, err := op.RaftLeaderTransfer("id1", nil); err != nil || !r.Success {
		t.Errorf("%+v, %v", r, err)
	}
	if id := lastCall[*wire.TransferLeaderRequest](t, f.servers, "Operator.TransferLeader").ID; id != "id1" {
		t.Errorf("transfer to %q", id)
	}
	ap, err := op.AutopilotGetConfiguration(nil)
	if err != nil || !ap.CleanupDeadServers || ap.LastContactThreshold.Duration() != 200*time.Millisecond || ap.MaxTrailingLogs != 250 {
		t.Errorf("%+v, %v", ap, err)
	}
	ap.MinQuorum = 3
	must(t, op.AutopilotSetConfiguration(ap, nil))
	if ok, err := op.AutopilotCASConfiguration(ap, nil); err != nil || ok {
		t.Errorf("cas: %t, %v", ok, err)
	}
	if ap, err = op.AutopilotGetConfiguration(nil); err != nil || ap.MinQuorum != 3 {
		t.Errorf("%+v, %v", ap, err)
	}
	if ok, err := op.AutopilotCASConfiguration(ap, nil); err != nil || !ok {
		t.Errorf("cas: %t, %v", ok, err)
	}
	for _, healthy := range []bool{true, false} {
		f.servers.unhealthy = !healthy
		h, err := op.AutopilotServerHealth(nil)
		if err != nil || h.Healthy != healthy || h.Servers[0].SerfStatus != "alive" || h.Servers[0].LastContact.Duration() != 15*time.Millisecond {
			t.Errorf("%+v, %v", h, err)
		}
	}
	st, err := op.AutopilotState(nil)
	if err != nil || st.Leader != "id1" || st.Servers["id1"].Status != api.AutopilotServerLeader || st.Servers["id1"].LastContact.Duration() != time.Millisecond {
		t.Errorf("%+v, %v", st, err)
	}
	register(t, c, "n1", "w1", "passing")
	if u, m, err := op.Usage(&api.QueryOptions{Global: true}); err != nil || u.Usage["dc1"].Nodes != 1 || m.LastIndex == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if !lastCall[*wire.UsageRequest](t, f.servers, "Operator.Usage").Global {
		t.Error("?global was lost")
	}

	co := &api.CoordinateEntry{Node: "n1", Coord: coordinate.NewCoordinate(coordinate.DefaultConfig())}
	if _, _, err := c.Coordinate().Node("n1", nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	_, err = c.Coordinate().Update(co, nil)
	must(t, err)
	if l, _, err := c.Coordinate().Node("n1", nil); err != nil || len(l) != 1 || len(l[0].Coord.Vec) != 8 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, m, err := c.Coordinate().Nodes(nil); err != nil || len(l) != 1 || m.LastIndex == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := c.Coordinate().Datacenters(); err != nil || len(l) != 1 || l[0].AreaID != "wan" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestLibrarySnapshot(t *testing.T) {
	c, f := library(t, Config{})
	big := bytes.Repeat([]byte("archive "), 1<<18) // 2 MiB: far above the limit of other bodies
	must(t, c.Snapshot().Restore(nil, bytes.NewReader(big)))
	f.servers.mu.Lock()
	if n := f.servers.unclosed; n != 0 {
		t.Errorf("%d restores hold on to their connection", n)
	}
	f.servers.mu.Unlock()
	r, meta, err := c.Snapshot().Save(&api.QueryOptions{AllowStale: true, Datacenter: "dc2"})
	must(t, err)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, big) || meta.LastIndex == 0 {
		t.Errorf("%d bytes, %+v, %v", len(got), meta, err)
	}
	if req := lastCall[*wire.SnapshotRequest](t, f.servers, "Snapshot"); !req.AllowStale || req.Datacenter != "dc2" || req.Op != wire.SnapshotSave {
		t.Errorf("%+v", req)
	}
	if err := c.Snapshot().Restore(nil, strings.NewReader("junk")); err == nil || !strings.Contains(err.Error(), "500 (failed to decompress snapshot") {
		t.Errorf("%v", err)
	}
}

func TestLibraryRaw(t *testing.T) {
	c, _ := library(t, Config{})
	register(t, c, "n1", "w1", "passing")
	var nodes []map[string]any
	if _, err := c.Raw().Query("/v1/internal/ui/nodes", &nodes, nil); err != nil || len(nodes) != 1 {
		t.Errorf("%v, %v", nodes, err)
	}
	var services []map[string]any
	if _, err := c.Raw().Query("/v1/internal/ui/services", &services, nil); err != nil || len(services) != 1 || services[0]["ChecksPassing"] != 1.0 {
		t.Errorf("%v, %v", services, err)
	}
	var node map[string]any
	if _, err := c.Raw().Query("/v1/internal/ui/node/n1", &node, nil); err != nil || node["Node"] != "n1" {
		t.Errorf("%v, %v", node, err)
	}
	if _, err := c.Raw().Query("/v1/internal/ui/node/none", &node, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	var overview map[string]any
	if _, err := c.Raw().Query("/v1/internal/ui/catalog-overview", &overview, nil); err != nil || overview["Services"] == nil {
		t.Errorf("%v, %v", overview, err)
	}
	if _, _, err := c.ACL().TokenList(nil); err == nil || !strings.Contains(err.Error(), "401 (ACL support disabled)") {
		t.Errorf("%v", err)
	}
	if _, err := c.Agent().UpdateAgentACLToken("x", nil); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("%v", err)
	}
}
