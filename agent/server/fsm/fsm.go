package fsm

import (
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// MessageType is the first byte of a log entry.
type MessageType uint8

// The message types: never renumbered, never used again.
const (
	Register        MessageType = 0 // wire.RegisterRequest
	Deregister      MessageType = 1 // wire.DeregisterRequest
	KVS             MessageType = 2 // wire.KVSRequest
	Session         MessageType = 3 // wire.SessionRequest
	Tombstone       MessageType = 5 // TombstoneRequest
	CoordinateBatch MessageType = 6 // CoordinateBatchRequest
	Txn             MessageType = 8 // wire.TxnRequest
	Autopilot       MessageType = 9 // wire.AutopilotSetConfigRequest

	// MayIgnore marks a type that a server that does not know it may skip.
	MayIgnore MessageType = 0x80
)

// TombstoneRequest collects the tombstones of deletes up to ReapIndex.
type TombstoneRequest struct{ ReapIndex uint64 }

// CoordinateBatchRequest writes what nodes have reported since the last one.
type CoordinateBatchRequest struct{ Updates []*wire.Coordinate }

// Encode makes a log entry.
func Encode(t MessageType, msg any) ([]byte, error) { return nil, nil }

// FSM is the state machine.
type FSM struct{ state *state.Store }

// New returns an FSM with an empty store.
func New(log hclog.Logger) (*FSM, error) { return &FSM{}, nil }

// State returns the current store.
func (f *FSM) State() *state.Store { return f.state }

// Apply applies one entry.
func (f *FSM) Apply(entry *raft.Log) any { return nil }

// ApplyBatch applies entries in order.
func (f *FSM) ApplyBatch(entries []*raft.Log) []any { return make([]any, len(entries)) }

// Snapshot returns a view to be written.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return nil, nil }

// Restore replaces the state.
func (f *FSM) Restore(src io.ReadCloser) error { return nil }
