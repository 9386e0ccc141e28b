package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"lictor/agent/server"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// answer is what a query that runs beside the test came to.
type answer[Reply any] struct {
	reply Reply
	err   error
	after time.Duration
}

// ask starts a call. A bubble's fake time stands still until all in it wait.
func ask[Reply any](ctx context.Context, e *server.Endpoints, method string, args any) <-chan answer[Reply] {
	ch := make(chan answer[Reply], 1)
	start := time.Now()
	go func() {
		var a answer[Reply]
		a.err = e.Call(ctx, method, args, &a.reply)
		a.after = time.Since(start)
		ch <- a
	}()
	synctest.Wait()
	return ch
}

// still fails the test if a call has returned.
func still[Reply any](t *testing.T, ch <-chan answer[Reply], why string) {
	t.Helper()
	synctest.Wait()
	select {
	case a := <-ch:
		t.Fatalf("returned (%+v), though %s", a, why)
	default:
	}
}

// now returns what a call that must have returned came to.
func now[Reply any](t *testing.T, ch <-chan answer[Reply], why string) answer[Reply] {
	t.Helper()
	synctest.Wait()
	select {
	case a := <-ch:
		return a
	default:
		t.Fatalf("still waits, though %s", why)
		panic("unreachable")
	}
}

func blockingGet(e *server.Endpoints, key string, after uint64, wait time.Duration) <-chan answer[wire.IndexedDirEntries] {
	req := &wire.KeyRequest{Key: key, QueryOptions: wire.QueryOptions{MinQueryIndex: after, MaxQueryTime: wait}}
	return ask[wire.IndexedDirEntries](context.Background(), e, "KVS.Get", req)
}

func TestBlockingQueryWakesForWhatItWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := alone(t)
		set(t, e, "a", "1")
		first := get(t, e, wire.KeyRequest{Key: "a"})
		if first.Index == 0 || !first.KnownLeader || first.ConsistencyLevel != "leader" {
			t.Fatalf("meta %+v", first.QueryMeta)
		}
		ch := blockingGet(e, "a", first.Index, time.Minute)
		still(t, ch, "nothing has changed")
		set(t, e, "b", "1")
		register(t, e, "n1", "web")
		still(t, ch, "only other things have changed")
		set(t, e, "a", "2")
		a := now(t, ch, "its key has changed")
		if a.err != nil || string(a.reply.Entries[0].Value) != "2" || a.reply.Index <= first.Index || a.after != 0 {
			t.Errorf("got %+v", a)
		}
	})
}

func TestBlockingQueryReturnsAtOnceBehindTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := alone(t)
		set(t, e, "a", "1")
		set(t, e, "a", "2")
		idx := get(t, e, wire.KeyRequest{Key: "a"}).Index
		a := now(t, blockingGet(e, "a", idx-1, time.Minute), "the index is past")
		if a.err != nil || a.reply.Index != idx {
			t.Errorf("got %+v", a)
		}
	})
}

// What is not there is waited for; that it is not there is answered once.
func TestBlockingQueryForSomethingMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := alone(t)
		set(t, e, "x", "1")
		missing := get(t, e, wire.KeyRequest{Key: "a"})
		if missing.Index == 0 || len(missing.Entries) != 0 {
			t.Fatalf("got %+v", missing)
		}
		ch := blockingGet(e, "a", missing.Index, time.Hour)
		set(t, e, "aa", "1")
		set(t, e, "b", "1")
		still(t, ch, "the key is still not there")
		set(t, e, "a", "1")
		if a := now(t, ch, "the key is there"); a.err != nil || len(a.reply.Entries) != 1 {
			t.Errorf("got %+v", a)
		}
		// An index of before a delete: the delete is news.
		idx := get(t, e, wire.KeyRequest{Key: "a"}).Index
		ch = blockingGet(e, "a", idx, time.Hour)
		call[bool](t, e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVDelete, DirEnt: wire.DirEntry{Key: "a"}})
		if a := now(t, ch, "the key was deleted"); a.err != nil || len(a.reply.Entries) != 0 || a.reply.Index <= idx {
			t.Errorf("got %+v", a)
		}
	})
}

func TestBlockingQueryTimes(t *testing.T) {
	for name, row := range map[string]struct{ asked, wait time.Duration }{
		"as asked":  {10 * time.Second, 10 * time.Second},
		"default":   {0, 300 * time.Second},
		"negative":  {-time.Second, 300 * time.Second},
		"too long":  {time.Hour, 600 * time.Second},
		"very soon": {time.Nanosecond, time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _ := alone(t)
				set(t, e, "a", "1")
				idx := get(t, e, wire.KeyRequest{Key: "a"}).Index
				a := <-blockingGet(e, "a", idx+100, row.asked)
				if a.err != nil || a.reply.Index != idx || len(a.reply.Entries) != 1 {
					t.Errorf("got %+v, want what is there", a)
				}
				if a.after < row.wait || a.after > row.wait+row.wait/16 {
					t.Errorf("returned after %s, want %s and up to a 16th more", a.after, row.wait)
				}
			})
		})
	}
}

func TestBlockingQueryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := alone(t)
		set(t, e, "a", "1")
		idx := get(t, e, wire.KeyRequest{Key: "a"}).Index
		ctx, cancel := context.WithCancel(t.Context())
		req := &wire.KeyRequest{Key: "a", QueryOptions: wire.QueryOptions{MinQueryIndex: idx}}
		ch := ask[wire.IndexedDirEntries](ctx, e, "KVS.Get", req)
		still(t, ch, "nothing has happened")
		cancel()
		if a := now(t, ch, "its caller has gone"); !errors.Is(a.err, context.Canceled) {
			t.Errorf("got %+v", a)
		}
	})
}

// sink is a raft.SnapshotSink in memory.
type sink struct{ bytes.Buffer }

func (s *sink) ID() string    { return "snapshot" }
func (s *sink) Cancel() error { return nil }
func (s *sink) Close() error  { return nil }

var _ raft.SnapshotSink = (*sink)(nil)

// A restored snapshot wakes all who wait, with what is there now, also where the
// index has gone back.
func TestBlockingQueryWakesForARestoredSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r := alone(t)
		set(t, e, "a", "old")
		snap, err := r.fsm.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var s sink
		if err := snap.Persist(&s); err != nil {
			t.Fatal(err)
		}
		snap.Release()
		set(t, e, "a", "new")
		idx := get(t, e, wire.KeyRequest{Key: "a"}).Index
		here, gone := blockingGet(e, "a", idx, 0), blockingGet(e, "b", idx+1, 0)
		still(t, here, "nothing has happened")
		still(t, gone, "nothing has happened")
		if err := r.fsm.Restore(io.NopCloser(&s.Buffer)); err != nil {
			t.Fatal(err)
		}
		if a := now(t, here, "the store was replaced"); a.err != nil || string(a.reply.Entries[0].Value) != "old" || a.reply.Index >= idx {
			t.Errorf("got %+v", a)
		}
		if a := now(t, gone, "the store was replaced"); a.err != nil || a.reply.Index == 0 {
			t.Errorf("got %+v", a)
		}
	})
}

// Every blocking read answers with an index, empties instead of nothing, and
// wakes for a change that it can see.
func TestEveryReadBlocks(t *testing.T) {
	const node, service = "n1", "web"
	dc := func(o wire.QueryOptions) any { return &wire.DCSpecificRequest{QueryOptions: o} }
	onNode := func(o wire.QueryOptions) any { return &wire.NodeSpecificRequest{Node: node, QueryOptions: o} }
	ofService := func(o wire.QueryOptions) any {
		return &wire.ServiceSpecificRequest{ServiceName: service, QueryOptions: o}
	}
	for method, req := range map[string]func(wire.QueryOptions) any{
		"Catalog.ListNodes":       dc,
		"Catalog.ListServices":    dc,
		"Catalog.ServiceList":     dc,
		"Catalog.ServiceNodes":    ofService,
		"Catalog.NodeServices":    onNode,
		"Catalog.NodeServiceList": onNode,
		"Health.NodeChecks":       onNode,
		"Health.ServiceChecks":    ofService,
		"Health.ServiceNodes":     ofService,
		"Health.ServiceNodesJSON": func(o wire.QueryOptions) any {
			return &wire.ServiceNodesJSONRequest{ServiceSpecificRequest: wire.ServiceSpecificRequest{ServiceName: service, QueryOptions: o}}
		},
		"Internal.NodeInfo":        onNode,
		"Internal.NodeDump":        dc,
		"Internal.CatalogOverview": dc,
		"Health.ChecksInState": func(o wire.QueryOptions) any {
			return &wire.ChecksInStateRequest{State: wire.HealthAny, QueryOptions: o}
		},
		"Internal.ServiceDump": func(o wire.QueryOptions) any { return &wire.ServiceDumpRequest{QueryOptions: o} },
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _ := alone(t)
				set(t, e, "k", "v")
				empty := readAny(t, e, method, req(wire.QueryOptions{}))
				if empty == 0 {
					t.Fatal("index 0")
				}
				woken := make(chan uint64, 1)
				go func() { woken <- readAny(t, e, method, req(wire.QueryOptions{MinQueryIndex: empty})) }()
				synctest.Wait()
				set(t, e, "k", "v2")
				synctest.Wait()
				if len(woken) > 0 {
					t.Fatal("woken by a key")
				}
				register(t, e, node, service)
				synctest.Wait()
				if len(woken) == 0 {
					t.Fatal("not woken by a registration")
				}
				if idx := <-woken; idx <= empty {
					t.Errorf("index %d after %d", idx, empty)
				}
			})
		})
	}
}

// readAny calls a read method whatever its reply and returns the index.
func readAny(t *testing.T, e *server.Endpoints, method string, req any) uint64 {
	var reply interface{ Meta() *wire.QueryMeta }
	switch method {
	case "Catalog.ListNodes":
		reply = &wire.IndexedNodes{}
	case "Catalog.ListServices":
		reply = &wire.IndexedServices{}
	case "Catalog.ServiceList":
		reply = &wire.IndexedServiceList{}
	case "Catalog.ServiceNodes":
		reply = &wire.IndexedServiceNodes{}
	case "Catalog.NodeServices":
		reply = &wire.IndexedNodeServices{}
	case "Catalog.NodeServiceList":
		reply = &wire.IndexedNodeServiceList{}
	case "Health.ServiceNodes", "Internal.ServiceDump":
		reply = &wire.IndexedCheckServiceNodes{}
	case "Health.ServiceNodesJSON":
		reply = &wire.EncodedAnswer{}
	case "Internal.NodeInfo", "Internal.NodeDump":
		reply = &wire.IndexedNodeDump{}
	case "Internal.CatalogOverview":
		reply = &wire.CatalogOverview{}
	default:
		reply = &wire.IndexedHealthChecks{}
	}
	if err := e.Call(t.Context(), method, req, reply); err != nil {
		t.Errorf("%s: %v", method, err)
	}
	return reply.Meta().Index
}

func TestConsistency(t *testing.T) {
	c, nodes := startCluster(t, "a", "b")
	leader, follower := nodes[0], nodes[1]
	set(t, follower.Endpoints, "a", "1") // forwarded
	follower.raft.locked(func() { follower.raft.behind, follower.raft.lastContact = true, time.Second })
	set(t, leader.Endpoints, "a", "2")

	for name, row := range map[string]struct {
		o     wire.QueryOptions
		value string
		level string
		last  time.Duration
	}{
		"default":             {wire.QueryOptions{}, "2", "leader", 0},
		"consistent":          {wire.QueryOptions{RequireConsistent: true}, "2", "consistent", 0},
		"stale":               {wire.QueryOptions{AllowStale: true}, "1", "stale", time.Second},
		"stale enough":        {wire.QueryOptions{AllowStale: true, MaxStaleDuration: time.Minute}, "1", "stale", time.Second},
		"too stale":           {wire.QueryOptions{AllowStale: true, MaxStaleDuration: time.Millisecond}, "2", "stale", 0},
		"stale or consistent": {wire.QueryOptions{AllowStale: true, RequireConsistent: true}, "2", "consistent", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := get(t, follower.Endpoints, wire.KeyRequest{Key: "a", QueryOptions: row.o})
			if string(got.Entries[0].Value) != row.value || got.ConsistencyLevel != row.level || got.LastContact != row.last || !got.KnownLeader {
				t.Errorf("got %q with %+v", got.Entries[0].Value, got.QueryMeta)
			}
		})
	}
	leader.raft.locked(func() {
		if leader.raft.verified != 2 {
			t.Errorf("leadership was verified %d times, want 2: once for each consistent read", leader.raft.verified)
		}
	})

	// Without a leader a stale read is answered, and says so.
	c.lead(nil)
	got := get(t, follower.Endpoints, wire.KeyRequest{Key: "a", QueryOptions: wire.QueryOptions{AllowStale: true}})
	if string(got.Entries[0].Value) != "1" || got.KnownLeader {
		t.Errorf("got %+v", got)
	}
}

// A leader that has not applied all that was acknowledged before it, or that is
// none any more, answers no read that it would have to answer for.
func TestReadsWaitForALeaderThatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r := alone(t)
		set(t, e, "a", "1")
		r.locked(func() { r.notReady = true })
		ch := ask[wire.IndexedDirEntries](t.Context(), e, "KVS.Get", &wire.KeyRequest{Key: "a"})
		write := ask[bool](t.Context(), e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "b"}})
		still(t, ch, "the leader is not ready")
		still(t, write, "the leader is not ready")
		time.Sleep(time.Second)
		r.locked(func() { r.notReady = false })
		if a := <-ch; a.err != nil || len(a.reply.Entries) != 1 {
			t.Errorf("got %+v", a)
		}
		if a := <-write; a.err != nil {
			t.Errorf("got %+v", a)
		}

		r.locked(func() { r.refuse = errors.New("leadership lost") })
		a := <-ask[wire.IndexedDirEntries](t.Context(), e, "KVS.Get", &wire.KeyRequest{Key: "a", QueryOptions: wire.QueryOptions{RequireConsistent: true}})
		if a.err == nil || a.after != 7*time.Second {
			t.Errorf("a leader that a majority does not follow answered: %+v", a)
		}
	})
}

func TestNoLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r := alone(t)
		r.c.lead(nil)
		a := <-ask[bool](t.Context(), e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "a"}})
		if !errors.Is(a.err, rpc.ErrNoLeader) || a.err.Error() != "No cluster leader" || a.after != 7*time.Second {
			t.Errorf("got %v after %s, want %v after the hold timeout", a.err, a.after, rpc.ErrNoLeader)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a := <-ask[wire.IndexedDirEntries](ctx, e, "KVS.Get", &wire.KeyRequest{Key: "a"}); a.err == nil || a.after != time.Second {
			t.Errorf("got %+v, want the end of the caller's own time", a)
		}
		// One comes in time.
		ch := ask[bool](t.Context(), e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "a"}})
		time.Sleep(3 * time.Second)
		r.c.lead(r)
		if a := <-ch; a.err != nil {
			t.Errorf("got %+v", a)
		}
		r.locked(func() {
			if r.applies != 1 {
				t.Errorf("%d entries, want 1", r.applies)
			}
		})
	})
}
