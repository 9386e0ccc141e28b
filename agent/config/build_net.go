package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-sockaddr/template"
)

// expand evaluates an address template and splits what it gives.
func (b *builder) expandAddr(key, text string) []string {
	if strings.Contains(text, "{{") {
		out, err := template.Parse(text)
		if err != nil {
			b.errorf("%s: the address template cannot be evaluated", b.at(key))
			return nil
		}
		text = out
	}
	return strings.Fields(text)
}

// one reads a key that holds exactly one IP address; the zero Addr when it is
// not set or wrong.
func (b *builder) one(key string) netip.Addr {
	if !b.isSet(key) {
		return netip.Addr{}
	}
	before := len(b.errs)
	words := b.expandAddr(key, b.str(key))
	if len(b.errs) > before {
		return netip.Addr{}
	}
	if len(words) != 1 {
		b.errorf("%s must be exactly one IP address, not %d", b.at(key), len(words))
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(strings.Trim(words[0], "[]"))
	if err != nil {
		b.errorf("%s must be an IP address, not %q", b.at(key), cut(words[0]))
		return netip.Addr{}
	}
	addr = addr.Unmap()
	b.resolved[key] = addr.String()
	return addr
}

// or is one with what to take when the key is not set.
func (b *builder) or(key string, unset netip.Addr) netip.Addr {
	if a := b.one(key); a.IsValid() {
		return a
	}
	return unset
}

func (b *builder) joinAddrs(key string) []string {
	var out []string
	for _, text := range b.list(key) {
		switch {
		case strings.Contains(text, "provider="): // a discovery string, may hold credentials
			b.errorf("%s: cloud discovery (provider=...) is not supported", b.at(key))
		default:
			out = append(out, b.expandAddr(key, text)...)
		}
	}
	return out
}

func (b *builder) ports() Ports {
	port := func(name string) int {
		n := b.num("ports." + name)
		if n > 65535 {
			b.errorf("%s must be 65535 or less", b.at("ports."+name))
		}
		if n <= 0 {
			return -1
		}
		return n
	}
	p := Ports{
		DNS: port("dns"), HTTP: port("http"), HTTPS: port("https"), RPC: port("rpc"),
		SerfLAN: port("serf_lan"), SerfWAN: port("serf_wan"), Server: port("server"),
	}
	for _, name := range []string{"grpc", "grpc_tls"} {
		port(name)
	}
	if p.SerfLAN < 0 {
		b.errorf("%s must be more than zero", b.at("ports.serf_lan"))
	}
	if p.Server < 0 {
		b.errorf("%s must be more than zero", b.at("ports.server"))
	}
	for _, r := range []string{"sidecar", "expose", "proxy"} {
		low, high := "ports."+r+"_min_port", "ports."+r+"_max_port"
		if b.isSet(low) && b.isSet(high) && b.num(low) > b.num(high) {
			b.errorf("%s is more than \"%s\"", b.at(low), high)
		}
	}
	return p
}

func (b *builder) network() Network {
	n := Network{
		Bind:           b.one("bind_addr"),
		SerfLANAllowed: b.prefixes("serf_lan_allowed_cidrs"),
		SerfWANAllowed: b.prefixes("serf_wan_allowed_cidrs"),
		TaggedAddrs:    b.dict("tagged_addresses"),
		UnixSockets: UnixSockets{
			User:  b.str("unix_sockets.user"),
			Group: b.str("unix_sockets.group"),
			Mode:  b.str("unix_sockets.mode"),
		},
	}
	if m := n.UnixSockets.Mode; m != "" {
		if v, err := strconv.ParseUint(m, 8, 32); err != nil || v > 0o777 {
			b.errorf("%s must be an octal mode such as 0600", b.at("unix_sockets.mode"))
		}
	}
	if !n.Bind.IsValid() {
		return n // said already; nothing below could be right
	}
	n.SerfLAN = b.or("serf_lan", n.Bind)
	n.SerfWAN = b.or("serf_wan", n.Bind)
	n.Client = b.clientAddrs()

	switch {
	case b.isSet("advertise_addr"):
		n.AdvertiseLAN = b.one("advertise_addr")
	case n.Bind.IsUnspecified():
		n.AdvertiseLAN = b.detect(n.Bind)
	default:
		n.AdvertiseLAN = n.Bind
	}
	n.AdvertiseWAN = b.or("advertise_addr_wan", n.AdvertiseLAN)
	for key, a := range map[string]netip.Addr{"advertise_addr": n.AdvertiseLAN, "advertise_addr_wan": n.AdvertiseWAN} {
		if a.IsValid() && a.IsUnspecified() && b.isSet(key) {
			b.errorf("%s must not be %s: no one can dial it", b.at(key), a)
		}
	}
	b.tagAddrs(&n)
	return n
}

// tagAddrs fills the tagged addresses that agents of both families expect.
func (b *builder) tagAddrs(n *Network) {
	tag := func(name string, a netip.Addr) {
		if a.IsValid() {
			n.TaggedAddrs[name] = a.String()
		}
	}
	for _, net := range []struct {
		name, key string
		addr      netip.Addr
	}{{"lan", "advertise_addr", n.AdvertiseLAN}, {"wan", "advertise_addr_wan", n.AdvertiseWAN}} {
		v4, v6 := b.one(net.key+"_ipv4"), b.one(net.key+"_ipv6")
		for key, bad := range map[string]bool{
			net.key + "_ipv4": v4.IsValid() && !v4.Is4(),
			net.key + "_ipv6": v6.IsValid() && v6.Is4(),
		} {
			if bad {
				b.errorf("%s is of the other address family", b.at(key))
			}
		}
		for key, a := range map[string]netip.Addr{net.key + "_ipv4": v4, net.key + "_ipv6": v6} {
			if a.IsValid() && a.IsUnspecified() {
				b.errorf("%s must not be %s: no one can dial it", b.at(key), a)
			}
		}
		if net.addr.Is4() && !v4.IsValid() {
			v4 = net.addr
		}
		if net.addr.Is6() && !v6.IsValid() {
			v6 = net.addr
		}
		tag(net.name, net.addr)
		tag(net.name+"_ipv4", v4)
		tag(net.name+"_ipv6", v6)
	}
}

var sharedRange = netip.MustParsePrefix("100.64.0.0/10")

// detect finds the one address to announce when all are bound.
func (b *builder) detect(bind netip.Addr) netip.Addr {
	addrs, err := b.env.addrs()
	if err != nil {
		b.errorf("key \"advertise_addr\" is not set: %w", err)
		return netip.Addr{}
	}
	kind := "private IPv4"
	fits := func(a netip.Addr) bool { return a.Is4() && (a.IsPrivate() || sharedRange.Contains(a)) }
	if bind.Is6() {
		kind = "public IPv6"
		fits = func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() && !a.IsPrivate() }
	}
	var found []netip.Addr
	for _, a := range addrs {
		if fits(a) && !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 1:
		return found[0]
	case 0:
		b.errorf("%s is %s and no %s address was found; set \"bind_addr\" or \"advertise_addr\"", b.at("bind_addr"), bind, kind)
	default:
		b.errorf("%s is %s and several %s addresses were found (%s); set \"bind_addr\" or \"advertise_addr\"", b.at("bind_addr"), bind, kind, joinAddr(found))
	}
	return netip.Addr{}
}

func joinAddr(list []netip.Addr) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

func (b *builder) clientAddrs() []netip.Addr {
	var out []netip.Addr
	for _, w := range b.expandAddr("client_addr", b.str("client_addr")) {
		a, err := netip.ParseAddr(strings.Trim(w, "[]"))
		if err != nil {
			b.errorf("%s must be IP addresses, not %q", b.at("client_addr"), cut(w))
			continue
		}
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if strings.TrimSpace(b.str("client_addr")) == "" {
		b.warnf("%s is empty: the API, DNS and the local RPC listen nowhere unless \"addresses\" says where", b.at("client_addr"))
	}
	b.resolved["client_addr"] = joinAddr(out)
	return out
}

func (b *builder) listeners(c *Config) Listeners {
	var l Listeners
	l.HTTP = b.listen("http", c.Ports.HTTP, c.Network.Client)
	l.HTTPS = b.listen("https", c.Ports.HTTPS, c.Network.Client)
	l.DNS = b.listen("dns", c.Ports.DNS, c.Network.Client)
	// The local RPC stays on loopback unless addresses.rpc says otherwise in
	// words: opening the API to the network must not open this one.
	loop := slices.DeleteFunc(slices.Clone(c.Network.Client), func(a netip.Addr) bool { return !a.IsLoopback() })
	if len(loop) == 0 && len(c.Network.Client) > 0 {
		loop = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	l.RPC = b.listen("rpc", c.Ports.RPC, loop)
	if c.HTTP.RPCAuthKey.Empty() {
		for _, addr := range l.RPC {
			if ap, err := netip.ParseAddrPort(addr); err == nil && !ap.Addr().IsLoopback() {
				b.errorf("%s: %s is not loopback: the local RPC needs \"rpc_auth_key\" there", b.at("addresses.rpc"), ap.Addr())
			}
		}
	}
	return l
}

// listen is where one interface listens: addresses.NAME, or the default.
func (b *builder) listen(name string, port int, unset []netip.Addr) []string {
	key := "addresses." + name
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if strings.TrimSpace(b.str(key)) == "" {
		if port > 0 {
			for _, a := range unset {
				add(netip.AddrPortFrom(a, uint16(port)).String())
			}
		}
		return out
	}
	for _, w := range b.expandAddr(key, b.str(key)) {
		if path, ok := strings.CutPrefix(w, "unix://"); ok {
			switch {
			case name == "dns":
				b.errorf("%s cannot be a unix socket", b.at(key))
			case !filepath.IsAbs(path):
				b.errorf("%s: the path of a unix socket must be absolute, as in unix:///run/lictor.sock", b.at(key))
			case port > 0:
				add(w)
			}
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(w, "[]"))
		if err != nil {
			b.errorf("%s must be IP addresses, not %q", b.at(key), cut(w))
			continue
		}
		if port > 0 {
			add(netip.AddrPortFrom(a.Unmap(), uint16(port)).String())
		}
	}
	return out
}

// collisions finds two listeners that would want the same address.
func (b *builder) collisions(c *Config) {
	type use struct {
		name string // its key
		addr netip.AddrPort
		unix string
	}
	var uses []use
	add := func(name string, list ...string) {
		for _, s := range list {
			if path, ok := strings.CutPrefix(s, "unix://"); ok {
				uses = append(uses, use{name: name, unix: path})
			} else if ap, err := netip.ParseAddrPort(s); err == nil {
				uses = append(uses, use{name: name, addr: ap})
			}
		}
	}
	pool := func(name string, a netip.Addr, port int) {
		if a.IsValid() && port > 0 {
			add(name, netip.AddrPortFrom(a, uint16(port)).String())
		}
	}
	add("ports.dns", c.Listeners.DNS...)
	add("ports.http", c.Listeners.HTTP...)
	add("ports.https", c.Listeners.HTTPS...)
	add("ports.rpc", c.Listeners.RPC...)
	if c.Node.Server {
		pool("ports.server", c.Network.Bind, c.Ports.Server)
		pool("ports.serf_wan", c.Network.SerfWAN, c.Ports.SerfWAN)
	}
	pool("ports.serf_lan", c.Network.SerfLAN, c.Ports.SerfLAN)
	for i, x := range uses {
		for _, y := range uses[i+1:] {
			if x.name == y.name {
				continue
			}
			switch {
			case x.unix != "" && x.unix == y.unix:
				b.errorf("keys %q and %q are both to listen on unix socket %s", x.name, y.name, cut(x.unix))
			case x.unix == "" && y.unix == "" && x.addr.Port() == y.addr.Port() && overlap(x.addr.Addr(), y.addr.Addr()):
				b.errorf("keys %q and %q are both to listen on port %d (%s and %s)", x.name, y.name, x.addr.Port(), x.addr, y.addr)
			}
		}
	}
}

// overlap says whether two sockets of one port on a and b get in each other's
// way: the IPv6 wildcard takes IPv4 too.
func overlap(a, b netip.Addr) bool {
	any6 := func(x netip.Addr) bool { return x.Is6() && x.IsUnspecified() }
	return a == b || any6(a) || any6(b) || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
