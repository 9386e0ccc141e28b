package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func newFSM(t testing.TB) *fsm.FSM {
	t.Helper()
	f, err := fsm.New(hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func entry(t testing.TB, idx uint64, mt fsm.MessageType, msg any) *raft.Log {
	t.Helper()
	b, err := fsm.Encode(mt, msg)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: idx, Type: raft.LogCommand, Data: b}
}

// sink is a snapshot sink in memory.
type sink struct {
	bytes.Buffer
	failAfter int // bytes; 0: never
	closed    bool
	canceled  bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.failAfter > 0 && s.Len()+len(p) > s.failAfter {
		return 0, errors.New("disk full")
	}
	return s.Buffer.Write(p)
}
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.canceled = true; return nil }
func (s *sink) ID() string    { return "test" }

func snapshot(t testing.TB, f *fsm.FSM) []byte {
	t.Helper()
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	var to sink
	if err := snap.Persist(&to); err != nil || !to.closed || to.canceled {
		t.Fatal(err, to.closed, to.canceled)
	}
	return to.Bytes()
}

type source struct {
	io.Reader
	closed bool
}

func (s *source) Close() error { s.closed = true; return nil }

func restore(f *fsm.FSM, b []byte) error {
	src := &source{Reader: bytes.NewReader(b)}
	err := f.Restore(src)
	if !src.closed {
		return errors.New("the source is open")
	}
	return err
}

func set(key, value string) *wire.KVSRequest {
	return &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte(value)}}
}

// randomLog is a log of entries of every type.
func randomLog(t testing.TB, seed uint64, n int) []*raft.Log {
	r := rand.New(rand.NewPCG(seed, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var log []*raft.Log
	for i := range n {
		node, key := pick("a", "b", "c"), pick("k/a", "k/b", "l", "m")
		var mt fsm.MessageType
		var msg any
		switch r.IntN(9) {
		case 0, 1:
			q := &wire.RegisterRequest{Node: node, ID: pick("", "id-1", "id-2"), NodeMeta: map[string]string{"a": "1", "b": pick("x", "y")}}
			q.Service = &wire.NodeService{ID: pick("i1", "i2"), Service: pick("web", "db"), Tags: []string{pick("x", "y")}, Meta: map[string]string{"p": "q", "r": "s"}}
			q.Service.TaggedAddresses = map[string]wire.ServiceAddress{"lan": {Address: "x", Port: 1}, "wan": {}}
			q.Check = &wire.HealthCheck{CheckID: "c", Status: pick("passing", "critical"), Definition: wire.HealthCheckDefinition{TTL: time.Second, Header: map[string][]string{"h": {"v"}}}}
			mt, msg = fsm.Register, q
		case 2:
			mt, msg = fsm.Deregister, wire.DeregisterRequest{Node: node, ServiceID: pick("", "i1"), CheckID: pick("", "c")}
		case 3, 4:
			q := &wire.KVSRequest{Op: wire.KVOp(pick("set", "delete", "delete-tree", "cas", "delete-cas", "lock", "unlock"))}
			q.DirEnt = wire.DirEntry{Key: key, Value: []byte(pick("", "1", "2")), Flags: 3, Session: pick("s1", "s2")}
			q.DirEnt.ModifyIndex = uint64(r.IntN(i + 1))
			mt, msg = fsm.KVS, q
		case 5:
			mt, msg = fsm.Session, wire.SessionRequest{Op: pick("create", "destroy"), Session: wire.Session{
				ID: pick("s1", "s2"), Node: node, NodeChecks: []string{"c"}, Behavior: pick("release", "delete"), LockDelay: time.Second, TTL: "10s",
			}}
		case 6:
			c := coordinate.NewCoordinate(coordinate.DefaultConfig())
			c.Height = float64(1 + r.IntN(9))
			mt, msg = fsm.CoordinateBatch, fsm.CoordinateBatchRequest{Updates: []*wire.Coordinate{{Node: node, Coord: c}}}
		case 7:
			mt, msg = fsm.Txn, wire.TxnRequest{Ops: []*wire.TxnOp{
				{KV: &wire.TxnKVOp{Verb: "set", DirEnt: wire.DirEntry{Key: key, Value: []byte("t")}}},
				{KV: &wire.TxnKVOp{Verb: wire.KVOp(pick("get", "delete", "frob")), DirEnt: wire.DirEntry{Key: key}}},
			}}
		default:
			if r.IntN(2) == 0 {
				mt, msg = fsm.Tombstone, fsm.TombstoneRequest{ReapIndex: uint64(r.IntN(i + 1))}
			} else {
				mt, msg = fsm.Autopilot, &wire.AutopilotSetConfigRequest{CAS: r.IntN(2) == 0, Config: wire.AutopilotConfig{MinQuorum: uint(r.IntN(3))}}
			}
		}
		log = append(log, entry(t, uint64(i+1), mt, msg))
	}
	return log
}

// One by one, in batches, and with a snapshot and a restore half way: the same
// log gives the same answers and the same state, to the byte.
func TestSameLogSameState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			log := randomLog(t, seed, 1000)
			one, batched, restored := newFSM(t), newFSM(t), newFSM(t)
			var want []any
			for _, e := range log {
				want = append(want, one.Apply(e))
			}
			r := rand.New(rand.NewPCG(seed, 3))
			var got []any
			for rest := log; len(rest) > 0; {
				n := min(1+r.IntN(64), len(rest))
				got = append(got, batched.ApplyBatch(rest[:n])...)
				rest = rest[n:]
			}
			if !reflect.DeepEqual(got, want) {
				t.Error("batches give other answers")
			}
			restored.ApplyBatch(log[:500])
			again := newFSM(t)
			if err := restore(again, snapshot(t, restored)); err != nil {
				t.Fatal(err)
			}
			if got := again.ApplyBatch(log[500:]); !reflect.DeepEqual(got, want[500:]) {
				t.Error("after a restore the answers are others")
			}
			b := snapshot(t, one)
			if len(b) < 1000 {
				t.Errorf("%d bytes hold it all", len(b))
			}
			if !bytes.Equal(b, snapshot(t, batched)) {
				t.Error("batches give another state")
			}
			if !bytes.Equal(b, snapshot(t, again)) {
				t.Error("a restore gives another state")
			}
		})
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	f := newFSM(t)
	kvs := func(op wire.KVOp, key, session string, idx uint64) wire.KVSRequest {
		return wire.KVSRequest{Op: op, DirEnt: wire.DirEntry{Key: key, Session: session, RaftIndex: wire.RaftIndex{ModifyIndex: idx}}}
	}
	session := wire.Session{ID: "s", Node: "a"}
	tests := []struct {
		t    fsm.MessageType
		msg  any
		want any
	}{
		{fsm.Register, &wire.RegisterRequest{Node: "a"}, nil},
		{fsm.Register, wire.RegisterRequest{}, errors.New("Must provide node")},
		{fsm.KVS, kvs("set", "k", "", 0), nil},
		{fsm.KVS, kvs("set", "", "", 0), state.ErrMissingKey},
		{fsm.KVS, kvs("cas", "k", "", 3), true},
		{fsm.KVS, kvs("cas", "k", "", 3), false},
		{fsm.Session, wire.SessionRequest{Op: "create", Session: session}, "s"},
		{fsm.Session, wire.SessionRequest{Op: "create", Session: wire.Session{ID: "x", Node: "zz"}}, state.ErrMissingNode},
		{fsm.KVS, kvs("lock", "k", "s", 0), true},
		{fsm.KVS, kvs("unlock", "k", "x", 0), false},
		{fsm.KVS, kvs("unlock", "k", "s", 0), true},
		{fsm.KVS, kvs("delete-cas", "k", "", 3), false},
		{fsm.KVS, kvs("delete-tree", "k", "", 0), nil},
		{fsm.Session, wire.SessionRequest{Op: "destroy", Session: session}, nil},
		{fsm.Autopilot, wire.AutopilotSetConfigRequest{}, true},
		{fsm.Autopilot, wire.AutopilotSetConfigRequest{CAS: true}, false},
		{fsm.Tombstone, fsm.TombstoneRequest{ReapIndex: 99}, nil},
		{fsm.CoordinateBatch, []*wire.Coordinate{{Node: "a"}}, nil},
		{fsm.Txn, &wire.TxnRequest{Ops: []*wire.TxnOp{{}}}, &wire.TxnResponse{Errors: []*wire.TxnError{{What: "no operation given"}}}},
		{fsm.Deregister, wire.DeregisterRequest{Node: "a"}, nil},
	}
	for i, test := range tests {
		got := f.Apply(entry(t, uint64(i+1), test.t, test.msg))
		if err, ok := test.want.(error); ok {
			if e, ok := got.(error); !ok || e.Error() != err.Error() {
				t.Errorf("%d: %v, want %v", i, got, err)
			}
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%d: %#v, want %#v", i, got, test.want)
		}
	}
	if got := f.Apply(&raft.Log{Index: 99, Type: raft.LogConfiguration, Data: []byte("x")}); got != nil {
		t.Errorf("a configuration: %v", got)
	}
}

func TestEncodeRefusesWhatNobodyCouldApply(t *testing.T) {
	t.Parallel()
	tests := []struct {
		t   fsm.MessageType
		msg any
	}{
		{fsm.KVS, wire.KVSRequest{Op: "frob"}},
		{fsm.KVS, wire.KVSRequest{Op: wire.KVGet}},
		{fsm.KVS, wire.TxnRequest{}},
		{fsm.KVS, (*wire.KVSRequest)(nil)},
		{fsm.Session, wire.SessionRequest{Op: "renew"}},
		{fsm.Txn, nil},
		{77, wire.KVSRequest{Op: "set"}},
	}
	for _, test := range tests {
		if b, err := fsm.Encode(test.t, test.msg); err == nil {
			t.Errorf("type %d, %T: %x", test.t, test.msg, b)
		}
	}
}

// The log is a file: what a request was authorized with is not in it.
func TestNoTokenInTheLog(t *testing.T) {
	t.Parallel()
	const secret = "aaaa-secret-bbbb"
	w := wire.WriteRequest{Token: secret}
	reg := &wire.RegisterRequest{Node: "a", WriteRequest: w}
	for mt, msg := range map[fsm.MessageType]any{
		fsm.Register: reg, fsm.Deregister: &wire.DeregisterRequest{WriteRequest: w}, fsm.KVS: &wire.KVSRequest{Op: "set", WriteRequest: w},
		fsm.Session: &wire.SessionRequest{Op: "create", WriteRequest: w}, fsm.Txn: &wire.TxnRequest{WriteRequest: w},
		fsm.Autopilot: &wire.AutopilotSetConfigRequest{WriteRequest: w},
	} {
		b, err := fsm.Encode(mt, msg)
		if err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("%T: %q, %v", msg, b, err)
		}
	}
	if reg.Token != secret {
		t.Error("the caller's request was changed")
	}
}

func TestWhatIsNotUnderstoodHalts(t *testing.T) {
	t.Parallel()
	good, err := fsm.Encode(fsm.KVS, set("k", "v"))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(i int, b byte) []byte {
		c := bytes.Clone(good)
		c[i] = b
		return c
	}
	tests := []struct {
		name string
		data []byte
		want string // empty: it is passed over
	}{
		{"an unknown type", edit(0, 77), "unknown log entry: type 77 version 1"},
		{"a type of the family that is not ours", edit(0, 4), "unknown log entry: type 4"},
		{"another version", edit(1, 2), "unknown log entry: type 2 version 2"},
		{"a type to ignore", edit(0, 0x80|77), ""},
		{"a known type is not to be ignored", edit(0, 0x80|2), ""},
		{"nothing", nil, "corrupt log entry: 0 bytes"},
		{"a type only", good[:1], "corrupt log entry: 1 bytes"},
		{"no body", good[:2], "corrupt log entry: type 2"},
		{"half a body", good[:len(good)-3], "corrupt log entry: type 2"},
		{"more than a body", append(bytes.Clone(good), 0), "corrupt log entry: type 2: 1 bytes too many"},
		{"a number for a body", append(bytes.Clone(good[:2]), 7), "corrupt log entry: type 2"},
		{"an unknown operation", bytes.Replace(good, []byte("set"), []byte("sot"), 1), `unknown log entry: KVS operation "sot"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFSM(t)
			var logged bytes.Buffer
			f, err := fsm.New(hclog.New(&hclog.LoggerOptions{Output: &logged}))
			if err != nil {
				t.Fatal(err)
			}
			var p any
			func() {
				defer func() { p = recover() }()
				f.ApplyBatch([]*raft.Log{entry(t, 1, fsm.KVS, set("before", "v")), {Index: 2, Type: raft.LogCommand, Data: test.data}})
			}()
			if test.want == "" {
				if p != nil || !strings.Contains(logged.String(), "passed over") {
					t.Errorf("%v, log %q", p, logged.String())
				}
				return
			}
			if p == nil || !strings.Contains(fmt.Sprint(p), test.want) || !strings.Contains(fmt.Sprint(p), "log entry 2") {
				t.Errorf("%v", p)
			}
			if !strings.Contains(logged.String(), "index=2") {
				t.Errorf("log %q", logged.String())
			}
			if _, e, _ := f.State().KVSGet(nil, "before"); e != nil {
				t.Error("half a batch was applied")
			}
		})
	}
}

// What is applied keeps nothing of the entry, whose memory is Raft's.
func TestEntryMayBeUsedAgain(t *testing.T) {
	t.Parallel()
	f := newFSM(t)
	e := entry(t, 1, fsm.KVS, set("key", strings.Repeat("v", 100)))
	f.Apply(e)
	for i := range e.Data {
		e.Data[i] = 'x'
	}
	if _, got, _ := f.State().KVSGet(nil, "key"); got == nil || got.Key != "key" || string(got.Value) != strings.Repeat("v", 100) {
		t.Errorf("%+v", got)
	}
}

func TestSnapshotIsAView(t *testing.T) {
	t.Parallel()
	f := newFSM(t)
	f.Apply(entry(t, 1, fsm.KVS, set("a", "1")))
	want := snapshot(t, f)
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	f.Apply(entry(t, 2, fsm.KVS, set("b", "1")))
	var to sink
	if err := snap.Persist(&to); err != nil || !bytes.Equal(to.Bytes(), want) {
		t.Errorf("what came later is in it, or %v", err)
	}
	full := &sink{failAfter: 3}
	if err := snap.Persist(full); err == nil || !full.canceled || full.closed {
		t.Errorf("a full disk: %v, canceled %t, closed %t", err, full.canceled, full.closed)
	}
}

// A snapshot that is damaged anywhere is refused, and the state stays.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	f := newFSM(t)
	f.ApplyBatch(randomLog(t, 9, 30))
	good := snapshot(t, f)

	g := newFSM(t)
	g.Apply(entry(t, 1, fsm.KVS, set("mine", "v")))
	mine := g.State()
	refused := func(what string, b []byte, want error) {
		t.Helper()
		if err := restore(g, b); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if g.State() != mine {
			t.Fatalf("%s has replaced the state", what)
		}
	}
	other := bytes.Clone(good)
	other[len("lictor-state")] = 7
	refused("another version", other, fsm.ErrSnapshotVersion)
	if err := restore(g, other); !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("both versions are named: %v", err)
	}
	refused("nothing", nil, fsm.ErrSnapshotCorrupt)
	refused("more", append(bytes.Clone(good), 0), fsm.ErrSnapshotCorrupt)
	refused("junk", []byte("this is not a snapshot at all"), fsm.ErrSnapshotCorrupt)
	for i := range good {
		refused(fmt.Sprintf("cut at %d", i), good[:i], fsm.ErrSnapshotCorrupt)
		if i == len("lictor-state") {
			continue
		}
		b := bytes.Clone(good)
		b[i] ^= 1
		refused(fmt.Sprintf("a changed bit at %d", i), b, fsm.ErrSnapshotCorrupt)
	}
	select {
	case <-mine.AbandonCh():
		t.Error("the state was abandoned")
	default:
	}
	if err := restore(g, good); err != nil {
		t.Fatal(err)
	}
	if _, e, _ := g.State().KVSGet(nil, "mine"); e != nil || g.State() == mine {
		t.Error("the old state is there")
	}
	select {
	case <-mine.AbandonCh():
	default:
		t.Error("who watches the old state is not woken")
	}
}

// Readers see whole states only, whatever is written, saved or restored
// meanwhile; a reader who waits hears of a restore.
func TestReadsDuringWritesAndRestores(t *testing.T) {
	t.Parallel()
	f := newFSM(t)
	both := func(idx uint64, v string) *raft.Log {
		return entry(t, idx, fsm.Txn, wire.TxnRequest{Ops: []*wire.TxnOp{
			{KV: &wire.TxnKVOp{Verb: "set", DirEnt: set("p/a", v).DirEnt}}, {KV: &wire.TxnKVOp{Verb: "set", DirEnt: set("p/b", v).DirEnt}},
			{Node: &wire.TxnNodeOp{Verb: "set", Node: wire.Node{Node: "n", Address: v}}},
			{Service: &wire.TxnServiceOp{Verb: "set", Node: "n", Service: wire.NodeService{Service: "web", Address: v}}},
		}})
	}
	f.Apply(both(1, "0"))
	saved := snapshot(t, f)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			ws := state.NewWatchSet()
			for {
				select {
				case <-done:
					return
				default:
				}
				s := f.State()
				_, e, _ := s.KVSList(ws, "p/")
				_, nodes, _ := s.CheckServiceNodes(ws, "web", nil, nil)
				if len(e) != 2 || string(e[0].Value) != string(e[1].Value) || len(nodes) != 1 || nodes[0].Node.Address != nodes[0].Service.Address {
					t.Errorf("half a write: %+v, %+v", e, nodes)
					return
				}
				ws = state.NewWatchSet()
			}
		})
	}
	waiting := make(chan struct{})
	ws := state.NewWatchSet()
	f.State().KVSGet(ws, "nothing writes here")
	go func() {
		defer close(waiting)
		ws.WatchCtx(t.Context())
	}()
	for i := range uint64(300) {
		f.Apply(both(i+2, fmt.Sprint(i)))
		if i%20 == 7 {
			snapshot(t, f)
		}
		if i%50 == 49 {
			if err := restore(f, saved); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	readers.Wait()
	<-waiting
}
