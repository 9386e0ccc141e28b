package httpapi

import (
	"maps"

	"lictor/rpc/wire"
)

// With translate_wan_addrs, what is in another datacenter is shown under the
// addresses by which it is reached from here. Objects of a reply may be shared,
// so those that change are copied.

// translates says whether the answer to a request about dc shows WAN addresses.
func (a *API) translates(dc string) bool {
	return a.cfg.Data.TranslateWAN && dc != "" && dc != a.cfg.Data.Datacenter
}

const wanTag = "wan"

func wanNode(n *wire.Node) *wire.Node {
	addr := ""
	if n != nil {
		addr = n.TaggedAddresses[wanTag]
	}
	if addr == "" {
		return n
	}
	c := *n
	c.Address = addr
	return &c
}

func wanService(s *wire.NodeService) *wire.NodeService {
	if s == nil || s.TaggedAddresses[wanTag].Address == "" {
		return s
	}
	c := *s
	c.Address, c.Port = wanAddress(s.TaggedAddresses[wanTag], s.Port)
	return &c
}

// wanAddress is a tagged address; one without a port is for the service's own.
func wanAddress(a wire.ServiceAddress, port int) (string, int) {
	if a.Port != 0 {
		port = a.Port
	}
	return a.Address, port
}

func wanServiceNode(s *wire.ServiceNode) *wire.ServiceNode {
	c := *s
	if addr := s.TaggedAddresses[wanTag]; addr != "" {
		c.Address = addr
	}
	if addr := s.ServiceTaggedAddresses[wanTag]; addr.Address != "" {
		c.ServiceAddress, c.ServicePort = wanAddress(addr, s.ServicePort)
	}
	return &c
}

// wanAll is translate for each of a list, where on.
func wanAll[T any](on bool, list []T, translate func(T) T) []T {
	if !on {
		return list
	}
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = translate(v)
	}
	return out
}

func wanInstance(i wire.CheckServiceNode) wire.CheckServiceNode {
	i.Node, i.Service = wanNode(i.Node), wanService(i.Service)
	return i
}

func wanNodeServices(on bool, n *wire.NodeServices) *wire.NodeServices {
	if !on || n == nil {
		return n
	}
	c := &wire.NodeServices{Node: wanNode(n.Node), Services: maps.Clone(n.Services)}
	for id, s := range c.Services {
		c.Services[id] = wanService(s)
	}
	return c
}
