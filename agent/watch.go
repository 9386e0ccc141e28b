package agent

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/gossip"
	"lictor/rpc"
	"lictor/tlsutil"
)

// watchBuffer is how many events may wait; a refresh reads the whole list, so
// one lost member event is made good by the next.
const watchBuffer = 2048

// directory is whose address is whose, by the gossip pools. Where
// verify_incoming is off nobody is identified, and an address is all that the
// RPC server has to go by (DESIGN.md, rule 2).
type directory struct {
	roles atomic.Pointer[map[netip.Addr]tlsutil.Role]
}

func newDirectory() *directory {
	d := &directory{}
	d.roles.Store(&map[netip.Addr]tlsutil.Role{})
	return d
}

// role is what a member at this address is; RoleNone for a stranger.
func (d *directory) role(addr netip.Addr) tlsutil.Role { return (*d.roles.Load())[addr.Unmap()] }

// errPoolStopped is why an agent stops whose pool stopped by itself.
var errPoolStopped = errors.New("the pool stopped by itself: most members say that this node's name belongs to another one")

// watch follows both pools: member events change the server lists, user events
// go into the ring.
func (a *Agent) watch(ctx context.Context) {
	a.refresh()
	for _, pool := range []*gossip.Pool{a.lan, a.wan} {
		if pool == nil {
			continue
		}
		a.serve(ctx, "gossip pool", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-pool.Done():
				return errPoolStopped
			}
		})
		sub := pool.Subscribe(watchBuffer)
		a.life.tasks.Go(func() {
			defer sub.Close()
			for {
				select {
				case <-ctx.Done():
					return
				case ev, ok := <-sub.C:
					if !ok {
						return
					}
					a.handleEvent(ev)
				}
			}
		})
	}
}

func (a *Agent) handleEvent(ev serf.Event) {
	switch e := ev.(type) {
	case serf.MemberEvent:
		a.refresh()
		if serverJoined(e) {
			a.registry.SyncNow()
		}
	case serf.UserEvent:
		if e.Name == server.NewLeaderEvent {
			a.router.SetLeader(string(e.Payload))
			return
		}
		name, ok := strings.CutPrefix(e.Name, server.EventPrefix)
		if !ok {
			return
		}
		u, err := decodeUserEvent(e.Payload)
		if err != nil {
			a.log.Warn("ignoring a malformed user event", "event", name, "error", err)
			return
		}
		if u.Name == "" {
			u.Name = name
		}
		u.LTime = uint64(e.LTime)
		if isFor(u, a.cfg.Load().Node.Name, a.registry.Services()) {
			a.events.add(u)
		}
	}
}

// refresh reads the member lists into the router and the directory.
func (a *Agent) refresh() {
	cfg := a.cfg.Load()
	roles := map[netip.Addr]tlsutil.Role{}
	targets := map[string][]rpc.Target{cfg.Node.Datacenter: nil}
	seen := map[string]bool{cfg.Node.Datacenter: true}

	if a.wan != nil {
		for _, s := range server.Servers(a.wan.Members()) {
			if s.Datacenter == cfg.Node.Datacenter {
				continue
			}
			seen[s.Datacenter] = true
			if !present(s.Status) {
				if _, ok := targets[s.Datacenter]; !ok {
					targets[s.Datacenter] = nil // known, though nobody there may answer
				}
				continue
			}
			roles[s.Addr.Addr()] = tlsutil.RoleRemoteServer
			targets[s.Datacenter] = append(targets[s.Datacenter], target(s))
		}
	}
	lan := a.lan.Members()
	for _, m := range lan {
		addr, ok := netip.AddrFromSlice(m.Addr)
		if ok && present(m.Status) && m.Tags["role"] == "node" {
			roles[addr.Unmap()] = tlsutil.RoleClient
		}
	}
	for _, s := range server.Servers(lan) {
		if !present(s.Status) {
			continue
		}
		roles[s.Addr.Addr()] = tlsutil.RoleServer
		if s.ID != a.nodeID {
			targets[s.Datacenter] = append(targets[s.Datacenter], target(s))
		}
	}
	a.servers.roles.Store(&roles)
	for _, dc := range a.router.Datacenters() {
		if !seen[dc] {
			a.router.Forget(dc)
		}
	}
	for dc, list := range targets {
		a.router.SetServers(dc, list)
	}
}

// present says whether a member can be called and counted on: a failed one is
// not, one that is leaving still answers.
func present(s serf.MemberStatus) bool { return s == serf.StatusAlive || s == serf.StatusLeaving }

func target(s server.Server) rpc.Target {
	return rpc.Target{Addr: s.Addr.String(), Datacenter: s.Datacenter, Name: s.Name}
}
