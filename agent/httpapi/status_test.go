package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lictor/agent/local"
	"lictor/rpc"
	"lictor/rpc/wire"
)

var _ Registry = (*local.State)(nil)

type golden struct {
	method, path, body string
	code               int
	text               string // the whole body; "" is not looked at, "-" is an empty one
}

func (g golden) check(t *testing.T, addr string) http.Header {
	t.Helper()
	resp := do(t, g.method, "http://"+addr+g.path, g.body)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if g.text == "-" && len(b) == 0 {
		b = []byte("-")
	}
	if resp.StatusCode != g.code || g.text != "" && string(b) != g.text {
		t.Errorf("%s %s %.80q: %d %.300q, want %d %q", g.method, g.path, g.body, resp.StatusCode, b, g.code, g.text)
	}
	if resp.Header.Get("Content-Type") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s %s: headers %v", g.method, g.path, resp.Header)
	}
	if resp.StatusCode >= 400 && resp.StatusCode != 429 && resp.StatusCode != 409 && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s %s: an error is %s", g.method, g.path, resp.Header.Get("Content-Type"))
	}
	return resp.Header
}

func TestGolden(t *testing.T) {
	f := newFake(t, 1)
	f.servers.kv["a"] = &wire.DirEntry{Key: "a", Value: []byte("<script>"), Flags: 3, RaftIndex: wire.RaftIndex{CreateIndex: 5, ModifyIndex: 6}}
	f.servers.kv["bin\xff"] = &wire.DirEntry{Key: "bin\xff"}
	f.reg.services["w"] = &wire.NodeService{ID: "w", Service: "web"}
	f.reg.checks["c"] = &wire.HealthCheck{CheckID: "c", Type: "ttl"}
	_, addr := serve(t, Config{Backend: f}, false)
	for _, g := range []golden{
		// Keys.
		{"GET", "/v1/kv/a", "", 200, `[{"LockIndex":0,"Key":"a","Flags":3,"Value":"PHNjcmlwdD4=","CreateIndex":5,"ModifyIndex":6}]`},
		{"GET", "/v1/kv/%61", "", 200, ""},
		{"GET", "/v1/kv/bin%ff", "", 200, ""},
		{"GET", "/v1/kv/a?raw", "", 200, "<script>"},
		{"GET", "/v1/kv/none", "", 404, "-"},
		{"GET", "/v1/kv/none?raw", "", 404, "-"},
		{"GET", "/v1/kv/none?recurse", "", 404, "-"},
		{"GET", "/v1/kv/none?keys", "", 404, "-"},
		{"GET", "/v1/kv/", "", 400, "Missing key name"},
		{"PUT", "/v1/kv/", "x", 400, "Missing key name"},
		{"PUT", "/v1/kv/?recurse", "x", 400, "Missing key name"},
		{"DELETE", "/v1/kv/", "", 400, "Missing key name"},
		{"GET", "/v1/kv/a%00b", "", 400, "-"},
		{"GET", "/v1/kv/a%0ab", "", 400, "-"},
		{"PUT", "/v1/kv/a?flags=x", "v", 500, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT", "/v1/kv/a?cas=-1", "v", 500, `strconv.ParseUint: parsing "-1": invalid syntax`},
		{"PUT", "/v1/kv/a?cas=", "v", 500, `strconv.ParseUint: parsing "": invalid syntax`},
		{"PUT", "/v1/kv/a?cas=1&acquire=x%26", "v", 400, "Conflicting flags: acquire=x%26&cas=1\n"},
		{"PUT", "/v1/kv/a?release=x&acquire=x", "v", 400, ""},
		{"PUT", "/v1/kv/a?acquire=none", "v", 500, `raft apply failed: invalid session "none"`},
		{"PUT", "/v1/kv/a?release=none", "v", 200, "false"},
		{"PUT", "/v1/kv/a?cas=0", "v", 200, "false"},
		{"PUT", "/v1/kv/b%2fc", "v", 200, "true"},
		{"GET", "/v1/kv/b/c?raw", "", 200, "v"},
		{"PUT", "/v1/kv//x//../y", "v", 200, "true"},
		{"GET", "/v1/kv//x//../y?raw", "", 200, "v"},
		{"DELETE", "/v1/kv/a?recurse&cas=1", "", 400, "Conflicting flags: cas=1&recurse=\n"},
		{"DELETE", "/v1/kv/a?cas=x", "", 500, ""},
		{"DELETE", "/v1/kv/a?cas=0", "", 200, "false"},
		{"DELETE", "/v1/kv/none", "", 200, "true"},
		{"DELETE", "/v1/kv/?recurse=false", "", 400, "Missing key name"},
		{"DELETE", "/v1/kv/?recurse", "", 200, "true"},
		{"GET", "/v1/kv/?keys", "", 200, "[]"},
		{"GET", "/v1/kv/?recurse", "", 404, "-"},
		{"HEAD", "/v1/kv/a", "", 405, ""},
		{"POST", "/v1/kv/a", "", 405, "method POST not allowed"},
		{"GET", "/v1/kv", "", 404, unknownEndpoint},

		// Parameters of reads.
		{"GET", "/v1/kv/a?index=x", "", 400, "Invalid index"},
		{"GET", "/v1/kv/a?index=-1", "", 400, "Invalid index"},
		{"GET", "/v1/kv/a?index=1&wait=x", "", 400, "Invalid wait time"},
		{"GET", "/v1/kv/a?wait=-1s", "", 400, "Invalid wait time"},
		{"GET", "/v1/catalog/nodes?stale&consistent", "", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{"GET", "/v1/catalog/services?cached&consistent", "", 400, "Cannot specify ?cached with ?consistent, conflicting semantics."},
		{"GET", "/v1/catalog/nodes?max_stale=x", "", 400, `Invalid max_stale value "x"`},
		{"GET", "/v1/catalog/nodes?dc=nowhere", "", 500, "No path to datacenter"},
		{"GET", "/v1/catalog/nodes?dc=dc1&datacenter=nowhere", "", 500, "No path to datacenter"},
		{"GET", "/v1/catalog/nodes?%zz", "", 400, `Invalid query string: invalid URL escape "%zz"`},
		{"GET", "/v1/catalog/nodes?a;b", "", 400, ""},
		{"GET", "/v1/catalog/nodes?" + strings.Repeat("a&", maxParams+1), "", 400, "Invalid query string: more than 256 parameters"},
		{"GET", "/v1/catalog/nodes?filter=" + strings.Repeat("a", maxFilter+1), "", 400, errFilterLength.Error()},
		{"GET", "/v1/catalog/nodes?ns=default&partition=default&peer=", "", 200, "[]"},
		{"GET", "/v1/catalog/nodes?ns=other", "", 400, `Invalid query parameter: "ns": there is only the default one`},
		{"PUT", "/v1/kv/a?partition=other", "", 400, ""},
		{"GET", "/v1/health/service/web?peer=east", "", 400, `Invalid query parameter: "peer": this agent has no cluster peering`},

		// Transactions.
		{"PUT", "/v1/txn", "", 400, "Failed to parse body: it is empty"},
		{"PUT", "/v1/txn", "{}", 400, "Failed to parse body: it must be a list of operations"},
		{"PUT", "/v1/txn", "[{", 400, ""},
		{"PUT", "/v1/txn", "[] []", 400, "Failed to parse body: more than one JSON value"},
		{"PUT", "/v1/txn", "[1]", 400, "Failed to parse body: operation 0: wants an object"},
		{"PUT", "/v1/txn", "[{}]", 400, ""},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"get","Key":"a"},"Node":{"Verb":"get"}}]`, 400, ""},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"a","Value":"?"}}]`, 400, `Failed to parse body: operation 0: key "KV" cannot be used: key "Value" wants base64`},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"a","Flags":-1}}]`, 400, ""},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"set","Kay":"a"}}]`, 400, ""},
		{"PUT", "/v1/txn", "[" + strings.Repeat(`{"KV":{"Verb":"get","Key":"a"}},`, 128) + `{"KV":{"Verb":"get","Key":"a"}}]`, 413, "Transaction contains too many operations (129 > 128)"},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"get","Key":"none"}}]`, 409, ""},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"dance","Key":"a"}}]`, 409, `{"Results":null,"Errors":[{"OpIndex":0,"What":"unknown verb"}]}`},
		{"PUT", "/v1/txn", `[{"kv":{"verb":"set","key":"t","value":"eA=="}}]`, 200, ""},
		{"PUT", "/v1/txn", "[]", 200, `{"Results":[],"Errors":null,"Index":15,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"leader","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`},

		// Sessions.
		{"PUT", "/v1/session/create", "", 200, ""},
		{"PUT", "/v1/session/create", `{"LockDelay":"x"}`, 400, `Request decode failed: key "LockDelay" wants a duration, such as "15s"`},
		{"PUT", "/v1/session/create", `{"LockDelay":-1}`, 400, ""},
		{"PUT", "/v1/session/create", `{"Bogus":1}`, 400, `Request decode failed: json: unknown field "Bogus"`},
		{"PUT", "/v1/session/create", `{"Behavior":"x"}`, 500, "Invalid Behavior setting 'x'"},
		{"PUT", "/v1/session/create", `[`, 400, ""},
		{"PUT", "/v1/session/create", `[]`, 400, "Request decode failed: the body must be a JSON object"},
		{"PUT", "/v1/session/destroy/", "", 400, "Missing session"},
		{"PUT", "/v1/session/destroy/none", "", 200, "true"},
		{"PUT", "/v1/session/renew/", "", 400, "Missing session"},
		{"PUT", "/v1/session/renew/none", "", 404, "Session id 'none' not found"},
		{"GET", "/v1/session/info/", "", 400, "Missing session"},
		{"GET", "/v1/session/info/none", "", 200, "[]"},
		{"GET", "/v1/session/node/", "", 400, "Missing node name"},
		{"GET", "/v1/session/node/none", "", 200, "[]"},

		// Catalog and health.
		{"PUT", "/v1/catalog/register", "", 400, ""},
		{"PUT", "/v1/catalog/register", "{}", 500, "Must provide node"},
		{"PUT", "/v1/catalog/register", `{"Node":1}`, 400, `Request decode failed: key "Node" wants a string`},
		{"PUT", "/v1/catalog/register", `{"Node":"n","Bogus":1}`, 400, `Request decode failed: json: unknown field "Bogus"`},
		{"PUT", "/v1/catalog/register", `{"Node":"n","Service":{"Bogus":1}}`, 400, `Request decode failed: key "Service" cannot be used: json: unknown field "Bogus"`},
		{"PUT", "/v1/catalog/register", `{"Node":"n","Service":[]}`, 400, `Request decode failed: key "Service" wants an object`},
		{"PUT", "/v1/catalog/register", `{"Node":"n","Partition":"other"}`, 400, ""},
		{"PUT", "/v1/catalog/register", `{"node":"n","address":"1.2.3.4","tagged_addresses":{"lan":"x"},"service":{"service":"s","enable_tag_override":true,"connect":{"native":true}}}`, 200, "true"},
		{"PUT", "/v1/catalog/deregister", "", 400, ""},
		{"PUT", "/v1/catalog/deregister", `{"Node":"none"}`, 200, "true"},
		{"GET", "/v1/catalog/service/", "", 400, "Missing service name"},
		{"GET", "/v1/catalog/service/none", "", 200, "[]"},
		{"GET", "/v1/catalog/node/", "", 400, "Missing node name"},
		{"GET", "/v1/catalog/node/none", "", 200, "null"},
		{"GET", "/v1/catalog/node-services/", "", 400, "Missing node name"},
		{"GET", "/v1/catalog/node-services/none", "", 200, `{"Node":null,"Services":null}`},
		{"GET", "/v1/catalog/datacenters", "", 200, `["dc1","dc2"]`},
		{"GET", "/v1/health/node/", "", 400, "Missing node name"},
		{"GET", "/v1/health/node/none", "", 200, "[]"},
		{"GET", "/v1/health/checks/", "", 400, "Missing service name"},
		{"GET", "/v1/health/state/", "", 400, "Missing check state"},
		{"GET", "/v1/health/state/odd", "", 200, "[]"},
		{"GET", "/v1/health/service/", "", 400, "Missing service name"},
		{"GET", "/v1/health/service/a%2fb%25", "", 200, "[]"},
		{"GET", "/v1/health/service/web?passing=x", "", 400, "Invalid value for ?passing"},
		{"GET", "/v1/health/service/web?passing", "", 200, "[]"},
		{"GET", "/v1/health/connect/web", "", 404, unknownEndpoint},
		{"GET", "/v1/catalog/connect/web", "", 404, unknownEndpoint},
		{"GET", "/v1/connect/ca/roots", "", 404, unknownEndpoint},
		{"GET", "/v1/namespaces", "", 404, unknownEndpoint},
		{"GET", "/v1/peerings", "", 404, unknownEndpoint},
		{"GET", "/v1/operator/area", "", 404, unknownEndpoint},
		{"GET", "/v1/acl/policies", "", 401, "ACL support disabled"},
		{"DELETE", "/v1/acl/policies", "", 405, "method DELETE not allowed"},
		{"GET", "/v1/acl/nothing", "", 404, unknownEndpoint},
		{"PUT", "/v1/agent/token/default", `{"Token":"x"}`, 401, "ACL support disabled"},

		// The agent's own.
		{"PUT", "/v1/agent/service/register", "", 400, ""},
		{"PUT", "/v1/agent/service/register", "{}", 400, "Missing service name"},
		{"PUT", "/v1/agent/service/register", `{"Name":"a","Address":"::"}`, 400, "Invalid service address"},
		{"PUT", "/v1/agent/service/register", `{"Name":"a","Bogus":1}`, 400, `Request decode failed: json: unknown field "Bogus"`},
		{"PUT", "/v1/agent/service/register", `{"Name":"a","Check":{"Args":["x"],"Interval":"1s"}}`, 500, local.ErrScriptsDisabled.Error()},
		{"PUT", "/v1/agent/service/deregister/", "", 400, "Missing service ID"},
		{"PUT", "/v1/agent/service/deregister/none", "", 404, `Unknown service ID "none". Ensure that the service ID is passed, not the service name.`},
		{"PUT", "/v1/agent/service/maintenance/", "", 400, "Missing service ID"},
		{"PUT", "/v1/agent/service/maintenance/w", "", 400, "Missing value for enable"},
		{"PUT", "/v1/agent/service/maintenance/w?enable=x", "", 400, `Invalid value for enable: "x"`},
		{"PUT", "/v1/agent/service/maintenance/none?enable=true", "", 404, ""},
		{"PUT", "/v1/agent/maintenance", "", 400, "Missing value for enable"},
		{"PUT", "/v1/agent/maintenance?enable=x", "", 400, `Invalid value for enable: "x"`},
		{"GET", "/v1/agent/service/", "", 400, "Missing service ID"},
		{"GET", "/v1/agent/service/none", "", 404, "unknown service ID: none"},
		{"GET", "/v1/agent/service/w?hash=x&wait=x", "", 400, "Invalid wait time"},
		{"GET", "/v1/agent/services?filter=((", "", 500, ""},
		{"GET", "/v1/agent/services?filter=Bogus+%3D%3D+1", "", 500, `Failed to create boolean expression evaluator: Selector "Bogus" is not valid`},
		{"GET", "/v1/agent/checks?filter=Bogus+%3D%3D+1", "", 500, `Failed to create boolean expression evaluator: Selector "Bogus" is not valid`},
		{"GET", "/v1/agent/members?filter=Bogus+%3D%3D+1", "", 500, `Failed to create boolean expression evaluator: Selector "Bogus" is not valid`},
		{"PUT", "/v1/agent/check/register", "{}", 400, "Missing check name"},
		{"PUT", "/v1/agent/check/register", `{"Name":"x"}`, 400, ""},
		{"PUT", "/v1/agent/check/register", `{"Name":"x","TTL":"x"}`, 400, ""},
		{"PUT", "/v1/agent/check/register", `{"Name":"x","TTL":"1s","ServiceID":"zz"}`, 404, `ServiceID "zz" does not exist`},
		{"PUT", "/v1/agent/check/deregister/", "", 400, "Missing check ID"},
		{"PUT", "/v1/agent/check/deregister/none", "", 404, `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`},
		{"PUT", "/v1/agent/check/pass/", "", 400, "Missing check ID"},
		{"PUT", "/v1/agent/check/warn/none", "", 404, ""},
		{"PUT", "/v1/agent/check/fail/c?note=n", "", 200, "-"},
		{"PUT", "/v1/agent/check/update/c", `{"Status":"x"}`, 400, "Invalid check status: 'x'"},
		{"PUT", "/v1/agent/check/update/c", `{"Status":"passing","Output":"o"}`, 200, "-"},
		{"PUT", "/v1/agent/check/update/c", `{`, 400, ""},
		{"GET", "/v1/agent/health/service/id/", "", 400, "Missing service ID"},
		{"GET", "/v1/agent/health/service/id/none?format=text", "", 404, "ServiceId none not found"},
		{"GET", "/v1/agent/health/service/id/w?format=text", "", 200, "passing"},
		{"GET", "/v1/agent/health/service/name/", "", 400, "Missing service name"},
		{"GET", "/v1/agent/health/service/name/none?format=text", "", 404, "ServiceName none Not Found"},
		{"GET", "/v1/agent/health/service/name/web?format=text", "", 200, "passing"},

		// Operator, coordinates, snapshot.
		{"DELETE", "/v1/operator/raft/peer", "", 400, ""},
		{"DELETE", "/v1/operator/raft/peer?id=a&address=b", "", 400, ""},
		{"DELETE", "/v1/operator/raft/peer?id=id1", "", 200, "-"},
		{"DELETE", "/v1/operator/raft/peer?id=zz", "", 500, `id "zz" was not found in the Raft configuration`},
		{"PUT", "/v1/operator/raft/transfer-leader", "", 405, ""},
		{"POST", "/v1/operator/raft/transfer-leader", "", 200, `{"Success":true}`},
		{"PUT", "/v1/operator/autopilot/configuration", "", 400, ""},
		{"PUT", "/v1/operator/autopilot/configuration", `{"Bogus":1}`, 400, ""},
		{"PUT", "/v1/operator/autopilot/configuration", `{"MinQuorum":-1}`, 400, ""},
		{"PUT", "/v1/operator/autopilot/configuration?cas=x", `{}`, 400, `Error parsing cas value: strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT", "/v1/operator/autopilot/configuration", `{"LastContactThreshold":"1s","ServerStabilizationTime":5000000000}`, 200, "true"},
		{"GET", "/v1/coordinate/node/", "", 400, "Missing node name"},
		{"GET", "/v1/coordinate/node/none", "", 404, "-"},
		{"PUT", "/v1/coordinate/update", `{"Node":"n"}`, 400, "Missing coordinate"},
		{"PUT", "/v1/coordinate/update", `{"Node":"n","Coord":null}`, 400, "Missing coordinate"},
		{"PUT", "/v1/coordinate/update", `{"Coord":{}}`, 400, "Missing node name"},
		{"PUT", "/v1/coordinate/update", `{"Node":"n","Coord":{"Vec":[1,"x"]}}`, 400, ""},
		{"PUT", "/v1/snapshot", "junk", 500, "failed to decompress snapshot: gzip: invalid header"},
		{"POST", "/v1/snapshot", "junk", 405, "method POST not allowed"},
	} {
		g.check(t, addr)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	f := newFake(t, 1)
	a, addr := serve(t, Config{Backend: f, Data: Data{KVMaxValueSize: 600 << 10}}, false)
	value := strings.Repeat("x", 600<<10)
	golden{"PUT", "/v1/kv/big", value, 200, "true"}.check(t, addr)
	golden{"PUT", "/v1/kv/big", value + "x", 413,
		"Request body(614401 bytes) too large, max size: 614400 bytes. See limits.kv_max_value_size in the configuration of this agent."}.check(t, addr)
	golden{"PUT", "/v1/txn", value + "x", 413, ""}.check(t, addr) // its limit is never below that of a key

	// A body that does not say how long it is.
	for _, row := range a.table() {
		c := a.compile(row)
		if c.limit < 0 || row.methods[0] == http.MethodGet && row.path != kvPath {
			continue
		}
		method := row.methods[len(row.methods)-1]
		if row.path == kvPath {
			method = http.MethodPut
		}
		req, err := http.NewRequest(method, "http://"+addr+row.path+"name?enable=true", io.MultiReader(strings.NewReader(strings.Repeat(" ", int(c.limit))), strings.NewReader("xx")))
		must(t, err)
		if !strings.HasSuffix(row.path, "/") {
			req.URL.Path = row.path
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			continue // it was cut off while it still sent
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && (row.path == kvPath || row.path == txnPath) || resp.StatusCode >= 500 {
			t.Errorf("%s %s: %d %q", method, row.path, resp.StatusCode, b)
		}
	}

	// A length that is a lie is refused before anything of it has come.
	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	io.WriteString(c, "PUT /v1/kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n")
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 413 ") {
		t.Errorf("%q, %v", b, err)
	}
}

func TestHeadersOfReads(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f}, false)
	f.servers.meta = wire.QueryMeta{KnownLeader: true, LastContact: 1500 * time.Millisecond, ConsistencyLevel: "stale", Backend: 1}
	want := func(path string, code int, headers map[string]string) {
		t.Helper()
		h := golden{"GET", path, "", code, ""}.check(t, addr)
		for k, v := range headers {
			if h.Get(k) != v {
				t.Errorf("%s: %s is %q, want %q", path, k, h.Get(k), v)
			}
		}
	}
	all := map[string]string{
		"X-Consul-Index": "10", "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "1500", "X-Consul-Effective-Consistency": "stale",
		"X-Consul-Query-Backend": "streaming", "X-Consul-Default-ACL-Policy": "allow", "Vary": "Accept-Encoding", "X-Cache": "",
	}
	want("/v1/health/service/web", 200, all)
	want("/v1/operator/usage", 200, all)
	all["X-Consul-Effective-Consistency"] = ""
	want("/v1/kv/none", 404, all)
	want("/v1/kv/?keys", 200, all)
	want("/v1/session/list", 200, all)
	f.servers.kv["a"] = &wire.DirEntry{Key: "a", Value: []byte("<html>")}
	all["Content-Type"], all["Content-Security-Policy"], all["X-Content-Type-Options"] = "text/plain", "sandbox", "nosniff"
	want("/v1/kv/a?raw", 200, all)
	want("/v1/catalog/datacenters", 200, map[string]string{"X-Consul-Index": ""})
	f.servers.err = errors.New("No cluster leader")
	want("/v1/health/service/web", 500, map[string]string{"X-Consul-Index": "1", "X-Consul-KnownLeader": "false", "X-Consul-LastContact": "0"})
	want("/v1/snapshot", 500, map[string]string{"X-Consul-Index": "1"})
	f.servers.err = nil
	f.reg.services["w"] = &wire.NodeService{ID: "w", Service: "web"}
	want("/v1/agent/health/service/id/w", 200, map[string]string{"X-Consul-Reason": "passing"})
}

func TestErrorsOfServers(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f}, false)
	for text, code := range map[string]int{
		"No cluster leader": 500, "No known Consul servers": 500, "Remote DC has no server currently reachable": 500,
		rpc.ErrRateLimited.Error(): 429,
		"rate limit exceeded, try again later or against a different server":                                  429,
		"rate limit exceeded for operation that can only be performed by the leader, try again later":         503,
		"rpc error making call: rpc error making call: Permission denied: a client may not call Catalog.List": 403,
		"ACL not found": 403, "ACL support disabled": 401, "raft apply failed: anything": 500,
	} {
		f.servers.err = rpc.RemoteError(text)
		for _, path := range []string{"/v1/catalog/nodes", "/v1/catalog/services?cached", "/v1/catalog/datacenters?cached", "/v1/operator/raft/configuration", "/v1/coordinate/datacenters"} {
			golden{"GET", path, "", code, text}.check(t, addr)
		}
		golden{"PUT", "/v1/kv/a", "v", code, text}.check(t, addr)
	}
}

func TestConsistencyOfReads(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f, Data: Data{DiscoveryMaxStale: time.Minute, MaxQueryTime: time.Hour}}, false)
	for query, want := range map[string]wire.QueryOptions{
		"":                                     {AllowStale: true, MaxStaleDuration: time.Minute},
		"leader":                               {},
		"consistent":                           {RequireConsistent: true},
		"stale":                                {AllowStale: true},
		"stale=false&leader":                   {},
		"max_stale=5s":                         {AllowStale: true, MaxStaleDuration: 5 * time.Second},
		"leader&index=3":                       {MinQueryIndex: 3, MaxQueryTime: 5 * time.Minute},
		"leader&index=3&wait=2h":               {MinQueryIndex: 3, MaxQueryTime: time.Hour},
		"leader&wait=2h":                       {},
		"leader&token=secret&filter=a%20%3D+b": {Token: "secret", Filter: "a = b"},
	} {
		golden{"GET", "/v1/health/node/n?" + query, "", 200, ""}.check(t, addr)
		if got := lastCall[*wire.NodeSpecificRequest](t, f.servers, "Health.NodeChecks").QueryOptions; got != want {
			t.Errorf("%s: %+v, want %+v", query, got, want)
		}
	}
	golden{"GET", "/v1/kv/a", "", 404, ""}.check(t, addr) // discovery_max_stale is not for keys
	if lastCall[*wire.KeyRequest](t, f.servers, "KVS.Get").AllowStale {
		t.Error("a read of a key was stale unasked")
	}

	// An answer that is too old is asked for again, of the leader.
	f.servers.meta.LastContact = time.Second
	before := f.count("Health.NodeChecks")
	golden{"GET", "/v1/health/node/n?max_stale=900ms", "", 200, ""}.check(t, addr)
	if got := lastCall[*wire.NodeSpecificRequest](t, f.servers, "Health.NodeChecks").QueryOptions; got.AllowStale || f.count("Health.NodeChecks") != before+2 {
		t.Errorf("%+v after %d calls", got, f.count("Health.NodeChecks")-before)
	}
}

func TestTokensAndSwitches(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f, Data: Data{NoCoordinates: true}}, false)
	for _, header := range [][]string{{"X-Consul-Token", "secret"}, {"Authorization", "Bearer secret"}, {"Authorization", "bearer  secret"}} {
		do(t, "PUT", "http://"+addr+"/v1/kv/a", "v", header...)
		if got := lastCall[*wire.KVSRequest](t, f.servers, "KVS.Apply").Token; got != "secret" {
			t.Errorf("%v: token %q", header, got)
		}
	}
	for _, path := range []string{"/v1/coordinate/nodes", "/v1/coordinate/datacenters", "/v1/coordinate/node/n"} {
		golden{"GET", path, "", 401, "Coordinate support disabled"}.check(t, addr)
	}
	golden{"PUT", "/v1/coordinate/update", "{}", 401, "Coordinate support disabled"}.check(t, addr)
	resp := do(t, "GET", "http://"+addr+"/v1/catalog/services?cached", "", "Cache-Control", "max-age=x")
	if resp.StatusCode != 400 {
		t.Errorf("a bad Cache-Control: %d", resp.StatusCode)
	}
	resp = do(t, "GET", "http://"+addr+"/v1/catalog/nodes?pretty", "")
	if b, _ := io.ReadAll(resp.Body); string(b) != "[]\n" {
		t.Errorf("pretty: %q", b)
	}
}

func TestSessionBody(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f}, false)
	for body, want := range map[string]string{
		``:                                 `{"Node":"node-0","LockDelay":15000000000,"Behavior":"release","NodeChecks":["serfHealth"]}`,
		`{"LockDelay":20}`:                 `{"Node":"node-0","LockDelay":20000000000,"Behavior":"release","NodeChecks":["serfHealth"]}`,
		`{"lock_delay":1000}`:              `{"Node":"node-0","LockDelay":1000,"Behavior":"release","NodeChecks":["serfHealth"]}`,
		`{"LockDelay":0,"node":"n"}`:       `{"Node":"n","LockDelay":0,"Behavior":"release","NodeChecks":["serfHealth"]}`,
		`{"LockDelay":"1m"}`:               `{"Node":"node-0","LockDelay":60000000000,"Behavior":"release","NodeChecks":["serfHealth"]}`,
		`{"Checks":["a"]}`:                 `{"Node":"node-0","LockDelay":15000000000,"Behavior":"release","NodeChecks":["a"]}`,
		`{"Checks":["a"],"NodeChecks":[]}`: `{"Node":"node-0","LockDelay":15000000000,"Behavior":"release","NodeChecks":[]}`,
	} {
		golden{"PUT", "/v1/session/create", body, 200, ""}.check(t, addr)
		s := lastCall[*wire.SessionRequest](t, f.servers, "Session.Apply").Session
		got, err := json.Marshal(struct {
			Node       string
			LockDelay  time.Duration
			Behavior   string
			NodeChecks []string
		}{s.Node, s.LockDelay, s.Behavior, s.NodeChecks})
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestTranslateWAN(t *testing.T) {
	c, f := library(t, Config{Data: Data{TranslateWAN: true}})
	register(t, c, "n1", "w1", "passing")
	for dc, wan := range map[string]bool{"": false, "dc1": false, "dc2": true} {
		q := &api.QueryOptions{Datacenter: dc}
		node, addr, port := "10.0.0.1", "", 80
		if wan {
			node, addr, port = "192.0.2.1", "192.0.2.2", 8080
		}
		nodes, meta, err := c.Catalog().Nodes(q)
		if err != nil || nodes[0].Address != node || !meta.AddressTranslationEnabled {
			t.Errorf("%s: %+v, %v", dc, nodes[0], err)
		}
		s, _, err := c.Catalog().Service("web", "", q)
		if err != nil || s[0].Address != node || s[0].ServiceAddress != addr || s[0].ServicePort != port {
			t.Errorf("%s: %+v, %v", dc, s[0], err)
		}
		n, _, err := c.Catalog().Node("n1", q)
		if err != nil || n.Node.Address != node || n.Services["w1"].Address != addr || n.Services["w1"].Port != port {
			t.Errorf("%s: %+v, %v", dc, n, err)
		}
		l, _, err := c.Catalog().NodeServiceList("n1", q)
		if err != nil || l.Node.Address != node || l.Services[0].Address != addr {
			t.Errorf("%s: %+v, %v", dc, l, err)
		}
		h, _, err := c.Health().Service("web", "", false, q)
		if err != nil || h[0].Node.Address != node || h[0].Service.Address != addr || h[0].Service.Port != port {
			t.Errorf("%s: %+v, %v", dc, h[0], err)
		}
	}
	if f.servers.nodes["n1"].Address != "10.0.0.1" || f.servers.services["n1"]["w1"].Port != 80 {
		t.Error("what the servers hold was changed")
	}
}

// endless are routes whose answers do not end.
var endless = []string{"/v1/agent/monitor", "/v1/agent/metrics/stream"}

// Whatever a name, a parameter or a body says, it is the caller's mistake and
// not the agent's, and the agent goes on.
func TestOddRequests(t *testing.T) {
	a, addr := serve(t, Config{}, false)
	names := []string{"", "a/b", "a%2fb", "%25", "%2e%2e/x", "..", "%ff", "%20", "a;b", "a%3fb", "%3Cscript%3E", strings.Repeat("n", 16<<10)}
	for _, row := range a.table() {
		if slices.Contains(endless, row.path) || row.path == "/v1/agent/host" {
			continue
		}
		for _, method := range row.methods {
			path := "http://" + addr + row.path
			for _, body := range []string{"", "{", "[]", "null", "7", `{"a":{"a":`, "\x00", `{"Node":{},"Name":[],"KV":7}`} {
				if resp := do(t, method, path, body); resp.StatusCode >= 500 {
					t.Errorf("%s %s with %q: %s", method, row.path, body, resp.Status)
				}
			}
			for query, code := range map[string]int{"%zz": 400, "ns=other": 400, "a;b": 400} {
				if resp := do(t, method, path+"?"+query, ""); resp.StatusCode != code {
					t.Errorf("%s %s?%s: %s", method, row.path, query, resp.Status)
				}
			}
			if !strings.HasSuffix(row.path, "/") {
				continue
			}
			for _, name := range names {
				if resp := do(t, method, path+name+"?enable=true", "{}"); resp.StatusCode >= 500 {
					t.Errorf("%s %s%.40s: %s", method, row.path, name, resp.Status)
				}
			}
			for _, name := range []string{"%00", "a%0d%0ab", "a%7f"} {
				if resp := do(t, method, path+name, ""); resp.StatusCode != 400 {
					t.Errorf("%s %s%s: %s", method, row.path, name, resp.Status)
				}
			}
		}
	}
	golden{"GET", "/v1/kv/" + strings.Repeat("k", 128<<10), "", 431, ""}.status(t, addr)
	golden{"GET", "/v1/agent/version", "", 200, ""}.check(t, addr)
}

func (g golden) status(t *testing.T, addr string) {
	t.Helper()
	if resp := do(t, g.method, "http://"+addr+g.path, g.body); resp.StatusCode != g.code {
		t.Errorf("%s %.40s: %s, want %d", g.method, g.path, resp.Status, g.code)
	}
}
