package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"strconv"

	"lictor/agent/config"
	"lictor/gossip"
	"lictor/version"
)

// Protocol versions announced in the tags (wire.md, 5.2).
const (
	protocolMin = 2
	protocolMax = 3
	raftVersion = 3
)

// tags are what this agent says of itself in both pools. Values are those of
// wire.md, 5.2 and 5.3; use_tls follows the running TLS settings.
func (a *Agent) tags(cfg *config.Config) map[string]string {
	t := map[string]string{
		"role":    "node",
		"dc":      cfg.Node.Datacenter,
		"segment": "",
		"id":      a.nodeID,
		"vsn":     strconv.Itoa(cmp.Or(cfg.Server.Protocol, protocolMin)),
		"vsn_min": strconv.Itoa(protocolMin),
		"vsn_max": strconv.Itoa(protocolMax),
		"build":   version.Tag(),
	}
	if !cfg.Node.Server {
		if d := cfg.Join.AdvertiseReconnectTimeout; d > 0 {
			t["rc_tm"] = d.String()
		}
		return t
	}
	t["role"] = "consul"
	t["port"] = strconv.Itoa(cfg.Ports.Server)
	t["raft_vsn"] = strconv.Itoa(raftVersion)
	t["acls"] = "0"
	t["ft_fs"], t["ft_si"] = "1", "1"
	if cfg.Server.Bootstrap {
		t["bootstrap"] = "1"
	}
	if n := cfg.Server.BootstrapExpect; n > 0 {
		t["expect"] = strconv.Itoa(n)
	}
	if s := a.tls.RPC(); s.HasCA && s.HasCert {
		t["use_tls"] = "1"
	}
	return t
}

func (a *Agent) lanTags(cfg *config.Config) map[string]string {
	t := a.tags(cfg)
	if cfg.Node.Server && cfg.Ports.SerfWAN > 0 {
		t["wan_join_port"] = strconv.Itoa(cfg.Ports.SerfWAN)
	}
	return t
}

// openPools starts the LAN pool and, on servers with federation, the WAN pool.
func (a *Agent) openPools(ctx context.Context, cfg *config.Config) error {
	lan, err := gossip.Open(ctx, a.poolConfig(cfg, gossip.LAN))
	if err != nil {
		return fmt.Errorf("LAN pool: %w", err)
	}
	a.lan = lan
	if !cfg.Node.Server || cfg.Ports.SerfWAN <= 0 {
		return nil
	}
	if a.wan, err = gossip.Open(ctx, a.poolConfig(cfg, gossip.WAN)); err != nil {
		return fmt.Errorf("WAN pool: %w", err)
	}
	return nil
}

func (a *Agent) poolConfig(cfg *config.Config, kind gossip.Kind) gossip.Config {
	pc := gossip.Config{
		Kind:             kind,
		Node:             cfg.Node.Name,
		NodeID:           a.nodeID,
		Datacenter:       cfg.Node.Datacenter,
		Server:           cfg.Node.Server,
		Tags:             a.lanTags(cfg),
		Bind:             netip.AddrPortFrom(cfg.Network.SerfLAN, uint16(cfg.Ports.SerfLAN)),
		Advertise:        netip.AddrPortFrom(cfg.Network.AdvertiseLAN, uint16(cfg.Ports.SerfLAN)),
		Allowed:          cfg.Network.SerfLANAllowed,
		Timers:           gossip.Timers(cfg.Gossip.LAN),
		RejoinAfterLeave: cfg.Join.RejoinAfterLeave,
		ReconnectTimeout: cfg.Join.ReconnectTimeoutLAN,
		Log:              a.log.Named("lan"),
	}
	name := "local"
	if kind == gossip.WAN {
		name = "remote"
		pc.Tags = a.tags(cfg)
		pc.Bind = netip.AddrPortFrom(cfg.Network.SerfWAN, uint16(cfg.Ports.SerfWAN))
		pc.Advertise = netip.AddrPortFrom(cfg.Network.AdvertiseWAN, uint16(cfg.Ports.SerfWAN))
		pc.Allowed = cfg.Network.SerfWANAllowed
		pc.Timers = gossip.Timers(cfg.Gossip.WAN)
		pc.ReconnectTimeout = cfg.Join.ReconnectTimeoutWAN
		pc.Log = a.log.Named("wan")
	}
	pc.Keyring = gossip.KeyringConfig{
		Key:            cfg.Gossip.Encrypt.Bytes(),
		VerifyIncoming: cfg.Gossip.VerifyIncoming,
		VerifyOutgoing: cfg.Gossip.VerifyOutgoing,
		AllowPlaintext: cfg.Gossip.AllowPlaintext,
	}
	if a.dev != nil {
		pc.Keyring.Key = a.dev.gossipKey
	}
	if dir := cfg.Node.DataDir; dir != "" && !cfg.Node.Dev {
		pc.SnapshotPath = filepath.Join(dir, "serf", name+".snapshot")
		if !cfg.Gossip.DisableKeyringFile {
			pc.Keyring.Path = filepath.Join(dir, "serf", name+".keyring")
		}
	}
	return pc
}

// retag tells both pools what has changed about this agent.
func (a *Agent) retag(cfg *config.Config) error {
	if tags := a.lanTags(cfg); !maps.Equal(tags, a.lan.LocalMember().Tags) {
		if err := a.lan.SetTags(tags); err != nil {
			return err
		}
	}
	if a.wan == nil {
		return nil
	}
	if tags := a.tags(cfg); !maps.Equal(tags, a.wan.LocalMember().Tags) {
		return a.wan.SetTags(tags)
	}
	return nil
}
