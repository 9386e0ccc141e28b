package state

import (
	"errors"
	"fmt"
	"iter"

	"time"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// Errors of writes. The texts are those of the family.
var (
	// ErrMissingNode: a service, check or session names an unknown node.
	ErrMissingNode = errors.New("Missing node registration")
	// ErrMissingService: a check names an unknown service.
	ErrMissingService = errors.New("Missing service registration")
	// ErrMissingKey: an operation on a key without one.
	ErrMissingKey = errors.New("Missing key name")
	// ErrInvalidSession starts the text about a session that is not there.
	ErrInvalidSession = errors.New("invalid session")
)

// Keys of scopes. Those that end in "/" are followed by a folded name. A scope
// of one name is dropped when the name goes; the scope "…gone" then says when
// the last one went.
const (
	scopeNodes        = "nodes"
	scopeServices     = "services"
	scopeChecks       = "checks"
	scopeKVS          = "kvs"
	scopeTombstones   = "tombstones"
	scopeSessions     = "sessions"
	scopeCoordinates  = "coordinates"
	scopeNames        = "names"         // names and tags of services
	scopeNodesGone    = "nodes.gone"    // a node, or the ID of one
	scopeServicesGone = "services.gone" // the last instance of a service

	scopeNode         = "node/"        // a node and its services
	scopeNodeChecks   = "node-checks/" // all checks of a node
	scopeNodeSessions = "node-sessions/"
	scopeCatalog      = "catalog/" // instances of a service and their nodes
	scopeHealth       = "health/"  // the same, and the checks of both
	scopeSvcChecks    = "service-checks/"
	scopeStatus       = "status/" // checks that are or were in a state
)

// Write is a transaction of one or more writes, which are seen all at once by
// Commit or not at all after Abort. One goroutine uses it; until it ends, no
// other write begins. An operation that returns an error, or false, has changed
// nothing, and others may follow.
type Write struct {
	*memdb.Txn
	store   *Store
	touched map[string]uint64 // scopes to write at the end; 0 drops one
	delays  []heldKeys
	buried  uint64 // index of the last tombstone
}

// heldKeys are keys whose session was invalidated.
type heldKeys struct {
	keys  []string
	delay time.Duration
}

// Begin starts a write.
func (s *Store) Begin() *Write {
	return &Write{Txn: s.db.Txn(true), store: s, touched: map[string]uint64{}}
}

// Commit makes the writes visible, and then wakes who watches them.
func (w *Write) Commit() {
	for k, idx := range w.touched {
		if idx > 0 {
			w.insert(tableIndex, &scope{Key: k, Index: idx})
		} else if _, old := first[scope](w.Txn, tableIndex, byID, k); old != nil {
			w.remove(tableIndex, old)
		}
	}
	for _, h := range w.delays {
		w.store.delays.add(h.keys, h.delay)
	}
	w.Txn.Commit()
	if w.buried > 0 {
		w.store.hook.call(w.buried)
	}
}

// write runs one operation as a transaction of its own.
func (s *Store) write(op func(*Write) error) error {
	w := s.Begin()
	defer w.Abort()
	if err := op(w); err != nil {
		return err
	}
	w.Commit()
	return nil
}

// decide is write for operations that may find that they do not apply.
func (s *Store) decide(op func(*Write) (bool, error)) (ok bool, err error) {
	err = s.write(func(w *Write) error {
		ok, err = op(w)
		return err
	})
	return ok, err
}

// insert and remove can only fail if the schema is wrong.
func (w *Write) insert(table string, obj any) {
	if err := w.Insert(table, obj); err != nil {
		panic(fmt.Sprintf("state: insert into %s: %v", table, err))
	}
}

func (w *Write) remove(table string, obj any) {
	if err := w.Delete(table, obj); err != nil {
		panic(fmt.Sprintf("state: delete from %s: %v", table, err))
	}
}

// touch notes a change of scopes; forget, that they are gone.
func (w *Write) touch(idx uint64, scopes ...string) {
	for _, k := range scopes {
		w.touched[k] = idx
	}
}

func (w *Write) forget(scopes ...string) {
	for _, k := range scopes {
		w.touched[k] = 0
	}
}

// stamp sets the indexes of an object that replaces the one with the given
// create index, 0 if there was none.
func stamp(i *wire.RaftIndex, created, idx uint64) {
	if created == 0 {
		created = idx
	}
	i.CreateIndex, i.ModifyIndex = created, idx
}

// first returns the first object that fits, or nil, and a channel that is closed
// when there may be another answer.
func first[T any](tx *memdb.Txn, table, index string, args ...any) (<-chan struct{}, *T) {
	ch, raw, err := tx.FirstWatch(table, index, args...)
	if err != nil {
		panic(fmt.Sprintf("state: read %s by %s: %v", table, index, err))
	}
	if raw == nil {
		return ch, nil
	}
	return ch, raw.(*T)
}

// get is first for a writer, who watches nothing.
func get[T any](tx *memdb.Txn, table, index string, args ...any) *T {
	_, obj := first[T](tx, table, index, args...)
	return obj
}

// each returns the objects that fit, as they were when it was called, and a
// channel that is closed when there may be others.
func each[T any](tx *memdb.Txn, table, index string, args ...any) (<-chan struct{}, iter.Seq[*T]) {
	it, err := tx.Get(table, index, args...)
	if err != nil {
		panic(fmt.Sprintf("state: read %s by %s: %v", table, index, err))
	}
	return it.WatchCh(), func(yield func(*T) bool) {
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if !yield(raw.(*T)) {
				return
			}
		}
	}
}

// list is each for a writer. What it returns may be changed in the store while
// the loop runs.
func list[T any](tx *memdb.Txn, table, index string, args ...any) iter.Seq[*T] {
	_, seq := each[T](tx, table, index, args...)
	return seq
}

// read starts a read: a view of the store between two writes.
func (s *Store) read(ws WatchSet) *memdb.Txn {
	if ws != nil {
		ws.Add(s.abandoned)
	}
	return s.db.Txn(false)
}

// last returns the largest index of the scopes, and watches them.
func last(tx *memdb.Txn, ws WatchSet, scopes ...string) (idx uint64) {
	for _, k := range scopes {
		ch, sc := first[scope](tx, tableIndex, byID, k)
		ws.Add(ch)
		if sc != nil {
			idx = max(idx, sc.Index)
		}
	}
	return idx
}

// lastOr is last of one scope, and of another where that one does not exist,
// which is not watched: nothing but its index is of interest then.
func lastOr(tx *memdb.Txn, ws WatchSet, k, gone string) (*scope, uint64) {
	ch, sc := first[scope](tx, tableIndex, byID, k)
	ws.Add(ch)
	if sc != nil {
		return sc, sc.Index
	}
	return nil, last(tx, nil, gone)
}
