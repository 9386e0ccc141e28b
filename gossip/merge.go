package gossip

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"
)

// mergeRules refuse members that do not belong into the pool. Serf asks them
// at every push/pull of a join and for every alive message, and drops what they
// refuse. The texts are the family's (wire.md, 5.4).
type mergeRules struct {
	kind     Kind
	dc       string
	id, name string // this node's
	log      hclog.Logger
}

// NotifyMerge implements serf.MergeDelegate.
func (r *mergeRules) NotifyMerge(members []*serf.Member) error {
	ids := map[string]string{}
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

func (r *mergeRules) check(m *serf.Member, ids map[string]string) error {
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
	if id == r.id && m.Name != r.name {
		return fmt.Errorf("Member '%.128s' has conflicting node ID '%.64s' with this agent's ID", m.Name, id)
	}
	if other, ok := ids[id]; ok && other != m.Name {
		return fmt.Errorf("Member '%.128s' has conflicting node ID '%.64s' with member '%.128s'", m.Name, id, other)
	}
	ids[id] = m.Name
	return nil
}
