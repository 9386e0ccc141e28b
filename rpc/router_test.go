package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lictor/rpc"
)

// voters are servers that note which of them were called, and say who leads.
type voters struct {
	mu      sync.Mutex // guards the fields below
	called  []string
	leader  string // as Status.Leader says it
	targets []rpc.Target
}

func startVoters(t *testing.T, n int) *voters {
	t.Helper()
	v := &voters{}
	for i := range n {
		name := fmt.Sprintf("server%d", i)
		note := func(_ context.Context, c *rpc.Call) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.called = append(v.called, name)
			return c.Reply(echo{})
		}
		_, target := serve(t, rpc.ServerConfig{Table: rpc.Table{
			"KVS.Get": {Access: rpc.AllowAll, Handle: note},
			"Status.Leader": {Access: rpc.AllowAll, Handle: func(_ context.Context, c *rpc.Call) error {
				v.mu.Lock()
				defer v.mu.Unlock()
				return c.Reply(v.leader)
			}},
			"Election.Lost": {Access: rpc.AllowAll, Handle: func(_ context.Context, c *rpc.Call) error {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.called = append(v.called, name)
				if len(v.called) == 1 {
					return rpc.ErrNoLeader
				}
				return c.Reply(echo{})
			}},
		}})
		target.Name = name
		v.targets = append(v.targets, target)
	}
	return v
}

// take returns who was called since the last time.
func (v *voters) take() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	called := v.called
	v.called = nil
	return called
}

func callLeader(t *testing.T, r *rpc.Router, method string) {
	t.Helper()
	if err := r.CallLeader(withTimeout(t), method, echo{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCallLeaderGoesToWhoIsSaidToLead(t *testing.T) {
	v := startVoters(t, 3)
	r := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{})
	r.SetServers("dc1", v.targets)
	for _, name := range []string{"server2", "server0", "server1"} {
		r.SetLeader(name)
		callLeader(t, r, "KVS.Get")
		if got := v.take(); !slices.Equal(got, []string{name}) {
			t.Errorf("%s leads, %v were called", name, got)
		}
	}
	// What any server may answer stays with the one in use, leader or not.
	use := r.Servers("dc1")[0].Name
	for range 3 {
		if err := r.Call(withTimeout(t), "", "KVS.Get", echo{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := v.take(); !slices.Equal(got, []string{use, use, use}) {
		t.Errorf("%s is in use, %v were called", use, got)
	}
	for _, name := range []string{"", "gone"} {
		r.SetLeader(name)
		callLeader(t, r, "KVS.Get")
		if got := v.take(); !slices.Equal(got, []string{use}) {
			t.Errorf("leader %q: %v were called, not %s", name, got, use)
		}
	}
}

// A server that was said to lead and says that nobody does is not asked first
// again.
func TestCallLeaderAfterAWrongHint(t *testing.T) {
	v := startVoters(t, 3)
	r := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{HoldTimeout: 100 * time.Millisecond})
	r.SetServers("dc1", v.targets)
	wrong := r.Servers("dc1")[1].Name
	r.SetLeader(wrong)
	callLeader(t, r, "Election.Lost")
	got := v.take()
	if len(got) != 2 || got[0] != wrong || got[1] == wrong {
		t.Errorf("called %v, the wrong leader was %s", got, wrong)
	}
	callLeader(t, r, "KVS.Get")
	if got := v.take(); len(got) != 1 || got[0] == wrong {
		t.Errorf("then called %v", got)
	}
}

func TestCallLeaderWithADeadLeader(t *testing.T) {
	v := startVoters(t, 2)
	dead := rpc.Target{Addr: "127.0.0.1:1", Datacenter: "dc1", Name: "dead"}
	// No pause: each server is tried once, at once, wherever the dead one is.
	r := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{HoldTimeout: time.Hour})
	for range 5 {
		r.SetServers("dc1", nil)
		r.SetServers("dc1", append(slices.Clone(v.targets), dead))
		r.SetLeader("dead")
		callLeader(t, r, "KVS.Get")
		callLeader(t, r, "KVS.Get")
		if got := v.take(); len(got) != 2 || got[0] != got[1] {
			t.Errorf("called %v", got)
		}
	}
	r.SetServers("dc1", []rpc.Target{dead})
	r.SetHoldTimeout(1)
	r.SetLeader("dead")
	if err := r.CallLeader(withTimeout(t), "KVS.Get", echo{}, nil); err == nil || errors.Is(err, rpc.ErrNoServers) {
		t.Errorf("only a dead leader: %v", err)
	}
}

func TestCallLeaderInABigCluster(t *testing.T) {
	v := startVoters(t, 3)
	nodes := 0
	r := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{Nodes: func() int { return nodes }})
	for _, nodes = range []int{512, 513} {
		r.SetServers("dc1", v.targets)
		list := r.Servers("dc1")
		r.SetLeader(list[1].Name)
		callLeader(t, r, "KVS.Get")
		want := list[1].Name
		if nodes > 512 {
			want = list[0].Name
		}
		if got := v.take(); !slices.Equal(got, []string{want}) {
			t.Errorf("%d nodes: %v were called, not %s", nodes, got, want)
		}
	}
}

// A router that follows the leader asks when servers come, and again when the
// leader does not answer.
func TestRouterAsksWhoLeads(t *testing.T) {
	v := startVoters(t, 3)
	r := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{FollowLeader: true})
	r.SetServers("dc1", v.targets)
	says := func(want rpc.Target) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.leader = want.Addr
	}
	hears := func(ctx context.Context, want rpc.Target) {
		t.Helper()
		for {
			callLeader(t, r, "KVS.Get")
			if got := v.take(); got[0] == want.Name {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s was never asked first", want.Name)
			case <-time.After(time.Millisecond):
			}
		}
	}
	first := r.Servers("dc1")[2]
	says(first)

	ctx, stop := context.WithCancel(withTimeout(t))
	var run sync.WaitGroup
	run.Go(func() { r.Run(ctx) })
	defer run.Wait()
	defer stop()
	hears(ctx, first)

	next := r.Servers("dc1")[1]
	says(next)
	r.SetServers("dc1", slices.DeleteFunc(r.Servers("dc1"), func(t rpc.Target) bool { return t == first }))
	dead := rpc.Target{Addr: "127.0.0.1:1", Datacenter: "dc1", Name: first.Name} // it came back elsewhere, and died
	r.SetServers("dc1", append(r.Servers("dc1"), dead))
	hears(ctx, next)
}
