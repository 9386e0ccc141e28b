package server

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

func raftID(id string) raft.ServerID { return raft.ServerID(id) }

// pilot is what autopilot asks of this server.
type pilot struct{ l *Leader }

var _ autopilot.ApplicationIntegration = (*pilot)(nil)

// seedAutopilot writes the configured settings where the cluster has none yet;
// later ones come through the API.
func (l *Leader) seedAutopilot(ctx context.Context) error {
	_, c, err := l.cfg.State().AutopilotConfig()
	if err != nil || c != nil {
		return err
	}
	return l.apply(ctx, fsm.Autopilot, &wire.AutopilotSetConfigRequest{Datacenter: l.cfg.Datacenter, Config: l.cfg.Autopilot})
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	_, c, err := p.l.cfg.State().AutopilotConfig()
	if err != nil || c == nil {
		return nil
	}
	return &autopilot.Config{
		CleanupDeadServers: c.CleanupDeadServers, LastContactThreshold: c.LastContactThreshold,
		MaxTrailingLogs: c.MaxTrailingLogs, MinQuorum: c.MinQuorum, ServerStabilizationTime: c.ServerStabilizationTime,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p *pilot) NotifyState(s *autopilot.State) {
	healthy := float32(0)
	if s.Healthy {
		healthy = 1
	}
	metrics.SetGauge([]string{"autopilot", "failure_tolerance"}, float32(s.FailureTolerance))
	metrics.SetGauge([]string{"autopilot", "healthy"}, healthy)
}

// pilotServer is a member as autopilot knows servers.
func pilotServer(member serf.Member, s Server, leads bool) *autopilot.Server {
	version, _ := strconv.Atoi(member.Tags["raft_vsn"])
	status := autopilot.NodeUnknown
	switch s.Status {
	case serf.StatusAlive, serf.StatusLeaving:
		status = autopilot.NodeAlive
	case serf.StatusFailed:
		status = autopilot.NodeFailed
	case serf.StatusLeft:
		status = autopilot.NodeLeft
	}
	return &autopilot.Server{
		ID: raft.ServerID(s.ID), Name: s.Name, Address: raft.ServerAddress(s.Addr.String()),
		NodeStatus: status, Version: s.Build, RaftVersion: version, IsLeader: leads, NodeType: autopilot.NodeVoter,
		Meta: map[string]string{},
	}
}

// KnownServers implements autopilot.ApplicationIntegration. A server of the
// cluster that gossip does not know counts as alive in the first minutes of a
// leader: it may have come up before its gossip did.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	_, leader := p.l.cfg.Raft.Leader()
	out := map[raft.ServerID]*autopilot.Server{}
	for _, m := range p.l.cfg.LAN.Members() {
		s, ok := ParseServer(m)
		if !ok || s.ID == "" || s.Datacenter != p.l.cfg.Datacenter {
			continue
		}
		if old := out[raft.ServerID(s.ID)]; old != nil && old.NodeStatus == autopilot.NodeAlive {
			continue // the same server under an older name
		}
		out[raft.ServerID(s.ID)] = pilotServer(m, s, s.ID == leader)
	}
	if d, leads := p.l.leadsFor(); !leads || d >= p.l.cfg.Times.Forget {
		return out
	}
	for _, s := range p.l.cfg.Raft.Servers() {
		if out[s.ID] == nil {
			out[s.ID] = &autopilot.Server{
				ID: s.ID, Name: string(s.ID), Address: s.Address, NodeStatus: autopilot.NodeAlive,
				IsLeader: string(s.ID) == leader, NodeType: autopilot.NodeVoter,
			}
		}
	}
	return out
}

// never is what Raft says of a server that has not heard from a leader.
const never = "never"

// FetchServerStats implements autopilot.ApplicationIntegration: it asks all
// servers at the same time, until ctx ends.
func (p *pilot) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var mu sync.Mutex
	out := map[raft.ServerID]*autopilot.ServerStats{}
	var calls sync.WaitGroup
	for id, s := range servers {
		calls.Go(func() {
			var stats wire.RaftStats
			if string(id) == p.l.cfg.NodeID {
				stats = raftStats(p.l.cfg.Raft)
			} else if err := p.l.cfg.Call(ctx, string(s.Address), "Status.RaftStats", &wire.Empty{}, &stats); err != nil {
				if ctx.Err() == nil {
					p.l.log.Debug("a server does not say how it does", "server", s.Name, "error", err)
				}
				return
			}
			contact := time.Duration(-1)
			if stats.LastContact != never {
				d, err := time.ParseDuration(stats.LastContact)
				if err != nil {
					return
				}
				contact = d
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = &autopilot.ServerStats{LastContact: contact, LastTerm: stats.LastTerm, LastIndex: stats.LastIndex}
		})
	}
	calls.Wait()
	return out
}

// RemoveFailedServer implements autopilot.ApplicationIntegration: the failed
// member is made to leave, and with that it leaves the cluster.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	p.l.log.Info("removing a failed server", "server", s.Name, "id", s.ID)
	go func() {
		if err := p.l.cfg.LAN.ForceLeave(s.Name, false); err != nil {
			p.l.log.Warn("could not remove a failed server from the LAN pool", "server", s.Name, "error", err)
		}
		if p.l.cfg.WAN != nil {
			if err := p.l.cfg.WAN.ForceLeave(s.Name+"."+p.l.cfg.Datacenter, false); err != nil {
				p.l.log.Debug("could not remove a failed server from the WAN pool", "server", s.Name, "error", err)
			}
		}
	}()
}

// errNoAutopilot: autopilot has not looked at the servers yet.
var errNoAutopilot = errors.New("autopilot has no state yet: this server has just become leader")

// pilotState is what autopilot last saw.
func (l *Leader) pilotState() (*autopilot.State, error) {
	s := l.autopilot.GetState()
	if s == nil || len(s.Servers) == 0 {
		return nil, errNoAutopilot
	}
	return s, nil
}
