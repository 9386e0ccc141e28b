package state

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"lictor/rpc/wire"
)

// SessionCreate adds a session, which must have an ID. Its node and its checks
// must be there, and none of the checks critical.
func (s *Store) SessionCreate(idx uint64, sess *wire.Session) error {
	return s.write(func(w *Write) error { return w.SessionCreate(idx, sess) })
}

// SessionCreate is Store.SessionCreate as part of w.
func (w *Write) SessionCreate(idx uint64, sess *wire.Session) error {
	n := *sess
	if n.ID == "" {
		return errors.New("Missing session")
	}
	switch n.Behavior {
	case "":
		n.Behavior = wire.SessionRelease
	case wire.SessionRelease, wire.SessionDelete:
	default:
		return fmt.Errorf("Invalid Session Behavior setting '%s'", n.Behavior)
	}
	if get[wire.Session](w.Txn, tableSessions, byID, n.ID) != nil {
		return fmt.Errorf("session %q exists already", n.ID)
	}
	node := w.node(n.Node)
	if node == nil {
		return ErrMissingNode
	}
	n.Node = node.Node
	for _, id := range n.Checks { // the old form
		if !slices.Contains(n.NodeChecks, id) {
			n.NodeChecks = append(slices.Clip(n.NodeChecks), id)
		}
	}
	n.Checks = nil
	for id := range sessionChecks(&n) {
		switch c := w.check(n.Node, id); {
		case c == nil:
			return fmt.Errorf("Missing check '%s' registration", id)
		case c.Status == wire.HealthCritical:
			return fmt.Errorf("Check '%s' is in critical state", id)
		}
	}
	stamp(&n.RaftIndex, 0, idx)
	w.insert(tableSessions, &n)
	w.touch(idx, scopeSessions, scopeNodeSessions+fold(n.Node))
	return nil
}

// sessionChecks are the IDs of the checks that a session depends on.
func sessionChecks(s *wire.Session) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, id := range s.NodeChecks {
			if !yield(id) {
				return
			}
		}
		for _, c := range s.ServiceChecks {
			if !yield(c.ID) {
				return
			}
		}
	}
}

// SessionDestroy ends a session: the keys it holds are released or deleted, as
// it says, and may not be locked for its lock delay. A session that is not there
// is not an error.
func (s *Store) SessionDestroy(idx uint64, id string) error {
	return s.write(func(w *Write) error { return w.SessionDestroy(idx, id) })
}

// SessionDestroy is Store.SessionDestroy as part of w.
func (w *Write) SessionDestroy(idx uint64, id string) error {
	if sess := get[wire.Session](w.Txn, tableSessions, byID, id); sess != nil {
		w.endSession(idx, sess)
	}
	return nil
}

func (w *Write) endSession(idx uint64, sess *wire.Session) {
	w.remove(tableSessions, sess)
	w.touch(idx, scopeSessions, scopeNodeSessions+fold(sess.Node))
	var keys []string
	for e := range list[wire.DirEntry](w.Txn, tableKVS, bySession, sess.ID) {
		keys = append(keys, e.Key)
		if sess.Behavior == wire.SessionDelete {
			w.deleteEntry(idx, e)
			continue
		}
		n := *e
		n.Session = ""
		w.putEntry(idx, e, &n)
	}
	if sess.LockDelay > 0 && len(keys) > 0 {
		w.delays = append(w.delays, heldKeys{keys, sess.LockDelay})
	}
}

// endSessionsOf ends the sessions that depend on c.
func (w *Write) endSessionsOf(idx uint64, c *wire.HealthCheck) {
	for sess := range list[wire.Session](w.Txn, tableSessions, byCheck, fold(c.Node), c.CheckID) {
		w.endSession(idx, sess)
	}
}

// SessionGet returns a session, nil if there is none; the index is then that of
// the last change of any session.
func (s *Store) SessionGet(ws WatchSet, id string) (uint64, *wire.Session, error) {
	tx := s.read(ws)
	ch, sess := first[wire.Session](tx, tableSessions, byID, id)
	ws.Add(ch)
	if sess == nil {
		return last(tx, nil, scopeSessions), nil, nil
	}
	return sess.ModifyIndex, sess, nil
}

// SessionList returns all sessions, by ID.
func (s *Store) SessionList(ws WatchSet) (uint64, []*wire.Session, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeSessions)
	return idx, collect(list[wire.Session](tx, tableSessions, byID)), nil
}

// NodeSessions returns the sessions of a node, by ID.
func (s *Store) NodeSessions(ws WatchSet, node string) (uint64, []*wire.Session, error) {
	tx := s.read(ws)
	name := fold(node)
	_, idx := lastOr(tx, ws, scopeNodeSessions+name, scopeNodesGone)
	return idx, collect(list[wire.Session](tx, tableSessions, byNode, name)), nil
}

// collect is slices.Collect, but never nil.
func collect[T any](seq iter.Seq[*T]) []*T {
	return slices.AppendSeq([]*T{}, seq)
}
