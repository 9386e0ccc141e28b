package gossip

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"
)

// mergeRules refuse members that do not belong into the pool. Serf asks them
// at every push/pull of a join and for every alive message, and drops what they
// refuse. The texts are the family's (wire.md, 5.4).
type mergeRules struct {
	kind     Kind
	dc       string
	id, name string         // this node's
	addr     netip.AddrPort // what this node announces
	log      hclog.Logger
	// known are the members that the pool has, nil while it starts.
	known func() []serf.Member
}

// NotifyMerge implements serf.MergeDelegate.
func (r *mergeRules) NotifyMerge(members []*serf.Member) error {
	ids := map[string]*serf.Member{}
	for _, m := range members {
		if m.Status == serf.StatusLeft {
			continue
		}
		if err := r.check(m, ids); err != nil {
			r.log.Warn("member refused", "member", m.Name, "addr", m.Addr, "reason", err)
			return err
		}
	}
	return nil
}

func (r *mergeRules) check(m *serf.Member, ids map[string]*serf.Member) error {
	role, dc, id := m.Tags["role"], m.Tags["dc"], m.Tags["id"]
	if r.kind == WAN {
		if role != "consul" || dc == "" || m.Tags["port"] == "" {
			return fmt.Errorf("Member '%.128s' is not a server", m.Name)
		}
	} else {
		if role != "consul" && role != "node" {
			return fmt.Errorf("Member '%.128s' is not an agent of this kind (role tag %.32q)", m.Name, role)
		}
		if dc != r.dc {
			return fmt.Errorf("Member '%.128s' part of wrong datacenter '%.128s'; expected '%s'", m.Name, dc, r.dc)
		}
	}
	if id == "" {
		return nil
	}
	if id == r.id && m.Name != r.name && addrPort(m) != r.addr {
		return fmt.Errorf("Member '%.128s' has conflicting node ID '%.64s' with this agent's ID", m.Name, id)
	}
	if other, ok := ids[id]; ok && conflict(m, other) {
		return fmt.Errorf("Member '%.128s' has conflicting node ID '%.64s' with member '%.128s'", m.Name, id, other.Name)
	}
	ids[id] = m
	for _, k := range r.known() {
		if k.Tags["id"] == id && k.Status == serf.StatusAlive && conflict(m, &k) {
			return fmt.Errorf("Member '%.128s' has conflicting node ID '%.64s' with member '%.128s'", m.Name, id, k.Name)
		}
	}
	return nil
}

// conflict says whether two members with one id cannot both be. At the same
// address they are the same agent, which has been renamed and is still
// remembered under its old name.
func conflict(a, b *serf.Member) bool { return a.Name != b.Name && addrPort(a) != addrPort(b) }

func addrPort(m *serf.Member) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(m.Addr)
	return netip.AddrPortFrom(addr.Unmap(), m.Port)
}
