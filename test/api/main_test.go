// Package api uses the family's own client library (hashicorp/consul/api)
// against whole agents, all with gossip encryption and verified TLS: one server,
// three servers by way of a client agent, and a second datacenter.
package api

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/consul/api"

	"lictor/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// env is where a scenario runs: a client of one agent's HTTPS API, and the
// datacenter that it asks for.
type env struct {
	*api.Client
	agent *harness.Agent
	dc    string // "" where it is the agent's own
	node  string // a node of that datacenter: a server
}

func (e *env) q() *api.QueryOptions { return &api.QueryOptions{Datacenter: e.dc} }
func (e *env) w() *api.WriteOptions { return &api.WriteOptions{Datacenter: e.dc} }

// connect makes a client of an agent's HTTPS API that verifies it and shows the
// agent's own certificate.
func connect(t testing.TB, a *harness.Agent) *api.Client {
	t.Helper()
	file := func(name string) string { return filepath.Join(a.Dir, name) }
	c, err := api.NewClient(&api.Config{
		Address: a.Addr(harness.HTTPSPort), Scheme: "https",
		TLSConfig: api.TLSConfig{Address: "localhost", CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem")},
	})
	harness.Must(t, err)
	return c
}

// healthy ends a test: no agent may have raced or panicked.
func healthy(t *testing.T, c *harness.Cluster) {
	t.Cleanup(func() {
		c.Close()
		if err := c.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

// ready waits until writes are taken in the datacenter of e and all its agents
// are in its catalog.
func (e *env) ready(t testing.TB, nodes int) {
	t.Helper()
	harness.Must(t, harness.Poll("the catalog to have every agent", func() error {
		list, _, err := e.Catalog().Nodes(e.q())
		if err == nil && len(list) != nodes {
			err = fmt.Errorf("it has %d nodes", len(list))
		}
		return err
	}))
}

// start sets a cluster up and starts it.
func start(t *testing.T, c *harness.Cluster, more map[string]any) {
	t.Helper()
	healthy(t, c)
	ca, err := harness.NewCA("CA")
	harness.Must(t, err)
	harness.Must(t, c.Strict(ca, more))
	harness.Must(t, c.StartAll())
}

func fast(agents ...*harness.Agent) {
	for _, a := range agents {
		a.Set(map[string]any{"performance": map[string]any{"raft_multiplier": 2, "leave_drain_time": "100ms"}})
	}
}

func oneServer(t *testing.T, more map[string]any) *env {
	t.Helper()
	c := harness.New(t, t.TempDir())
	s := c.AddServer("s1")
	fast(s)
	conf := map[string]any{"bootstrap": true}
	for k, v := range more {
		conf[k] = v
	}
	start(t, c, conf)
	e := &env{Client: connect(t, s), agent: s, node: "s1"}
	e.ready(t, 1)
	return e
}

func throughClient(t *testing.T) (*env, *harness.Cluster) {
	t.Helper()
	c := harness.New(t, t.TempDir())
	for i := range 3 {
		fast(c.AddServer(fmt.Sprintf("s%d", i+1)))
	}
	a := c.AddClient("c1")
	fast(a)
	start(t, c, map[string]any{"bootstrap_expect": 3, "enable_script_checks": true})
	e := &env{Client: connect(t, a), agent: a, node: "s1"}
	e.ready(t, 4)
	return e, c
}

// otherDatacenter asks a server of dc1 about dc2.
func otherDatacenter(t *testing.T) *env {
	t.Helper()
	c := harness.New(t, t.TempDir())
	s1, s2 := c.AddServer("s1"), c.AddServer("s2")
	fast(s1, s2)
	s2.Set(map[string]any{"datacenter": "dc2"})
	start(t, c, map[string]any{"bootstrap": true})
	e := &env{Client: connect(t, s1), agent: s1, dc: "dc2", node: "s2"}
	harness.Must(t, e.Agent().Join(s2.IP, true))
	e.ready(t, 1)
	return e
}

// TestClientLibrary runs every scenario in each place.
func TestClientLibrary(t *testing.T) {
	for _, place := range []struct {
		name string
		make func(t *testing.T) *env
	}{
		{"one-server", func(t *testing.T) *env { return oneServer(t, nil) }},
		{"three-servers-through-a-client", func(t *testing.T) *env { e, _ := throughClient(t); return e }},
		{"another-datacenter", otherDatacenter},
	} {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			e := place.make(t)
			for _, s := range scenarios {
				if s.local && e.dc != "" {
					continue
				}
				t.Run(s.name, func(t *testing.T) { s.run(t, e) })
			}
		})
	}
}

// scenario is one family of endpoints. local: it is about the agent that is
// asked, or takes no datacenter.
type scenario struct {
	name  string
	local bool
	run   func(t *testing.T, e *env)
}

var scenarios = []scenario{
	{"status", false, status},
	{"catalog", false, catalog},
	{"health", false, health},
	{"kv", false, kv},
	{"kv-blocking", false, kvBlocking},
	{"session", false, session},
	{"txn", false, txn},
	{"lock", true, lock},
	{"semaphore", true, semaphore},
	{"coordinate", false, coordinate},
	{"event", false, event},
	{"operator-raft", false, operatorRaft},
	{"operator-autopilot", false, operatorAutopilot},
	{"operator-keyring", true, operatorKeyring},
	{"agent-services", true, agentServices},
	{"agent-checks", true, agentChecks},
	{"maintenance", true, maintenance},
	{"snapshot", false, snapshot},
}

// status code of an API error; 0 for any other.
func code(err error) int {
	var s api.StatusError
	if errors.As(err, &s) {
		return s.Code
	}
	return 0
}
