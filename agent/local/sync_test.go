package local_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

// settle waits until nothing happens any more, and compares what was written.
func settle(t *testing.T, c *catalog, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := c.writes(); !slices.Equal(got, want) {
		t.Errorf("writes %q, want %q", got, want)
	}
}

func TestSyncFollowsEveryChangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		s := newState(t, local.Config{RPC: c})
		must(t, s.RegisterService(service("w1", &checks.Definition{TTL: time.Hour}), false))
		must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: time.Hour}))
		stop := start(t, s)
		defer stop()
		settle(t, c, "+node", "+service w1", "+check service:w1", "+check n")
		must(t, s.RegisterService(service("w2"), false))
		settle(t, c, "+service w2")
		must(t, s.UpdateTTL("n", "passing", ""))
		settle(t, c, "+check n")
		must(t, s.RegisterService(service("w2"), false)) // as it is already
		settle(t, c)
		must(t, s.DeregisterService("w1"))
		settle(t, c, "-service w1")
		must(t, s.DeregisterCheck("n"))
		settle(t, c, "-check n")
		s.SetNodeMeta(map[string]string{"m": "2"})
		settle(t, c, "+node")
		s.SetNodeMeta(map[string]string{"m": "2"})
		settle(t, c)
		time.Sleep(time.Hour)
		settle(t, c)
		if n := c.calls["Health.NodeChecks"]; n < 30 || n > 61 {
			t.Errorf("compared %d times in an hour", n)
		}
	})
}

func TestSyncMakesTheServersAgree(t *testing.T) {
	for _, old := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCatalog()
			c.old = old
			node := nodeOne()
			c.node = &node
			c.services = map[string]*wire.NodeService{
				"w1":     {ID: "w1", Service: "web", Port: 80, Tags: []string{"a"}, Weights: &wire.Weights{Passing: 1, Warning: 1}},
				"w2":     {ID: "w2", Service: "web", Port: 81},
				"stray":  {ID: "stray", Service: "x"},
				"consul": {ID: "consul", Service: "consul"},
			}
			c.checks = map[string]*wire.HealthCheck{
				"serfHealth": {CheckID: "serfHealth", Status: "passing"},
				"old":        {CheckID: "old", Status: "passing"},
				"strays":     {CheckID: "strays", ServiceID: "stray", Status: "passing"},
			}
			s := newState(t, local.Config{RPC: c, Services: []*local.Service{service("w1"), service("w2")}})
			stop := start(t, s)
			defer stop()
			settle(t, c, "-service stray", "-check old", "+service w2")
			for _, req := range c.requests {
				if !req.SkipNodeUpdate {
					t.Errorf("the node was in sync: %+v", req)
				}
			}
			// Whatever changes there comes back.
			c.with(func() {
				delete(c.services, "w1")
				c.node.Address = "9.9.9.9"
			})
			time.Sleep(2 * time.Minute)
			settle(t, c, "+node", "+service w1")
			c.with(func() { c.node = nil; clear(c.services); clear(c.checks) })
			time.Sleep(2 * time.Minute)
			settle(t, c, "+node", "+service w1", "+service w2")
		})
	}
}

func TestSyncRetriesAndHearsOfServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.fail = errors.New("No known Consul servers")
		s := newState(t, local.Config{RPC: c, Services: []*local.Service{service("w1")}})
		stop := start(t, s)
		defer stop()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n := c.calls["Catalog.NodeServiceList"]; n < 2 || n > 3 {
			t.Errorf("asked %d times in half a minute", n)
		}
		c.with(func() { c.fail = nil })
		for range 5 {
			s.SyncNow()
			synctest.Wait()
		}
		time.Sleep(3 * time.Second)
		settle(t, c, "+node", "+service w1")

		// A write that fails is made good, too.
		c.with(func() { c.fail = errors.New("No cluster leader") })
		must(t, s.RegisterService(service("w2"), false))
		must(t, s.DeregisterService("w1"))
		synctest.Wait()
		c.with(func() { c.fail = nil })
		time.Sleep(31 * time.Second)
		settle(t, c, "-service w1", "+service w2")
	})
}

func TestSyncIntervalStretches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		s := newState(t, local.Config{RPC: c, Nodes: func() int { return 1000 }}) // a factor of 4
		stop := start(t, s)
		defer stop()
		time.Sleep(80 * time.Minute)
		synctest.Wait()
		if n := c.calls["Health.NodeChecks"]; n < 10 || n > 21 {
			t.Errorf("compared %d times", n)
		}
	})
}

func TestOutputAloneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		s := newState(t, local.Config{RPC: c, UpdateDelay: 10 * time.Minute})
		must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: 24 * time.Hour, Status: "passing"}))
		stop := start(t, s)
		defer stop()
		settle(t, c, "+node", "+check n")
		for range 4 {
			must(t, s.UpdateTTL("n", "passing", time.Now().String()))
			time.Sleep(time.Minute)
		}
		settle(t, c)
		time.Sleep(11 * time.Minute)
		settle(t, c, "+check n")
		if c.checks["n"].Output != s.Checks()["n"].Output {
			t.Error("another output")
		}
		// A change of status goes at once, and takes the output along.
		must(t, s.UpdateTTL("n", "passing", "a"))
		settle(t, c)
		must(t, s.UpdateTTL("n", "warning", "b"))
		settle(t, c, "+check n")
		time.Sleep(30 * time.Minute)
		settle(t, c)
	})
}

func TestOutputAloneGoesAtOnceWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		s := newState(t, local.Config{RPC: c})
		must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: time.Hour, Status: "passing"}))
		stop := start(t, s)
		defer stop()
		settle(t, c, "+node", "+check n")
		must(t, s.UpdateTTL("n", "passing", "a"))
		settle(t, c, "+check n")
	})
}

func TestTagOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		free := service("free", &checks.Definition{TTL: time.Hour})
		free.EnableTagOverride = true
		s := newState(t, local.Config{RPC: c, Services: []*local.Service{free, service("own")}})
		stop := start(t, s)
		defer stop()
		settle(t, c, "+node", "+service free", "+check service:free", "+service own")
		c.with(func() {
			for _, id := range []string{"free", "own"} {
				ns := *c.services[id]
				ns.Tags = []string{"theirs"}
				c.services[id] = &ns
			}
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := c.writes(); !slices.Contains(got, "+service own") || slices.Contains(got, "+service free") {
			t.Errorf("%q", got)
		}
		if ns, _ := s.Service("free"); !slices.Equal(ns.Tags, []string{"theirs"}) {
			t.Errorf("%v", ns.Tags)
		}
		if hc := s.Checks()["service:free"]; !slices.Equal(hc.ServiceTags, []string{"theirs"}) {
			t.Errorf("%v", hc.ServiceTags)
		}
		time.Sleep(10 * time.Minute)
		settle(t, c)
	})
}

func TestRefusedIsNotTriedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &refusing{catalog: newCatalog()}
		s := newState(t, local.Config{RPC: c, Services: []*local.Service{service("w1")}})
		stop := start(t, s)
		defer stop()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := c.calls["Catalog.Register"]; n < 1 || n > 25 {
			t.Errorf("tried %d times in ten minutes", n)
		}
	})
}

// What the servers do not take is tried again, and holds nothing else up; where
// nobody answers nothing else is tried.
func TestOneBadRegistrationDoesNotHoldUpTheOthers(t *testing.T) {
	nobody := errors.New("nobody answers")
	for err, want := range map[error]bool{errors.New("message over the size limit"): true, nobody: false} {
		synctest.Test(t, func(t *testing.T) {
			c := &picky{newCatalog(), "a", err}
			s := newState(t, local.Config{
				RPC: c, Services: []*local.Service{service("a"), service("b")},
				Unanswered: func(err error) bool { return errors.Is(err, nobody) },
			})
			must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: time.Hour}))
			stop := start(t, s)
			defer stop()
			synctest.Wait()
			got := c.writes()
			if all := slices.Equal(got, []string{"+node", "+service b", "+check n"}); all != want {
				t.Errorf("%v: writes %q", err, got)
			}
			c.with(func() { c.bad = "" })
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := c.writes(); !slices.Contains(got, "+service a") {
				t.Errorf("%v: it was not tried again: %q", err, got)
			}
		})
	}
}

func TestTokensGoWithTheirRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		svc := service("w1", &checks.Definition{TTL: time.Hour}, &checks.Definition{TTL: time.Hour, Token: "other"})
		svc.Token = "mine"
		s := newState(t, local.Config{RPC: c, Services: []*local.Service{svc}})
		stop := start(t, s)
		defer stop()
		synctest.Wait()
		var got []string
		for _, req := range c.requests {
			for _, hc := range append(req.Checks, req.Check) {
				if hc != nil {
					got = append(got, hc.CheckID+"="+req.Token)
				}
			}
		}
		if strings.Join(got, " ") != "service:w1:1=mine service:w1:2=other" {
			t.Errorf("%q", got)
		}
	})
}

// Whatever order things happen in, the servers end up with what the agent has.
func TestManyHandsEndInAgreement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		s := newState(t, local.Config{RPC: c, DataDir: t.TempDir(), UpdateDelay: time.Minute})
		stop := start(t, s)
		var hands sync.WaitGroup
		for hand := range 8 {
			hands.Go(func() {
				for i := range 20 {
					id := fmt.Sprintf("w%d", (hand+i)%5)
					svc := service(id, &checks.Definition{TTL: time.Duration(1+i%3) * time.Hour})
					svc.Port = i
					must(t, s.RegisterService(svc, i%2 == 0))
					_ = s.UpdateTTL("service:"+id, []string{"passing", "warning"}[i%2], fmt.Sprint(i))
					switch i % 5 {
					case 1:
						_ = s.DeregisterService(id)
					case 2:
						_ = s.ServiceMaintenance(id, hand%2 == 0, "", "")
					case 3:
						s.Reload([]*local.Service{service("file")}, nil)
					case 4:
						s.SyncNow()
						time.Sleep(time.Second)
					}
				}
			})
		}
		hands.Wait()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		stop()
		for id, ns := range s.Services() {
			if there := c.services[id]; there == nil || there.Port != ns.Port {
				t.Errorf("%s: %+v, the agent has %+v", id, there, ns)
			}
		}
		for id, hc := range s.Checks() {
			if there := c.checks[id]; there == nil || there.Status != hc.Status || there.Output != hc.Output {
				t.Errorf("%s: %+v, the agent has %+v", id, there, hc)
			}
		}
		if len(c.services) != len(s.Services()) || len(c.checks) != len(s.Checks()) {
			t.Errorf("%d services and %d checks, the agent has %d and %d", len(c.services), len(c.checks), len(s.Services()), len(s.Checks()))
		}
	})
}
