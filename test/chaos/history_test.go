package chaos

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What a client did to one key, and what it was told.

type opKind uint8

const (
	opRead    opKind = iota // a consistent read
	opPut                   // a write without condition
	opCAS                   // a write if the value is still what was read
	opAcquire               // locks the key for a session
	opRelease               // unlocks it
	opDestroy               // ends a session, and with it what it holds
)

var opNames = []string{"read", "put", "cas", "acquire", "release", "destroy"}

// input is an operation. Values are never written twice, so that a value names
// its write.
type input struct {
	kind    opKind
	key     string
	value   string // put, cas: what is written
	want    string // cas: what was read; "" where the key was not there
	session string // acquire, release, destroy
}

// output is what a client was told. Unknown is that it was told nothing that
// can be relied on: the operation may have run, may run later, or never.
type output struct {
	ok      bool   // cas, acquire, release
	value   string // read
	holder  string // read: the session that has the lock
	unknown bool
}

// history is what all clients did. It is safe for concurrent use.
type history struct {
	start time.Time

	mu  sync.Mutex // guards ops
	ops []porcupine.Operation
}

func newHistory() *history { return &history{start: time.Now()} }

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// add records an operation that began at call and has ended now.
func (h *history) add(client int, call int64, in input, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: h.now()})
}

// never is the return of an operation that has not been heard of.
const never = math.MaxInt64

// settle bounds the operations whose outcome is unknown, so that the check has
// an end. All of it is sound: what is made true or dropped here can be so in
// every order that explains the history.
//
//   - A write whose value was read has run before that read ended.
//   - A write whose value was never read can only matter to a compare-and-set
//     that failed; those are dropped where such a write was under way.
//   - A lock operation has no effect after its session was destroyed.
func (h *history) settle() []porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]int64{} // value, or the session that ended: the first return that shows it
	note := func(name string, at int64) {
		if t, ok := seen[name]; !ok || at < t {
			seen[name] = at
		}
	}
	for _, op := range h.ops {
		in, out := op.Input.(input), op.Output.(output)
		switch {
		case out.unknown:
		case in.kind == opRead:
			note(out.value, op.Return)
		case in.kind == opCAS:
			if out.ok {
				note(in.want, op.Return)
			}
		case in.kind == opDestroy:
			note(in.session, op.Return)
		}
	}
	lost := map[string][]int64{} // key: when writes began that nobody has read
	var ops []porcupine.Operation
	for _, op := range h.ops {
		in, out := op.Input.(input), op.Output.(output)
		if !out.unknown {
			ops = append(ops, op)
			continue
		}
		switch in.kind {
		case opRead:
			continue
		case opPut, opCAS:
			at, ok := seen[in.value]
			if !ok {
				lost[in.key] = append(lost[in.key], op.Call)
				continue
			}
			op.Output = output{ok: true}
			op.Return = max(at, op.Call)
		case opAcquire, opRelease, opDestroy:
			op.Return = never
			if at, ok := seen[in.session]; ok {
				op.Return = max(at, op.Call)
			}
		}
		ops = append(ops, op)
	}
	return slices.DeleteFunc(ops, func(op porcupine.Operation) bool {
		in, out := op.Input.(input), op.Output.(output)
		return in.kind == opCAS && !out.ok && slices.ContainsFunc(lost[in.key], func(call int64) bool { return call < op.Return })
	})
}

// state is what a key holds in the model.
type state struct {
	value, holder string
}

// model is one key: a register with compare-and-set, and a lock.
var model = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range ops {
			k := op.Input.(input).key
			byKey[k] = append(byKey[k], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return state{} },
	Step: func(s, i, o any) (bool, any) {
		st, in, out := s.(state), i.(input), o.(output)
		free := st.holder == "" || st.holder == in.session
		switch in.kind {
		case opRead:
			return out.value == st.value && out.holder == st.holder, st
		case opPut:
			st.value = in.value
			return true, st
		case opCAS:
			if !out.ok {
				return st.value != in.want, st
			}
			ok := st.value == in.want
			st.value = in.value
			return ok, st
		case opAcquire:
			if out.unknown {
				out.ok = free
			}
			if out.ok {
				st.holder = in.session
			}
			return out.ok == free, st
		case opRelease:
			held := st.holder == in.session
			if out.unknown {
				out.ok = held
			}
			if out.ok {
				st.holder = ""
			}
			return out.ok == held, st
		case opDestroy:
			if st.holder == in.session {
				st.holder = ""
			}
			return true, st
		}
		return false, st
	},
	DescribeOperation: func(i, o any) string { return fmt.Sprintf("%s %+v -> %+v", opNames[i.(input).kind], i, o) },
	DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
}

// checkTime bounds the check of one history.
const checkTime = 2 * time.Minute

// check fails t if no order of the operations explains what the clients saw.
func (h *history) check(t *testing.T) {
	t.Helper()
	ops := h.settle()
	t.Logf("%d operations, %d of them count", len(h.ops), len(ops))
	result, info := porcupine.CheckOperationsVerbose(model, ops, checkTime)
	switch result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Errorf("no verdict in %s", checkTime)
	default:
		path := t.Name() + ".html"
		if err := porcupine.VisualizePath(model, info, path); err != nil {
			t.Log(err)
		}
		t.Errorf("the history is not linearizable: see %s", path)
	}
}

// The check is worth something only if it finds what is wrong.
func TestTheCheckFindsWhatIsWrong(t *testing.T) {
	op := func(client int, call, ret int64, in input, out output) porcupine.Operation {
		in.key = "k"
		return porcupine.Operation{ClientId: client, Call: call, Return: ret, Input: in, Output: out}
	}
	unknown := output{unknown: true}
	put := func(v string) input { return input{kind: opPut, value: v} }
	read := func(v string) output { return output{value: v} }
	for _, row := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"in order", []porcupine.Operation{op(0, 1, 2, put("a"), output{}), op(1, 3, 4, input{}, read("a"))}, true},
		{"lost write", []porcupine.Operation{op(0, 1, 2, put("a"), output{}), op(1, 3, 4, input{}, read(""))}, false},
		{"stale read", []porcupine.Operation{
			op(0, 1, 2, put("a"), output{}), op(0, 3, 4, put("b"), output{}), op(1, 5, 6, input{}, read("a"))}, false},
		{"unknown write, seen later", []porcupine.Operation{op(0, 1, 2, put("a"), unknown), op(1, 9, 10, input{}, read("a"))}, true},
		{"unknown write, seen and then gone", []porcupine.Operation{
			op(0, 1, 2, put("a"), unknown), op(1, 3, 4, input{}, read("a")), op(1, 5, 6, input{}, read(""))}, false},
		{"unknown write, never seen", []porcupine.Operation{op(0, 1, 2, put("a"), unknown), op(1, 3, 4, input{}, read(""))}, true},
		{"two winners", []porcupine.Operation{
			op(0, 1, 2, input{kind: opCAS, value: "a"}, output{ok: true}), op(1, 3, 4, input{kind: opCAS, value: "b"}, output{ok: true})}, false},
		{"a lock held twice", []porcupine.Operation{
			op(0, 1, 2, input{kind: opAcquire, session: "s"}, output{ok: true}), op(1, 3, 4, input{kind: opAcquire, session: "t"}, output{ok: true})}, false},
		{"a lock after its holder's end", []porcupine.Operation{
			op(0, 1, 2, input{kind: opAcquire, session: "s"}, unknown), op(0, 3, 4, input{kind: opDestroy, session: "s"}, output{}),
			op(1, 5, 6, input{kind: opAcquire, session: "t"}, output{ok: true})}, true},
		{"a lock refused though free", []porcupine.Operation{op(0, 1, 2, input{kind: opAcquire, session: "s"}, output{})}, false},
	} {
		h := newHistory()
		h.ops = row.ops
		if got := porcupine.CheckOperations(model, h.settle()); got != row.want {
			t.Errorf("%s: linearizable = %t", row.name, got)
		}
	}
}
