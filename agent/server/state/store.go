// Package state is the state store of a server: the catalog, the key-value
// store, sessions, coordinates and autopilot's configuration, in memory.
//
// Only the Raft state machine writes, from one goroutine, each write with the
// index of its log entry. What a write does depends on nothing but the store and
// its arguments, so that all servers come to the same state; the clock enters
// once only, in lock delays, which are this process's own and never stored. A
// write that fails has changed nothing.
//
// Reads may come from any goroutine and see the store as it was between two
// writes. A read returns the index that a blocking query compares: it grows
// whenever the answer changes, and not with changes elsewhere, as far as the
// objects are there to be watched; for what does not exist it is an index that
// has grown since it last did. It is 0 where nothing was ever written. A read
// given a watch set adds channels to it, one of which is closed once the answer
// may have changed or the store was abandoned.
//
// Objects are shared, not copied: what a read returns must not be changed, and
// the maps and slices inside what a write was given belong to the store. Slices
// and maps that a read returns at the top are the caller's.
//
// Names of nodes and services are compared without regard to case, IDs of
// services and checks with.
package state

import (
	"sync"
	"time"

	"github.com/hashicorp/go-memdb"
)

// WatchSet collects the channels that a blocking query waits for.
type WatchSet = memdb.WatchSet

// NewWatchSet returns an empty set.
func NewWatchSet() WatchSet { return memdb.NewWatchSet() }

// Store is the state store. Reads are safe from any goroutine; one goroutine
// writes.
type Store struct {
	db        *memdb.MemDB
	abandoned chan struct{}
	abandon   sync.Once
	delays    *lockDelays
	hook      *tombstoneHook
}

// New returns an empty store.
func New() (*Store, error) {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		return nil, err
	}
	return &Store{db: db, abandoned: make(chan struct{}), delays: new(lockDelays), hook: new(tombstoneHook)}, nil
}

// Successor returns an empty store that will take the place of s after a
// restore: it keeps the lock delays, and tells the same function of tombstones.
func (s *Store) Successor() (*Store, error) {
	n, err := New()
	if err != nil {
		return nil, err
	}
	n.delays, n.hook = s.delays, s.hook
	return n, nil
}

// AbandonCh is closed when the store is no longer the current one. Reads add it
// to the watch sets they are given.
func (s *Store) AbandonCh() <-chan struct{} { return s.abandoned }

// Abandon wakes everyone who watches the store: another one has taken its place.
func (s *Store) Abandon() { s.abandon.Do(func() { close(s.abandoned) }) }

// OnTombstone sets the function that hears, after each write that left
// tombstones, of its index. It runs on the goroutine that writes and must not
// block. nil: nobody hears.
func (s *Store) OnTombstone(fn func(idx uint64)) { s.hook.set(fn) }

type tombstoneHook struct {
	mu sync.Mutex // guards fn
	fn func(idx uint64)
}

func (h *tombstoneHook) set(fn func(idx uint64)) {
	h.mu.Lock()
	h.fn = fn
	h.mu.Unlock()
}

func (h *tombstoneHook) call(idx uint64) {
	h.mu.Lock()
	fn := h.fn
	h.mu.Unlock()
	if fn != nil {
		fn(idx)
	}
}

// maxLockDelay caps Session.LockDelay.
const maxLockDelay = time.Minute

// lockDelays are the keys that may not be locked yet because the session that
// held them was invalidated.
type lockDelays struct {
	mu    sync.Mutex // guards the fields below
	until map[string]time.Time
	sweep time.Time // not before then, expired entries are looked for
}

func (d *lockDelays) add(keys []string, delay time.Duration) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	if now.After(d.sweep) {
		for k, t := range d.until {
			if !t.After(now) {
				delete(d.until, k)
			}
		}
		d.sweep = now.Add(maxLockDelay)
	}
	until := now.Add(min(delay, maxLockDelay))
	for _, k := range keys {
		if until.After(d.until[k]) {
			d.until[k] = until
		}
	}
}

func (d *lockDelays) get(key string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := d.until[key]
	if ok && !t.After(time.Now()) {
		delete(d.until, key)
		return time.Time{}
	}
	return t
}

// KVSLockDelay returns until when the key may not be locked, or the zero time.
// It is this process's own knowledge: the leader asks before it proposes a lock.
func (s *Store) KVSLockDelay(key string) time.Time { return s.delays.get(key) }
