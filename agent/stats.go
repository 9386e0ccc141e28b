package agent

import (
	"runtime"
	"strconv"

	"lictor/agent/server"
	"lictor/version"
)

// Stats are what "lictor info" shows: group, key, value. Fingerprints of keys
// are in it, keys are not.
func (a *Agent) Stats() map[string]map[string]string {
	cfg := a.cfg.Load()
	stats := map[string]map[string]string{
		"agent": a.registry.Stats(),
		"build": {
			"prerelease":       version.Prerelease,
			"revision":         version.Get().Revision,
			"version":          version.Version,
			"version_metadata": "",
		},
		"runtime": {
			"arch":       runtime.GOARCH,
			"cpu_count":  strconv.Itoa(runtime.NumCPU()),
			"goroutines": strconv.Itoa(runtime.NumGoroutine()),
			"max_procs":  strconv.Itoa(runtime.GOMAXPROCS(0)),
			"os":         runtime.GOOS,
			"version":    runtime.Version(),
		},
		"serf_lan":   a.lan.Stats(),
		"encryption": a.encryptionStats(),
	}
	servers := server.Servers(a.lan.Members())
	if cfg.Node.Server {
		leader, _ := a.server.raft.Leader()
		stats["consul"] = map[string]string{
			"acl":               "disabled",
			"bootstrap":         strconv.FormatBool(cfg.Server.Bootstrap),
			"known_datacenters": strconv.Itoa(a.knownDatacenters()),
			"leader":            strconv.FormatBool(a.server.raft.IsLeader()),
			"leader_addr":       leader,
			"server":            "true",
		}
		stats["raft"] = a.server.raft.Stats()
	} else {
		stats["consul"] = map[string]string{
			"acl":           "disabled",
			"known_servers": strconv.Itoa(len(servers)),
			"server":        "false",
		}
	}
	if a.wan != nil {
		stats["serf_wan"] = a.wan.Stats()
	}
	return stats
}

func (a *Agent) encryptionStats() map[string]string {
	settings := a.tls.RPC()
	primary, others := a.lan.Fingerprints()
	s := map[string]string{
		"gossip_lan":             a.lan.Posture(),
		"gossip_key":             primary,
		"gossip_other_keys":      strconv.Itoa(len(others)),
		"rpc":                    a.rpcPosture(),
		"verify_server_hostname": strconv.FormatBool(settings.VerifyServerHostname),
	}
	if a.wan != nil {
		s["gossip_wan"] = a.wan.Posture()
	}
	if settings.HasCert {
		s["certificate_role"] = settings.CertRole.String()
		s["certificate_expires"] = settings.CertNotAfter.UTC().Format("2006-01-02T15:04:05Z")
	}
	return s
}

func (a *Agent) knownDatacenters() int {
	known := map[string]bool{a.cfg.Load().Node.Datacenter: true}
	if a.wan != nil {
		for _, s := range server.Servers(a.wan.Members()) {
			known[s.Datacenter] = true
		}
	}
	return len(known)
}
