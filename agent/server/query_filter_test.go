package server_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lictor/rpc/wire"
)

func TestFilter(t *testing.T) {
	e, _ := alone(t)
	fill(t, e)
	call[wire.Empty](t, e, "Catalog.Register", &wire.RegisterRequest{
		Node: "n2", SkipNodeUpdate: true, Service: &wire.NodeService{
			Service: "web", Port: 8080, Meta: map[string]string{"v": "2"}, Tags: []string{"t2"},
			TaggedAddresses: map[string]wire.ServiceAddress{"lan": {Address: "10.0.0.2", Port: 81}},
		},
	})
	for expr, want := range map[string]string{
		`Service.Port == 80`:                                         "n1 n3",
		`Service.Port != 80`:                                         "n2",
		`Node.Node == n1 or Node.Node == "n2"`:                       "n1 n2",
		`not (Node.Meta.rack == n1)`:                                 "n2 n3",
		`Node.Meta["rack"] matches "n[12]"`:                          "n1 n2",
		`"t1" in Service.Tags`:                                       "n1",
		`Service.Tags contains t3`:                                   "n3",
		`common not in Service.Tags`:                                 "n2",
		`Service.Meta.v == 2`:                                        "n2",
		`Service.Meta.none == ""`:                                    "",
		`Service.Meta.none is empty`:                                 "n1 n2 n3",
		`Service.Meta contains v`:                                    "n1 n2 n3",
		`Service.TaggedAddresses.lan.Port == 81`:                     "n2",
		`Service.TaggedAddresses.lan.Address != ""`:                  "n2",
		`Service.TaggedAddresses is empty`:                           "n1 n3",
		`Service.Locality.Region == x`:                               "",
		`Service.Weights.Passing == 1`:                               "n1 n2 n3",
		`any Checks as c { c.Status == passing }`:                    "n1 n2 n3",
		`any Service.Tags as tag { tag == t1 }`:                      "n1",
		`all Node.Meta as k, v { v matches "^n[13]$" }`:              "n1 n3",
		`Checks is not empty and Service.EnableTagOverride == false`: "n1 n2 n3",
	} {
		req := &wire.ServiceSpecificRequest{ServiceName: "web", QueryOptions: wire.QueryOptions{Filter: expr}}
		var got wire.IndexedCheckServiceNodes
		if err := e.Call(testContext(t), "Health.ServiceNodes", req, &got); err != nil {
			t.Errorf("%s: %v", expr, err)
		} else if names := nodesOf(got); names != want {
			t.Errorf("%s: %q, want %q", expr, names, want)
		}
	}
}

// A filter that is no good says so whether or not there is something to try it
// on.
func TestFilterRefusesBadInput(t *testing.T) {
	e, _ := alone(t)
	for _, full := range []bool{false, true} {
		if full {
			fill(t, e)
		}
		for _, expr := range []string{
			`Service.Port`, `==`, `Service.Port == `, `(Node.Node == n1`, `Node.Node = n1`,
			`Nothing == 1`, `Service.Nothing == 1`, `Node.Node.Deeper == 1`, `RaftIndex == 1`,
			`Service.Port == eighty`, `Service.EnableTagOverride == maybe`, `Service.Port is empty`, `"x" in Service.Port`,
			`Node.Node matches "["`, `Service.Port matches "8."`, `Service == 1`, `Checks contains x`,
			`any Service.Port as x { x == 1 }`, `any Nothing as x { x == 1 }`, `any Checks as c { c.Nothing == 1 }`,
			`any Service.Tags as a { any Service.Tags as b { a == b } }`,
			strings.Repeat("(", 60) + `Node.Node == n1`,
			strings.Repeat("(", 400) + `Node.Node == n1` + strings.Repeat(")", 400),
			`Node.Node == "` + strings.Repeat("x", 8<<10) + `"`,
		} {
			req := &wire.ServiceSpecificRequest{ServiceName: "web", QueryOptions: wire.QueryOptions{Filter: expr}}
			err := e.Call(testContext(t), "Health.ServiceNodes", req, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "Failed to create boolean expression evaluator: ") {
				t.Errorf("%.80s: %v", expr, err)
			}
		}
	}
}

func TestFilterOnEveryList(t *testing.T) {
	e, _ := alone(t)
	fill(t, e)
	o := func(expr string) wire.QueryOptions { return wire.QueryOptions{Filter: expr} }
	dc := func(expr string) *wire.DCSpecificRequest { return &wire.DCSpecificRequest{QueryOptions: o(expr)} }
	n3 := func(expr string) *wire.NodeSpecificRequest {
		return &wire.NodeSpecificRequest{Node: "n3", QueryOptions: o(expr)}
	}
	web := func(expr string) *wire.ServiceSpecificRequest {
		return &wire.ServiceSpecificRequest{ServiceName: "web", QueryOptions: o(expr)}
	}
	if got := call[wire.IndexedNodes](t, e, "Catalog.ListNodes", dc(`Meta.rack == n2`)); len(got.Nodes) != 1 || got.Nodes[0].Node != "n2" {
		t.Errorf("nodes: %+v", got.Nodes)
	}
	got := call[wire.IndexedServices](t, e, "Catalog.ListServices", dc(`ServicePort == 80 and NodeMeta.rack != n1`))
	if len(got.Services) != 1 || !slices.Equal(got.Services["web"], []string{"common", "t2", "t3"}) {
		t.Errorf("services: %+v", got.Services)
	}
	if got := call[wire.IndexedServiceNodes](t, e, "Catalog.ServiceNodes", web(`"t3" in ServiceTags`)); len(got.ServiceNodes) != 1 {
		t.Errorf("service: %+v", got.ServiceNodes)
	}
	if got := call[wire.IndexedNodeServices](t, e, "Catalog.NodeServices", n3(`Port == 5432`)); len(got.NodeServices.Services) != 1 {
		t.Errorf("node: %+v", got.NodeServices)
	}
	if got := call[wire.IndexedNodeServiceList](t, e, "Catalog.NodeServiceList", n3(`Service == web`)); len(got.NodeServices.Services) != 1 {
		t.Errorf("node-services: %+v", got.NodeServices)
	}
	for method, req := range map[string]any{
		"Health.NodeChecks": n3(`ServiceName == web`), "Health.ServiceChecks": web(`Node == n3`),
		"Health.ChecksInState": &wire.ChecksInStateRequest{State: "passing", QueryOptions: o(`Node == n3`)},
	} {
		if got := call[wire.IndexedHealthChecks](t, e, method, req); len(got.HealthChecks) != 1 {
			t.Errorf("%s: %+v", method, got.HealthChecks)
		}
	}
	if got := call[wire.IndexedNodeDump](t, e, "Internal.NodeDump", dc(`Node == n1`)); len(got.Dump) != 1 {
		t.Errorf("dump: %+v", got.Dump)
	}
	dump := &wire.ServiceDumpRequest{QueryOptions: o(`Service.Service == db`)}
	if got := call[wire.IndexedCheckServiceNodes](t, e, "Internal.ServiceDump", dump); len(got.Nodes) != 1 {
		t.Errorf("service dump: %+v", got.Nodes)
	}
}

func BenchmarkFilter(b *testing.B) {
	e, _ := alone(b)
	for i := range 50 {
		register(b, e, fmt.Sprintf("n%d", i), "web", "common")
	}
	req := &wire.ServiceSpecificRequest{ServiceName: "web", QueryOptions: wire.QueryOptions{Filter: `Node.Meta.rack == n7 and "common" in Service.Tags`}}
	for b.Loop() {
		var reply wire.IndexedCheckServiceNodes
		if err := e.Call(b.Context(), "Health.ServiceNodes", req, &reply); err != nil || len(reply.Nodes) != 1 {
			b.Fatal(err, len(reply.Nodes))
		}
	}
}

// One request cannot keep a server busy for minutes.
func TestAFilterHasABoundForItsTime(t *testing.T) {
	e, _ := alone(t)
	for i := range 20 {
		req := &wire.RegisterRequest{Node: "n" + strconv.Itoa(i), Address: "10.0.0.1"}
		for j := range 100 {
			req.Checks = append(req.Checks, &wire.HealthCheck{CheckID: strconv.Itoa(j), Output: strings.Repeat("a", 4096)})
		}
		call[wire.Empty](t, e, "Catalog.Register", req)
	}
	req := &wire.ChecksInStateRequest{State: wire.HealthAny}
	req.Filter = strings.Repeat(`Output matches "(a|aa)*b" or `, 250) + `Name == "x"`
	begun := time.Now()
	err := e.Call(testContext(t), "Health.ChecksInState", req, nil)
	if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "fewer regular expressions") || took > patience {
		t.Errorf("after %s: %v", took, err)
	}
}
