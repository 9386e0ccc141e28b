// Package fsm is the state machine that Raft drives: it applies log entries to
// the state store, and writes and reads snapshots of it.
//
// A log entry is a type, a version, and a msgpack body. An entry that this
// server does not understand stops it: to pass over what the others have applied
// would be to disagree with them from then on. The exception are types with
// MayIgnore set.
//
// What an entry does depends on the entries before it and on nothing else, so
// that all servers come to the same state. Tokens of requests are not in
// entries: the log is a file.
package fsm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lictor/agent/server/state"
)

// FSM is the state machine. Raft calls Apply, ApplyBatch, Snapshot and Restore
// from one goroutine; State may be called from any.
type FSM struct {
	log   hclog.Logger
	state atomic.Pointer[state.Store]

	mu sync.Mutex // held by what changes the state
}

var _ raft.BatchingFSM = (*FSM)(nil)

// New returns a state machine with an empty store.
func New(log hclog.Logger) (*FSM, error) {
	s, err := state.New()
	if err != nil {
		return nil, fmt.Errorf("fsm: %w", err)
	}
	f := &FSM{log: log}
	f.state.Store(s)
	return f, nil
}

// State returns the current store. A restore puts another one in its place: who
// holds on to a store watches its AbandonCh.
func (f *FSM) State() *state.Store { return f.state.Load() }

// Apply applies one entry. The result is nil, an error, a bool for operations
// on keys and on autopilot's configuration that may not apply, the ID of a
// session created, or a *wire.TxnResponse. It panics on an entry that this
// server does not understand.
func (f *FSM) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch applies entries in order. Readers see all of them at once, up to
// the next transaction among them.
func (f *FSM) ApplyBatch(entries []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	store := f.State()
	var w *state.Write
	defer func() {
		if w != nil {
			w.Abort()
		}
	}()
	commit := func() {
		if w != nil {
			w.Commit()
			w = nil
		}
	}
	results := make([]any, len(entries))
	for i, entry := range entries {
		if entry.Type != raft.LogCommand {
			continue
		}
		cmd, err := open(entry.Data)
		if err != nil {
			f.halt(entry.Index, err)
		}
		switch {
		case cmd.skip:
			f.log.Warn("passed over a log entry of a type that only newer servers know", "index", entry.Index, "type", uint8(cmd.t))
		case cmd.txn != nil:
			commit()
			results[i] = cmd.txn(store, entry.Index)
		default:
			if w == nil {
				w = store.Begin()
			}
			results[i] = cmd.apply(w, entry.Index)
		}
	}
	commit()
	return results
}

// halt ends the process: the state machine cannot go on, and must not go on
// without the entry.
func (f *FSM) halt(index uint64, err error) {
	f.log.Error("cannot apply a log entry; this server stops rather than disagree with the others. "+
		"If they run a newer version, run that here too; if not, the log is damaged: "+
		"let this server join again with an empty data directory", "index", index, "error", err)
	panic(fmt.Sprintf("fsm: log entry %d: %v", index, err))
}
