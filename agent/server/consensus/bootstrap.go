package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// alone says whether this server is the only one that has a vote.
func (n *Node) alone() bool {
	voters := 0
	for _, s := range n.Servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		if s.ID != raft.ServerID(n.cfg.NodeID) {
			return false
		}
		voters++
	}
	return voters == 1
}

// elect lets this server stand for election now instead of after the heartbeat
// timeout, in the way in which a leader that hands over tells its successor to.
// An election is safe at any time; it is only asked for where no other server
// can be leader.
func (n *Node) elect() {
	self := n.self()
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self.ID), Addr: []byte(self.Address),
	}}
	var resp raft.TimeoutNowResponse
	if err := n.trans.TimeoutNow(self.ID, self.Address, req, &resp); err != nil {
		select {
		case <-n.done:
		default:
			n.log.Warn("could not stand for election at once", "error", err)
		}
	}
}

// Times of bootstrapping with bootstrap_expect.
const (
	expectEvery = 250 * time.Millisecond
	peersWait   = 2 * time.Second
	saySame     = 30 * time.Second // the same reason is not logged more often
)

// expect founds the cluster together with the others that expect it, or ends
// when a leader has added this server to one that exists.
func (n *Node) expect() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.tasks.Go(func() { <-n.done; cancel() })
	tick := time.NewTicker(expectEvery)
	defer tick.Stop()
	var said string
	var saidAt time.Time
	for n.raft.LastIndex() == 0 {
		over, why := n.tryBootstrap(ctx)
		if over {
			return
		}
		if why != said || time.Since(saidAt) > saySame {
			n.log.Info("not founding the cluster yet", "reason", why)
			said, saidAt = why, time.Now()
		}
		select {
		case <-n.done:
			return
		case <-tick.C:
		}
	}
}

// tryBootstrap founds the cluster if all that are expected are there and none
// of them is in a cluster. Of several servers that could, the one with the
// lowest id does: it writes the first configuration, and the others receive it.
// Were each to write its own, two that saw different servers would begin two
// clusters under the same name. It reports whether there is nothing more to do,
// and if not, why.
func (n *Node) tryBootstrap(ctx context.Context) (over bool, why string) {
	var found []Candidate
	for _, s := range n.cfg.Bootstrap.Servers() {
		switch {
		case s.Alone && s.ID != n.cfg.NodeID:
			return false, s.Name + " founds a cluster of its own (bootstrap), and will add this server"
		case s.Expect == 0:
			continue
		case s.Expect != n.cfg.Bootstrap.Expect:
			return false, s.Name + " has another bootstrap_expect"
		}
		found = append(found, s)
	}
	if len(found) < n.cfg.Bootstrap.Expect {
		return false, fmt.Sprintf("%d of the %d servers that bootstrap_expect waits for are there", len(found), n.cfg.Bootstrap.Expect)
	}
	slices.SortFunc(found, func(a, b Candidate) int { return strings.Compare(a.ID, b.ID) })
	if found[0].ID != n.cfg.NodeID {
		return false, found[0].Name + " has the lowest id, and will found the cluster"
	}
	servers := raft.Configuration{}
	for _, s := range found {
		servers.Servers = append(servers.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Addr)})
		if s.ID == n.cfg.NodeID {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, peersWait)
		peers, err := n.cfg.Bootstrap.Peers(ask, s.Addr)
		cancel()
		if err != nil {
			return false, s.Name + " does not say whether it is in a cluster: " + err.Error()
		}
		if len(peers) > 0 {
			n.log.Info("there is a cluster already, and its leader will add this server", "server", s.Name, "peers", strings.Join(peers, ", "))
			return true, ""
		}
	}
	n.log.Info("founding the cluster", "servers", len(found))
	err := n.background(ctx, n.raft.BootstrapCluster(servers))
	switch {
	case errors.Is(err, raft.ErrCantBootstrap):
		return true, ""
	case err != nil:
		return false, err.Error()
	}
	n.elect()
	return true, ""
}
