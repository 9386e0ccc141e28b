package server_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent/answers"
	"lictor/agent/server"
	"lictor/rpc/wire"
)

// encodedAsPlain fails unless the encoded answer is what the plain one makes, and
// returns it.
func encodedAsPlain(t *testing.T, e *server.Endpoints, req wire.ServiceNodesJSONRequest) string {
	t.Helper()
	plain := call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", &req.ServiceSpecificRequest)
	want := string(answers.AppendInstances(nil, plain.Nodes, req.Passing))
	got := call[wire.EncodedAnswer](t, e, "Health.ServiceNodesJSON", &req)
	if string(got.Body) != want {
		t.Errorf("%+v:\n%s\nplain:\n%s", req, got.Body, want)
	}
	if got.QueryMeta != plain.QueryMeta {
		t.Errorf("%+v: %+v, plain %+v", req, got.QueryMeta, plain.QueryMeta)
	}
	return string(got.Body)
}

func TestEncodedAsPlain(t *testing.T) {
	e, r := alone(t)
	var rows []wire.ServiceNodesJSONRequest
	for _, s := range []wire.ServiceSpecificRequest{
		{ServiceName: "web"},
		{ServiceName: "WEB"},
		{ServiceName: "db"},
		{ServiceName: "none"},
		{ServiceName: "web", TagFilter: true, ServiceTags: []string{"t1"}},
		{ServiceName: "web", TagFilter: true, ServiceTags: []string{"common", "t2"}},
		{ServiceName: "web", TagFilter: true, ServiceTag: "t3"},
		{ServiceName: "web", ServiceTags: []string{"t1"}}, // not asked for
		{ServiceName: "web", NodeMetaFilters: map[string]string{"rack": "n2"}},
		{ServiceName: "web", NodeMetaFilters: map[string]string{"rack": "n2", "none": ""}},
		{ServiceName: "web", QueryOptions: wire.QueryOptions{Filter: `Node.Node != n1`}},
		{ServiceName: "web", QueryOptions: wire.QueryOptions{RequireConsistent: true}},
		{ServiceName: "web", QueryOptions: wire.QueryOptions{AllowStale: true}},
		{ServiceName: "web", Source: wire.QuerySource{Datacenter: "dc1", Node: "n3"}},
		{ServiceName: "web", Connect: true},
		{ServiceName: "web", Ingress: true},
	} {
		rows = append(rows, wire.ServiceNodesJSONRequest{ServiceSpecificRequest: s}, wire.ServiceNodesJSONRequest{ServiceSpecificRequest: s, Passing: true})
	}
	last := map[int]string{}
	changed := func(what string, want bool) {
		t.Helper()
		before := last[0]
		for i, req := range rows {
			first := encodedAsPlain(t, e, req)
			if encodedAsPlain(t, e, req) != first { // which the one before it left
				t.Errorf("%s: another answer to the same request", what)
			}
			last[i] = first
		}
		if (last[0] != before) != want {
			t.Errorf("%s: the answer changed %v", what, !want)
		}
	}
	changed("nothing there", true)
	fill(t, e)
	changed("registered", true)
	set(t, e, "k", "v")
	changed("a key", false)
	call[wire.Empty](t, e, "Catalog.Register", &wire.RegisterRequest{Node: "n2", SkipNodeUpdate: true,
		Check: &wire.HealthCheck{CheckID: "c-web", Name: "c", Status: wire.HealthCritical, ServiceID: "web", Output: "<down>"}})
	changed("a check fails", true)
	place(t, r, map[string]float64{"n1": 3, "n2": 2, "n3": 0})
	changed("coordinates", false)
	place(t, r, map[string]float64{"n1": 1, "n2": 2, "n3": 0})
	changed("other coordinates", false)
	call[wire.Empty](t, e, "Catalog.Deregister", &wire.DeregisterRequest{Node: "n1"})
	changed("a node less", true)
	for _, n := range []string{"n2", "n3"} {
		call[wire.Empty](t, e, "Catalog.Deregister", &wire.DeregisterRequest{Node: n})
	}
	changed("all gone", true)
	fill(t, e)
	changed("back again", true)

	refused(t, e, "Health.ServiceNodesJSON", &wire.ServiceNodesJSONRequest{}, "Must provide service name")
	bad := wire.ServiceSpecificRequest{ServiceName: "web", QueryOptions: wire.QueryOptions{Filter: "=="}}
	plain := e.Call(testContext(t), "Health.ServiceNodes", &bad, nil)
	refused(t, e, "Health.ServiceNodesJSON", &wire.ServiceNodesJSONRequest{ServiceSpecificRequest: bad}, plain.Error())
}

// Requests that differ in anything get answers of their own.
func TestEncodedAnswersAreToldApart(t *testing.T) {
	e, _ := alone(t)
	fill(t, e)
	tags := func(tags ...string) wire.ServiceNodesJSONRequest {
		return wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web", TagFilter: true, ServiceTags: tags}}
	}
	meta := func(m map[string]string) wire.ServiceNodesJSONRequest {
		return wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web", NodeMetaFilters: m}}
	}
	for range 2 {
		for _, req := range []wire.ServiceNodesJSONRequest{
			tags("common"), tags("common", "t1"), tags("commont1"), tags("\x06common\x02t1"), tags("t1"), tags("rack", "n1"),
			meta(map[string]string{"rack": "n1"}), meta(map[string]string{"rackn1": ""}), meta(map[string]string{"ra": "ckn1"}),
		} {
			encodedAsPlain(t, e, req)
		}
	}
}

// However many answers are asked for, only so many are kept, and all are right.
func TestEncodedAnswersAreBounded(t *testing.T) {
	e, _ := alone(t)
	fill(t, e)
	for i := range 1000 {
		req := wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web", TagFilter: true, ServiceTags: []string{fmt.Sprint(i)}}}
		if got := encodedAsPlain(t, e, req); got != "[]" {
			t.Fatalf("tag %d: %s", i, got)
		}
		if n, _ := server.Encoded(e); n > 256 {
			t.Fatalf("%d answers are kept", n)
		}
	}
	for i := range 60 {
		call[wire.Empty](t, e, "Catalog.Register", &wire.RegisterRequest{Node: fmt.Sprint("big", i), Address: "10.0.0.1",
			Service: &wire.NodeService{Service: "big", Meta: map[string]string{"m": strings.Repeat("x", 10_000)}}})
	}
	for i := range 100 {
		req := wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "big"}}
		req.Filter = fmt.Sprintf("Service.Port != %d", i+1)
		if got := call[wire.EncodedAnswer](t, e, "Health.ServiceNodesJSON", &req); len(got.Body) < 600_000 {
			t.Fatalf("%d bytes", len(got.Body))
		}
		if n, size := server.Encoded(e); size > 32<<20 || n == 0 {
			t.Fatalf("%d answers of %d bytes are kept", n, size)
		}
	}
}

func TestEncodedAnswerBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := alone(t)
		fill(t, e)
		req := wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web"}}
		req.MinQueryIndex = call[wire.EncodedAnswer](t, e, "Health.ServiceNodesJSON", &req).Index
		req.MaxQueryTime = time.Minute
		got := make(chan wire.EncodedAnswer, 1)
		go func() {
			var reply wire.EncodedAnswer
			if err := e.Call(t.Context(), "Health.ServiceNodesJSON", &req, &reply); err != nil {
				t.Error(err)
			}
			got <- reply
		}()
		synctest.Wait()
		set(t, e, "k", "v")
		register(t, e, "n9", "other")
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("woken by what is not of this service")
		}
		register(t, e, "n9", "web")
		synctest.Wait()
		if len(got) == 0 {
			t.Fatal("not woken")
		}
		if reply := <-got; !strings.Contains(string(reply.Body), `"n9"`) || reply.Index <= req.MinQueryIndex {
			t.Errorf("%+v", reply.QueryMeta)
		}
	})
}

// A follower passes on what the leader must answer, encoded as it is there.
func TestEncodedAnswerThroughAFollower(t *testing.T) {
	_, nodes := startCluster(t, "a", "b")
	fill(t, nodes[0].Endpoints)
	for _, stale := range []bool{false, true} {
		req := wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web"}, Passing: true}
		req.AllowStale = stale
		if got := encodedAsPlain(t, nodes[1].Endpoints, req); strings.Count(got, `"Checks"`) != 3 {
			t.Error(got)
		}
	}
}

func BenchmarkHealthServiceNodesJSON(b *testing.B) {
	e, _ := alone(b)
	for i := range 50 {
		register(b, e, "n"+strings.Repeat("x", i), "web", "common")
	}
	req := &wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: "web"}}
	b.ReportAllocs()
	for b.Loop() {
		var reply wire.EncodedAnswer
		if err := e.Call(b.Context(), "Health.ServiceNodesJSON", req, &reply); err != nil || len(reply.Body) < 10_000 {
			b.Fatal(err, len(reply.Body))
		}
	}
}
