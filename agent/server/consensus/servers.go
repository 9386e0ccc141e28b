package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// Servers are those of the cluster, as far as this server knows; none before
// there is one.
func (n *Node) Servers() []raft.Server { return n.raft.GetConfiguration().Configuration().Servers }

// Peers are the addresses of the cluster's servers; none before there is one.
func (n *Node) Peers() []string {
	peers := []string{}
	for _, s := range n.Servers() {
		peers = append(peers, string(s.Address))
	}
	return peers
}

// LastIndex and LastTerm are those of the last entry of this server's log.
func (n *Node) LastIndex() uint64 { return n.raft.LastIndex() }

// LastTerm is the term of the last entry of this server's log.
func (n *Node) LastTerm() uint64 {
	term, _ := strconv.ParseUint(n.raft.Stats()["last_log_term"], 10, 64) // the library's only way to say it
	return term
}

// RemoveServer takes a server out of the cluster. Only the leader can.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	for _, s := range n.Servers() {
		if string(s.ID) == id {
			return officeError(n.background(ctx, n.raft.RemoveServer(s.ID, 0, enqueueTimeout)))
		}
	}
	return ErrUnknownServer
}

// TransferLeadership hands the office to the server with this id, or to the one
// that is most up to date. It returns when that one has been told to stand for
// election and this one leads no more.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	if id == "" {
		return officeError(n.background(ctx, n.raft.LeadershipTransfer()))
	}
	for _, s := range n.Servers() {
		if string(s.ID) == id {
			return officeError(n.background(ctx, n.raft.LeadershipTransferToServer(s.ID, s.Address)))
		}
	}
	return fmt.Errorf("Could not find address for server id %.64s", id)
}

// Leave prepares a graceful leave: a leader hands its office over first. Where it
// cannot, it takes itself out of the cluster, which the others agree on while it
// still counts. A server that is the only one with a vote stays as it is: it is
// the cluster. Gossip comes after it: the new leader takes a server out whose
// member has left.
func (n *Node) Leave(ctx context.Context) error {
	if !n.IsLeader() || n.alone() {
		return nil
	}
	err := n.TransferLeadership(ctx, "")
	if err == nil || !n.IsLeader() {
		return nil
	}
	n.log.Warn("could not hand the leadership over, leaving the cluster as its leader", "error", err)
	return n.RemoveServer(ctx, n.cfg.NodeID)
}

// AwaitRemoval waits until this server is no longer in the cluster, or ctx ends.
// A server that is the only one with a vote, or that was never in a cluster, does
// not wait.
func (n *Node) AwaitRemoval(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if n.alone() || !n.member() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.done:
			return ErrShutdown
		case <-tick.C:
		}
	}
}

func (n *Node) member() bool {
	for _, s := range n.Servers() {
		if string(s.ID) == n.cfg.NodeID {
			return true
		}
	}
	return false
}

// Snapshot takes a snapshot of what this server has applied, and opens it. The
// caller closes it.
func (n *Node) Snapshot(ctx context.Context) (*raft.SnapshotMeta, io.ReadCloser, error) {
	f := n.raft.Snapshot()
	err := n.background(ctx, f)
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		list, err := n.store.snaps.List()
		if err != nil {
			return nil, nil, err
		}
		if len(list) == 0 {
			return nil, nil, raft.ErrNothingNewToSnapshot
		}
		return n.store.snaps.Open(list[0].ID)
	}
	if err != nil {
		return nil, nil, err
	}
	return f.Open()
}

// Restore replaces the state of the whole cluster by a snapshot, which the state
// machine must be known to accept: Raft has no way back from one that it does
// not. It returns when a majority has it. Only the leader can.
func (n *Node) Restore(ctx context.Context, meta *raft.SnapshotMeta, r io.Reader) error {
	// Raft restores nothing while a change of the servers is not committed yet.
	if err := n.Barrier(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- n.raft.Restore(meta, r, 0) }()
	select {
	case err := <-done:
		return officeError(err)
	case <-ctx.Done():
		return officeError(ctx.Err())
	case <-n.done:
		return ErrShutdown
	}
}
