package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"

	"lictor/agent/server/fsm"
	"lictor/rpc"
)

// Limits of limits-and-defaults.md, section 3.
const (
	enqueueTimeout = 30 * time.Second
	barrierTimeout = 2 * time.Minute
	bigEntry       = 1 << 20
	// maxEntry is what raft-wal reads back, less room for what Raft puts around an
	// entry. It writes more than that and then takes it for damage.
	maxEntry = 64<<20 - 64<<10
)

// Apply has the cluster agree on a command and applies it. It returns what the
// state machine answered; an error that it answered is returned as the error.
// rpc.ErrNoLeader means that this server does not lead and nothing was done.
// After ErrLeadershipLost, ErrRestored, ErrShutdown, or the end of ctx the
// command may or may not have been done, or may still be.
func (n *Node) Apply(ctx context.Context, t fsm.MessageType, msg any) (any, error) {
	if !n.IsLeader() {
		return nil, rpc.ErrNoLeader
	}
	entry, err := fsm.Encode(t, msg)
	if err != nil {
		return nil, err
	}
	return n.apply(ctx, entry)
}

func (n *Node) apply(ctx context.Context, entry []byte) (any, error) {
	if len(entry) > maxEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrEntryTooLarge, len(entry), maxEntry)
	}
	if len(entry) > bigEntry {
		n.log.Warn("a large command holds up the others", "bytes", len(entry))
	}
	defer metrics.MeasureSince([]string{"consensus", "apply"}, time.Now())
	timeout := enqueueTimeout
	if deadline, ok := ctx.Deadline(); ok {
		// 0 would mean no limit at all.
		timeout = max(min(timeout, time.Until(deadline)), time.Millisecond)
	}
	f := n.raft.Apply(entry, timeout)
	if err := n.background(ctx, f); err != nil {
		return nil, officeError(err)
	}
	answer := f.Response()
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return answer, nil
}

// officeError turns those errors of Raft that say that nothing was done, because
// this server does not lead, into the one that callers retry.
func officeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return rpc.ErrNoLeader
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the write may still be done: %w", err)
	}
	return err
}

// verifier lets all who ask at about the same time share one question to the
// followers. A caller waits for a question that was asked after it came.
type verifier struct {
	mu      sync.Mutex // guards the fields below
	next    *question
	running bool
}

type question struct {
	done chan struct{} // closed when err is set
	err  error
}

// VerifyLeader asks a majority whether this server still leads. A nil error
// means that it did at a time after the call began, so that what it has applied
// by then is the newest there is.
func (n *Node) VerifyLeader(ctx context.Context) error {
	if !n.IsLeader() {
		return rpc.ErrNoLeader
	}
	v := &n.verify
	v.mu.Lock()
	if v.next == nil {
		v.next = &question{done: make(chan struct{})}
	}
	q := v.next
	if !v.running {
		v.running = true
		go n.ask()
	}
	v.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrShutdown
	}
}

// ask asks until nobody waits.
func (n *Node) ask() {
	v := &n.verify
	for {
		v.mu.Lock()
		q := v.next
		v.next = nil
		v.running = q != nil
		v.mu.Unlock()
		if q == nil {
			return
		}
		err := n.background(context.Background(), n.raft.VerifyLeader())
		if errors.Is(err, ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) {
			err = rpc.ErrNoLeader // a read that was not done can be asked of the next one
		}
		q.err = err
		close(q.done)
	}
}

// Barrier returns when everything that was committed before has been applied
// here. Only the leader can.
func (n *Node) Barrier(ctx context.Context) error {
	return officeError(n.background(ctx, n.raft.Barrier(barrierTimeout)))
}
