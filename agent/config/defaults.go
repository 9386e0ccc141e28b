package config

// defaultsHCL are the values of keys that nobody set. Keys whose default
// depends on others (advertise addresses, leave_on_terminate, ...) are filled in by build.
const defaultsHCL = `
disable_host_node_id = true
datacenter = "dc1"
domain = "consul."
bind_addr = "0.0.0.0"
client_addr = "127.0.0.1"
protocol = 2
raft_protocol = 3
ports { dns = 8600 http = 8500 https = -1 rpc = 8400 serf_lan = 8301 serf_wan = 8302 server = 8300 }
retry_interval = "30s"
retry_interval_wan = "30s"
reconnect_timeout = "72h"
reconnect_timeout_wan = "72h"
server_rejoin_age_max = "168h"
encrypt_verify_incoming = true
encrypt_verify_outgoing = true
gossip_lan { gossip_nodes = 3 gossip_interval = "200ms" probe_interval = "1s" probe_timeout = "500ms" suspicion_mult = 4 retransmit_mult = 4 }
gossip_wan { gossip_nodes = 3 gossip_interval = "500ms" probe_interval = "5s" probe_timeout = "3s" suspicion_mult = 6 retransmit_mult = 4 }
performance { leave_drain_time = "5s" rpc_hold_timeout = "7s" raft_multiplier = 5 }
raft_snapshot_threshold = 16384
raft_snapshot_interval = "30s"
raft_trailing_logs = 10240
raft_logstore { wal { segment_size_mb = 64 } }
autopilot { cleanup_dead_servers = true last_contact_threshold = "200ms" max_trailing_logs = 250 min_quorum = 0 server_stabilization_time = "10s" }
session_ttl_min = "10s"
default_query_time = "300s"
max_query_time = "600s"
check_update_interval = "5m"
check_output_max_size = 4096
limits {
  http_max_conns_per_client = 200
  https_handshake_timeout = "5s"
  rpc_handshake_timeout = "5s"
  rpc_client_timeout = "60s"
  rpc_max_conns_per_client = 100
  rpc_rate = -1
  rpc_max_burst = 1000
  kv_max_value_size = 524288
  txn_max_req_len = 524288
}
log_level = "INFO"
syslog_facility = "LOCAL0"
telemetry { metrics_prefix = "consul" filter_default = true retry_failed_connection = true }
`

// devHCL is what -dev changes; files and flags may still say otherwise.
const devHCL = `
bind_addr = "127.0.0.1"
server = true
log_level = "DEBUG"
enable_debug = true
disable_keyring_file = true
ports { https = 8501 }
performance { raft_multiplier = 1 }
gossip_lan { gossip_interval = "100ms" probe_interval = "100ms" probe_timeout = "100ms" suspicion_mult = 3 }
gossip_wan { gossip_interval = "100ms" probe_interval = "100ms" probe_timeout = "100ms" suspicion_mult = 3 }
`

const builtInName = "built-in defaults"

// builtIn parses text of our own.
func builtIn(text string) *node {
	n, err := parseHCL(builtInName, []byte(text))
	if err != nil {
		panic(err) // a mistake in this file; every test would see it
	}
	return n
}
