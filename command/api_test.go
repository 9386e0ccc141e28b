package command

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeAPI answers each "METHOD path?query" of answers with its text, 404 where
// that is "404", and anything else with 500. It keeps what it was asked, with
// the body.
type fakeAPI struct {
	addr    string
	answers map[string]string

	mu    sync.Mutex
	asked []string
}

func serveAPI(t testing.TB, answers map[string]string) *fakeAPI {
	t.Helper()
	f := &fakeAPI{answers: answers}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.addr = srv.URL
	return f
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.String()
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(key+" "+string(body)))
	f.mu.Unlock()
	w.Header().Set("X-Consul-Index", "7")
	switch answer, ok := f.answers[key]; {
	case !ok:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "boom")
	case answer == "404":
		w.WriteHeader(http.StatusNotFound)
	case strings.HasPrefix(answer, "404 "):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, answer[4:])
	default:
		fmt.Fprint(w, answer)
	}
}

func (f *fakeAPI) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// apiCase is one command line and everything that comes of it.
type apiCase struct {
	name    string
	args    []string
	answers map[string]string
	stdin   string
	status  int
	out     string
	errOut  string   // exactly, or after "~" a part of it
	asked   []string // nil: not looked at
}

func (tt apiCase) run(t *testing.T) {
	t.Helper()
	api := serveAPI(t, tt.answers)
	vars := map[string]string{"CONSUL_HTTP_ADDR": "127.0.0.1:1", "LICTOR_HTTP_ADDR": api.addr, "LICTOR_RPC_ADDR": "127.0.0.1:1"}
	got := lictorCtx(t.Context(), nil, tt.stdin, vars, tt.args...)
	if got.status != tt.status {
		t.Errorf("exit status %d, want %d", got.status, tt.status)
	}
	if got.out != tt.out {
		t.Errorf("output is\n%s\n%q\nwant\n%q", got.out, got.out, tt.out)
	}
	if part, ok := strings.CutPrefix(tt.errOut, "~"); ok && !strings.Contains(got.errOut, part) || !ok && got.errOut != tt.errOut {
		t.Errorf("standard error is\n%q\nwant\n%q", got.errOut, tt.errOut)
	}
	if asked := api.requests(); tt.asked != nil && !slices.Equal(asked, tt.asked) {
		t.Errorf("asked\n%q\nwant\n%q", asked, tt.asked)
	}
}

func runAPICases(t *testing.T, cases []apiCase) {
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) { tt.run(t) })
	}
}

// words splits a command line at spaces.
func words(line string) []string { return strings.Fields(line) }

const pairA = `{"LockIndex":1,"Key":"a","Flags":42,"Value":"dmFsdWU=","Session":"s1","CreateIndex":3,"ModifyIndex":9}`
const pairB = `{"LockIndex":0,"Key":"a/b","Flags":0,"Value":null,"CreateIndex":4,"ModifyIndex":4}`

func TestKV(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	detailsA := "CreateIndex      3\nFlags            42\nKey              a\nLockIndex        1\nModifyIndex      9\nSession          s1\nValue            value\n"
	detailsB := "CreateIndex      4\nFlags            0\nKey              a/b\nLockIndex        0\nModifyIndex      4\nSession          -\nValue            \n"
	document := "[\n\t{\n\t\t\"key\": \"a\",\n\t\t\"flags\": 42,\n\t\t\"value\": \"dmFsdWU=\"\n\t},\n\t{\n\t\t\"key\": \"a/b\",\n\t\t\"flags\": 0,\n\t\t\"value\": \"\"\n\t}\n]\n"
	get := map[string]string{"GET /v1/kv/a": "[" + pairA + "]"}
	list := map[string]string{"GET /v1/kv/a?recurse=": "[" + pairA + "," + pairB + "]"}
	runAPICases(t, []apiCase{
		{name: "get", args: words("kv get a"), answers: get, out: "value\n", asked: []string{"GET /v1/kv/a"}},
		{name: "get, a slash first", args: words("kv get /a"), answers: get, out: "value\n"},
		{name: "get elsewhere", args: words("kv get -datacenter=dc2 -stale a"), answers: map[string]string{"GET /v1/kv/a?dc=dc2&stale=": "[" + pairA + "]"}, out: "value\n"},
		{name: "get, names without effect", args: words("kv get -namespace=n -partition=p a"), answers: get, out: "value\n"},
		{name: "get base64", args: words("kv get -base64 a"), answers: get, out: "dmFsdWU=\n"},
		{name: "get detailed", args: words("kv get -detailed a"), answers: get, out: detailsA},
		{name: "get missing", args: words("kv get k"), answers: map[string]string{"GET /v1/kv/k": "404"}, status: 1, errOut: "Error! No key exists at: k\n"},
		{name: "get nothing", args: words("kv get"), status: 1, errOut: "~Error! Missing KEY argument\n\nUsage: lictor kv get"},
		{name: "get two", args: words("kv get a b"), status: 1, errOut: "~Too many arguments (expected 1, got 2)"},
		{name: "get, an error", args: words("kv get a"), status: 1, errOut: "Error querying agent: Unexpected response code: 500 (boom)\n"},
		{name: "get recurse", args: words("kv get -recurse a"), answers: list, out: "a:value\na/b:\n"},
		{name: "get recurse detailed", args: words("kv get -recurse -detailed a"), answers: list, out: detailsA + "\n" + detailsB},
		{name: "get recurse, none", args: words("kv get -recurse x"), answers: map[string]string{"GET /v1/kv/x?recurse=": "404"}},
		{name: "get keys", args: words("kv get -keys a"), answers: map[string]string{"GET /v1/kv/a?keys=&separator=%2F": `["a","a/b/"]`}, out: "a\na/b/\n"},
		{name: "get keys whole", args: words("kv get -keys -separator= a"), answers: map[string]string{"GET /v1/kv/a?keys=": `["a","a/b/c"]`}, out: "a\na/b/c\n"},
		{name: "get all keys", args: words("kv get -keys"), answers: map[string]string{"GET /v1/kv/?keys=&separator=%2F": `[]`}},

		{name: "put", args: []string{"kv", "put", "a", "some data"}, answers: map[string]string{"PUT /v1/kv/a": "true"}, out: "Success! Data written to: a\n", asked: []string{"PUT /v1/kv/a some data"}},
		{name: "put nothing", args: words("kv put a"), answers: map[string]string{"PUT /v1/kv/a": "true"}, out: "Success! Data written to: a\n", asked: []string{"PUT /v1/kv/a"}},
		{name: "put flags", args: words("kv put -flags=42 a b"), answers: map[string]string{"PUT /v1/kv/a?flags=42": "true"}, out: "Success! Data written to: a\n"},
		{name: "put a file", args: []string{"kv", "put", "a", "@" + file}, answers: map[string]string{"PUT /v1/kv/a": "true"}, out: "Success! Data written to: a\n", asked: []string{"PUT /v1/kv/a from a file"}},
		{name: "put stdin", args: words("kv put a -"), stdin: "@piped", answers: map[string]string{"PUT /v1/kv/a": "true"}, out: "Success! Data written to: a\n", asked: []string{"PUT /v1/kv/a @piped"}},
		{name: "put base64", args: words("kv put -base64 a dmFsdWU="), answers: map[string]string{"PUT /v1/kv/a": "true"}, out: "Success! Data written to: a\n", asked: []string{"PUT /v1/kv/a value"}},
		{name: "put bad base64", args: words("kv put -base64 a !!!"), status: 1, errOut: "~Error! illegal base64 data"},
		{name: "put a file that is not there", args: words("kv put a @/nonexistent"), status: 1, errOut: "Error! Failed to read file: open /nonexistent: no such file or directory\n"},
		{name: "put without a key", args: words("kv put"), status: 1, errOut: "~Error! Missing KEY argument"},
		{name: "put three", args: words("kv put a b c"), status: 1, errOut: "~Too many arguments (expected 1 or 2, got 3)"},
		{name: "put, an error", args: words("kv put a b"), status: 1, errOut: "Error! Failed writing data: Unexpected response code: 500 (boom)\n"},
		{name: "put cas", args: words("kv put -cas -modify-index=9 a b"), answers: map[string]string{"PUT /v1/kv/a?cas=9": "true"}, out: "Success! Data written to: a\n"},
		{name: "put cas, there already", args: words("kv put -cas a b"), answers: map[string]string{"PUT /v1/kv/a?cas=0": "false"}, status: 1, errOut: "Error! Did not write to a: CAS performed with index=0 and key already exists.\n"},
		{name: "put cas stale", args: words("kv put -cas -modify-index=8 a b"), answers: map[string]string{"PUT /v1/kv/a?cas=8": "false"}, status: 1, errOut: "Error! Did not write to a: CAS failed\n"},
		{name: "put index without cas", args: words("kv put -modify-index=8 a b"), status: 1, errOut: "Error! Cannot specify -modify-index without -cas\n"},
		{name: "put acquire", args: words("kv put -acquire -session=s1 a b"), answers: map[string]string{"PUT /v1/kv/a?acquire=s1": "true"}, out: "Success! Lock acquired on: a\n"},
		{name: "put acquire refused", args: words("kv put -acquire -session=s1 a b"), answers: map[string]string{"PUT /v1/kv/a?acquire=s1": "false"}, status: 1, errOut: "Error! Did not acquire lock\n"},
		{name: "put release", args: words("kv put -release -session=s1 a b"), answers: map[string]string{"PUT /v1/kv/a?release=s1": "true"}, out: "Success! Lock released on: a\n"},
		{name: "put release refused", args: words("kv put -release -session=s1 a b"), answers: map[string]string{"PUT /v1/kv/a?release=s1": "false"}, status: 1, errOut: "Error! Did not release lock\n"},
		{name: "put acquire without a session", args: words("kv put -acquire a b"), status: 1, errOut: "Error! Missing -session (required with -acquire and -release)\n"},
		{name: "put acquire and release", args: words("kv put -acquire -release -session=s1 a b"), status: 1, errOut: "Error! Only one of -cas, -acquire and -release may be given\n"},

		{name: "delete", args: words("kv delete a"), answers: map[string]string{"DELETE /v1/kv/a": "true"}, out: "Success! Deleted key: a\n"},
		{name: "delete recurse", args: words("kv delete -recurse a/"), answers: map[string]string{"DELETE /v1/kv/a/?recurse=": "true"}, out: "Success! Deleted keys with prefix: a/\n"},
		{name: "delete cas", args: words("kv delete -cas -modify-index=9 a"), answers: map[string]string{"DELETE /v1/kv/a?cas=9": "true"}, out: "Success! Deleted key: a\n"},
		{name: "delete cas stale", args: words("kv delete -cas -modify-index=8 a"), answers: map[string]string{"DELETE /v1/kv/a?cas=8": "false"}, status: 1, errOut: "Error! Did not delete key a: CAS failed\n"},
		{name: "delete cas without index", args: words("kv delete -cas a"), status: 1, errOut: "Error! -cas needs a -modify-index greater than 0\n"},
		{name: "delete cas recurse", args: words("kv delete -cas -modify-index=1 -recurse a"), status: 1, errOut: "Error! Cannot specify both -cas and -recurse\n"},
		{name: "delete nothing", args: words("kv delete"), status: 1, errOut: "~Error! Missing KEY argument"},
		{name: "delete, an error", args: words("kv delete a"), status: 1, errOut: "Error deleting key a: Unexpected response code: 500 (boom)\n"},

		{name: "export", args: words("kv export a"), answers: list, out: document},
		{name: "export nothing", args: words("kv export"), answers: map[string]string{"GET /v1/kv/?recurse=": "404"}, out: "[]\n"},
		{name: "import", args: words("kv import -"), stdin: document, answers: map[string]string{"PUT /v1/kv/a?flags=42": "true", "PUT /v1/kv/a/b": "true"},
			out: "Imported: a\nImported: a/b\n", asked: []string{"PUT /v1/kv/a?flags=42 value", "PUT /v1/kv/a/b"}},
		{name: "import below a prefix", args: []string{"kv", "import", "-prefix=x/", document}, answers: map[string]string{"PUT /v1/kv/x/a?flags=42": "true", "PUT /v1/kv/x/a/b": "true"}, out: "Imported: x/a\nImported: x/a/b\n"},
		{name: "import stops", args: []string{"kv", "import", document}, answers: map[string]string{"PUT /v1/kv/a?flags=42": "true"}, status: 1,
			out: "Imported: a\n", errOut: "Error! Failed writing data for key a/b: Unexpected response code: 500 (boom)\n"},
		{name: "import rubbish", args: words("kv import {"), status: 1, errOut: "Cannot unmarshal data: unexpected end of JSON input\n"},
		{name: "import nothing", args: words("kv import"), status: 1, errOut: "~Error! Missing DATA argument"},
		{name: "group", args: words("kv"), status: 1, errOut: "~Usage: lictor kv <subcommand>"},
		{name: "no local RPC", args: words("kv get -rpc-addr=x:1 a"), status: 1, errOut: "~flag provided but not defined: -rpc-addr"},
	})
}

func TestCatalog(t *testing.T) {
	const nodes = `[{"ID":"11111111-2222-3333-4444-555555555555","Node":"web-1","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{"wan":"1.2.3.4","lan":"10.0.0.1"},"Meta":{"b":"2","a":"1"}},` +
		`{"ID":"","Node":"w","Address":"10.0.0.12","Datacenter":"dc1","TaggedAddresses":null,"Meta":null}]`
	const none = "No nodes match the given query - try expanding your search.\n"
	runAPICases(t, []apiCase{
		{name: "datacenters", args: words("catalog datacenters"), answers: map[string]string{"GET /v1/catalog/datacenters": `["dc1","dc2"]`}, out: "dc1\ndc2\n"},
		{name: "datacenters, an error", args: words("catalog datacenters"), status: 1, errOut: "Error listing datacenters: Unexpected response code: 500 (boom)\n"},
		{name: "nodes", args: words("catalog nodes"), answers: map[string]string{"GET /v1/catalog/nodes": nodes},
			out: "Node   ID        Address    DC\nweb-1  11111111  10.0.0.1   dc1\nw                10.0.0.12  dc1\n"},
		{name: "nodes detailed", args: words("catalog nodes -detailed"), answers: map[string]string{"GET /v1/catalog/nodes": nodes},
			out: "Node   ID                                    Address    DC   TaggedAddresses            Meta\n" +
				"web-1  11111111-2222-3333-4444-555555555555  10.0.0.1   dc1  lan=10.0.0.1, wan=1.2.3.4  a=1, b=2\n" +
				"w                                            10.0.0.12  dc1                             \n"},
		{name: "nodes, all flags", args: words("catalog nodes -near=_agent -node-meta=a=1 -node-meta=b=2 -filter=Node==w"), answers: map[string]string{
			"GET /v1/catalog/nodes?filter=Node%3D%3Dw&near=_agent&node-meta=a%3A1&node-meta=b%3A2": `[]`}, errOut: none},
		{name: "nodes of a service", args: words("catalog nodes -service=web"), answers: map[string]string{"GET /v1/catalog/service/web": `[{"ID":"12345678-9","Node":"n","Address":"a","Datacenter":"dc1"},{"ID":"12345678-9","Node":"n","Address":"a","Datacenter":"dc1"}]`},
			out: "Node  ID        Address  DC\nn     12345678  a        dc1\n"},
		{name: "nodes of no service", args: words("catalog nodes -service=x"), answers: map[string]string{"GET /v1/catalog/service/x": `[]`}, errOut: none},
		{name: "nodes, bad metadata", args: words("catalog nodes -node-meta=a"), status: 1, errOut: `~"a" is not key=value`},
		{name: "nodes, an error", args: words("catalog nodes"), status: 1, errOut: "Error listing nodes: Unexpected response code: 500 (boom)\n"},
		{name: "services", args: words("catalog services"), answers: map[string]string{"GET /v1/catalog/services": `{"web":["v2","v1"],"consul":[]}`}, out: "consul\nweb\n"},
		{name: "services with tags", args: words("catalog services -tags"), answers: map[string]string{"GET /v1/catalog/services": `{"web":["v2","v1"],"consul":[]}`}, out: "consul\nweb     v1,v2\n"},
		{name: "services of a node", args: words("catalog services -tags -node=n"), answers: map[string]string{"GET /v1/catalog/node/n": `{"Node":{"Node":"n"},"Services":{"w1":{"ID":"w1","Service":"web","Tags":["b"]},"w2":{"ID":"w2","Service":"web","Tags":["a","b"]}}}`}, out: "web  a,b\n"},
		{name: "services of no node", args: words("catalog services -node=n"), answers: map[string]string{"GET /v1/catalog/node/n": "null"}, errOut: "No services match the given query - try expanding your search.\n"},
		{name: "services, an argument", args: words("catalog services x"), status: 1, errOut: "~Too many arguments (expected 0, got 1)"},
		{name: "group", args: words("catalog"), status: 1, errOut: "~Usage: lictor catalog <subcommand>"},
	})
}

func TestServices(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("one.hcl", `service {
  name = "web"
  port = 80
  tags = ["v1"]
  token = "s3cret"
  tagged_addresses { lan { address = "10.0.0.1" port = 81 } }
  check { http = "http://localhost/" interval = "10s" header { x = ["y"] } }
}`)
	two := write("two.json", `{"services": [{"ID": "a1", "Name": "a", "Checks": [{"TTL": "30s", "DeregisterCriticalServiceAfter": "5m"}]}, {"name": "b"}]}`)
	bad := write("bad.hcl", "service {\n  name = \"web\"\n  prot = 80\n}")
	empty := write("empty.json", "{}")
	put := map[string]string{"PUT /v1/agent/service/register": ""}
	const ask = "PUT /v1/agent/service/register "
	runAPICases(t, []apiCase{
		{name: "a file", args: []string{"services", "register", one}, answers: put, out: "Registered service: web\n", asked: []string{
			ask + `{"Name":"web","Tags":["v1"],"TaggedAddresses":{"lan":{"Address":"10.0.0.1","Port":81}},"Port":80,"Token":"s3cret","Checks":[{"HTTP":"http://localhost/","Header":{"x":["y"]},"Interval":"10s"}]}`}},
		{name: "several", args: []string{"services", "register", two}, answers: put, out: "Registered service: a\nRegistered service: b\n", asked: []string{
			ask + `{"ID":"a1","Name":"a","Checks":[{"TTL":"30s","DeregisterCriticalServiceAfter":"5m0s"}]}`, ask + `{"Name":"b"}`}},
		{name: "flags", args: words("services register -name=web -id=w1 -port=80 -address=10.0.0.1 -tag=a -tag=b -meta=k=v -tagged-address=lan=10.0.0.2:81"), answers: put, out: "Registered service: web\n", asked: []string{
			ask + `{"ID":"w1","Name":"web","Tags":["a","b"],"Address":"10.0.0.1","TaggedAddresses":{"lan":{"Address":"10.0.0.2","Port":81}},"Port":80,"Meta":{"k":"v"}}`}},
		{name: "nothing", args: words("services register"), status: 1, errOut: "~Service registration requires at least one argument or flags.\n"},
		{name: "both", args: []string{"services", "register", "-name=x", one}, status: 1, errOut: "~not both"},
		{name: "no name", args: words("services register -port=80"), status: 1, errOut: "Error registering service \"\": Missing service name\n", asked: []string{}},
		{name: "bad tagged address", args: words("services register -name=x -tagged-address=lan=y"), status: 1, errOut: `~-tagged-address lan: "y" is not address:port`},
		{name: "unknown key", args: []string{"services", "register", bad}, status: 1, errOut: "Error reading service definitions: " + bad + ":1: key \"service\": unknown key \"prot\"\n"},
		{name: "no service", args: []string{"services", "register", empty}, status: 1, errOut: "~no service is defined here"},
		{name: "no file", args: []string{"services", "register", dir + "/none.hcl"}, status: 1, errOut: "~no such file"},
		{name: "an error", args: words("services register -name=x"), status: 1, errOut: "Error registering service \"x\": Unexpected response code: 500 (boom)\n"},

		{name: "deregister", args: words("services deregister -id=w1"), answers: map[string]string{"PUT /v1/agent/service/deregister/w1": ""}, out: "Deregistered service: w1\n"},
		{name: "deregister a file", args: []string{"services", "deregister", two}, answers: map[string]string{"PUT /v1/agent/service/deregister/a1": "", "PUT /v1/agent/service/deregister/b": ""},
			out: "Deregistered service: a1\nDeregistered service: b\n"},
		{name: "deregister unknown", args: words("services deregister -id=w1"), answers: map[string]string{"PUT /v1/agent/service/deregister/w1": `404 Unknown service ID "w1".`}, status: 1,
			errOut: "Error deregistering service \"\": Unexpected response code: 404 (Unknown service ID \"w1\".)\n"},
		{name: "deregister nothing", args: words("services deregister"), status: 1, errOut: "~requires at least one argument or -id"},
		{name: "deregister both", args: []string{"services", "deregister", "-id=x", one}, status: 1, errOut: "~not both"},
		{name: "group", args: words("services"), status: 1, errOut: "~Usage: lictor services <subcommand>"},
	})
}

func TestMaint(t *testing.T) {
	const list = "GET /v1/agent/checks"
	runAPICases(t, []apiCase{
		{name: "nothing", args: words("maint"), answers: map[string]string{list: `{"c":{"CheckID":"c"}}`}},
		{name: "both", args: words("maint"), answers: map[string]string{list: `{"_service_maintenance:w1":{"Node":"n","ServiceID":"w1","Notes":"why"},"_node_maintenance":{"Node":"n","Notes":"disk"},"c":{}}`},
			out: "Node:\n  Name:   n\n  Reason: disk\n\nService:\n  ID:     w1\n  Reason: why\n\n"},
		{name: "enable", args: words("maint -enable -reason=why"), answers: map[string]string{"PUT /v1/agent/maintenance?enable=true&reason=why": ""}, out: "Node maintenance is now enabled\n"},
		{name: "disable", args: words("maint -disable"), answers: map[string]string{"PUT /v1/agent/maintenance?enable=false": ""}, out: "Node maintenance is now disabled\n"},
		{name: "enable a service", args: words("maint -enable -service=w1"), answers: map[string]string{"PUT /v1/agent/service/maintenance/w1?enable=true&reason=": ""}, out: "Service maintenance is now enabled for \"w1\"\n"},
		{name: "disable a service", args: words("maint -disable -service=w1"), answers: map[string]string{"PUT /v1/agent/service/maintenance/w1?enable=false": ""}, out: "Service maintenance is now disabled for \"w1\"\n"},
		{name: "enable and disable", args: words("maint -enable -disable"), status: 1, errOut: "Only one of -enable or -disable may be provided\n"},
		{name: "a reason alone", args: words("maint -reason=x"), status: 1, errOut: "Reason may only be provided with -enable\n"},
		{name: "a service alone", args: words("maint -service=x"), status: 1, errOut: "-service needs -enable or -disable\n"},
		{name: "an error", args: words("maint -enable"), status: 1, errOut: "Error enabling maintenance: Unexpected response code: 500 (boom)\n"},
		{name: "another", args: words("maint"), status: 1, errOut: "Error getting checks: Unexpected response code: 500 (boom)\n"},
	})
}

func TestRTT(t *testing.T) {
	const lan = `[{"Node":"a","Segment":"","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Height":0.0001}},{"Node":"b","Segment":"","Coord":{"Vec":[0.0003,0.0004,0,0,0,0,0,0],"Height":0.0001}},{"Node":"seg","Segment":"x","Coord":{"Vec":[0,0,0,0,0,0,0,0]}}]`
	const wan = `[{"Datacenter":"dc1","AreaID":"wan","Coordinates":[{"Node":"a","Coord":{"Vec":[0,0,0,0,0,0,0,0]}}]},{"Datacenter":"dc2","AreaID":"wan","Coordinates":[{"Node":"a","Coord":{"Vec":[0.01,0,0,0,0,0,0,0]}}]}]`
	self := `{"Config":{"NodeName":"a","Datacenter":"dc1"}}`
	answers := map[string]string{"GET /v1/coordinate/nodes": lan, "GET /v1/coordinate/datacenters": wan, "GET /v1/agent/self": self}
	runAPICases(t, []apiCase{
		{name: "two", args: words("rtt a b"), answers: answers, out: "Estimated a <-> b rtt: 0.700 ms (using LAN coordinates)\n"},
		{name: "one", args: words("rtt b"), answers: answers, out: "Estimated b <-> a rtt: 0.700 ms (using LAN coordinates)\n"},
		{name: "wan", args: words("rtt -wan a.dc2 a.dc1"), answers: answers, out: "Estimated a.dc2 <-> a.dc1 rtt: 10.000 ms (using WAN coordinates)\n"},
		{name: "wan, one", args: words("rtt -wan a.dc2"), answers: answers, out: "Estimated a.dc2 <-> a.dc1 rtt: 10.000 ms (using WAN coordinates)\n"},
		{name: "unknown", args: words("rtt a zz"), answers: answers, status: 1, errOut: "Could not find a coordinate for node \"zz\"\n"},
		{name: "in another segment", args: words("rtt a seg"), answers: answers, status: 1, errOut: "~cannot be compared"},
		{name: "wan without a datacenter", args: words("rtt -wan a"), status: 1, errOut: "~must have the form NODE.DATACENTER"},
		{name: "nothing", args: words("rtt"), status: 1, errOut: "~One or two node names must be specified"},
		{name: "an error", args: words("rtt a b"), status: 1, errOut: "Error getting coordinates: Unexpected response code: 500 (boom)\n"},
	})
}
