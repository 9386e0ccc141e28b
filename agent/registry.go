package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net/netip"
	"strings"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/config"
	"lictor/agent/httpapi"
	"lictor/agent/local"
	"lictor/agent/server"
	"lictor/agent/watches"
	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
	"lictor/version"
)

// Tagged addresses of a node (config.md, section 2).
const (
	taggedLAN, taggedLANv4, taggedLANv6 = "lan", "lan_ipv4", "lan_ipv6"
	taggedWAN, taggedWANv4, taggedWANv6 = "wan", "wan_ipv4", "wan_ipv6"
)

// taggedAddresses are the addresses that this agent announces itself under.
func taggedAddresses(n config.Network) map[string]string {
	tagged := map[string]string{}
	set := func(addr netip.Addr, any, v4, v6 string) {
		if !addr.IsValid() {
			return
		}
		addr = addr.Unmap()
		tagged[any] = addr.String()
		if addr.Is4() {
			tagged[v4] = addr.String()
		} else {
			tagged[v6] = addr.String()
		}
	}
	set(n.AdvertiseLAN, taggedLAN, taggedLANv4, taggedLANv6)
	set(n.AdvertiseWAN, taggedWAN, taggedWANv4, taggedWANv6)
	return tagged
}

// newRegistry makes the registry of this agent's own services and checks.
func (a *Agent) newRegistry(cfg *config.Config) (*local.State, error) {
	lc := local.Config{
		Node: wire.Node{
			ID: a.nodeID, Node: cfg.Node.Name, Datacenter: cfg.Node.Datacenter,
			Address:         cfg.Network.AdvertiseLAN.String(),
			TaggedAddresses: taggedAddresses(cfg.Network),
			Meta:            nodeMeta(cfg),
		},
		RPC:               servers{a},
		Unanswered:        unanswered,
		Log:               a.log.Named("local"),
		Nodes:             a.nodes,
		AllowScripts:      cfg.Health.EnableScripts,
		AllowLocalScripts: cfg.Health.EnableLocalScripts,
		MaxOutput:         cfg.Health.OutputMaxSize,
		DiscardOutput:     cfg.Health.DiscardOutput,
		UpdateDelay:       cfg.Health.UpdateInterval,
		Services:          cfg.Services,
		Checks:            cfg.Checks,
	}
	if !cfg.Node.Dev {
		lc.DataDir = cfg.Node.DataDir
	}
	if cfg.Health.AgentTLS {
		lc.TLS = func(serverName string, skipVerify bool) *tls.Config {
			return tlsutil.CheckConfig(a.tls, serverName, skipVerify)
		}
	}
	return local.New(lc)
}

// nodeMeta is the metadata of this agent's node in the catalog: what is
// configured, and what every agent of the family says of itself (http-api.md,
// section 9).
func nodeMeta(cfg *config.Config) map[string]string {
	build, _, _ := strings.Cut(version.Tag(), ":") // as the leader reads it off the tags
	meta := map[string]string{"consul-network-segment": "", "consul-version": build}
	maps.Copy(meta, cfg.Node.Meta)
	return meta
}

// nodes is the size of the cluster, which stretches intervals.
func (a *Agent) nodes() int { return a.lan.NumAlive() }

// servers is how a part of the agent reaches the servers.
type servers struct{ a *Agent }

// Call implements local.RPC.
func (s servers) Call(ctx context.Context, method string, args, reply any) error {
	return s.a.RPC(ctx, method, args, reply)
}

// unanswered says whether an error is that no server has looked at a call.
func unanswered(err error) bool {
	for _, e := range []error{context.DeadlineExceeded, rpc.ErrNoServers, rpc.ErrNoLeader, rpc.ErrRateLimited, rpc.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return rpc.NotSent(err) || strings.Contains(err.Error(), rpc.ErrNoLeader.Error()) // as another server says it
}

// newWatches makes the set of watches, which ask this agent's own HTTP API
// without a connection.
func (a *Agent) newWatches() *watches.Set {
	return watches.New(watches.Config{API: watches.Over(a.api.Handler()), Log: a.log.Named("watches")})
}

// Registry is what this agent registered itself.
func (a *Agent) Registry() httpapi.Registry { return a.registry }

// serverJoined says whether an event is that a server has come: what this agent
// has registered is compared with what it knows soon.
func serverJoined(e serf.MemberEvent) bool {
	if e.Type != serf.EventMemberJoin {
		return false
	}
	return len(server.Servers(e.Members)) > 0
}
