package state_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func keyOf(e *wire.DirEntry) string { return e.Key }

func TestSetAndCheckAndSet(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	cas := func(idx, want uint64, value string) bool {
		t.Helper()
		e := kv("k", value)
		e.Flags, e.ModifyIndex = 7, want
		ok, err := s.KVSSetCAS(idx, e)
		must(t, err)
		return ok
	}
	tests := []struct {
		want uint64
		ok   bool
	}{{9, false}, {0, true}, {0, false}, {10, false}, {11, true}, {11, false}}
	for i, test := range tests {
		if got := cas(uint64(10+i), test.want, fmt.Sprint(i)); got != test.ok {
			t.Errorf("cas with %d at %d: %t", test.want, 10+i, got)
		}
	}
	idx, e, _ := s.KVSGet(nil, "k")
	if idx != 14 || e.CreateIndex != 11 || e.ModifyIndex != 14 || string(e.Value) != "4" || e.Flags != 7 || e.LockIndex != 0 {
		t.Errorf("%d, %+v", idx, e)
	}
	// A plain write of the same changes nothing, a cas does: its index is the token.
	same := kv("k", "4")
	same.Flags = 7
	must(t, s.KVSSet(20, same))
	if idx, _, _ := s.KVSGet(nil, "k"); idx != 14 {
		t.Errorf("index %d after the same value", idx)
	}
	if !cas(21, 14, "4") || cas(22, 14, "4") {
		t.Error("two holders of one index have both won")
	}
	for _, test := range []struct {
		cidx uint64
		ok   bool
	}{{0, false}, {14, false}, {21, true}, {21, false}} {
		if ok, err := s.KVSDeleteCAS(30, test.cidx, "k"); ok != test.ok || err != nil {
			t.Errorf("delete-cas %d: %t, %v", test.cidx, ok, err)
		}
	}
	if idx, e, _ := s.KVSGet(nil, "k"); idx != 30 || e != nil {
		t.Errorf("after the delete: %d, %+v", idx, e)
	}
}

func TestLockAndUnlock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	idx := with(t, s, 1, reg("a"))
	for _, id := range []string{"s1", "s2"} {
		must(t, s.SessionCreate(idx, &wire.Session{ID: id, Node: "a"}))
		idx++
	}
	lock, unlock := s.KVSLock, s.KVSUnlock
	tests := []struct {
		name  string
		op    func(uint64, *wire.DirEntry) (bool, error)
		e     *wire.DirEntry
		ok    bool
		lock  uint64 // LockIndex after
		sess  string
		value string
	}{
		{"unlock what is not there", unlock, held("k", "0", "s1"), false, 0, "", ""},
		{"lock a new key", lock, held("k", "1", "s1"), true, 1, "s1", "1"},
		{"another", lock, held("k", "2", "s2"), false, 1, "s1", "1"},
		{"the holder again", lock, held("k", "3", "s1"), true, 1, "s1", "3"},
		{"unlock by another", unlock, held("k", "4", "s2"), false, 1, "s1", "3"},
		{"unlock", unlock, held("k", "5", "s1"), true, 1, "", "5"},
		{"unlock again", unlock, held("k", "6", "s1"), false, 1, "", "5"},
		{"lock by another", lock, held("k", "7", "s2"), true, 2, "s2", "7"},
	}
	for _, test := range tests {
		ok, err := test.op(idx, test.e)
		if ok != test.ok || err != nil {
			t.Errorf("%s: %t, %v", test.name, ok, err)
		}
		_, e, _ := s.KVSGet(nil, "k")
		if e == nil {
			e = &wire.DirEntry{}
		}
		if e.LockIndex != test.lock || e.Session != test.sess || string(e.Value) != test.value {
			t.Errorf("%s: %+v", test.name, e)
		}
		if ok != (e.ModifyIndex == idx) {
			t.Errorf("%s: index %d at %d", test.name, e.ModifyIndex, idx)
		}
		idx++
	}
	// A write without the lock leaves the lock.
	must(t, s.KVSSet(idx, kv("k", "w")))
	if _, e, _ := s.KVSGet(nil, "k"); e.Session != "s2" || e.LockIndex != 2 || string(e.Value) != "w" {
		t.Errorf("%+v", e)
	}
	if ok, err := lock(idx, held("k", "", "gone")); ok || err == nil {
		t.Errorf("a session that is not there: %t, %v", ok, err)
	}
	if ok, err := lock(idx, held("k", "", "")); ok || err == nil {
		t.Errorf("no session: %t, %v", ok, err)
	}
}

func TestTreesAndTheirIndexes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i, k := range []string{"a", "d/1", "d/2", "d/e/3", "d2", "x/1"} {
		must(t, s.KVSSet(uint64(i+1), kv(k, "v")))
	}
	list := func(prefix string, want uint64, keys ...string) {
		t.Helper()
		idx, got, _ := s.KVSList(nil, prefix)
		if idx != want || !slices.Equal(keysOf(got, keyOf), keys) {
			t.Errorf("%q: index %d, %v; want %d, %v", prefix, idx, keysOf(got, keyOf), want, keys)
		}
		if k, names, _ := s.KVSListKeys(nil, prefix, ""); k != want || !slices.Equal(names, keys) {
			t.Errorf("keys of %q: index %d, %v; want %d, %v", prefix, k, names, want, keys)
		}
	}
	list("d/", 4, "d/1", "d/2", "d/e/3")
	list("", 6, "a", "d/1", "d/2", "d/e/3", "d2", "x/1")
	list("none", 6)
	for sep, want := range map[string][]string{"/": {"d/1", "d/2", "d/e/"}, "": {"d/1", "d/2", "d/e/3"}, "e/": {"d/1", "d/2", "d/e/"}} {
		if _, keys, _ := s.KVSListKeys(nil, "d/", sep); !slices.Equal(keys, want) {
			t.Errorf("separator %q: %v", sep, keys)
		}
	}
	if _, keys, _ := s.KVSListKeys(nil, "d", "/"); !slices.Equal(keys, []string{"d/", "d2"}) {
		t.Errorf("%v", keys)
	}

	must(t, s.KVSDelete(7, "d/e/3"))
	list("d/", 7, "d/1", "d/2") // not 3: something has gone
	list("d/1", 2, "d/1")
	must(t, s.KVSDeleteTree(8, "d/"))
	list("d/", 8)
	list("d", 8, "d2")
	list("x", 6, "x/1")
	list("", 8, "a", "d2", "x/1")
	must(t, s.KVSDeleteTree(9, "none"))
	list("", 8, "a", "d2", "x/1")
	must(t, s.KVSSet(10, kv("y", "v")))
	list("d/", 10) // nothing there: the table's
	must(t, s.KVSSet(11, kv("d/1", "v")))
	list("d/", 11, "d/1")

	if got := s.LastTombstone(); got != 8 {
		t.Errorf("last tombstone %d", got)
	}
	must(t, s.ReapTombstones(12, 7))
	list("d", 11, "d/1", "d2")
	if got := s.LastTombstone(); got != 8 {
		t.Errorf("last tombstone %d after collecting up to 7", got)
	}
	must(t, s.ReapTombstones(13, 8))
	if got := s.LastTombstone(); got != 0 {
		t.Errorf("last tombstone %d after collecting all", got)
	}
	must(t, s.ReapTombstones(14, 8))
	list("none", 13)
}

func TestLeaderHearsOfTombstones(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var heard []uint64
	s.OnTombstone(func(idx uint64) { heard = append(heard, idx) })
	must(t, s.KVSSet(1, kv("a", "")))
	must(t, s.KVSDelete(2, "b"))
	must(t, s.KVSDeleteTree(3, ""))
	if _, errs := s.TxnRW(4, []*wire.TxnOp{{KV: &wire.TxnKVOp{Verb: "set", DirEnt: *kv("a", "")}}, {KV: &wire.TxnKVOp{Verb: "delete", DirEnt: *kv("a", "")}}, {}}); errs == nil {
		t.Error("no error")
	}
	if !slices.Equal(heard, []uint64{3}) {
		t.Errorf("%v", heard)
	}
	next, err := s.Successor()
	must(t, err)
	r := next.Restore()
	must(t, r.Tombstone("a", 3))
	must(t, r.Commit())
	if !slices.Equal(heard, []uint64{3, 3}) {
		t.Errorf("%v after a restore", heard)
	}
}

// What ends a session, and what it leaves.
func TestSessionInvalidation(t *testing.T) {
	t.Parallel()
	ends := map[string]func(s *state.Store, idx uint64) error{
		"destroyed": func(s *state.Store, idx uint64) error { return s.SessionDestroy(idx, "s") },
		"node check critical": func(s *state.Store, idx uint64) error {
			return s.EnsureRegistration(idx, check("A", "n", "", "critical"))
		},
		"service check": func(s *state.Store, idx uint64) error {
			return s.EnsureRegistration(idx, check("a", "c", "i", "critical"))
		},
		"check deleted":         func(s *state.Store, idx uint64) error { return s.DeleteCheck(idx, "a", "n") },
		"service deleted":       func(s *state.Store, idx uint64) error { return s.DeleteService(idx, "a", "i") },
		"node deleted":          func(s *state.Store, idx uint64) error { return s.DeleteNode(idx, "A") },
		"critical in a txn":     txn(wire.TxnOp{Check: &wire.TxnCheckOp{Verb: "set", Check: wire.HealthCheck{Node: "a", CheckID: "n", Status: "critical"}}}),
		"node deleted in a txn": txn(wire.TxnOp{Node: &wire.TxnNodeOp{Verb: "delete", Node: wire.Node{Node: "a"}}}),
		"deleted in a txn":      txn(wire.TxnOp{Session: &wire.TxnSessionOp{Verb: "delete", Session: wire.Session{ID: "s"}}}),
	}
	for name, end := range ends {
		for _, behavior := range []string{"release", "delete"} {
			t.Run(name+" "+behavior, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newStore(t)
					with(t, s, 1, svc("a", "i", "web"), check("a", "n", "", "passing"), check("a", "c", "i", "warning"), reg("b"))
					must(t, s.SessionCreate(5, &wire.Session{
						ID: "s", Node: "A", Behavior: behavior, LockDelay: 15 * time.Second,
						NodeChecks: []string{"n"}, ServiceChecks: []wire.ServiceCheckID{{ID: "c"}},
					}))
					must(t, s.SessionCreate(6, &wire.Session{ID: "other", Node: "b"}))
					for i, e := range []*wire.DirEntry{held("k/1", "v", "s"), held("k/2", "v", "s"), held("k/3", "v", "other")} {
						if ok, err := s.KVSLock(uint64(7+i), e); !ok || err != nil {
							t.Fatal(ok, err)
						}
					}
					must(t, s.EnsureRegistration(10, check("a", "n", "", "warning"))) // not critical
					if _, sess, _ := s.SessionGet(nil, "s"); sess == nil || sess.Node != "a" {
						t.Fatalf("%+v", sess)
					}
					must(t, end(s, 11))
					if idx, sess, _ := s.SessionGet(nil, "s"); sess != nil || idx != 11 {
						t.Errorf("the session is there: %d, %+v", idx, sess)
					}
					idx, entries, _ := s.KVSList(nil, "k/")
					if idx != 11 {
						t.Errorf("index %d", idx)
					}
					want := []string{"k/1", "k/2", "k/3"}
					if behavior == "delete" {
						want = want[2:]
					}
					if got := keysOf(entries, keyOf); !slices.Equal(got, want) {
						t.Fatalf("%v", got)
					}
					for _, e := range entries {
						if mine := e.Key != "k/3"; mine != (e.Session == "") || e.LockIndex != 1 || mine != (e.ModifyIndex == 11) {
							t.Errorf("%+v", e)
						}
					}
					for _, k := range []string{"k/1", "k/2"} {
						if d := time.Until(s.KVSLockDelay(k)); d != 15*time.Second {
							t.Errorf("lock delay of %s: %v", k, d)
						}
					}
					if !s.KVSLockDelay("k/3").IsZero() || !s.KVSLockDelay("k").IsZero() {
						t.Error("a lock delay of other keys")
					}
					time.Sleep(15 * time.Second)
					if !s.KVSLockDelay("k/1").IsZero() {
						t.Error("the lock delay does not end")
					}
				})
			})
		}
	}
}

func txn(ops ...wire.TxnOp) func(*state.Store, uint64) error {
	return func(s *state.Store, idx uint64) error {
		var list []*wire.TxnOp
		for _, op := range ops {
			list = append(list, &op)
		}
		if _, errs := s.TxnRW(idx, list); len(errs) > 0 {
			return fmt.Errorf("%+v", errs[0])
		}
		return nil
	}
}

func TestLockDelayIsCappedAndNotOfACleanRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		with(t, s, 1, reg("a"))
		for i, d := range []time.Duration{time.Hour, 0} {
			id := fmt.Sprint("s", i)
			must(t, s.SessionCreate(2, &wire.Session{ID: id, Node: "a", LockDelay: d}))
			s.KVSLock(3, held("held"+id, "", id))
			s.KVSLock(3, held("released"+id, "", id))
			if ok, err := s.KVSUnlock(4, held("released"+id, "", id)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			must(t, s.SessionDestroy(5, id))
		}
		if d := time.Until(s.KVSLockDelay("helds0")); d != time.Minute {
			t.Errorf("a delay of an hour is %v", d)
		}
		for _, k := range []string{"releaseds0", "helds1", "releaseds1"} {
			if !s.KVSLockDelay(k).IsZero() {
				t.Errorf("%s has a lock delay", k)
			}
		}
		next, err := s.Successor()
		must(t, err)
		if next.KVSLockDelay("helds0").IsZero() {
			t.Error("a restore has ended the lock delay")
		}
	})
}
