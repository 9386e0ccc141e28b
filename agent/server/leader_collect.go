package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

// tombstones collects what deletes leave behind once no blocking query can wait
// for it any more. Indexes are put together by the time at which they may go, to
// the grain.
type tombstones struct {
	l *Leader

	mu     sync.Mutex // guards the fields below
	active bool
	due    map[time.Time]uint64 // the highest index that may go then
	wake   chan struct{}
}

func newTombstones(l *Leader) *tombstones {
	return &tombstones{l: l, wake: make(chan struct{}, 1)}
}

// hint hears of an index that left tombstones. It is called while the state is
// written and does not block.
func (t *tombstones) hint(index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.active {
		return
	}
	grain := t.l.cfg.Times.TombstoneGrain
	at := time.Now().Add(t.l.cfg.Times.TombstoneTTL).Truncate(grain).Add(grain)
	t.due[at] = max(t.due[at], index)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run collects until ctx ends.
func (t *tombstones) run(ctx context.Context) {
	t.mu.Lock()
	t.active, t.due = true, map[time.Time]uint64{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.active, t.due = false, nil
	}()
	t.l.cfg.State().OnTombstone(t.hint)
	// Those from before: nobody knows when, so they are kept the whole time.
	t.hint(t.l.cfg.Raft.LastIndex())
	for {
		next, ok := t.next()
		var timer <-chan time.Time
		if ok {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer:
			t.collect(ctx)
		}
	}
}

// next is when something may go.
func (t *tombstones) next() (first time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.due {
		if !ok || at.Before(first) {
			first, ok = at, true
		}
	}
	return first, ok
}

func (t *tombstones) collect(ctx context.Context) {
	var upTo uint64
	t.mu.Lock()
	for at, index := range t.due {
		if !at.After(time.Now()) {
			upTo = max(upTo, index)
			delete(t.due, at)
		}
	}
	t.mu.Unlock()
	if upTo == 0 {
		return
	}
	if err := t.l.apply(ctx, fsm.Tombstone, &fsm.TombstoneRequest{ReapIndex: upTo}); err != nil && ctx.Err() == nil {
		t.l.log.Warn("could not collect tombstones, will try with the next ones", "up_to", upTo, "error", err)
		t.hint(upTo)
	}
}

// Batches of coordinates (limits-and-defaults.md, section 8).
const (
	coordinateBatch   = 128
	coordinateBatches = 5
)

// coordinates keeps the newest coordinate of each node until the next write.
type coordinates struct {
	l *Leader

	mu      sync.Mutex // guards the fields below
	active  bool
	pending map[coordinateKey]*wire.Coordinate
	dropped int
}

type coordinateKey struct{ node, segment string }

func newCoordinates(l *Leader) *coordinates { return &coordinates{l: l} }

// errCoordinate: a coordinate that is none.
var errCoordinate = errors.New("invalid coordinate")

// UpdateCoordinate takes note of a node's coordinate; it is written with the
// next batch. More than a flush writes are dropped, with a warning.
func (l *Leader) UpdateCoordinate(req *wire.CoordinateUpdateRequest) error {
	if req.Coord == nil || !req.Coord.IsValid() {
		return fmt.Errorf("%w of node %.128q", errCoordinate, req.Node)
	}
	c := l.coords
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.active {
		return nil
	}
	key := coordinateKey{req.Node, req.Segment}
	if c.pending[key] == nil && len(c.pending) >= coordinateBatch*coordinateBatches {
		c.dropped++
		return nil
	}
	c.pending[key] = &wire.Coordinate{Node: req.Node, Segment: req.Segment, Partition: req.Partition, Coord: req.Coord.Clone()}
	return nil
}

// run writes what has come until ctx ends.
func (c *coordinates) run(ctx context.Context) {
	c.set(true)
	defer c.set(false)
	tick := time.NewTicker(c.l.cfg.Times.CoordinateFlush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.flush(ctx)
		}
	}
}

func (c *coordinates) set(active bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active, c.pending, c.dropped = active, map[coordinateKey]*wire.Coordinate{}, 0
}

func (c *coordinates) flush(ctx context.Context) {
	c.mu.Lock()
	pending, dropped := c.pending, c.dropped
	c.pending, c.dropped = map[coordinateKey]*wire.Coordinate{}, 0
	c.mu.Unlock()
	if dropped > 0 {
		c.l.log.Warn("dropped coordinates: too many since the last write", "dropped", dropped)
	}
	batch := make([]*wire.Coordinate, 0, min(len(pending), coordinateBatch))
	write := func() {
		if len(batch) == 0 {
			return
		}
		if err := c.l.apply(ctx, fsm.CoordinateBatch, &fsm.CoordinateBatchRequest{Updates: batch}); err != nil && ctx.Err() == nil {
			c.l.log.Warn("could not write coordinates", "error", err)
		}
		batch = batch[:0]
	}
	for _, coord := range pending {
		if batch = append(batch, coord); len(batch) == coordinateBatch {
			write()
		}
	}
	write()
}
