package agent

// Banner is what the start banner prints. It is read from the running
// listeners and pools, not from the configuration; a port of -1 is one that
// nothing listens on.
type Banner struct {
	NodeName, Datacenter   string
	Server, Bootstrap      bool
	ClientAddr             string
	HTTP, HTTPS, DNS, RPC  int
	ClusterAddr            string
	LAN, WAN               int
	GossipEncrypt          bool
	RPCTLS, TLSIncoming    bool
	GossipFingerprint      string // of the primary key; "" without one
	GossipPosture, Posture string // gossip and RPC, on their ladders
}

// Banner may be called once Start has returned.
func (a *Agent) Banner() Banner {
	cfg := a.cfg.Load()
	settings := a.tls.RPC()
	b := Banner{
		NodeName:      cfg.Node.Name,
		Datacenter:    cfg.Node.Datacenter,
		Server:        cfg.Node.Server,
		Bootstrap:     cfg.Server.Bootstrap,
		HTTP:          a.listeners.port(listenHTTP),
		HTTPS:         a.listeners.port(listenHTTPS),
		DNS:           -1, // there is no DNS interface yet
		RPC:           a.listeners.port(listenLocalRPC),
		LAN:           -1,
		WAN:           -1,
		RPCTLS:        settings.VerifyOutgoing,
		TLSIncoming:   settings.VerifyIncoming,
		GossipEncrypt: a.lan.Encrypted(),
		GossipPosture: a.lan.Posture(),
		Posture:       a.rpcPosture(),
	}
	if len(cfg.Network.Client) > 0 {
		b.ClientAddr = cfg.Network.Client[0].String()
	}
	m := a.lan.LocalMember()
	b.ClusterAddr, b.LAN = m.Addr.String(), int(m.Port)
	if a.wan != nil {
		b.WAN = int(a.wan.LocalMember().Port)
		b.GossipEncrypt = b.GossipEncrypt && a.wan.Encrypted()
	}
	b.GossipFingerprint, _ = a.lan.Fingerprints()
	return b
}

// rpcPosture is this agent's rung on the RPC ladder of DESIGN.md.
func (a *Agent) rpcPosture() string {
	s := a.tls.RPC()
	switch {
	case s.VerifyIncoming && s.VerifyOutgoing:
		return "strict"
	case s.VerifyOutgoing:
		return "outgoing"
	case s.HasCert:
		return "ready"
	}
	return "plain"
}
