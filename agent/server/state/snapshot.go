package state

import (
	"errors"
	"iter"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// Snapshot is the store as it was when it was taken; writes go on meanwhile. It
// may be used from any goroutine until Close. The order of what it returns
// depends on the content alone.
type Snapshot struct{ tx *memdb.Txn }

// Snapshot returns a view of all that there is.
func (s *Store) Snapshot() *Snapshot { return &Snapshot{s.db.Txn(false)} }

// Close lets go of the view.
func (s *Snapshot) Close() { s.tx = nil }

// LastIndex is the index of the last write that changed something.
func (s *Snapshot) LastIndex() (idx uint64) {
	for _, i := range s.Indexes() {
		idx = max(idx, i)
	}
	return idx
}

// Indexes are the indexes of everything that has one beside its objects.
func (s *Snapshot) Indexes() iter.Seq2[string, uint64] {
	return pairs(list[scope](s.tx, tableIndex, byID), func(c *scope) (string, uint64) { return c.Key, c.Index })
}

// Nodes are all nodes.
func (s *Snapshot) Nodes() iter.Seq[*wire.Node] { return list[wire.Node](s.tx, tableNodes, byID) }

// Services are all services with the names of their nodes.
func (s *Snapshot) Services() iter.Seq2[string, *wire.NodeService] {
	return pairs(list[instance](s.tx, tableServices, byID), func(i *instance) (string, *wire.NodeService) { return i.node, i.svc })
}

// Checks are all checks.
func (s *Snapshot) Checks() iter.Seq[*wire.HealthCheck] {
	return list[wire.HealthCheck](s.tx, tableChecks, byID)
}

// Entries are all keys.
func (s *Snapshot) Entries() iter.Seq[*wire.DirEntry] {
	return list[wire.DirEntry](s.tx, tableKVS, byID)
}

// Tombstones are the deleted keys with the indexes of their deletion.
func (s *Snapshot) Tombstones() iter.Seq2[string, uint64] {
	return pairs(list[tombstone](s.tx, tableTombstones, byID), func(t *tombstone) (string, uint64) { return t.Key, t.Index })
}

// Sessions are all sessions.
func (s *Snapshot) Sessions() iter.Seq[*wire.Session] {
	return list[wire.Session](s.tx, tableSessions, byID)
}

// Coordinates are all coordinates with the indexes of their last change.
func (s *Snapshot) Coordinates() iter.Seq2[*wire.Coordinate, uint64] {
	return pairs(list[nodeCoordinate](s.tx, tableCoordinates, byID), func(c *nodeCoordinate) (*wire.Coordinate, uint64) {
		return c.Coordinate, c.modified
	})
}

// Autopilot is autopilot's configuration, or nil.
func (s *Snapshot) Autopilot() *wire.AutopilotConfig {
	return get[wire.AutopilotConfig](s.tx, tableAutopilot, byID, "")
}

func pairs[T, K, V any](seq iter.Seq[*T], split func(*T) (K, V)) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for v := range seq {
			if !yield(split(v)) {
				return
			}
		}
	}
}

// Restore fills an empty store with what a Snapshot returned, in the order of
// its methods or another one. Nothing is seen before Commit. Objects become the
// store's.
type Restore struct {
	tx   *memdb.Txn
	hook *tombstoneHook
	last uint64 // index of the last tombstone
}

// Restore begins to fill s.
func (s *Store) Restore() *Restore { return &Restore{tx: s.db.Txn(true), hook: s.hook} }

// Abort leaves the store as it was. After Commit it does nothing.
func (r *Restore) Abort() { r.tx.Abort() }

// Commit makes what was restored visible, if it is whole: that everything that
// belongs to a node or a service has one.
func (r *Restore) Commit() error {
	for i := range list[instance](r.tx, tableServices, byID) {
		if get[wire.Node](r.tx, tableNodes, byID, fold(i.node)) == nil {
			return ErrMissingNode
		}
	}
	for c := range list[wire.HealthCheck](r.tx, tableChecks, byID) {
		if get[wire.Node](r.tx, tableNodes, byID, fold(c.Node)) == nil {
			return ErrMissingNode
		}
		if c.ServiceID != "" && get[instance](r.tx, tableServices, byID, fold(c.Node), c.ServiceID) == nil {
			return ErrMissingService
		}
	}
	for sess := range list[wire.Session](r.tx, tableSessions, byID) {
		if get[wire.Node](r.tx, tableNodes, byID, fold(sess.Node)) == nil {
			return ErrMissingNode
		}
	}
	r.tx.Commit()
	if r.last > 0 {
		r.hook.call(r.last)
	}
	return nil
}

// Index restores one of Snapshot.Indexes.
func (r *Restore) Index(name string, idx uint64) error {
	if name == "" {
		return errors.New("an index without a name")
	}
	return r.tx.Insert(tableIndex, &scope{Key: name, Index: idx})
}

// Node restores a node.
func (r *Restore) Node(n *wire.Node) error {
	if n.Node == "" {
		return errors.New("a node without a name")
	}
	return r.tx.Insert(tableNodes, n)
}

// Service restores a service of a node.
func (r *Restore) Service(node string, svc *wire.NodeService) error {
	if svc == nil || svc.ID == "" || svc.Service == "" {
		return errors.New("a service without a name")
	}
	return r.tx.Insert(tableServices, &instance{node, svc})
}

// Check restores a check.
func (r *Restore) Check(c *wire.HealthCheck) error {
	if c.CheckID == "" {
		return errors.New("a check without an ID")
	}
	return r.tx.Insert(tableChecks, c)
}

// Entry restores a key.
func (r *Restore) Entry(e *wire.DirEntry) error {
	if e.Key == "" {
		return errors.New("an entry without a key")
	}
	return r.tx.Insert(tableKVS, e)
}

// Tombstone restores the index at which a key was deleted.
func (r *Restore) Tombstone(key string, idx uint64) error {
	if key == "" {
		return errors.New("a tombstone without a key")
	}
	r.last = max(r.last, idx)
	return r.tx.Insert(tableTombstones, &tombstone{key, idx})
}

// Session restores a session.
func (r *Restore) Session(s *wire.Session) error {
	if s.ID == "" {
		return errors.New("a session without an ID")
	}
	return r.tx.Insert(tableSessions, s)
}

// Coordinate restores a coordinate.
func (r *Restore) Coordinate(c *wire.Coordinate, modified uint64) error {
	if c == nil || c.Coord == nil {
		return errors.New("a coordinate that is none")
	}
	return r.tx.Insert(tableCoordinates, &nodeCoordinate{c, modified})
}

// Autopilot restores autopilot's configuration.
func (r *Restore) Autopilot(c *wire.AutopilotConfig) error { return r.tx.Insert(tableAutopilot, c) }
