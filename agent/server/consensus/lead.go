package consensus

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// reign is a time in which this server leads and has applied everything that was
// committed before.
type reign struct{ ctx context.Context }

// retryBarrier is the pause before a leader that could not write its barrier
// tries again.
const retryBarrier = time.Second

// watch follows Raft's leadership until the node stops.
func (n *Node) watch() {
	end := func() {}
	for {
		select {
		case <-n.done:
			end()
			return
		case leads := <-n.raft.LeaderCh():
			// The channel holds the last change only: a second "true" means that the
			// office was lost and won again.
			end()
			end = func() {}
			if leads {
				end = n.begin()
			}
		}
	}
}

// begin starts a reign and returns what ends it.
func (n *Node) begin() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.establish(ctx) }()
	return func() { cancel(); <-done }
}

// establish passes the barrier and then lets the duties begin.
func (n *Node) establish(ctx context.Context) {
	for {
		term := n.raft.CurrentTerm()
		err := n.background(ctx, n.raft.Barrier(barrierTimeout))
		if err == nil {
			n.ready.Store(term)
			break
		}
		if ctx.Err() != nil || errors.Is(err, ErrShutdown) {
			return
		}
		n.log.Warn("the new leader could not write its barrier", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryBarrier):
		}
	}
	n.setReign(&reign{ctx})
	<-ctx.Done()
	n.setReign(nil)
}

func (n *Node) setReign(r *reign) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reign = r
	close(n.changed)
	n.changed = make(chan struct{})
}

// Lead calls duties each time this server has become leader and has applied
// everything that was committed before. The ctx of duties ends when the office
// is lost; duties is called again only after it has returned. Lead returns when
// ctx ends, and after duties has returned.
func (n *Node) Lead(ctx context.Context, duties func(context.Context)) {
	var last *reign
	for {
		n.mu.Lock()
		r, changed := n.reign, n.changed
		n.mu.Unlock()
		if r != nil && r != last {
			last = r
			run, cancel := context.WithCancel(r.ctx)
			stop := context.AfterFunc(ctx, cancel)
			duties(run)
			stop()
			cancel()
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-n.done:
			return
		case <-changed:
		}
	}
}

// IsLeader says whether this server leads, as far as it knows: only VerifyLeader
// is sure.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// Leader is the address and id of the leader, "" while none is known.
func (n *Node) Leader() (addr, id string) {
	a, i := n.raft.LeaderWithID()
	return string(a), string(i)
}

// ReadyForConsistentReads says whether this server leads and has applied
// everything that was committed before it did.
func (n *Node) ReadyForConsistentReads() bool {
	return n.IsLeader() && n.ready.Load() == n.raft.CurrentTerm()
}

// LastContact is how long ago this server heard from the leader; 0 on the leader
// itself.
func (n *Node) LastContact() time.Duration {
	if n.IsLeader() {
		return 0
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		return math.MaxInt64
	}
	return time.Since(last)
}
