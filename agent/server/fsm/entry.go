package fsm

import (
	"errors"
	"fmt"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// MessageType is the first byte of a log entry.
type MessageType uint8

// The message types: never renumbered, a number never used again. A change of
// what an entry of a type means, a new operation or verb included, is a new
// version of the type.
const (
	Register        MessageType = 0 // wire.RegisterRequest
	Deregister      MessageType = 1 // wire.DeregisterRequest
	KVS             MessageType = 2 // wire.KVSRequest
	Session         MessageType = 3 // wire.SessionRequest; a new one has its ID
	Tombstone       MessageType = 5 // TombstoneRequest
	CoordinateBatch MessageType = 6 // CoordinateBatchRequest
	Txn             MessageType = 8 // wire.TxnRequest
	Autopilot       MessageType = 9 // wire.AutopilotSetConfigRequest

	// MayIgnore marks types that a server that does not know them may pass over.
	MayIgnore MessageType = 0x80
)

// entryVersion is the second byte of an entry.
const entryVersion = 1

// ErrUnknownEntry: an entry of a type or a version that this server does not
// know.
var ErrUnknownEntry = errors.New("unknown log entry")

// ErrCorruptEntry: an entry that is not what its type says.
var ErrCorruptEntry = errors.New("corrupt log entry")

// TombstoneRequest forgets what was deleted up to and including ReapIndex.
type TombstoneRequest struct{ ReapIndex uint64 }

// CoordinateBatchRequest writes what nodes have reported since the last one.
type CoordinateBatchRequest struct{ Updates []*wire.Coordinate }

// kvsBody is a KVSRequest in the log: without names, for it is the most common
// entry. Fields are added at the end only.
type kvsBody struct {
	_struct     bool `codec:",toarray"` //lint:ignore U1000 the codec reads it
	Op          wire.KVOp
	Key         string
	Value       []byte
	Flags       uint64
	Session     string
	ModifyIndex uint64
}

// Encode makes a log entry of a request, given as a value or a pointer. Tokens
// are left out.
func Encode(t MessageType, msg any) ([]byte, error) {
	body, err := bodyOf(t, msg)
	if err != nil {
		return nil, err
	}
	b, err := encode([]byte{byte(t), entryVersion}, body)
	if err != nil {
		return nil, fmt.Errorf("fsm: encode %T: %w", msg, err)
	}
	return b, nil
}

func bodyOf(t MessageType, msg any) (any, error) {
	switch t {
	case Register:
		if m, ok := as[wire.RegisterRequest](msg); ok {
			m.WriteRequest = wire.WriteRequest{}
			return &m, nil
		}
	case Deregister:
		if m, ok := as[wire.DeregisterRequest](msg); ok {
			m.WriteRequest = wire.WriteRequest{}
			return &m, nil
		}
	case KVS:
		if m, ok := as[wire.KVSRequest](msg); ok {
			if kvsOps[m.Op] == nil {
				return nil, fmt.Errorf("Invalid KVS operation '%s'", m.Op)
			}
			e := &m.DirEnt
			return &kvsBody{Op: m.Op, Key: e.Key, Value: e.Value, Flags: e.Flags, Session: e.Session, ModifyIndex: e.ModifyIndex}, nil
		}
	case Session:
		if m, ok := as[wire.SessionRequest](msg); ok {
			if m.Op != wire.SessionCreate && m.Op != wire.SessionDestroy {
				return nil, fmt.Errorf("Invalid session operation '%s'", m.Op)
			}
			m.WriteRequest = wire.WriteRequest{}
			return &m, nil
		}
	case Tombstone:
		if m, ok := as[TombstoneRequest](msg); ok {
			return &m, nil
		}
	case CoordinateBatch:
		if m, ok := as[CoordinateBatchRequest](msg); ok {
			return &m, nil
		}
		if u, ok := msg.([]*wire.Coordinate); ok {
			return &CoordinateBatchRequest{u}, nil
		}
	case Txn:
		if m, ok := as[wire.TxnRequest](msg); ok {
			m.WriteRequest = wire.WriteRequest{}
			return &m, nil
		}
	case Autopilot:
		if m, ok := as[wire.AutopilotSetConfigRequest](msg); ok {
			m.WriteRequest = wire.WriteRequest{}
			return &m, nil
		}
	default:
		return nil, fmt.Errorf("fsm: no message type %d", t)
	}
	return nil, fmt.Errorf("fsm: a %T in a log entry of type %d", msg, t)
}

// as returns a copy of msg, which is a T or a *T.
func as[T any](msg any) (T, bool) {
	if p, ok := msg.(*T); ok && p != nil {
		return *p, true
	}
	m, ok := msg.(T)
	return m, ok
}

// command is a decoded log entry: something to apply as part of a write, or a
// transaction, which is a write of its own, or nothing.
type command struct {
	t     MessageType
	apply func(w *state.Write, idx uint64) any
	txn   func(s *state.Store, idx uint64) any
	skip  bool
}

// open decodes a log entry.
func open(b []byte) (command, error) {
	if len(b) < 2 {
		return command{}, fmt.Errorf("%w: %d bytes", ErrCorruptEntry, len(b))
	}
	t, version, body := MessageType(b[0]), b[1], b[2:]
	decode, known := commands[t]
	if !known || version != entryVersion {
		if t&MayIgnore != 0 {
			return command{t: t, skip: true}, nil
		}
		return command{}, fmt.Errorf("%w: type %d version %d; this server knows version %d of types up to %d", ErrUnknownEntry, t, version, entryVersion, Autopilot)
	}
	cmd, err := decode(body)
	if err != nil {
		return command{}, fmt.Errorf("%w: type %d: %w", ErrCorruptEntry, t, err)
	}
	cmd.t = t
	return cmd, nil
}

var commands = map[MessageType]func(body []byte) (command, error){
	Register: entryOf(func(w *state.Write, idx uint64, m *wire.RegisterRequest) any {
		return result(w.EnsureRegistration(idx, m))
	}),
	Deregister: entryOf(deregister),
	KVS: func(body []byte) (command, error) {
		m := new(kvsBody)
		if err := decodeWhole(body, m); err != nil {
			return command{}, err
		}
		op := kvsOps[m.Op]
		if op == nil {
			return command{}, fmt.Errorf("%w: KVS operation %q", ErrUnknownEntry, m.Op)
		}
		return command{apply: func(w *state.Write, idx uint64) any {
			return op(w, idx, &wire.DirEntry{
				Key: m.Key, Value: m.Value, Flags: m.Flags, Session: m.Session, RaftIndex: wire.RaftIndex{ModifyIndex: m.ModifyIndex},
			})
		}}, nil
	},
	Session: entryOf(func(w *state.Write, idx uint64, m *wire.SessionRequest) any {
		if m.Op == wire.SessionDestroy {
			return result(w.SessionDestroy(idx, m.Session.ID))
		}
		if err := w.SessionCreate(idx, &m.Session); err != nil {
			return err
		}
		return m.Session.ID
	}),
	Tombstone: entryOf(func(w *state.Write, idx uint64, m *TombstoneRequest) any {
		return result(w.ReapTombstones(idx, m.ReapIndex))
	}),
	CoordinateBatch: entryOf(func(w *state.Write, idx uint64, m *CoordinateBatchRequest) any {
		return result(w.CoordinateBatchUpdate(idx, m.Updates))
	}),
	Txn: func(body []byte) (command, error) {
		m := new(wire.TxnRequest)
		if err := decodeWhole(body, m); err != nil {
			return command{}, err
		}
		return command{txn: func(s *state.Store, idx uint64) any {
			results, errs := s.TxnRW(idx, m.Ops)
			return &wire.TxnResponse{Results: results, Errors: errs}
		}}, nil
	},
	Autopilot: entryOf(func(w *state.Write, idx uint64, m *wire.AutopilotSetConfigRequest) any {
		if m.CAS {
			return decided(w.AutopilotCASConfig(idx, m.Config.ModifyIndex, &m.Config))
		}
		return decided(true, w.AutopilotSetConfig(idx, &m.Config))
	}),
}

func entryOf[T any](apply func(w *state.Write, idx uint64, m *T) any) func([]byte) (command, error) {
	return func(body []byte) (command, error) {
		m := new(T)
		if err := decodeWhole(body, m); err != nil {
			return command{}, err
		}
		return command{apply: func(w *state.Write, idx uint64) any { return apply(w, idx, m) }}, nil
	}
}

func deregister(w *state.Write, idx uint64, m *wire.DeregisterRequest) any {
	switch {
	case m.ServiceID != "":
		return result(w.DeleteService(idx, m.Node, m.ServiceID))
	case m.CheckID != "":
		return result(w.DeleteCheck(idx, m.Node, m.CheckID))
	}
	return result(w.DeleteNode(idx, m.Node))
}

var kvsOps = map[wire.KVOp]func(w *state.Write, idx uint64, e *wire.DirEntry) any{
	wire.KVSet:    func(w *state.Write, idx uint64, e *wire.DirEntry) any { return result(w.KVSSet(idx, e)) },
	wire.KVDelete: func(w *state.Write, idx uint64, e *wire.DirEntry) any { return result(w.KVSDelete(idx, e.Key)) },
	wire.KVDeleteTree: func(w *state.Write, idx uint64, e *wire.DirEntry) any {
		return result(w.KVSDeleteTree(idx, e.Key))
	},
	wire.KVDeleteCAS: func(w *state.Write, idx uint64, e *wire.DirEntry) any {
		return decided(w.KVSDeleteCAS(idx, e.ModifyIndex, e.Key))
	},
	wire.KVCAS:    func(w *state.Write, idx uint64, e *wire.DirEntry) any { return decided(w.KVSSetCAS(idx, e)) },
	wire.KVLock:   func(w *state.Write, idx uint64, e *wire.DirEntry) any { return decided(w.KVSLock(idx, e)) },
	wire.KVUnlock: func(w *state.Write, idx uint64, e *wire.DirEntry) any { return decided(w.KVSUnlock(idx, e)) },
}

// result is an error as what Apply returns: nil, not a nil error.
func result(err error) any {
	if err != nil {
		return err
	}
	return nil
}

func decided(ok bool, err error) any {
	if err != nil {
		return err
	}
	return ok
}
