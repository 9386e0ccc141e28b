package state_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// queries are all reads that a blocking query can make, over a few names.
var queries = map[string]func(*state.Store, state.WatchSet) (uint64, any){
	"nodes":           q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Node, error) { return s.Nodes(ws, nil) }),
	"nodes with meta": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Node, error) { return s.Nodes(ws, metaX) }),
	"node a":          q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.Node, error) { return s.Node(ws, "A") }),
	"node by id":      q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.Node, error) { return s.NodeByID(ws, "ID-1") }),
	"services": q1(func(s *state.Store, ws state.WatchSet) (uint64, map[string][]string, error) {
		return s.Services(ws, nil)
	}),
	"services of meta": q1(func(s *state.Store, ws state.WatchSet) (uint64, map[string][]string, error) {
		return s.Services(ws, metaX)
	}),
	"catalog web": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.ServiceNode, error) {
		return s.ServiceNodes(ws, "web", nil, nil)
	}),
	"catalog web of meta": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.ServiceNode, error) {
		return s.ServiceNodes(ws, "web", []string{"X"}, metaX)
	}),
	"node services a": q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.NodeServices, error) {
		return s.NodeServices(ws, "a")
	}),
	"node checks a": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.NodeChecks(ws, "a")
	}),
	"checks web": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.ServiceChecks(ws, "web", nil)
	}),
	"checks web of meta": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.ServiceChecks(ws, "web", metaX)
	}),
	"checks any": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.ChecksInState(ws, "any", nil)
	}),
	"checks critical": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.ChecksInState(ws, "critical", nil)
	}),
	"checks in a state unknown": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.HealthCheck, error) {
		return s.ChecksInState(ws, "odd", metaX)
	}),
	"health web": q1(func(s *state.Store, ws state.WatchSet) (uint64, []wire.CheckServiceNode, error) {
		return s.CheckServiceNodes(ws, "Web", nil, nil)
	}),
	"health db of meta": q1(func(s *state.Store, ws state.WatchSet) (uint64, []wire.CheckServiceNode, error) {
		return s.CheckServiceNodes(ws, "db", []string{"x"}, metaX)
	}),
	"service dump": q1(func(s *state.Store, ws state.WatchSet) (uint64, []wire.CheckServiceNode, error) {
		return s.ServiceDump(ws, "", false)
	}),
	"node info a": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.NodeInfo, error) { return s.NodeInfo(ws, "a") }),
	"node dump":   q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.NodeInfo, error) { return s.NodeDump(ws) }),
	"overview":    q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.CatalogOverview, error) { return s.Overview(ws) }),
	"key k/a":     q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.DirEntry, error) { return s.KVSGet(ws, "k/a") }),
	"tree k/":     q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.DirEntry, error) { return s.KVSList(ws, "k/") }),
	"tree k/b":    q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.DirEntry, error) { return s.KVSList(ws, "k/b") }),
	"keys":        q1(func(s *state.Store, ws state.WatchSet) (uint64, []string, error) { return s.KVSListKeys(ws, "", "/") }),
	"session 1":   q1(func(s *state.Store, ws state.WatchSet) (uint64, *wire.Session, error) { return s.SessionGet(ws, "s1") }),
	"sessions":    q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Session, error) { return s.SessionList(ws) }),
	"sessions a": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Session, error) {
		return s.NodeSessions(ws, "a")
	}),
	"coordinates": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Coordinate, error) { return s.Coordinates(ws) }),
	"coordinates a": q1(func(s *state.Store, ws state.WatchSet) (uint64, []*wire.Coordinate, error) {
		return s.NodeCoordinates(ws, "a")
	}),
}

var metaX = map[string]string{"m": "x"}

// q1 makes a query of a read, which never fails.
func q1[T any](read func(*state.Store, state.WatchSet) (uint64, T, error)) func(*state.Store, state.WatchSet) (uint64, any) {
	return func(s *state.Store, ws state.WatchSet) (uint64, any) {
		idx, v, err := read(s, ws)
		if err != nil {
			panic(err)
		}
		return idx, v
	}
}

// randomWrite does something to a few names, which may or may not change
// anything.
func randomWrite(r *rand.Rand, s *state.Store, idx uint64) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	node, name, key := pick("a", "b", "c"), pick("web", "db"), pick("k/a", "k/b", "k/b/c", "l")
	status := pick("passing", "passing", "warning", "critical", "odd")
	switch r.IntN(17) {
	case 0, 1:
		q := reg(node)
		q.NodeMeta = map[string]string{"m": pick("x", "y")}
		q.ID = pick("", "", "id-1", "id-2")
		return fmt.Sprint("register node ", node, " ", q.ID, q.NodeMeta, s.EnsureRegistration(idx, q))
	case 2, 3, 4:
		q := svc(node, pick("i1", "i2"), name, pick("x", "y"))
		return fmt.Sprint("register service ", node, *q.Service, s.EnsureRegistration(idx, q))
	case 5, 6:
		return fmt.Sprint("node check ", node, status, s.EnsureRegistration(idx, check(node, "n", "", status)))
	case 7, 8:
		return fmt.Sprint("service check ", node, status, s.EnsureRegistration(idx, check(node, pick("c1", "c2"), pick("i1", "i2"), status)))
	case 9:
		return fmt.Sprint("delete check ", node, s.DeleteCheck(idx, node, pick("n", "c1")))
	case 10:
		return fmt.Sprint("delete service ", node, s.DeleteService(idx, node, pick("i1", "i2")))
	case 11:
		return fmt.Sprint("delete node ", node, s.DeleteNode(idx, node))
	case 12:
		return fmt.Sprint("set ", key, s.KVSSet(idx, kv(key, pick("1", "2"))))
	case 13:
		if r.IntN(2) == 0 {
			return fmt.Sprint("delete tree ", s.KVSDeleteTree(idx, pick("k/", "k/b", "")))
		}
		return fmt.Sprint("delete ", key, s.KVSDelete(idx, key))
	case 14:
		if r.IntN(3) == 0 {
			return fmt.Sprint("reap ", s.ReapTombstones(idx, idx-uint64(r.IntN(10))))
		}
		ok, err := s.KVSLock(idx, held(key, "l", pick("s1", "s2")))
		return fmt.Sprint("lock ", key, ok, err)
	case 15:
		id := pick("s1", "s2")
		if r.IntN(3) == 0 {
			return fmt.Sprint("destroy ", id, s.SessionDestroy(idx, id))
		}
		return fmt.Sprint("session ", id, s.SessionCreate(idx, &wire.Session{
			ID: id, Node: node, Behavior: pick("release", "delete"), NodeChecks: [][]string{nil, {"n"}, {"n", "c1"}}[r.IntN(3)],
		}))
	default:
		c := coordinate.NewCoordinate(coordinate.DefaultConfig())
		c.Height = float64(1 + r.IntN(2))
		return fmt.Sprint("coordinate ", node, s.CoordinateBatchUpdate(idx, []*wire.Coordinate{{Node: node, Coord: c}, {Node: "zz", Coord: c}}))
	}
}

// Whoever has an answer and its index hears of every other answer: the index has
// grown and the watch has fired. And after every write the store says the same
// as one that was never asked before.
func TestEveryChangeIsSeenByThoseWhoWatchIt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			type answer struct {
				idx uint64
				v   any
				ws  state.WatchSet
			}
			s, fresh := newStore(t), newStore(t)
			r, again := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 1))
			had, changes := map[string]answer{}, 0
			for idx := uint64(1); idx < 500; idx++ {
				what := randomWrite(r, s, idx)
				randomWrite(again, fresh, idx)
				for name, q := range queries {
					ws := state.NewWatchSet()
					i, v := q(s, ws)
					now, was := answer{i, v, ws}, had[name]
					if idx > 1 && !reflect.DeepEqual(was.v, now.v) {
						changes++
						if now.idx <= was.idx || !fired(was.ws) {
							t.Fatalf("%d, %s: %q has changed: index %d to %d, woken %t\n%+v\n%+v", idx, what, name, was.idx, now.idx, fired(was.ws), was.v, now.v)
						}
					}
					if fired(ws) {
						t.Fatalf("%d, %s: %q wakes at once", idx, what, name)
					}
					had[name] = now
				}
			}
			if changes < 1000 {
				t.Errorf("only %d changes were looked at", changes)
			}
			for name, q := range queries {
				if i, v := q(fresh, nil); i != had[name].idx || !reflect.DeepEqual(v, had[name].v) {
					t.Errorf("%q differs between equal stores: %d %+v, %d %+v", name, had[name].idx, had[name].v, i, v)
				}
			}
		})
	}
}

// Which queries wake for which write: these and no others.
func TestWhatWakesAndWhatDoesNot(t *testing.T) {
	t.Parallel()
	dumps := []string{"node dump", "overview", "service dump"}
	tests := []struct {
		name  string
		write func(*state.Store, uint64) error
		wakes []string
	}{
		{"an identical registration", func(s *state.Store, idx uint64) error {
			r := svc("a", "i1", "web", "x")
			r.NodeMeta = metaX
			r.Check = check("a", "c1", "i1", "passing").Check
			r.Checks = []*wire.HealthCheck{check("a", "n", "", "passing").Check}
			return s.EnsureRegistration(idx, r)
		}, nil},
		{"another node", func(s *state.Store, idx uint64) error { return s.EnsureRegistration(idx, reg("other")) },
			append([]string{"nodes", "nodes with meta", "services of meta", "checks web of meta", "checks in a state unknown"}, dumps...)},
		{"a service of another name", func(s *state.Store, idx uint64) error { return s.EnsureRegistration(idx, svc("b", "o", "other")) },
			append([]string{"services", "services of meta"}, dumps...)},
		{"another port of the same service", func(s *state.Store, idx uint64) error {
			r := svc("a", "i1", "web", "x")
			r.SkipNodeUpdate, r.Service.Port = true, 81
			return s.EnsureRegistration(idx, r)
		}, append([]string{"catalog web", "catalog web of meta", "health web", "node services a", "node info a"}, dumps...)},
		{"a check of a service", func(s *state.Store, idx uint64) error {
			return s.EnsureRegistration(idx, check("a", "c1", "i1", "warning"))
		}, append([]string{"checks web", "checks web of meta", "health web", "node checks a", "node info a", "checks any", "checks in a state unknown"}, dumps...)},
		{"a check of a node", func(s *state.Store, idx uint64) error {
			return s.EnsureRegistration(idx, check("b", "n", "", "critical"))
		}, append([]string{"health db of meta", "checks any", "checks critical", "checks in a state unknown"}, dumps...)},
		{"another instance goes", func(s *state.Store, idx uint64) error { return s.DeleteService(idx, "b", "i2") },
			append([]string{"services", "services of meta", "health db of meta"}, dumps...)},
		{"the key", func(s *state.Store, idx uint64) error { return s.KVSSet(idx, kv("k/a", "new")) },
			[]string{"key k/a", "tree k/", "keys"}},
		{"the same value", func(s *state.Store, idx uint64) error { return s.KVSSet(idx, kv("k/a", "1")) }, nil},
		{"a key below", func(s *state.Store, idx uint64) error { return s.KVSSet(idx, kv("k/a/b", "1")) },
			[]string{"tree k/", "keys"}},
		{"a key beside", func(s *state.Store, idx uint64) error { return s.KVSSet(idx, kv("k/c", "1")) }, []string{"tree k/", "keys"}},
		{"a key elsewhere", func(s *state.Store, idx uint64) error { return s.KVSDelete(idx, "l") }, []string{"keys"}},
		{"no key", func(s *state.Store, idx uint64) error { return s.KVSDelete(idx, "no") }, nil},
		{"tombstones", func(s *state.Store, idx uint64) error { return s.ReapTombstones(idx, idx) }, nil},
		{"a session", func(s *state.Store, idx uint64) error {
			return s.SessionCreate(idx, &wire.Session{ID: "s3", Node: "b"})
		}, []string{"sessions"}},
		{"the end of a session with a lock", func(s *state.Store, idx uint64) error { return s.SessionDestroy(idx, "s1") },
			[]string{"session 1", "sessions", "sessions a", "tree k/", "tree k/b", "keys"}},
		{"a coordinate", func(s *state.Store, idx uint64) error {
			return s.CoordinateBatchUpdate(idx, []*wire.Coordinate{{Node: "b", Coord: coordinate.NewCoordinate(coordinate.DefaultConfig())}})
		}, []string{"coordinates"}},
		{"a coordinate of nobody", func(s *state.Store, idx uint64) error {
			return s.CoordinateBatchUpdate(idx, []*wire.Coordinate{{Node: "zz", Coord: coordinate.NewCoordinate(coordinate.DefaultConfig())}, {Node: "a"}, nil})
		}, nil},
		{"autopilot", func(s *state.Store, idx uint64) error { return s.AutopilotSetConfig(idx, &wire.AutopilotConfig{}) }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			a := svc("a", "i1", "web", "x")
			a.ID, a.NodeMeta = "id-1", metaX
			b := svc("b", "i2", "db", "x")
			idx := with(t, s, 1, a, b, check("a", "c1", "i1", "passing"), check("a", "n", "", "passing"), check("b", "bad", "", "critical"))
			must(t, s.SessionCreate(idx, &wire.Session{ID: "s1", Node: "a"}))
			for i, k := range []string{"k/a", "k/b", "l", "m"} {
				must(t, s.KVSSet(idx+uint64(i)+1, kv(k, "1")))
			}
			must(t, s.KVSDelete(idx+5, "m"))
			if ok, err := s.KVSLock(idx+6, held("k/b", "1", "s1")); !ok || err != nil {
				t.Fatal(ok, err)
			}
			coord := coordinate.NewCoordinate(coordinate.DefaultConfig())
			must(t, s.CoordinateBatchUpdate(idx+7, []*wire.Coordinate{{Node: "a", Coord: coord}}))

			sets, indexes := map[string]state.WatchSet{}, map[string]uint64{}
			for name, q := range queries {
				sets[name] = state.NewWatchSet()
				indexes[name], _ = q(s, sets[name])
			}
			must(t, test.write(s, idx+8))
			for name, q := range queries {
				want := slices.Contains(test.wakes, name)
				if got := fired(sets[name]); got != want {
					t.Errorf("%q woken: %t, want %t", name, got, want)
				}
				if i, _ := q(s, nil); (i > indexes[name]) != want && name != "tree k/b" {
					t.Errorf("%q: index %d after %d", name, i, indexes[name])
				}
			}
		})
	}
}

// A service or node that is not there does not wake for others that come.
func TestWhatIsMissingWaitsForItself(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	idx := with(t, s, 1, svc("n1", "w", "wax"), svc("n2", "w", "west"))
	reads := []func(ws state.WatchSet) uint64{
		func(ws state.WatchSet) uint64 { i, _, _ := s.CheckServiceNodes(ws, "web", nil, nil); return i },
		func(ws state.WatchSet) uint64 { return s.HealthIndex(ws, "web") },
		func(ws state.WatchSet) uint64 { i, _, _ := s.ServiceNodes(ws, "web", nil, nil); return i },
		func(ws state.WatchSet) uint64 { i, _, _ := s.ServiceChecks(ws, "web", nil); return i },
		func(ws state.WatchSet) uint64 { i, _, _ := s.NodeServices(ws, "n3"); return i },
		func(ws state.WatchSet) uint64 { i, _, _ := s.NodeChecks(ws, "n3"); return i },
		func(ws state.WatchSet) uint64 { i, _, _ := s.Node(ws, "n3"); return i },
		func(ws state.WatchSet) uint64 { i, _, _ := s.NodeSessions(ws, "n3"); return i },
	}
	before := make([]uint64, len(reads))
	for i, read := range reads {
		before[i] = read(nil)
	}
	idx = with(t, s, idx, svc("n4", "w", "wet"), check("n4", "c", "w", "passing"))
	for i, read := range reads {
		if got := read(nil); got != before[i] {
			t.Errorf("read %d: the index went from %d to %d for others", i, before[i], got)
		}
	}
	sets := make([]state.WatchSet, len(reads))
	for i, read := range reads {
		sets[i] = state.NewWatchSet()
		read(sets[i])
	}
	with(t, s, idx, svc("n3", "w", "web"), check("n3", "c", "w", "passing"))
	must(t, s.SessionCreate(idx+2, &wire.Session{ID: "s", Node: "n3"}))
	for i, read := range reads {
		if got := read(nil); got <= before[i] || !fired(sets[i]) {
			t.Errorf("read %d: it came, index %d after %d, woken %t", i, got, before[i], fired(sets[i]))
		}
		before[i] = read(nil)
	}
	must(t, s.DeleteNode(idx+3, "n3"))
	for i, read := range reads {
		if got := read(nil); got <= before[i] {
			t.Errorf("read %d: it went, index %d after %d", i, got, before[i])
		}
	}
}

func TestAbandonedStoreWakesItsWatchers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, q := range queries {
		ws := state.NewWatchSet()
		if idx, _ := q(s, ws); idx != 0 {
			t.Errorf("%q: index %d of an empty store", name, idx)
		}
		if _, ok := ws[s.AbandonCh()]; !ok {
			t.Errorf("%q does not hear that the store is abandoned", name)
		}
	}
	s.Abandon()
	s.Abandon()
	select {
	case <-s.AbandonCh():
	default:
		t.Error("still there")
	}
}
