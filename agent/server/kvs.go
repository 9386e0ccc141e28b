package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc"
	"lictor/rpc/wire"
)

func (e *Endpoints) kvsMethods() []method {
	return []method{
		write(e, "KVS.Apply", data, checkKVS, e.kvsApply),
		read(e, "KVS.Get", data, nil, e.kvsGet),
		read(e, "KVS.List", data, nil, e.kvsList),
		read(e, "KVS.ListKeys", data, nil, e.kvsListKeys),
	}
}

// apply commits a log entry. An error of the state machine gets a prefix, as the
// family has it; that there is no leader is for atLeader to see as it is.
func (e *Endpoints) apply(ctx context.Context, t fsm.MessageType, msg any, prefix string) (any, error) {
	result, err := e.cfg.Consensus.Apply(ctx, t, msg)
	switch {
	case err == nil || errors.Is(err, rpc.ErrNoLeader) || ctx.Err() != nil:
		return result, err
	}
	return nil, fmt.Errorf("%s: %w", prefix, err)
}

var errNoKey = errors.New("Must provide key")

func checkKVS(req *wire.KVSRequest) error {
	switch req.Op {
	case wire.KVDeleteTree: // of the empty prefix: all keys
		return nil
	case wire.KVSet, wire.KVDelete, wire.KVDeleteCAS, wire.KVCAS, wire.KVLock, wire.KVUnlock:
		if req.DirEnt.Key == "" {
			return errNoKey
		}
		return nil
	}
	return fmt.Errorf("Invalid KVS operation '%.32s'", req.Op)
}

// lockDelayed says whether a key's lock-delay has still to pass. It is asked on
// the leader, before the log: time never enters the state machine.
func (e *Endpoints) lockDelayed(key string) bool {
	return e.cfg.State().KVSLockDelay(key).After(time.Now())
}

// lockTaken says whether another session than the one that wants it holds a key.
//
// Such a lock is not written to the log, and not only to save the write: between
// the look at the lock-delay and the write the holder may be lost, which starts
// the lock-delay, and the write would succeed within it. As it is an answer about
// what is true now, a majority is asked whether this is the leader. Whose own
// session is gone hears so from the state machine.
func (e *Endpoints) lockTaken(ctx context.Context, want *wire.DirEntry) (bool, error) {
	s := e.cfg.State()
	if _, entry, err := s.KVSGet(nil, want.Key); err != nil || entry == nil || entry.Session == "" || entry.Session == want.Session {
		return false, err
	}
	if _, session, err := s.SessionGet(nil, want.Session); err != nil || session == nil {
		return false, err
	}
	return true, e.cfg.Consensus.VerifyLeader(ctx)
}

func (e *Endpoints) kvsApply(ctx context.Context, req *wire.KVSRequest, reply *bool) error {
	*reply = false
	if req.Op == wire.KVLock {
		if e.lockDelayed(req.DirEnt.Key) {
			return nil
		}
		if taken, err := e.lockTaken(ctx, &req.DirEnt); taken || err != nil {
			return err
		}
	}
	result, err := e.apply(ctx, fsm.KVS, req, "raft apply failed")
	if err != nil {
		return err
	}
	*reply, _ = result.(bool) // a plain set has none
	return nil
}

func (e *Endpoints) kvsGet(s *state.Store, ws state.WatchSet, req *wire.KeyRequest, reply *wire.IndexedDirEntries) (uint64, error) {
	idx, entry, err := s.KVSGet(ws, req.Key)
	if err != nil || entry == nil {
		reply.Entries = nil
		return idx, nothing(err)
	}
	reply.Entries = []*wire.DirEntry{entry}
	return idx, nil
}

func (e *Endpoints) kvsList(s *state.Store, ws state.WatchSet, req *wire.KeyRequest, reply *wire.IndexedDirEntries) (uint64, error) {
	idx, entries, err := s.KVSList(ws, req.Key)
	reply.Entries = entries
	if err != nil || len(entries) == 0 {
		return idx, nothing(err)
	}
	return idx, nil
}

func (e *Endpoints) kvsListKeys(s *state.Store, ws state.WatchSet, req *wire.KeyListRequest, reply *wire.IndexedKeyList) (uint64, error) {
	idx, keys, err := s.KVSListKeys(ws, req.Prefix, req.Seperator)
	reply.Keys = keys
	if err != nil || len(keys) == 0 {
		return idx, nothing(err)
	}
	return idx, nil
}
