package state

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// KVSSet writes a key: value and flags. A lock on it stays.
func (s *Store) KVSSet(idx uint64, e *wire.DirEntry) error {
	return s.write(func(w *Write) error { return w.KVSSet(idx, e) })
}

// KVSSet is Store.KVSSet as part of w.
func (w *Write) KVSSet(idx uint64, e *wire.DirEntry) error {
	_, err := w.kvsSet(idx, e)
	return err
}

func (w *Write) kvsSet(idx uint64, e *wire.DirEntry) (*wire.DirEntry, error) {
	if e.Key == "" {
		return nil, ErrMissingKey
	}
	cur := w.entry(e.Key)
	n := &wire.DirEntry{Key: e.Key, Flags: e.Flags, Value: e.Value}
	if cur != nil {
		n.LockIndex, n.Session = cur.LockIndex, cur.Session
	}
	return w.putEntry(idx, cur, n), nil
}

// KVSSetCAS is KVSSet if the key's ModifyIndex is e.ModifyIndex, which is 0 for
// a key that must not exist. It writes what is there already too: the index is
// what the next one compares.
func (s *Store) KVSSetCAS(idx uint64, e *wire.DirEntry) (bool, error) {
	return s.decide(func(w *Write) (bool, error) { return w.KVSSetCAS(idx, e) })
}

// KVSSetCAS is Store.KVSSetCAS as part of w.
func (w *Write) KVSSetCAS(idx uint64, e *wire.DirEntry) (bool, error) {
	n, err := w.kvsSetCAS(idx, e)
	return n != nil, err
}

func (w *Write) kvsSetCAS(idx uint64, e *wire.DirEntry) (*wire.DirEntry, error) {
	if e.Key == "" {
		return nil, ErrMissingKey
	}
	cur := w.entry(e.Key)
	n := &wire.DirEntry{Key: e.Key, Flags: e.Flags, Value: e.Value}
	if cur == nil {
		if e.ModifyIndex != 0 {
			return nil, nil
		}
		return w.putEntry(idx, nil, n), nil
	}
	if e.ModifyIndex == 0 || e.ModifyIndex != cur.ModifyIndex {
		return nil, nil
	}
	n.LockIndex, n.Session = cur.LockIndex, cur.Session
	stamp(&n.RaftIndex, cur.CreateIndex, idx)
	w.insert(tableKVS, n)
	w.touch(idx, scopeKVS)
	return n, nil
}

func (w *Write) entry(key string) *wire.DirEntry {
	return get[wire.DirEntry](w.Txn, tableKVS, byID, key)
}

// putEntry writes n in the place of cur unless they are the same, and returns
// what is in the store then.
func (w *Write) putEntry(idx uint64, cur, n *wire.DirEntry) *wire.DirEntry {
	var created uint64
	if cur != nil {
		if cur.Flags == n.Flags && cur.Session == n.Session && cur.LockIndex == n.LockIndex && bytes.Equal(cur.Value, n.Value) {
			return cur
		}
		created = cur.CreateIndex
	}
	stamp(&n.RaftIndex, created, idx)
	w.insert(tableKVS, n)
	w.touch(idx, scopeKVS)
	return n
}

// KVSDelete deletes a key, if it is there.
func (s *Store) KVSDelete(idx uint64, key string) error {
	return s.write(func(w *Write) error { return w.KVSDelete(idx, key) })
}

// KVSDelete is Store.KVSDelete as part of w.
func (w *Write) KVSDelete(idx uint64, key string) error {
	if e := w.entry(key); e != nil {
		w.deleteEntry(idx, e)
	}
	return nil
}

// deleteEntry leaves a tombstone, so that the index of a tree does not fall when
// it loses its newest key.
func (w *Write) deleteEntry(idx uint64, e *wire.DirEntry) {
	w.remove(tableKVS, e)
	w.insert(tableTombstones, &tombstone{e.Key, idx})
	w.touch(idx, scopeKVS)
	w.buried = idx
}

// KVSDeleteCAS is KVSDelete if the key's ModifyIndex is cidx; for 0 it does
// nothing.
func (s *Store) KVSDeleteCAS(idx, cidx uint64, key string) (bool, error) {
	return s.decide(func(w *Write) (bool, error) { return w.KVSDeleteCAS(idx, cidx, key) })
}

// KVSDeleteCAS is Store.KVSDeleteCAS as part of w.
func (w *Write) KVSDeleteCAS(idx, cidx uint64, key string) (bool, error) {
	e := w.entry(key)
	if e == nil || cidx == 0 || e.ModifyIndex != cidx {
		return false, nil
	}
	w.deleteEntry(idx, e)
	return true, nil
}

// KVSDeleteTree deletes all keys that begin with prefix.
func (s *Store) KVSDeleteTree(idx uint64, prefix string) error {
	return s.write(func(w *Write) error { return w.KVSDeleteTree(idx, prefix) })
}

// KVSDeleteTree is Store.KVSDeleteTree as part of w.
func (w *Write) KVSDeleteTree(idx uint64, prefix string) error {
	for e := range list[wire.DirEntry](w.Txn, tableKVS, byPrefix, prefix) {
		w.deleteEntry(idx, e)
	}
	return nil
}

// KVSLock writes a key and has e.Session hold it, if no other session does. Each
// time that a session comes to hold it, its LockIndex grows by one. An unknown
// session is an error. Lock delays are not looked at: see KVSLockDelay.
func (s *Store) KVSLock(idx uint64, e *wire.DirEntry) (bool, error) {
	return s.decide(func(w *Write) (bool, error) { return w.KVSLock(idx, e) })
}

// KVSLock is Store.KVSLock as part of w.
func (w *Write) KVSLock(idx uint64, e *wire.DirEntry) (bool, error) {
	n, err := w.kvsLock(idx, e)
	return n != nil, err
}

func (w *Write) kvsLock(idx uint64, e *wire.DirEntry) (*wire.DirEntry, error) {
	if err := w.checkHolder(e); err != nil {
		return nil, err
	}
	cur := w.entry(e.Key)
	n := &wire.DirEntry{Key: e.Key, Flags: e.Flags, Value: e.Value, Session: e.Session, LockIndex: 1}
	switch {
	case cur == nil:
	case cur.Session == e.Session:
		n.LockIndex = cur.LockIndex
	case cur.Session == "":
		n.LockIndex = cur.LockIndex + 1
	default:
		return nil, nil
	}
	return w.putEntry(idx, cur, n), nil
}

// checkHolder checks the key and the session of a lock or unlock.
func (w *Write) checkHolder(e *wire.DirEntry) error {
	if e.Key == "" {
		return ErrMissingKey
	}
	if e.Session == "" {
		return fmt.Errorf("%w: no session given", ErrInvalidSession)
	}
	if get[wire.Session](w.Txn, tableSessions, byID, e.Session) == nil {
		return fmt.Errorf("%w %q", ErrInvalidSession, e.Session)
	}
	return nil
}

// KVSUnlock writes a key and lets go of it, if e.Session holds it.
func (s *Store) KVSUnlock(idx uint64, e *wire.DirEntry) (bool, error) {
	return s.decide(func(w *Write) (bool, error) { return w.KVSUnlock(idx, e) })
}

// KVSUnlock is Store.KVSUnlock as part of w.
func (w *Write) KVSUnlock(idx uint64, e *wire.DirEntry) (bool, error) {
	n, err := w.kvsUnlock(idx, e)
	return n != nil, err
}

func (w *Write) kvsUnlock(idx uint64, e *wire.DirEntry) (*wire.DirEntry, error) {
	if e.Key == "" {
		return nil, ErrMissingKey
	}
	if e.Session == "" {
		return nil, fmt.Errorf("%w: no session given", ErrInvalidSession)
	}
	cur := w.entry(e.Key)
	if cur == nil || cur.Session != e.Session {
		return nil, nil
	}
	n := &wire.DirEntry{Key: e.Key, Flags: e.Flags, Value: e.Value, LockIndex: cur.LockIndex}
	return w.putEntry(idx, cur, n), nil
}

// KVSGet returns a key, nil if there is none; the index is then that of the last
// write to any key.
func (s *Store) KVSGet(ws WatchSet, key string) (uint64, *wire.DirEntry, error) {
	tx := s.read(ws)
	ch, e := first[wire.DirEntry](tx, tableKVS, byID, key)
	ws.Add(ch)
	if e == nil {
		return last(tx, nil, scopeKVS, scopeTombstones), nil, nil
	}
	return e.ModifyIndex, e, nil
}

// KVSList returns the keys that begin with prefix, in order. The index counts
// what was deleted below the prefix, for as long as there are tombstones; for an
// empty list it is that of the last write to any key.
func (s *Store) KVSList(ws WatchSet, prefix string) (uint64, []*wire.DirEntry, error) {
	tx := s.read(ws)
	ch, seq := each[wire.DirEntry](tx, tableKVS, byPrefix, prefix)
	ws.Add(ch)
	var idx uint64
	out := []*wire.DirEntry{}
	for e := range seq {
		idx = max(idx, e.ModifyIndex)
		out = append(out, e)
	}
	return treeIndex(tx, prefix, idx), out, nil
}

// KVSListKeys is KVSList for keys only. With a separator a key that has it after
// the prefix is cut behind it, and what comes out equal is listed once.
func (s *Store) KVSListKeys(ws WatchSet, prefix, separator string) (uint64, []string, error) {
	tx := s.read(ws)
	ch, seq := each[wire.DirEntry](tx, tableKVS, byPrefix, prefix)
	ws.Add(ch)
	var idx uint64
	out := []string{}
	for e := range seq {
		idx = max(idx, e.ModifyIndex)
		k := e.Key
		if separator != "" {
			if i := strings.Index(k[len(prefix):], separator); i >= 0 {
				k = k[:len(prefix)+i+len(separator)]
				if n := len(out); n > 0 && out[n-1] == k {
					continue
				}
			}
		}
		out = append(out, k)
	}
	return treeIndex(tx, prefix, idx), out, nil
}

// treeIndex is the index of a tree whose newest key has the index idx, 0 if it
// has none.
func treeIndex(tx *memdb.Txn, prefix string, idx uint64) uint64 {
	if idx == 0 {
		return last(tx, nil, scopeKVS, scopeTombstones)
	}
	if prefix == "" {
		return last(tx, nil, scopeKVS)
	}
	for t := range list[tombstone](tx, tableTombstones, byPrefix, prefix) {
		idx = max(idx, t.Index)
	}
	return idx
}

// ReapTombstones forgets the deletions up to and including index upTo.
func (s *Store) ReapTombstones(idx, upTo uint64) error {
	return s.write(func(w *Write) error { return w.ReapTombstones(idx, upTo) })
}

// ReapTombstones is Store.ReapTombstones as part of w.
func (w *Write) ReapTombstones(idx, upTo uint64) error {
	for t := range list[tombstone](w.Txn, tableTombstones, byID) {
		if t.Index <= upTo {
			w.remove(tableTombstones, t)
			w.touch(idx, scopeTombstones)
		}
	}
	return nil
}

// LastTombstone returns the largest index of a tombstone, 0 if there is none: a
// new leader collects what it did not see being made.
func (s *Store) LastTombstone() (idx uint64) {
	for t := range list[tombstone](s.read(nil), tableTombstones, byID) {
		idx = max(idx, t.Index)
	}
	return idx
}
