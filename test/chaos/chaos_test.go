package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lictor/test/harness"
)

// startCluster starts n servers, strict in everything, and waits for a leader.
func startCluster(t *testing.T, c *harness.Cluster, n int) []*harness.Agent {
	t.Helper()
	ca, err := harness.NewCA("CA")
	harness.Must(t, err)
	for i := range n {
		a := c.AddServer(fmt.Sprintf("s%d", i+1))
		a.Set(map[string]any{"performance": map[string]any{"raft_multiplier": 2, "leave_drain_time": "100ms"}})
	}
	harness.Must(t, c.Strict(ca, map[string]any{"bootstrap_expect": n}))
	for _, a := range c.Agents() {
		harness.Must(t, a.Launch())
	}
	for _, a := range c.Agents() {
		harness.Must(t, a.Ready())
	}
	var servers []*harness.Agent
	for _, a := range c.Agents() {
		if a.Server {
			servers = append(servers, a)
		}
	}
	_, err = leader(servers, nil)
	harness.Must(t, err)
	return servers
}

// leader waits until the servers that are up agree on a leader that is none of
// not, and returns it.
func leader(servers []*harness.Agent, not *harness.Agent) (found *harness.Agent, err error) {
	err = harness.Poll("a leader", func() error {
		var who string
		for _, a := range servers {
			if a == not || !a.Up() {
				continue
			}
			var addr string
			if err := a.GetJSON("/v1/status/leader", &addr); err != nil {
				return err
			}
			host, _, _ := net.SplitHostPort(addr)
			if host == "" || who != "" && host != who {
				return fmt.Errorf("%s says %q, before it was %q", a.Name, addr, who)
			}
			who = host
		}
		for _, a := range servers {
			if a.IP == who && a != not {
				found = a
				return nil
			}
		}
		return errors.New("nobody leads but the one that may not")
	})
	return found, err
}

// A fault is done to a cluster that has a leader, and undone when it returns.
type fault struct {
	name string
	do   func(c *harness.Cluster, servers []*harness.Agent, lead *harness.Agent) error
}

func faultsOf(network bool) []fault {
	list := []fault{
		{"kill the leader", func(_ *harness.Cluster, servers []*harness.Agent, lead *harness.Agent) error {
			lead.Kill()
			_, err := leader(servers, lead)
			return errors.Join(err, lead.Start())
		}},
		{"pause the leader for longer than its lease", func(_ *harness.Cluster, servers []*harness.Agent, lead *harness.Agent) error {
			if err := lead.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			_, err := leader(servers, lead)
			return errors.Join(err, lead.Signal(syscall.SIGCONT))
		}},
		{"kill a follower", func(_ *harness.Cluster, servers []*harness.Agent, lead *harness.Agent) error {
			for _, a := range servers {
				if a != lead {
					a.Kill()
					return a.Start()
				}
			}
			return nil
		}},
		{"kill all servers together", func(_ *harness.Cluster, servers []*harness.Agent, _ *harness.Agent) error {
			var all sync.WaitGroup
			for _, a := range servers {
				all.Go(a.Kill)
			}
			all.Wait()
			var errs []error
			for _, a := range servers {
				errs = append(errs, a.Launch())
			}
			for _, a := range servers {
				errs = append(errs, a.Ready())
			}
			return errors.Join(errs...)
		}},
	}
	if network {
		list = append(list, fault{"cut the leader off", func(c *harness.Cluster, servers []*harness.Agent, lead *harness.Agent) error {
			if err := c.Cut(lead); err != nil {
				return err
			}
			_, err := leader(servers, lead)
			return errors.Join(err, c.Heal(lead))
		}})
	}
	return list
}

// progress is how many writes must be acknowledged between two faults.
const progress = 20

// run lets clients work on a cluster while faults happen to it, and checks what
// they saw.
func run(t *testing.T, c *harness.Cluster, list []fault) {
	servers := startCluster(t, c, 3)
	h, acked := newHistory(), &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const clients, perEpoch = 6, 3
	var workers sync.WaitGroup
	epoch := func(n int) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		var keys []string
		for i := range perEpoch {
			keys = append(keys, fmt.Sprintf("chaos/%d/%d", n, i))
		}
		for i := range clients {
			cl := newClient(n*clients+i, servers, h, acked)
			workers.Go(func() { cl.run(ctx, keys, fmt.Sprintf("chaos/%d/lock", n)) })
		}
		return func() { cancel(); workers.Wait() }
	}
	advance := func() error {
		from := acked.Load()
		return harness.Poll("writes to be acknowledged", func() error {
			if n := acked.Load() - from; n < progress {
				return fmt.Errorf("%d were", n)
			}
			return nil
		})
	}
	// A key lives for some faults only: the check of a long history of one key
	// would take too long.
	const faultsPerEpoch = 5
	for done := 0; done < *faults && !t.Failed(); {
		stop := epoch(done)
		for range faultsPerEpoch {
			harness.Must(t, advance())
			lead, err := leader(servers, nil)
			harness.Must(t, err)
			f := list[done%len(list)]
			if done >= len(list) {
				f = list[rand.IntN(len(list))]
			}
			begin := time.Now()
			if err := f.do(c, servers, lead); err != nil {
				t.Fatalf("fault %d: %s (%s): %v", done, f.name, lead.Name, err)
			}
			t.Logf("fault %d: %s (%s) took %s", done, f.name, lead.Name, time.Since(begin).Round(time.Millisecond))
			done++
		}
		harness.Must(t, advance())
		stop()
		finalReads(t, servers, h, done)
	}
	if h.check(t); acked.Load() == 0 {
		t.Error("nothing was written")
	}
	harness.Must(t, c.Healthy())
}

// finalReads reads every key that was ever written, so that a write that was
// acknowledged and lost is in the history.
func finalReads(t *testing.T, servers []*harness.Agent, h *history, id int) {
	t.Helper()
	var keys []string
	harness.Must(t, harness.Poll("the list of keys", func() error {
		b, err := servers[0].Get("/v1/kv/chaos/?keys&consistent")
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &keys)
	}))
	cl := newClient(1_000_000+id, servers, h, &atomic.Int64{})
	for _, k := range keys {
		harness.Must(t, harness.Poll("a read of "+k, func() error {
			if _, ok := cl.read(context.Background(), k); !ok {
				return errors.New("no answer")
			}
			return nil
		}))
	}
}

func TestLinearizable(t *testing.T) {
	c := harness.NewNetwork(t, t.TempDir())
	run(t, c, faultsOf(true))
}

// The same where there is no network to cut, so that it is tested at all where
// namespaces cannot be made.
func TestLinearizableOnLoopback(t *testing.T) {
	if harness.CanNetwork() {
		t.Skip("TestLinearizable has every fault of this test and more")
	}
	run(t, harness.New(t, t.TempDir()), faultsOf(false))
}

// A leader that was cut off answers no consistent read and takes no write; it
// joins again when the network heals.
func TestCutOffLeaderGivesWay(t *testing.T) {
	c := harness.NewNetwork(t, t.TempDir())
	servers := startCluster(t, c, 3)
	old, err := leader(servers, nil)
	harness.Must(t, err)
	put := func(a *harness.Agent, v string) error {
		b, err := a.Do("PUT", "/v1/kv/x", []byte(v))
		if err == nil && strings.TrimSpace(string(b)) != "true" {
			err = fmt.Errorf("answer %q", b)
		}
		return err
	}
	harness.Must(t, put(old, "before"))
	harness.Must(t, c.Cut(old))
	next, err := leader(servers, old)
	harness.Must(t, err)
	harness.Must(t, harness.Poll("a write at the new leader", func() error { return put(next, "after") }))
	if b, err := old.Get("/v1/kv/x?consistent&raw"); err == nil {
		t.Errorf("the old leader answered a consistent read with %q", b)
	}
	if err := put(old, "lost"); err == nil {
		t.Error("the old leader took a write")
	}
	if b, err := old.Get("/v1/kv/x?stale&raw"); err != nil || string(b) != "before" {
		t.Errorf("a stale read at the old leader: %q, %v", b, err)
	}
	harness.Must(t, c.Heal(old))
	harness.Must(t, harness.Poll("the old leader to follow", func() error {
		b, err := old.Get("/v1/kv/x?stale&raw")
		if err == nil && string(b) != "after" {
			err = fmt.Errorf("it has %q", b)
		}
		return err
	}))
	harness.Must(t, c.Healthy())
}

// A client agent that was cut off, and whose node was removed meanwhile, has its
// services back in the catalog when the network heals.
func TestCutOffClientRegistersAgain(t *testing.T) {
	c := harness.NewNetwork(t, t.TempDir())
	client := c.AddClient("c1")
	servers := startCluster(t, c, 3)
	harness.Must(t, c.WaitMembers())
	if _, err := client.Do("PUT", "/v1/agent/service/register", []byte(`{"Name": "w", "Port": 1}`)); err != nil {
		t.Fatal(err)
	}
	instances := func(want int) func() error {
		return func() error {
			var list []struct{ Node struct{ Node string } }
			if err := servers[0].GetJSON("/v1/health/service/w?passing", &list); err != nil {
				return err
			}
			if len(list) != want {
				return fmt.Errorf("%d instances pass", len(list))
			}
			return nil
		}
	}
	harness.Must(t, harness.Poll("the service", instances(1)))
	harness.Must(t, c.Cut(client))
	harness.Must(t, harness.Poll("the service to fail with its node", instances(0)))
	if _, err := servers[0].Do("PUT", "/v1/catalog/deregister", []byte(`{"Node": "c1"}`)); err != nil {
		t.Fatal(err)
	}
	harness.Must(t, c.Heal(client))
	harness.Must(t, harness.Poll("the service again", instances(1)))
	harness.Must(t, c.Healthy())
}
