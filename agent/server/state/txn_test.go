package state_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"testing"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func kvOp(verb wire.KVOp, e wire.DirEntry) *wire.TxnOp {
	return &wire.TxnOp{KV: &wire.TxnKVOp{Verb: verb, DirEnt: e}}
}

func at(key string, idx uint64) wire.DirEntry {
	return wire.DirEntry{Key: key, RaftIndex: wire.RaftIndex{ModifyIndex: idx}}
}

// txnStore has key a (index 1), key b held by session s (index 4), and service
// i1 with check c on node n.
func txnStore(t *testing.T) *state.Store {
	t.Helper()
	s := newStore(t)
	must(t, s.KVSSet(1, kv("a", "1")))
	with(t, s, 2, reg("n"))
	must(t, s.SessionCreate(3, &wire.Session{ID: "s", Node: "n"}))
	if ok, err := s.KVSLock(4, held("b", "2", "s")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	with(t, s, 5, svc("n", "i1", "web"), check("n", "c", "i1", "passing"))
	return s
}

func TestTxnOperations(t *testing.T) {
	t.Parallel()
	node := func(verb string, n wire.Node) *wire.TxnOp {
		return &wire.TxnOp{Node: &wire.TxnNodeOp{Verb: verb, Node: n}}
	}
	service := func(verb, node string, n wire.NodeService) *wire.TxnOp {
		return &wire.TxnOp{Service: &wire.TxnServiceOp{Verb: verb, Node: node, Service: n}}
	}
	chk := func(verb string, c wire.HealthCheck) *wire.TxnOp {
		return &wire.TxnOp{Check: &wire.TxnCheckOp{Verb: verb, Check: c}}
	}
	i := func(idx uint64) wire.RaftIndex { return wire.RaftIndex{ModifyIndex: idx} }
	tests := []struct {
		name   string
		op     *wire.TxnOp
		failed string // the error, or empty
		result string // the key, node, service or check of the result and its index
	}{
		{"set", kvOp("set", *kv("new", "v")), "", "new 100"},
		{"set without a key", kvOp("set", wire.DirEntry{}), "Missing key name", ""},
		{"cas", kvOp("cas", at("a", 1)), "", "a 100"},
		{"cas, stale", kvOp("cas", at("a", 2)), `failed to set key "a", index is stale`, ""},
		{"cas of what is there", kvOp("cas", at("a", 0)), `failed to set key "a", index is stale`, ""},
		{"lock", kvOp("lock", *held("a", "", "s")), "", "a 100"},
		{"lock by nobody", kvOp("lock", *held("a", "", "x")), `invalid session "x"`, ""},
		{"unlock", kvOp("unlock", *held("b", "", "s")), "", "b 100"},
		{"unlock what is not held", kvOp("unlock", *held("a", "", "s")), `failed to unlock key "a", lock isn't held, or is held by another session`, ""},
		{"get", kvOp("get", at("a", 0)), "", "a 1"},
		{"get nothing", kvOp("get", at("x", 0)), `key "x" doesn't exist`, ""},
		{"get or empty", kvOp("get-or-empty", at("x", 0)), "", "x 0"},
		{"get tree", kvOp("get-tree", at("b", 0)), "", "b 4"},
		{"get no tree", kvOp("get-tree", at("x", 0)), "", ""},
		{"check index", kvOp("check-index", at("a", 1)), "", "a 1"},
		{"check index, stale", kvOp("check-index", at("a", 2)), `failed index check for key "a", current modify index 1 != 2`, ""},
		{"check session", kvOp("check-session", *held("b", "", "s")), "", "b 4"},
		{"check session, other", kvOp("check-session", *held("b", "", "x")), `failed session check for key "b", current session "s" != "x"`, ""},
		{"check not exists", kvOp("check-not-exists", at("x", 0)), "", ""},
		{"check not exists, does", kvOp("check-not-exists", at("a", 0)), `key "a" exists`, ""},
		{"delete", kvOp("delete", at("a", 0)), "", ""},
		{"delete tree", kvOp("delete-tree", at("", 0)), "", ""},
		{"delete cas", kvOp("delete-cas", at("a", 1)), "", ""},
		{"delete cas, stale", kvOp("delete-cas", at("a", 2)), `failed to delete key "a", index is stale`, ""},
		{"unknown verb", kvOp("frob", at("a", 1)), `unknown KV verb "frob"`, ""},
		{"node get", node("get", wire.Node{Node: "N"}), "", "n 2"},
		{"node get nothing", node("get", wire.Node{Node: "x"}), `node "x" doesn't exist`, ""},
		{"node set", node("set", wire.Node{Node: "x"}), "", "x 100"},
		{"node set without a name", node("set", wire.Node{ID: "x"}), "Must provide node", ""},
		{"node cas", node("cas", wire.Node{Node: "n", Address: "x", RaftIndex: i(2)}), "", "n 100"},
		{"node cas, stale", node("cas", wire.Node{Node: "n", RaftIndex: i(1)}), `failed to set node "n", index is stale`, ""},
		{"node cas of what is there", node("cas", wire.Node{Node: "n"}), `failed to set node "n", index is stale`, ""},
		{"node delete", node("delete", wire.Node{Node: "n"}), "", ""},
		{"node delete cas", node("delete-cas", wire.Node{Node: "n", RaftIndex: i(2)}), "", ""},
		{"node delete cas, no index", node("delete-cas", wire.Node{Node: "x"}), `failed to delete node "x", index is stale`, ""},
		{"node verb", node("frob", wire.Node{Node: "n"}), `unknown verb "frob" for node "n"`, ""},
		{"service get", service("get", "n", wire.NodeService{ID: "i1"}), "", "i1 5"},
		{"service set", service("set", "n", wire.NodeService{Service: "db"}), "", "db 100"},
		{"service set without a node", service("set", "x", wire.NodeService{Service: "db"}), "Missing node registration", ""},
		{"service cas", service("cas", "n", wire.NodeService{ID: "i1", Service: "web", Port: 1, RaftIndex: i(5)}), "", "i1 100"},
		{"service cas, stale", service("cas", "n", wire.NodeService{ID: "i1", Service: "web", RaftIndex: i(4)}), `failed to set service "i1" on node "n", index is stale`, ""},
		{"service delete", service("delete", "n", wire.NodeService{ID: "i1"}), "", ""},
		{"service delete of nothing", service("delete", "n", wire.NodeService{ID: "x"}), "", ""},
		{"check get", chk("get", wire.HealthCheck{Node: "n", CheckID: "c"}), "", "c 6"},
		{"check set", chk("set", wire.HealthCheck{Node: "n", Name: "d", ServiceID: "i1"}), "", "d 100"},
		{"check set without a service", chk("set", wire.HealthCheck{Node: "n", CheckID: "d", ServiceID: "x"}), "Missing service registration", ""},
		{"check set without a node", chk("set", wire.HealthCheck{Node: "x", CheckID: "d"}), "Missing node registration", ""},
		{"check delete cas", chk("delete-cas", wire.HealthCheck{Node: "n", CheckID: "c", RaftIndex: i(6)}), "", ""},
		{"session", &wire.TxnOp{Session: &wire.TxnSessionOp{Verb: "get"}}, `unknown session verb "get"`, ""},
		{"nothing", &wire.TxnOp{}, "no operation given", ""},
		{"not even that", nil, "no operation given", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := txnStore(t)
			results, errs := s.TxnRW(100, []*wire.TxnOp{test.op})
			failed := ""
			if len(errs) > 0 {
				failed = errs[0].What
			}
			if failed != test.failed || (failed != "") == (results != nil) {
				t.Errorf("%q, results %+v", failed, results)
			}
			got := ""
			for _, r := range results {
				got += describe(r)
			}
			if got != test.result {
				t.Errorf("result %q, want %q", got, test.result)
			}
			// One that only reads gives the same without the log, the others nothing.
			idx, read, errs := txnStore(t).TxnRO([]*wire.TxnOp{test.op})
			if !state.OnlyReads(test.op) {
				if len(errs) != 1 || read != nil {
					t.Errorf("it was written by a read: %+v", read)
				}
			} else if idx != 6 || failed == "" && (len(errs) > 0 || !reflect.DeepEqual(read, results)) {
				t.Errorf("index %d, %+v, %+v", idx, read, errs)
			}
		})
	}
}

func describe(r *wire.TxnResult) string {
	switch {
	case r.KV != nil:
		return text(r.KV.Key, r.KV.ModifyIndex)
	case r.Node != nil:
		return text(r.Node.Node, r.Node.ModifyIndex)
	case r.Service != nil:
		return text(r.Service.ID, r.Service.ModifyIndex)
	}
	return text(r.Check.CheckID, r.Check.ModifyIndex)
}

func text(name string, idx uint64) string {
	b, _ := json.Marshal(idx)
	return name + " " + string(b)
}

// All or nothing, also what wakes, what is delayed and what is collected later.
func TestTxnIsAtomic(t *testing.T) {
	t.Parallel()
	s := txnStore(t)
	s.OnTombstone(func(idx uint64) {
		if idx == 100 {
			t.Error("a tombstone")
		}
	})
	before, ws := map[string]any{}, state.NewWatchSet()
	for name, q := range queries {
		_, before[name] = q(s, ws)
	}
	ops := []*wire.TxnOp{
		kvOp("set", *kv("new", "v")),
		kvOp("cas", at("a", 99)),
		kvOp("delete-tree", at("", 0)),
		{Node: &wire.TxnNodeOp{Verb: "delete", Node: wire.Node{Node: "n"}}},
		{Session: &wire.TxnSessionOp{Verb: "delete", Session: wire.Session{ID: "s"}}},
		kvOp("get", at("gone", 0)),
	}
	results, errs := s.TxnRW(100, ops)
	if results != nil || len(errs) != 2 || errs[0].OpIndex != 1 || errs[1].OpIndex != 5 {
		t.Fatalf("%+v, %+v", results, errs)
	}
	if fired(ws) {
		t.Error("someone was woken")
	}
	for name, q := range queries {
		if _, v := q(s, nil); !reflect.DeepEqual(v, before[name]) {
			t.Errorf("%q has changed", name)
		}
	}
	// Each operation sees the ones before it; results of writes have no value.
	results, errs = s.TxnRW(101, []*wire.TxnOp{
		kvOp("check-not-exists", at("new", 0)), kvOp("set", *kv("new", "v")), kvOp("get", at("new", 0)),
		kvOp("cas", at("new", 101)), kvOp("delete", at("a", 0)), kvOp("check-not-exists", at("a", 0)),
	})
	if len(errs) > 0 || len(results) != 3 {
		t.Fatalf("%+v, %+v", results, errs)
	}
	if results[0].KV.Value != nil || string(results[1].KV.Value) != "v" || results[2].KV.ModifyIndex != 101 {
		t.Errorf("%+v, %+v, %+v", results[0].KV, results[1].KV, results[2].KV)
	}
	if _, e, _ := s.KVSGet(nil, "new"); e == nil || e.CreateIndex != 101 {
		t.Errorf("%+v", e)
	}
}

func TestTxnBoundsItsResults(t *testing.T) {
	s := newStore(t)
	for i := range uint64(8193) {
		if err := s.KVSSet(i+1, &wire.DirEntry{Key: strconv.FormatUint(i, 10)}); err != nil {
			t.Fatal(err)
		}
	}
	ops := []*wire.TxnOp{{KV: &wire.TxnKVOp{Verb: wire.KVSet, DirEnt: wire.DirEntry{Key: "new"}}}}
	for range 128 {
		ops = append(ops, &wire.TxnOp{KV: &wire.TxnKVOp{Verb: wire.KVGetTree}})
	}
	results, errs := s.TxnRW(9000, ops)
	if results != nil || len(errs) != 1 || errs[0].OpIndex != 128 {
		t.Errorf("%d results, errors %+v", len(results), errs)
	}
	if _, e, _ := s.KVSGet(nil, "new"); e != nil {
		t.Error("it was done all the same")
	}
}
