package server_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent/server"
	"lictor/rpc"
	"lictor/rpc/wire"
)

func apply(t testing.TB, e *server.Endpoints, op wire.KVOp, entry wire.DirEntry) bool {
	t.Helper()
	return call[bool](t, e, "KVS.Apply", &wire.KVSRequest{Op: op, DirEnt: entry})
}

func TestKVSApplyAnswers(t *testing.T) {
	e, _ := alone(t)
	register(t, e, "n1", "")
	session := call[string](t, e, "Session.Apply", &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{Node: "n1"}})
	for _, step := range []struct {
		what  string
		op    wire.KVOp
		entry wire.DirEntry
		want  bool
	}{
		{"a plain set says nothing", wire.KVSet, wire.DirEntry{Key: "a", Value: []byte("1")}, false},
		{"create what is there", wire.KVCAS, wire.DirEntry{Key: "a"}, false},
		{"create", wire.KVCAS, wire.DirEntry{Key: "b"}, true},
		{"delete with another index", wire.KVDeleteCAS, wire.DirEntry{Key: "a", RaftIndex: wire.RaftIndex{ModifyIndex: 1 << 40}}, false},
		{"lock", wire.KVLock, wire.DirEntry{Key: "l", Session: session}, true},
		{"lock again", wire.KVLock, wire.DirEntry{Key: "l", Session: session}, true},
		{"unlock", wire.KVUnlock, wire.DirEntry{Key: "l", Session: session}, true},
		{"unlock what is not locked", wire.KVUnlock, wire.DirEntry{Key: "l", Session: session}, false},
		{"delete", wire.KVDelete, wire.DirEntry{Key: "a"}, false},
		{"delete all", wire.KVDeleteTree, wire.DirEntry{}, false},
	} {
		if got := apply(t, e, step.op, step.entry); got != step.want {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
	if got := call[wire.IndexedKeyList](t, e, "KVS.ListKeys", &wire.KeyListRequest{}); len(got.Keys) != 0 {
		t.Errorf("left over: %v", got.Keys)
	}
	for _, row := range []struct {
		op    wire.KVOp
		entry wire.DirEntry
		want  string
	}{
		{wire.KVSet, wire.DirEntry{}, "Must provide key"},
		{wire.KVDelete, wire.DirEntry{}, "Must provide key"},
		{wire.KVGet, wire.DirEntry{Key: "a"}, "Invalid KVS operation 'get'"},
		{"", wire.DirEntry{Key: "a"}, "Invalid KVS operation ''"},
		{"steal", wire.DirEntry{Key: "a"}, "Invalid KVS operation 'steal'"},
		{wire.KVLock, wire.DirEntry{Key: "a", Session: "x"}, `raft apply failed: invalid session "x"`},
	} {
		refused(t, e, "KVS.Apply", &wire.KVSRequest{Op: row.op, DirEnt: row.entry}, row.want)
	}
}

func TestKVSReads(t *testing.T) {
	e, _ := alone(t)
	for _, key := range []string{"a", "d/1", "d/2", "d/e/3"} {
		set(t, e, key, "v")
	}
	if got := call[wire.IndexedDirEntries](t, e, "KVS.List", &wire.KeyRequest{Key: "d/"}); len(got.Entries) != 3 {
		t.Errorf("list: %+v", got.Entries)
	}
	keys := call[wire.IndexedKeyList](t, e, "KVS.ListKeys", &wire.KeyListRequest{Prefix: "d/", Seperator: "/"})
	if strings.Join(keys.Keys, " ") != "d/1 d/2 d/e/" {
		t.Errorf("keys: %v", keys.Keys)
	}
}

// The largest value that the HTTP API takes goes through a follower, and so does
// a transaction of it.
func TestLargeValues(t *testing.T) {
	_, nodes := startCluster(t, "a", "b")
	value := bytes.Repeat([]byte{0xfe}, 512<<10)
	follower := nodes[1].Endpoints
	apply(t, follower, wire.KVSet, wire.DirEntry{Key: "big", Value: value})
	if got := get(t, follower, wire.KeyRequest{Key: "big"}); !bytes.Equal(got.Entries[0].Value, value) {
		t.Error("the value came back another")
	}
	ops := []*wire.TxnOp{{KV: &wire.TxnKVOp{Verb: wire.KVSet, DirEnt: wire.DirEntry{Key: "big2", Value: value}}}}
	for range 127 {
		ops = append(ops, &wire.TxnOp{KV: &wire.TxnKVOp{Verb: wire.KVSet, DirEnt: wire.DirEntry{Key: strings.Repeat("k", 100)}}})
	}
	if got := call[wire.TxnResponse](t, follower, "Txn.Apply", &wire.TxnRequest{Ops: ops}); got.Errors != nil {
		t.Errorf("got %+v", got.Errors)
	}
}

// A key whose lock was lost, and not given back, cannot be locked again until
// the lock-delay has passed; other writes go through.
func TestLockDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r := alone(t)
		register(t, e, "n1", "")
		create := &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{Node: "n1", LockDelay: 15 * time.Second}}
		lost, next := call[string](t, e, "Session.Apply", create), call[string](t, e, "Session.Apply", create)
		if !apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: lost}) {
			t.Fatal("not locked")
		}
		call[string](t, e, "Session.Apply", &wire.SessionRequest{Op: wire.SessionDestroy, Session: wire.Session{ID: lost}})
		r.locked(func() { r.applies = 0 })
		if apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: next}) {
			t.Error("locked within the lock-delay")
		}
		op := &wire.TxnOp{KV: &wire.TxnKVOp{Verb: wire.KVLock, DirEnt: wire.DirEntry{Key: "l", Session: next}}}
		got := call[wire.TxnResponse](t, e, "Txn.Apply", &wire.TxnRequest{Ops: []*wire.TxnOp{op}})
		if len(got.Errors) != 1 || !strings.Contains(got.Errors[0].What, "lock-delay") {
			t.Errorf("in a transaction: %+v", got)
		}
		r.locked(func() {
			if r.applies != 0 {
				t.Errorf("%d entries were written for a lock that is delayed", r.applies)
			}
		})
		set(t, e, "l", "v")
		time.Sleep(14 * time.Second)
		if apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: next}) {
			t.Error("locked within the lock-delay")
		}
		time.Sleep(2 * time.Second)
		if !apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: next}) {
			t.Error("not locked after the lock-delay")
		}
	})
}

// A lock that another session holds is refused by a leader that is one, without
// a log entry; a leader that is none any more does not answer.
func TestLockThatIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, r := alone(t)
		register(t, e, "n1", "")
		create := &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{Node: "n1"}}
		holder, other := call[string](t, e, "Session.Apply", create), call[string](t, e, "Session.Apply", create)
		apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: holder})
		r.locked(func() { r.applies, r.verified = 0, 0 })
		if apply(t, e, wire.KVLock, wire.DirEntry{Key: "l", Session: other}) {
			t.Error("two sessions hold the lock")
		}
		r.locked(func() {
			if r.applies != 0 || r.verified != 1 {
				t.Errorf("%d entries, leadership verified %d times; want 0 and 1", r.applies, r.verified)
			}
		})
		refused(t, e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVLock, DirEnt: wire.DirEntry{Key: "l", Session: "gone"}},
			`raft apply failed: invalid session "gone"`)
		r.locked(func() { r.refuse = rpc.ErrNoLeader })
		refused(t, e, "KVS.Apply", &wire.KVSRequest{Op: wire.KVLock, DirEnt: wire.DirEntry{Key: "l", Session: other}}, "No cluster leader")
	})
}

func BenchmarkKVSGet(b *testing.B) {
	e, _ := alone(b)
	set(b, e, "a", "value")
	req := &wire.KeyRequest{Key: "a"}
	b.ReportAllocs()
	for b.Loop() {
		var reply wire.IndexedDirEntries
		if err := e.Call(b.Context(), "KVS.Get", req, &reply); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHealthServiceNodes(b *testing.B) {
	e, _ := alone(b)
	for i := range 50 {
		register(b, e, "n"+strings.Repeat("x", i), "web", "common")
	}
	req := &wire.ServiceSpecificRequest{ServiceName: "web"}
	b.ReportAllocs()
	for b.Loop() {
		var reply wire.IndexedCheckServiceNodes
		if err := e.Call(b.Context(), "Health.ServiceNodes", req, &reply); err != nil || len(reply.Nodes) != 50 {
			b.Fatal(err, len(reply.Nodes))
		}
	}
}

// A value is not copied over and over while it is read from the network and from
// the log.
func TestLargeValuesAreReadInOnePiece(t *testing.T) {
	c := &cluster{}
	n := startNode(t, c, "a", options{})
	c.lead(n.raft)
	req := &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: "a", Value: bytes.Repeat([]byte("x"), 512<<10)}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := n.pool.Call(testContext(t), n.target, "KVS.Apply", req, nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 32 {
		t.Errorf("writing 512 KiB allocated %d MiB", mib)
	}
}
