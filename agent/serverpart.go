package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"lictor/agent/config"
	"lictor/agent/server"
	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// serverPart is what only servers run: Raft with its state machine, the leader's
// duties, and the RPC methods.
type serverPart struct {
	raft      *consensus.Node
	leader    *server.Leader
	snapshots *server.Snapshots
	endpoints *server.Endpoints
	rpc       *rpc.Server
}

// openServer opens the server's state and starts Raft. On an error nothing of it
// runs.
func (a *Agent) openServer(cfg *config.Config) (err error) {
	machine, err := fsm.New(a.log.Named("fsm"))
	if err != nil {
		return err
	}
	s := &serverPart{}
	if s.raft, err = consensus.New(a.raftConfig(cfg, machine)); err != nil {
		return err
	}
	s.leader = server.NewLeader(a.leaderConfig(cfg, s.raft, machine))
	tempDir := ""
	if !cfg.Node.Dev {
		tempDir = cfg.Node.DataDir
	}
	s.snapshots = server.NewSnapshots(server.SnapshotConfig{
		TempDir:    tempDir,
		Datacenter: cfg.Node.Datacenter, NodeID: a.nodeID, Raft: s.raft,
		Servers: a.serverAddrs,
		Dial: func(ctx context.Context, dc, addr string) (net.Conn, error) {
			return a.dialServer(ctx, dc, addr, rpc.ByteSnapshot)
		},
		Restored:    s.leader.Restored,
		HoldTimeout: cfg.Limits.RPCHoldTimeout,
		Log:         a.log,
	})
	s.endpoints = server.New(server.Config{
		Datacenter: cfg.Node.Datacenter, NodeID: a.nodeID,
		LAN: a.lan, WAN: a.wan, Router: a.router, Log: a.log,
		Consensus: s.raft, State: machine.State, Duties: s.leader, Operator: server.NewCluster(s.leader),
		DefaultQueryTime: cfg.Limits.DefaultQueryTime, MaxQueryTime: cfg.Limits.MaxQueryTime, SessionTTLMin: cfg.Server.SessionTTLMin,
		Monitor: a.log.Monitor, Info: a.info,
	})
	s.rpc, err = rpc.NewServer(rpc.ServerConfig{
		Table: s.endpoints.Table(), TLS: a.tls, Limits: rpcLimits(cfg.Limits), Log: a.log.Named("rpc"),
		AddrRole: a.servers.role,
		Raft:     func(c net.Conn, _ rpc.Peer) { s.raft.Accept(c) },
		Snapshot: s.snapshots.Serve,
	})
	if err != nil {
		s.stop()
		return err
	}
	a.server = s
	return nil
}

// stop ends Raft and the exchange of snapshots at once. Their connections are
// the RPC server's, which waits for them.
func (s *serverPart) stop() {
	s.snapshots.Close()
	s.raft.Shutdown()
}

func (a *Agent) raftConfig(cfg *config.Config, machine *fsm.FSM) consensus.Config {
	dc := cfg.Node.Datacenter
	rc := consensus.Config{
		NodeID: a.nodeID, NodeName: cfg.Node.Name,
		Address: netip.AddrPortFrom(cfg.Network.AdvertiseLAN, uint16(cfg.Ports.Server)).String(),
		FSM:     machine,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return a.dialServer(ctx, dc, addr, rpc.ByteRaft)
		},
		Resolve: a.serverAddr,
		Bootstrap: consensus.Bootstrap{
			Alone: cfg.Server.Bootstrap || cfg.Node.Dev, Expect: cfg.Server.BootstrapExpect,
			Servers: a.candidates,
			Peers: func(ctx context.Context, addr string) (peers []string, err error) {
				err = a.router.CallServer(ctx, dc, addr, "Status.Peers", &wire.DCSpecificRequest{}, &peers)
				return peers, err
			},
		},
		Settings:        raftSettings(cfg.Server.Raft),
		Dev:             cfg.Node.Dev,
		PreVoteDisabled: cfg.Server.Raft.PrevoteDisabled,
		SegmentSize:     cfg.Server.Raft.SegmentSizeMB << 20,
		RejoinAgeMax:    cfg.Join.ServerRejoinAgeMax,
		Log:             a.log.Named("raft"),
	}
	if !cfg.Node.Dev {
		rc.DataDir = cfg.Node.DataDir
	}
	return rc
}

func (a *Agent) leaderConfig(cfg *config.Config, node *consensus.Node, machine *fsm.FSM) server.LeaderConfig {
	lc := server.LeaderConfig{
		Node: cfg.Node.Name, NodeID: a.nodeID, Datacenter: cfg.Node.Datacenter, Bootstrap: cfg.Server.Bootstrap,
		LAN: a.lan, Events: server.PoolEvents(a.lan),
		Raft: node, State: machine.State,
		Call: func(ctx context.Context, addr, method string, args, reply any) error {
			return a.router.CallServer(ctx, cfg.Node.Datacenter, addr, method, args, reply)
		},
		Autopilot: autopilotConfig(cfg.Server.Autopilot),
		Log:       a.log,
	}
	if a.wan != nil { // an interface that holds a nil pool would not be nil
		lc.WAN = a.wan
	}
	return lc
}

func raftSettings(c config.Raft) consensus.Settings {
	return consensus.Settings{
		Multiplier: c.Multiplier, SnapshotThreshold: uint64(c.SnapshotThreshold),
		SnapshotInterval: c.SnapshotInterval, TrailingLogs: uint64(c.TrailingLogs),
	}
}

func autopilotConfig(c config.Autopilot) wire.AutopilotConfig {
	return wire.AutopilotConfig{
		CleanupDeadServers: c.CleanupDeadServers, LastContactThreshold: c.LastContactThreshold,
		MaxTrailingLogs: uint64(c.MaxTrailingLogs), MinQuorum: uint(c.MinQuorum), ServerStabilizationTime: c.ServerStabilizationTime,
	}
}

// dialServer opens a connection of its own to a server, for another protocol of
// the RPC port.
func (a *Agent) dialServer(ctx context.Context, dc, addr string, protocol byte) (net.Conn, error) {
	t := rpc.Target{Addr: addr, Datacenter: dc, Name: addr}
	for _, known := range a.router.Servers(dc) {
		if known.Addr == addr {
			t = known
		}
	}
	return a.conns.Dial(ctx, t, protocol)
}

// serverAddrs are the RPC addresses of a datacenter's servers, the one in use
// first.
func (a *Agent) serverAddrs(dc string) []string {
	var addrs []string
	for _, t := range a.router.Servers(dc) {
		addrs = append(addrs, t.Addr)
	}
	return addrs
}

// serverAddr is the RPC address that gossip has for a server of this datacenter.
func (a *Agent) serverAddr(id string) (string, bool) {
	for _, s := range server.Servers(a.lan.Members()) {
		if s.ID == id && present(s.Status) {
			return s.Addr.String(), true
		}
	}
	return "", false
}

// candidates are the servers that gossip sees, for founding a cluster together.
func (a *Agent) candidates() []consensus.Candidate {
	var out []consensus.Candidate
	for _, m := range a.lan.Members() {
		s, ok := server.ParseServer(m)
		if !ok || !s.Alive() {
			continue
		}
		expect, _ := strconv.Atoi(m.Tags["expect"])
		out = append(out, consensus.Candidate{ID: s.ID, Name: s.Name, Addr: s.Addr.String(), Expect: expect, Alone: s.Bootstrap})
	}
	return out
}

// removalWait is how long a server that leaves waits for the others to take it
// out of the cluster.
const removalWait = 5 * time.Second

// Snapshot saves or restores the state of a datacenter: here on a server, by way
// of one on a client. For a save the archive follows; the caller closes it.
func (a *Agent) Snapshot(ctx context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.QueryMeta, io.ReadCloser, error) {
	if a.server != nil {
		return snapshotAnswer(a.server.snapshots.Do(ctx, req, in))
	}
	dc := a.cfg.Load().Node.Datacenter
	err := error(rpc.ErrNoServers)
	for _, addr := range a.serverAddrs(dc) {
		var conn net.Conn
		if conn, err = a.dialServer(ctx, dc, addr, rpc.ByteSnapshot); err == nil {
			return snapshotAnswer(server.SnapshotCall(ctx, conn, req, in))
		}
	}
	return nil, nil, fmt.Errorf("no server can be reached for a snapshot: %w", err)
}

func snapshotAnswer(resp *wire.SnapshotResponse, out io.ReadCloser, err error) (*wire.QueryMeta, io.ReadCloser, error) {
	if err != nil {
		return nil, nil, err
	}
	return &resp.QueryMeta, out, nil
}

// reload takes over what can change of a server while it runs.
func (s *serverPart) reload(old, next *config.Config) error {
	s.rpc.SetLimits(rpcLimits(next.Limits))
	s.rpc.Recheck()
	if from, to := raftSettings(old.Server.Raft), raftSettings(next.Server.Raft); from != to {
		return s.raft.Reload(to)
	}
	return nil
}
