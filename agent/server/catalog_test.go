package server_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"lictor/agent/server"
	"lictor/rpc/wire"
)

// refused calls a method that must fail, and compares the whole text.
func refused(t *testing.T, e *server.Endpoints, method string, args any, want string) {
	t.Helper()
	err := e.Call(testContext(t), method, args, nil)
	if err == nil || err.Error() != want {
		t.Errorf("%s %+v: %v, want %q", method, args, err, want)
	}
}

func TestRegisterRefusesBadInput(t *testing.T) {
	e, r := alone(t)
	web := &wire.NodeService{Service: "web"}
	for name, row := range map[string]struct {
		req  wire.RegisterRequest
		want string
	}{
		"nothing":           {wire.RegisterRequest{}, "Must provide node"},
		"no address":        {wire.RegisterRequest{Node: "n"}, "Must provide address if SkipNodeUpdate is not set"},
		"short ID":          {wire.RegisterRequest{Node: "n", Address: "x", ID: "123"}, "Bad node ID: uuid string is wrong length"},
		"service ID only":   {wire.RegisterRequest{Node: "n", Address: "x", Service: &wire.NodeService{ID: "w"}}, "Must provide service name (Service.Service) when service ID is provided"},
		"empty service":     {wire.RegisterRequest{Node: "n", Address: "x", Service: &wire.NodeService{}}, "Must provide service name (Service.Service) when service ID is provided"},
		"check of nothing":  {wire.RegisterRequest{Node: "n", Address: "x", Check: &wire.HealthCheck{}}, "Must provide check name or ID (Check.CheckID)"},
		"check of another":  {wire.RegisterRequest{Node: "n", Address: "x", Check: &wire.HealthCheck{Node: "m", CheckID: "c"}}, `check "c" is of node "m", and is registered for node "n"`},
		"NUL in a node":     {wire.RegisterRequest{Node: "n\x00m", Address: "x"}, "Invalid Node: it must not contain control characters"},
		"NUL in a service":  {wire.RegisterRequest{Node: "n", Address: "x", Service: &wire.NodeService{Service: "w\x00"}}, "Invalid Service.Service: it must not contain control characters"},
		"NUL in an ID":      {wire.RegisterRequest{Node: "n", Address: "x", Service: &wire.NodeService{Service: "w", ID: "\x00"}}, "Invalid Service.ID: it must not contain control characters"},
		"NUL in a check":    {wire.RegisterRequest{Node: "n", Address: "x", Checks: []*wire.HealthCheck{nil, {CheckID: "\x7f"}}}, "Invalid Check.CheckID: it must not contain control characters"},
		"NUL in its target": {wire.RegisterRequest{Node: "n", Address: "x", Service: web, Check: &wire.HealthCheck{CheckID: "c", ServiceID: "\n"}}, "Invalid Check.ServiceID: it must not contain control characters"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, e, "Catalog.Register", &row.req, row.want) })
	}
	refused(t, e, "Catalog.Deregister", &wire.DeregisterRequest{}, "Must provide node")
	r.locked(func() {
		if r.applies != 0 {
			t.Errorf("%d entries were written", r.applies)
		}
	})
}

func TestReadsRefuseNames(t *testing.T) {
	e, _ := alone(t)
	for method, want := range map[string]string{
		"Catalog.NodeServices": "Must provide node", "Catalog.NodeServiceList": "Must provide node", "Health.NodeChecks": "Must provide node",
		"Internal.NodeInfo": "Must provide node", "Session.NodeSessions": "Must provide node", "Coordinate.Node": "Must provide node",
	} {
		refused(t, e, method, &wire.NodeSpecificRequest{}, want)
	}
	for _, method := range []string{"Catalog.ServiceNodes", "Health.ServiceNodes", "Health.ServiceChecks"} {
		refused(t, e, method, &wire.ServiceSpecificRequest{}, "Must provide service name")
	}
	refused(t, e, "Health.ChecksInState", &wire.ChecksInStateRequest{}, "Must provide check state")
}

func TestRegisterFillsIn(t *testing.T) {
	e, _ := alone(t)
	call[wire.Empty](t, e, "Catalog.Register", &wire.RegisterRequest{
		Node: "n1", Address: "10.0.0.1",
		Service: &wire.NodeService{Service: "web", Tags: []string{"v1"}},
		Check:   &wire.HealthCheck{Name: "alive", ServiceID: "web"},
		Checks:  []*wire.HealthCheck{{CheckID: "disk", Name: "disk", Status: wire.HealthPassing}},
	})
	got := call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", &wire.ServiceSpecificRequest{ServiceName: "web"})
	if len(got.Nodes) != 1 {
		t.Fatalf("got %+v", got)
	}
	in := got.Nodes[0]
	if in.Node.Datacenter != "dc1" {
		t.Errorf("node %+v, want it in the datacenter of the server", in.Node)
	}
	if in.Service.ID != "web" || in.Service.Weights == nil || in.Service.Weights.Passing != 1 || in.Service.Weights.Warning != 1 {
		t.Errorf("service %+v", in.Service)
	}
	status := map[string]string{}
	for _, c := range in.Checks {
		status[c.CheckID] = c.Node + " " + c.ServiceName + " " + c.Status
	}
	if want := map[string]string{"alive": "n1 web critical", "disk": "n1  passing"}; !maps.Equal(status, want) {
		t.Errorf("checks %v, want %v", status, want)
	}

	call[wire.Empty](t, e, "Catalog.Deregister", &wire.DeregisterRequest{Node: "n1", ServiceID: "web"})
	call[wire.Empty](t, e, "Catalog.Deregister", &wire.DeregisterRequest{Node: "nobody"})
	got = call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", &wire.ServiceSpecificRequest{ServiceName: "web"})
	if got.Nodes == nil || len(got.Nodes) != 0 {
		t.Errorf("got %#v, want an empty list", got.Nodes)
	}
}

func TestReadsOfNothing(t *testing.T) {
	e, _ := alone(t)
	svc, onNode := &wire.ServiceSpecificRequest{ServiceName: "x"}, &wire.NodeSpecificRequest{Node: "x"}
	if got := call[wire.IndexedNodes](t, e, "Catalog.ListNodes", &wire.DCSpecificRequest{}); got.Nodes == nil || got.Index != 1 {
		t.Errorf("ListNodes: %+v", got)
	}
	if got := call[wire.IndexedServices](t, e, "Catalog.ListServices", &wire.DCSpecificRequest{}); got.Services == nil || got.Index != 1 {
		t.Errorf("ListServices: %+v", got)
	}
	if got := call[wire.IndexedServiceNodes](t, e, "Catalog.ServiceNodes", svc); got.ServiceNodes == nil || got.Index != 1 {
		t.Errorf("ServiceNodes: %+v", got)
	}
	if got := call[wire.IndexedNodeServices](t, e, "Catalog.NodeServices", onNode); got.NodeServices != nil || got.Index != 1 {
		t.Errorf("NodeServices: %+v", got)
	}
	if got := call[wire.IndexedNodeServiceList](t, e, "Catalog.NodeServiceList", onNode); got.NodeServices.Node != nil || got.Index != 1 {
		t.Errorf("NodeServiceList: %+v", got)
	}
	if got := call[wire.IndexedHealthChecks](t, e, "Health.NodeChecks", onNode); got.HealthChecks == nil || got.Index != 1 {
		t.Errorf("NodeChecks: %+v", got)
	}
	if got := call[wire.IndexedSessions](t, e, "Session.List", &wire.SessionSpecificRequest{}); got.Sessions == nil || got.Index != 1 {
		t.Errorf("Session.List: %+v", got)
	}
	if got := call[[]string](t, e, "Catalog.ListDatacenters", &wire.DatacentersRequest{}); !slices.Equal(got, []string{"dc1"}) {
		t.Errorf("ListDatacenters: %v", got)
	}
}

// fill registers web on n1 to n3, with a tag of each node's own, and db on n3.
func fill(t testing.TB, e *server.Endpoints) {
	t.Helper()
	register(t, e, "n1", "web", "common", "t1")
	register(t, e, "n2", "web", "common", "t2")
	register(t, e, "n3", "web", "common", "t3")
	call[wire.Empty](t, e, "Catalog.Register", &wire.RegisterRequest{
		Node: "n3", SkipNodeUpdate: true, Service: &wire.NodeService{Service: "db", Address: "10.9.9.9", Port: 5432},
	})
}

func nodesOf(got wire.IndexedCheckServiceNodes) string {
	var names []string
	for _, n := range got.Nodes {
		names = append(names, n.Node.Node)
	}
	return strings.Join(names, " ")
}

func TestServiceQueries(t *testing.T) {
	e, _ := alone(t)
	fill(t, e)
	for name, row := range map[string]struct {
		req  wire.ServiceSpecificRequest
		want string
	}{
		"all":            {wire.ServiceSpecificRequest{}, "n1 n2 n3"},
		"tags":           {wire.ServiceSpecificRequest{ServiceTags: []string{"common", "t2"}, TagFilter: true}, "n2"},
		"tag of old":     {wire.ServiceSpecificRequest{ServiceTag: "t3", TagFilter: true}, "n3"},
		"tags not asked": {wire.ServiceSpecificRequest{ServiceTags: []string{"t2"}}, "n1 n2 n3"},
		"meta":           {wire.ServiceSpecificRequest{NodeMetaFilters: map[string]string{"rack": "n1"}}, "n1"},
		"mesh":           {wire.ServiceSpecificRequest{Connect: true}, ""},
		"ingress":        {wire.ServiceSpecificRequest{Ingress: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			row.req.ServiceName = "web"
			if got := nodesOf(call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", &row.req)); got != row.want {
				t.Errorf("health: %q, want %q", got, row.want)
			}
			var names []string
			for _, n := range call[wire.IndexedServiceNodes](t, e, "Catalog.ServiceNodes", &row.req).ServiceNodes {
				names = append(names, n.Node)
			}
			if got := strings.Join(names, " "); got != row.want {
				t.Errorf("catalog: %q, want %q", got, row.want)
			}
		})
	}
	byAddr := call[wire.IndexedServiceNodes](t, e, "Catalog.ServiceNodes", &wire.ServiceSpecificRequest{ServiceAddress: "10.9.9.9"})
	if len(byAddr.ServiceNodes) != 1 || byAddr.ServiceNodes[0].ServiceName != "db" || byAddr.ServiceNodes[0].Node != "n3" {
		t.Errorf("by address: %+v", byAddr.ServiceNodes)
	}
	list := call[wire.IndexedServiceList](t, e, "Catalog.ServiceList", &wire.DCSpecificRequest{})
	if !slices.Equal(list.Services, []wire.ServiceName{{Name: "db"}, {Name: "web"}}) {
		t.Errorf("services: %+v", list.Services)
	}
	onNode := call[wire.IndexedNodeServiceList](t, e, "Catalog.NodeServiceList", &wire.NodeSpecificRequest{Node: "n3"})
	if got := onNode.NodeServices; got.Node.Node != "n3" || len(got.Services) != 2 || got.Services[0].ID != "db" {
		t.Errorf("services of n3: %+v", got)
	}
	dump := call[wire.IndexedCheckServiceNodes](t, e, "Internal.ServiceDump", &wire.ServiceDumpRequest{})
	if len(dump.Nodes) != 4 {
		t.Errorf("dump of %d instances, want 4", len(dump.Nodes))
	}
	if got := call[wire.CatalogOverview](t, e, "Internal.CatalogOverview", &wire.DCSpecificRequest{}); len(got.Services) == 0 || got.Index == 0 {
		t.Errorf("overview: %+v", got)
	}
	if got := call[wire.IndexedNodeDump](t, e, "Internal.NodeInfo", &wire.NodeSpecificRequest{Node: "n3"}); len(got.Dump) != 1 || len(got.Dump[0].Services) != 2 {
		t.Errorf("node info: %+v", got)
	}
	usage := call[wire.UsageResponse](t, e, "Operator.Usage", &wire.UsageRequest{}).Usage["dc1"]
	if usage.Services != 2 || usage.ServiceInstances != 4 || usage.Nodes != 3 {
		t.Errorf("usage: %+v", usage)
	}
}

// Sorted by distance: the nearest first, those at no known distance last and in
// the order they were.
func TestNear(t *testing.T) {
	e, r := alone(t)
	fill(t, e)
	register(t, e, "n4", "web")
	place(t, r, map[string]float64{"n1": 0.3, "n2": 0.1, "n3": 0.2})
	for name, row := range map[string]struct {
		src  wire.QuerySource
		want string
	}{
		"no source":          {wire.QuerySource{}, "n1 n2 n3 n4"},
		"from n1":            {wire.QuerySource{Node: "n1", Datacenter: "dc1"}, "n1 n3 n2 n4"},
		"from n2":            {wire.QuerySource{Node: "n2"}, "n2 n3 n1 n4"},
		"no coordinate":      {wire.QuerySource{Node: "n4"}, "n1 n2 n3 n4"},
		"unknown":            {wire.QuerySource{Node: "n9"}, "n1 n2 n3 n4"},
		"from another place": {wire.QuerySource{Node: "n2", Datacenter: "dc2"}, "n1 n2 n3 n4"},
	} {
		t.Run(name, func(t *testing.T) {
			req := &wire.ServiceSpecificRequest{ServiceName: "web", Source: row.src}
			for range 2 { // and what is shared is left in its order
				if got := nodesOf(call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", req)); got != row.want {
					t.Errorf("got %q, want %q", got, row.want)
				}
			}
			var checks []string
			for _, c := range call[wire.IndexedHealthChecks](t, e, "Health.ServiceChecks", req).HealthChecks {
				checks = append(checks, c.Node)
			}
			if got := strings.Join(checks, " "); got != row.want {
				t.Errorf("checks: %q, want %q", got, row.want)
			}
			var nodes []string
			for _, n := range call[wire.IndexedNodes](t, e, "Catalog.ListNodes", &wire.DCSpecificRequest{Source: row.src}).Nodes {
				nodes = append(nodes, n.Node)
			}
			if got := strings.Join(nodes, " "); got != row.want {
				t.Errorf("nodes: %q, want %q", got, row.want)
			}
		})
	}
}
