package agent

import (
	"crypto/rand"
	"net"
	"slices"

	"lictor/agent/config"
	"lictor/tlsutil"
)

// gossipKeyBytes is the length of a generated gossip key: AES-256.
const gossipKeyBytes = 32

// dev is the key material of a -dev agent. It is made at start, lives in memory
// only, and dies with the process.
type dev struct {
	gossipKey              []byte
	caPEM, certPEM, keyPEM []byte
}

func newDev(cfg *config.Config) (*dev, error) {
	d := &dev{gossipKey: make([]byte, gossipKeyBytes)}
	rand.Read(d.gossipKey)            // never fails
	ips := []net.IP{net.IPv6loopback} // localhost and 127.0.0.1 are in every certificate
	for _, a := range append(slices.Clone(cfg.Network.Client), cfg.Network.AdvertiseLAN) {
		ip := net.IP(a.AsSlice())
		if a.IsValid() && !a.IsUnspecified() && !ip.Equal(net.IPv4(127, 0, 0, 1)) && !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	var err error
	d.caPEM, d.certPEM, d.keyPEM, err = tlsutil.MakeDev(cfg.Node.Datacenter, cfg.Node.Domain, ips)
	return d, err
}

// apply puts the made-up material where the configuration names none, and turns
// verification on for RPC: in -dev both ends of every connection are us.
func (d *dev) apply(tc *tlsutil.Config) {
	fill := func(s *tlsutil.Stanza) {
		if s.CAFile == "" && s.CAPath == "" && s.CertFile == "" && s.KeyFile == "" {
			s.CAPEM, s.CertPEM, s.KeyPEM = d.caPEM, d.certPEM, d.keyPEM
		}
	}
	fill(&tc.InternalRPC)
	fill(&tc.HTTPS)
	if tc.InternalRPC.CertPEM != nil {
		tc.InternalRPC.VerifyIncoming = true
		tc.InternalRPC.VerifyOutgoing = true
		tc.InternalRPC.VerifyServerHostname = true
	}
}
