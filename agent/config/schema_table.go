package config

// schemaTable lists every key of the family, and ours, one a line:
//
//	path kind [flags]
//
// Kinds: s string, x secret string, b boolean, i whole number, f number,
// d duration, l list of strings, m map of strings, o object, os list of
// objects, any free form, mos map of objects.
// Flags: R applied by a reload; later known and not acted upon yet (the same
// holds for everything below it); quiet known, not acted upon, and not worth a
// warning; gone=... accepted, with the words of the warning.
const schemaTable = `
node_name s
node_id s
disable_host_node_id b
node_meta m R
datacenter s
primary_datacenter s
domain s
alt_domain s
data_dir s
server b
bootstrap b
bootstrap_expect i
bind_addr s
advertise_addr s
advertise_addr_ipv4 s
advertise_addr_ipv6 s
advertise_addr_wan s
advertise_addr_wan_ipv4 s
advertise_addr_wan_ipv6 s
client_addr s
serf_lan s
serf_wan s
serf_lan_allowed_cidrs l
serf_wan_allowed_cidrs l
translate_wan_addrs b
tagged_addresses m
server_name s
protocol i
raft_protocol i
pid_file s
locality o later
locality.region s
locality.zone s
ports o
ports.dns i
ports.http i
ports.https i
ports.rpc i
ports.serf_lan i
ports.serf_wan i
ports.server i
ports.grpc i quiet
ports.grpc_tls i quiet
ports.sidecar_min_port i quiet
ports.sidecar_max_port i quiet
ports.expose_min_port i quiet
ports.expose_max_port i quiet
ports.proxy_min_port i quiet
ports.proxy_max_port i quiet
addresses o
addresses.dns s
addresses.http s
addresses.https s
addresses.rpc s
addresses.grpc s quiet
addresses.grpc_tls s quiet
unix_sockets o
unix_sockets.user s
unix_sockets.group s
unix_sockets.mode s
retry_join l
retry_join_wan l
retry_interval d
retry_interval_wan d
retry_max i
retry_max_wan i
start_join l
start_join_wan l
rejoin_after_leave b
leave_on_terminate b
skip_leave_on_interrupt b
reconnect_timeout d
reconnect_timeout_wan d
advertise_reconnect_timeout d
server_rejoin_age_max d
encrypt x
encrypt_verify_incoming b
encrypt_verify_outgoing b
encrypt_allow_plaintext b
disable_keyring_file b
gossip_lan o
gossip_lan.gossip_nodes i
gossip_lan.gossip_interval d
gossip_lan.probe_interval d
gossip_lan.probe_timeout d
gossip_lan.suspicion_mult i
gossip_lan.retransmit_mult i
gossip_wan o
gossip_wan.gossip_nodes i
gossip_wan.gossip_interval d
gossip_wan.probe_interval d
gossip_wan.probe_timeout d
gossip_wan.suspicion_mult i
gossip_wan.retransmit_mult i
tls o
tls.defaults o
tls.defaults.ca_file s R
tls.defaults.ca_path s R
tls.defaults.cert_file s R
tls.defaults.key_file s R
tls.defaults.tls_min_version s R
tls.defaults.tls_cipher_suites s R
tls.defaults.verify_incoming b R
tls.defaults.verify_outgoing b R
tls.defaults.verify_server_hostname b R
tls.defaults.use_auto_cert b
tls.internal_rpc o
tls.internal_rpc.ca_file s R
tls.internal_rpc.ca_path s R
tls.internal_rpc.cert_file s R
tls.internal_rpc.key_file s R
tls.internal_rpc.tls_min_version s R
tls.internal_rpc.tls_cipher_suites s R
tls.internal_rpc.verify_incoming b R
tls.internal_rpc.verify_outgoing b R
tls.internal_rpc.verify_server_hostname b R
tls.internal_rpc.use_auto_cert b
tls.https o
tls.https.ca_file s R
tls.https.ca_path s R
tls.https.cert_file s R
tls.https.key_file s R
tls.https.tls_min_version s R
tls.https.tls_cipher_suites s R
tls.https.verify_incoming b R
tls.https.verify_outgoing b R
tls.https.verify_server_hostname b R
tls.https.use_auto_cert b
tls.grpc o later
tls.grpc.ca_file s
tls.grpc.ca_path s
tls.grpc.cert_file s
tls.grpc.key_file s
tls.grpc.tls_min_version s
tls.grpc.tls_cipher_suites s
tls.grpc.verify_incoming b
tls.grpc.verify_outgoing b
tls.grpc.verify_server_hostname b
tls.grpc.use_auto_cert b
ca_file s
ca_path s
cert_file s
key_file s
tls_min_version s
tls_cipher_suites s
tls_prefer_server_cipher_suites b gone=has no effect: Go chooses the order of cipher suites
verify_incoming b
verify_incoming_rpc b
verify_incoming_https b
verify_outgoing b
verify_server_hostname b
enable_agent_tls_for_checks b
auto_encrypt o later
auto_encrypt.tls b
auto_encrypt.allow_tls b
auto_encrypt.dns_san l
auto_encrypt.ip_san l
performance o
performance.raft_multiplier i
performance.leave_drain_time d
performance.rpc_hold_timeout d
performance.grpc_keepalive_interval d later
performance.grpc_keepalive_timeout d later
performance.enable_xds_load_balancing b later
limits o
limits.http_max_conns_per_client i R
limits.https_handshake_timeout d
limits.rpc_handshake_timeout d
limits.rpc_client_timeout d R
limits.rpc_max_conns_per_client i R
limits.rpc_rate f R
limits.rpc_max_burst i R
limits.request_limits o later
limits.request_limits.mode s
limits.request_limits.read_rate f
limits.request_limits.write_rate f
limits.kv_max_value_size i
limits.txn_max_req_len i
raft_snapshot_threshold i R
raft_snapshot_interval d R
raft_trailing_logs i R
raft_prevote_disabled b
raft_boltdb o later
raft_boltdb.nofreelistsync b
raft_logstore o
raft_logstore.backend s
raft_logstore.disable_log_cache b
raft_logstore.verification o later
raft_logstore.verification.enabled b
raft_logstore.verification.interval d
raft_logstore.boltdb o later
raft_logstore.boltdb.no_freelist_sync b
raft_logstore.wal o
raft_logstore.wal.segment_size_mb i
rpc o later
rpc.enable_streaming b
rpc_auth_key x
use_streaming_backend b later
autopilot o
autopilot.cleanup_dead_servers b
autopilot.last_contact_threshold d
autopilot.max_trailing_logs i
autopilot.min_quorum i
autopilot.server_stabilization_time d
autopilot.redundancy_zone_tag s later
autopilot.disable_upgrade_migration b later
autopilot.upgrade_version_tag s later
session_ttl_min d
default_query_time d
max_query_time d
discovery_max_stale d
disable_coordinates b
cache o later
cache.entry_fetch_max_burst i
cache.entry_fetch_rate f
http_config o
http_config.block_endpoints l
http_config.response_headers m
http_config.allow_write_http_from l
http_config.use_cache b
http_config.max_header_bytes i
disable_http_unprintable_char_filter b
enable_debug b R
ui_config o later
ui_config.enabled b
ui_config.dir s
ui_config.content_path s
ui_config.metrics_provider s
ui_config.metrics_provider_files l
ui_config.metrics_provider_options_json s
ui_config.metrics_proxy any
ui_config.dashboard_url_templates m
ui b later
ui_dir s later
ui_content_path s later
recursors l later
dns_config o later
dns_config.allow_stale b
dns_config.max_stale d
dns_config.node_ttl d
dns_config.service_ttl m
dns_config.enable_truncate b
dns_config.only_passing b
dns_config.recursor_strategy s
dns_config.recursor_timeout d
dns_config.disable_compression b
dns_config.udp_answer_limit i
dns_config.a_record_limit i
dns_config.enable_additional_node_meta_txt b
dns_config.soa o
dns_config.soa.refresh i
dns_config.soa.retry i
dns_config.soa.expire i
dns_config.soa.min_ttl i
dns_config.use_cache b
dns_config.cache_max_age d
dns_config.prefer_namespace b
check_update_interval d
check_output_max_size i
discard_check_output b R
enable_script_checks b
enable_local_script_checks b
disable_remote_exec b later
disable_update_check b quiet
disable_anonymous_signature b quiet
enable_central_service_config b later
service o R
services os R
check o R
checks os R
watches os R
default_intention_policy s later
log_level s R
log_json b
log_file s
log_rotate_duration d
log_rotate_bytes i
log_rotate_max_files i
enable_syslog b
syslog_facility s
auto_reload_config b
telemetry o
telemetry.metrics_prefix s
telemetry.disable_hostname b
telemetry.statsd_address s
telemetry.statsite_address s
telemetry.dogstatsd_addr s
telemetry.dogstatsd_tags l
telemetry.prometheus_retention_time d
telemetry.filter_default b
telemetry.prefix_filter l R
telemetry.enable_host_metrics b later
telemetry.disable_per_tenancy_usage_metrics b later
telemetry.retry_failed_connection b
telemetry.circonus_api_token x later
telemetry.circonus_api_app s later
telemetry.circonus_api_url s later
telemetry.circonus_submission_interval s later
telemetry.circonus_submission_url s later
telemetry.circonus_check_id s later
telemetry.circonus_check_force_metric_activation s later
telemetry.circonus_check_instance_id s later
telemetry.circonus_check_search_tag s later
telemetry.circonus_check_display_name s later
telemetry.circonus_check_tags s later
telemetry.circonus_broker_id s later
telemetry.circonus_broker_select_tag s later
acl o later
acl.enabled b
acl.default_policy s
acl.down_policy s
acl.policy_ttl d
acl.role_ttl d
acl.token_ttl d
acl.enable_token_replication b
acl.enable_token_persistence b
acl.enable_key_list_policy b
acl.msp_disable_bootstrap b
acl.tokens o
acl.tokens.initial_management x
acl.tokens.agent x
acl.tokens.agent_recovery x
acl.tokens.default x
acl.tokens.replication x
acl.tokens.config_file_service_registration x
acl.tokens.dns x
acl.tokens.master x
acl.tokens.agent_master x
acl.tokens.managed_service_provider any
acl_datacenter s later
acl_default_policy s later
acl_down_policy s later
acl_ttl d later
acl_token x later
acl_agent_token x later
acl_agent_master_token x later
acl_master_token x later
acl_replication_token x later
enable_acl_replication b later
acl_enable_key_list_policy b later
acl_enforce_version_8 b later
connect o later
connect.enabled b
connect.ca_provider s
connect.ca_config any
connect.enable_mesh_gateway_wan_federation b
connect.default_deregister_critical_service_after d
connect.test_ca_leaf_root_change_spread d
config_entries o later
config_entries.bootstrap any
xds o later
xds.update_max_per_second f
peering o later
peering.enabled b
primary_gateways l later
primary_gateways_interval d later
cloud o later
cloud.resource_id s
cloud.client_id s
cloud.client_secret x
cloud.hostname s
cloud.auth_url s
cloud.scada_address s
auto_config o later
auto_config.enabled b
auto_config.intro_token x
auto_config.intro_token_file s
auto_config.server_addresses l
auto_config.dns_sans l
auto_config.ip_sans l
auto_config.authorization o
auto_config.authorization.enabled b
auto_config.authorization.static any
read_replica b later
non_voting_server b later
segment s later
segments os later
partition s later
audit any later
license_path s later
reporting any later
snapshot_agent any later
experiments l later
`

// serviceTable and checkTable are the keys of one element of services and
// checks; they stand below services[], service, and so on.
const serviceTable = `
id s
name s
tags l
address s
port i
socket_path s
tagged_addresses any
meta m
token x
weights o
weights.passing i
weights.warning i
enable_tag_override b
check o
checks os
kind s
locality o
locality.region s
locality.zone s
proxy any later
connect any later
`

const checkTable = `
id s
name s
notes s
service_id s
serviceid s
token x
status s
args l
scriptargs l
http s
header any
method s
body s
disable_redirects b
output_max_size i
tcp s
tcp_use_tls b
udp s
grpc s
grpc_use_tls b
h2ping s
h2ping_use_tls b
os_service s
docker_container_id s
dockercontainerid s
shell s
alias_node s
alias_service s
interval d
timeout d
ttl d
tls_server_name s
tls_skip_verify b
tlsskipverify b
success_before_passing i
failures_before_warning i
failures_before_critical i
deregister_critical_service_after d
deregistercriticalserviceafter d
`

const watchTable = `
type s
key s
prefix s
service s
service_id s
tag any
passingonly b
state s
name s
filter s
stale b
datacenter s
token x
handler_type s
args l
handler s
http_handler_config o
http_handler_config.path s
http_handler_config.method s
http_handler_config.header any
http_handler_config.timeout d
http_handler_config.tls_skip_verify b
`

const segmentTable = `
name s
bind s
port i
advertise s
rpc_listener b
`

// gone are keys that were removed from the family before the versions it still
// loads, each with what to write instead.
var gone = map[string]string{
	"advertise_addrs":                   "advertise_addr and ports",
	"recursor":                          "recursors",
	"http_api_response_headers":         "http_config.response_headers",
	"statsd_addr":                       "telemetry.statsd_address",
	"statsite_addr":                     "telemetry.statsite_address",
	"statsite_prefix":                   "telemetry.metrics_prefix",
	"dogstatsd_addr":                    "telemetry.dogstatsd_addr",
	"dogstatsd_tags":                    "telemetry.dogstatsd_tags",
	"retry_join_ec2":                    "retry_join",
	"retry_join_gce":                    "retry_join",
	"retry_join_azure":                  "retry_join",
	"service.check.script":              "args",
	"telemetry.enable_deprecated_names": "",
}

// legacyTLS are the top-level keys of older configurations and the keys they
// fill where those are not set. The guides of the family use them, so they
// are not worth a warning.
var legacyTLS = []struct{ old, now string }{
	{"ca_file", "tls.defaults.ca_file"},
	{"ca_path", "tls.defaults.ca_path"},
	{"cert_file", "tls.defaults.cert_file"},
	{"key_file", "tls.defaults.key_file"},
	{"tls_cipher_suites", "tls.defaults.tls_cipher_suites"},
	{"tls_min_version", "tls.defaults.tls_min_version"},
	{"verify_incoming", "tls.defaults.verify_incoming"},
	{"verify_outgoing", "tls.defaults.verify_outgoing"},
	{"verify_incoming_rpc", "tls.internal_rpc.verify_incoming"},
	{"verify_server_hostname", "tls.internal_rpc.verify_server_hostname"},
	{"verify_incoming_https", "tls.https.verify_incoming"},
}
