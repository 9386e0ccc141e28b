package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/serf/serf"
)

// memberCache keeps the last member list with its JSON. Serf gives no version
// of its list, but comparing two lists costs a fraction of encoding one.
type memberCache struct {
	last atomic.Pointer[encodedMembers]
}

type encodedMembers struct {
	members []serf.Member
	json    []byte
}

// encode returns the JSON of members, from the last call where nothing changed.
func (c *memberCache) encode(members []serf.Member) ([]byte, error) {
	if e := c.last.Load(); e != nil && slices.EqualFunc(e.members, members, sameMember) {
		return e.json, nil
	}
	b, err := json.Marshal(shown(members))
	if err != nil {
		return nil, err
	}
	c.last.Store(&encodedMembers{members: members, json: b})
	return b, nil
}

func sameMember(a, b serf.Member) bool {
	if a.Name != b.Name || a.Status != b.Status || a.Port != b.Port || !a.Addr.Equal(b.Addr) ||
		a.ProtocolCur != b.ProtocolCur || a.DelegateCur != b.DelegateCur || len(a.Tags) != len(b.Tags) {
		return false
	}
	for k, v := range a.Tags {
		if w, ok := b.Tags[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func shown(members []serf.Member) []member {
	out := make([]member, len(members))
	for i, m := range members {
		out[i] = memberOf(m)
	}
	return out
}

func (a *API) agentMembers(w http.ResponseWriter, r *request) error {
	if r.URL.RawQuery == "" && !a.cfg.Pretty {
		b, err := a.members.encode(a.cfg.Backend.Members(false))
		if err != nil {
			return err
		}
		a.writeBody(w, r, http.StatusOK, b)
		return nil
	}
	wan, segment := r.q.flag("wan"), r.q.get("segment")
	switch {
	case wan && segment != "" && segment != "_all": // the family's CLI says _all for either pool
		return failure(http.StatusBadRequest, "Cannot provide a segment with wan=true")
	case segment != "" && segment != "_all":
		return failure(http.StatusInternalServerError, "Network segments are not supported")
	}
	members := a.cfg.Backend.Members(wan)
	if wan && members == nil {
		a.writeJSON(w, r, nil) // this agent is in no WAN pool
		return nil
	}
	list := shown(members)
	filter, err := filterOf[member](r)
	if err != nil {
		return err
	}
	if filter != nil {
		kept := []member{}
		for i := range list {
			ok, err := filter.match(&list[i])
			if err != nil {
				return err
			}
			if ok {
				kept = append(kept, list[i])
			}
		}
		list = kept
	}
	a.writeJSON(w, r, list)
	return nil
}
