package server

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"
)

// Server is a member of a pool that is a server, as its gossip tags say.
type Server struct {
	Name       string // gossip name: in the WAN pool with ".dc" at its end
	ID         string
	Datacenter string
	Addr       netip.AddrPort // of its RPC port
	Build      string
	WANPort    uint16 // 0: not announced
	Bootstrap  bool
	Status     serf.MemberStatus
}

// ParseServer reads a member's tags. A member that is not a server, or whose
// mandatory tags do not parse, is not one (wire.md, 5.2).
func ParseServer(m serf.Member) (Server, bool) {
	if m.Tags["role"] != "consul" || m.Tags["build"] == "" {
		return Server{}, false
	}
	port, err := strconv.ParseUint(m.Tags["port"], 10, 16)
	if err != nil || port == 0 {
		return Server{}, false
	}
	if _, err := strconv.Atoi(m.Tags["vsn"]); err != nil {
		return Server{}, false
	}
	addr, ok := netip.AddrFromSlice(m.Addr)
	if !ok {
		return Server{}, false
	}
	s := Server{
		Name:       m.Name,
		ID:         m.Tags["id"],
		Datacenter: m.Tags["dc"],
		Addr:       netip.AddrPortFrom(addr.Unmap(), uint16(port)),
		Bootstrap:  m.Tags["bootstrap"] == "1",
		Status:     m.Status,
	}
	s.Build, _, _ = strings.Cut(m.Tags["build"], ":")
	if wan, err := strconv.ParseUint(m.Tags["wan_join_port"], 10, 16); err == nil {
		s.WANPort = uint16(wan)
	}
	return s, s.Datacenter != ""
}

// Servers are the servers among members, in the members' order.
func Servers(members []serf.Member) []Server {
	var out []Server
	for _, m := range members {
		if s, ok := ParseServer(m); ok {
			out = append(out, s)
		}
	}
	return out
}

// Alive says whether the pool sees the server as alive.
func (s Server) Alive() bool { return s.Status == serf.StatusAlive }
