package state_test

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func TestIdenticalRegistrationChangesNoIndex(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	whole := func() *wire.RegisterRequest {
		r := svc("a", "i1", "web", "x")
		r.ID, r.NodeMeta = "id-1", map[string]string{"m": "x"}
		r.TaggedAddresses = map[string]string{"lan": "10.0.0.1"}
		r.Service.Weights = &wire.Weights{Passing: 1, Warning: 1}
		r.Check = &wire.HealthCheck{CheckID: "c", ServiceID: "i1", Definition: wire.HealthCheckDefinition{Header: map[string][]string{"a": {"b"}}}}
		r.Checks = []*wire.HealthCheck{{CheckID: "n", Node: "A", Status: "passing"}}
		return r
	}
	with(t, s, 1, whole())
	with(t, s, 2, whole())
	without := whole()
	without.ID = "" // which is no wish to forget it
	with(t, s, 3, without)
	snap := s.Snapshot()
	defer snap.Close()
	if got := snap.LastIndex(); got != 1 {
		t.Errorf("last index %d", got)
	}
	_, nodes, _ := s.CheckServiceNodes(nil, "web", nil, nil)
	if len(nodes) != 1 || nodes[0].Node.ID != "id-1" || nodes[0].Node.ModifyIndex != 1 || len(nodes[0].Checks) != 2 {
		t.Fatalf("%+v", nodes)
	}
	if c := nodes[0].Checks[1]; c.Status != "critical" || c.ServiceName != "web" || !slices.Equal(c.ServiceTags, []string{"x"}) || c.ModifyIndex != 1 {
		t.Errorf("a check without a status is critical and knows its service: %+v", c)
	}
	changed := whole()
	changed.Check.Definition.Header["a"] = []string{"c"}
	with(t, s, 4, changed)
	if idx, checks, _ := s.ServiceChecks(nil, "web", nil); idx != 4 || checks[0].ModifyIndex != 4 || checks[0].CreateIndex != 1 {
		t.Errorf("%d, %+v", idx, checks[0])
	}
	if idx, _, _ := s.Node(nil, "a"); idx != 1 {
		t.Errorf("the node's index is %d", idx)
	}
}

func TestRegistrationIsRefusedWhole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*wire.RegisterRequest)
		want string
	}{
		{"no node", func(r *wire.RegisterRequest) { r.Node = "" }, "Must provide node"},
		{"a service without a name", func(r *wire.RegisterRequest) { r.Service.Service = "" }, "Must provide service name (Service.Service) when service ID is provided"},
		{"a check of no service", func(r *wire.RegisterRequest) { r.Checks[1].ServiceID = "no" }, "Missing service registration"},
		{"a check of another node", func(r *wire.RegisterRequest) { r.Checks[1].Node = "b" }, `check "c2" is of node "b", not "a"`},
		{"a check without a name", func(r *wire.RegisterRequest) { r.Checks[1].CheckID = "" }, "Must provide a check ID or name"},
		{"no check", func(r *wire.RegisterRequest) { r.Checks[1] = nil }, "Must provide a check ID or name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			r := svc("a", "i1", "web")
			r.Checks = []*wire.HealthCheck{{CheckID: "c1", ServiceID: "i1"}, {CheckID: "c2"}}
			test.edit(r)
			if err := s.EnsureRegistration(1, r); err == nil || err.Error() != test.want {
				t.Errorf("%v", err)
			}
			if idx, nodes, _ := s.Nodes(nil, nil); idx != 0 || len(nodes) > 0 {
				t.Errorf("%d, %+v is there", idx, nodes)
			}
		})
	}
}

func TestSameIDWithAnotherNameRenames(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := svc("old", "i1", "web")
	old.ID = "ID-1"
	idx := with(t, s, 1, old, check("old", "c", "i1", "passing"))
	must(t, s.SessionCreate(idx, &wire.Session{ID: "s", Node: "old"}))
	renamed := reg("new")
	renamed.ID = "id-1"
	with(t, s, idx+1, renamed)

	if i, n, _ := s.Node(nil, "old"); n != nil || i != idx+1 {
		t.Errorf("the old name: %+v, index %d", n, i)
	}
	if i, n, _ := s.NodeByID(nil, "id-1"); n == nil || n.Node != "new" || n.CreateIndex != 1 || i != idx+1 {
		t.Errorf("the new name: %+v, index %d", n, i)
	}
	if i, nodes, _ := s.CheckServiceNodes(nil, "web", nil, nil); len(nodes) != 0 || i != idx+1 {
		t.Errorf("services of the old name: %+v, index %d", nodes, i)
	}
	if _, sess, _ := s.SessionGet(nil, "s"); sess != nil {
		t.Error("a session of the old name")
	}

	// Another machine under a known name takes it over.
	other := reg("NEW")
	other.ID = "id-2"
	with(t, s, idx+2, other)
	if i, n, _ := s.NodeByID(nil, "id-1"); n != nil || i != idx+2 {
		t.Errorf("the old ID: %+v, index %d", n, i)
	}
	if _, nodes, _ := s.Nodes(nil, nil); len(nodes) != 1 || nodes[0].Node != "NEW" || nodes[0].ID != "id-2" || nodes[0].CreateIndex != 1 {
		t.Errorf("%+v", nodes)
	}
}

func TestChecksFollowTheirService(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	with(t, s, 1, svc("a", "i1", "web", "x"), check("a", "c", "i1", "passing"), svc("a", "i1", "api", "y"))
	idx, checks, _ := s.ServiceChecks(nil, "api", nil)
	if idx != 3 || len(checks) != 1 || checks[0].ServiceName != "api" || !slices.Equal(checks[0].ServiceTags, []string{"y"}) {
		t.Errorf("%d, %+v", idx, checks)
	}
	if idx, checks, _ := s.ServiceChecks(nil, "web", nil); idx != 3 || len(checks) != 0 {
		t.Errorf("under the old name: %d, %+v", idx, checks)
	}
	must(t, s.DeleteService(4, "a", "i1"))
	if _, checks, _ := s.NodeChecks(nil, "a"); len(checks) != 0 {
		t.Errorf("checks of a deleted service: %+v", checks)
	}
}

func TestServiceFilters(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, b := svc("a", "1", "web", "Blue", "v1"), svc("b", "2", "web", "green", "v1")
	a.NodeMeta = map[string]string{"rack": "1", "zone": "z"}
	with(t, s, 1, b, a, svc("b", "3", "db"), check("a", "n", "", "passing"), check("a", "c", "1", "warning"))
	tests := []struct {
		tags []string
		meta map[string]string
		want []string
	}{
		{nil, nil, []string{"a", "b"}},
		{[]string{"v1"}, nil, []string{"a", "b"}},
		{[]string{"blue", "V1"}, nil, []string{"a"}},
		{[]string{"blue", "green"}, nil, []string{}},
		{nil, map[string]string{"rack": "1", "zone": "z"}, []string{"a"}},
		{nil, map[string]string{"rack": "1", "zone": "y"}, []string{}},
		{[]string{"green"}, map[string]string{"rack": "1"}, []string{}},
	}
	for _, test := range tests {
		_, nodes, _ := s.ServiceNodes(nil, "WEB", test.tags, test.meta)
		if got := keysOf(nodes, func(n *wire.ServiceNode) string { return n.Node }); !slices.Equal(got, test.want) {
			t.Errorf("catalog %v %v: %v", test.tags, test.meta, got)
		}
		_, health, _ := s.CheckServiceNodes(nil, "web", test.tags, test.meta)
		if got := keysOf(health, func(n wire.CheckServiceNode) string { return n.Node.Node }); !slices.Equal(got, test.want) {
			t.Errorf("health %v %v: %v", test.tags, test.meta, got)
		}
	}
	_, health, _ := s.CheckServiceNodes(nil, "web", nil, nil)
	if got := keysOf(health[0].Checks, func(c *wire.HealthCheck) string { return c.CheckID }); !slices.Equal(got, []string{"n", "c"}) {
		t.Errorf("checks %v", got)
	}
	health[0].Node = nil // the caller's slice
	if _, again, _ := s.CheckServiceNodes(nil, "web", nil, nil); again[0].Node == nil {
		t.Error("a caller has changed the store")
	}
	_, names, _ := s.Services(nil, nil)
	if want := map[string][]string{"web": {"Blue", "green", "v1"}, "db": {}}; !maps.EqualFunc(names, want, slices.Equal) {
		t.Errorf("%v", names)
	}
	if _, names, _ := s.Services(nil, map[string]string{"rack": "1"}); len(names) != 1 {
		t.Errorf("%v", names)
	}
	if _, dump, _ := s.ServiceDump(nil, "connect-proxy", true); len(dump) != 0 {
		t.Errorf("%v", dump)
	}
	_, o, _ := s.Overview(nil)
	if n := o.Nodes[0]; n.Total != 2 || n.Passing != 2 {
		t.Errorf("nodes %+v", n)
	}
	if w := o.Services[1]; w != (wire.HealthSummary{Name: "web", Total: 2, Passing: 1, Warning: 1}) {
		t.Errorf("web %+v", w)
	}
	if _, u, _ := s.Usage(); u.Nodes != 2 || u.Services != 2 || u.ServiceInstances != 3 || u.BillableServiceInstances != 3 {
		t.Errorf("usage %+v", u)
	}
}

// Names may have any bytes in them: none runs into another.
func TestNamesWithAnyBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	odd := []string{"a", "a\x00", "a\x00\x01b", "a\x00\xff", "\x00", "a/b", "ä"}
	idx := uint64(1)
	for _, n := range odd {
		for _, id := range odd {
			idx = with(t, s, idx, svc(n, id, "s"+id), check(n, "c"+id, id, "passing"))
		}
	}
	for _, n := range odd {
		_, all, _ := s.NodeServices(nil, n)
		if len(all.Services) != len(odd) {
			t.Errorf("node %q has %d services", n, len(all.Services))
		}
	}
	for _, id := range odd {
		_, nodes, _ := s.CheckServiceNodes(nil, "s"+id, nil, nil)
		if len(nodes) != len(odd) {
			t.Errorf("service %q has %d instances", id, len(nodes))
		}
		for _, n := range nodes {
			if len(n.Checks) != 1 {
				t.Errorf("%q on %q has %d checks", id, n.Node.Node, len(n.Checks))
			}
		}
	}
	for _, n := range odd {
		must(t, s.DeleteNode(idx, n))
		idx++
	}
	snap := s.Snapshot()
	for range snap.Services() {
		t.Fatal("a service is left")
	}
	for name := range snap.Indexes() {
		if strings.Contains(name, "/") && !strings.HasPrefix(name, "status/") {
			t.Errorf("an index is left: %q", name)
		}
	}
}

func TestCoordinates(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	with(t, s, 1, reg("a"), reg("B"))
	at := func(h float64) *coordinate.Coordinate {
		c := coordinate.NewCoordinate(coordinate.DefaultConfig())
		c.Height = h
		return c
	}
	must(t, s.CoordinateBatchUpdate(3, []*wire.Coordinate{{Node: "a", Coord: at(1)}, {Node: "b", Segment: "x", Coord: at(2)}, {Node: "c", Coord: at(3)}}))
	short, nan := at(5), at(math.NaN())
	short.Vec = []float64{1}
	must(t, s.CoordinateBatchUpdate(4, []*wire.Coordinate{{Node: "a", Coord: at(1)}, {Node: "a", Coord: short}, {Node: "a", Coord: nan}}))
	idx, all, _ := s.Coordinates(nil)
	if idx != 3 || len(all) != 2 || all[1].Node != "B" || all[1].Segment != "x" {
		t.Errorf("%d, %+v", idx, all)
	}
	if idx, one, _ := s.NodeCoordinates(nil, "A"); idx != 3 || len(one) != 1 || one[0].Coord.Height != 1 {
		t.Errorf("%d, %+v", idx, one)
	}
	must(t, s.DeleteNode(5, "a"))
	if idx, one, _ := s.NodeCoordinates(nil, "a"); idx != 5 || len(one) != 0 {
		t.Errorf("%d, %+v", idx, one)
	}
}

func TestAutopilotConfig(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if idx, c, _ := s.AutopilotConfig(); idx != 0 || c != nil {
		t.Errorf("%d, %+v", idx, c)
	}
	tests := []struct {
		cidx uint64
		ok   bool
	}{{5, false}, {0, true}, {0, false}, {11, true}, {11, false}}
	for i, test := range tests {
		ok, err := s.AutopilotCASConfig(uint64(10+i), test.cidx, &wire.AutopilotConfig{MaxTrailingLogs: uint64(i)})
		if ok != test.ok || err != nil {
			t.Errorf("cas %d at %d: %t, %v", test.cidx, 10+i, ok, err)
		}
	}
	if idx, c, _ := s.AutopilotConfig(); idx != 13 || c.CreateIndex != 11 || c.MaxTrailingLogs != 3 {
		t.Errorf("%d, %+v", idx, c)
	}
}

func TestTextsThatClientsMatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	with(t, s, 1, reg("a"), check("a", "bad", "", "critical"))
	session := func(sess wire.Session) error {
		sess.ID = "s"
		return s.SessionCreate(3, &sess)
	}
	tests := []struct {
		err  error
		want string
	}{
		{session(wire.Session{Node: "zz"}), "Missing node registration"},
		{session(wire.Session{Node: "a", NodeChecks: []string{"zz"}}), "Missing check 'zz' registration"},
		{session(wire.Session{Node: "a", ServiceChecks: []wire.ServiceCheckID{{ID: "zz"}}}), "Missing check 'zz' registration"},
		{session(wire.Session{Node: "a", Checks: []string{"bad"}}), "Check 'bad' is in critical state"},
		{session(wire.Session{Node: "a", Behavior: "x"}), "Invalid Session Behavior setting 'x'"},
		{errOf(s.KVSLock(3, held("k", "", "x"))), `invalid session "x"`},
		{s.KVSSet(3, kv("", "")), "Missing key name"},
	}
	for _, test := range tests {
		if test.err == nil || test.err.Error() != test.want {
			t.Errorf("%v, want %s", test.err, test.want)
		}
	}
	if err := session(wire.Session{Node: "zz"}); !errors.Is(err, state.ErrMissingNode) {
		t.Errorf("%v", err)
	}
}

func errOf(_ bool, err error) error { return err }
