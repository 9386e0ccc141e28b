package config

import (
	"encoding/base64"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// builder turns the merged tree, whose types are known to be right, into a
// Config and checks what no single key can be checked for.
type builder struct {
	*problems
	tree *node
	env  env
	dev  bool

	resolved map[string]string // addresses after templates and defaults
}

func (b *builder) isSet(key string) bool { return b.tree.get(key) != nil }

// at names the key and where it was written, to start an error with.
func (b *builder) at(key string) string {
	if n := b.tree.get(key); n != nil && n.at.file != builtInName {
		if n.was != "" {
			key = n.was
		}
		return n.at.String() + ": key \"" + key + "\""
	}
	return "key \"" + key + "\""
}

func (b *builder) str(key string) string {
	if n := b.tree.get(key); n != nil {
		return n.str
	}
	return ""
}

func (b *builder) flag(key string, unset bool) bool {
	if n := b.tree.get(key); n != nil {
		return n.b
	}
	return unset
}

func (b *builder) num(key string) int {
	if n := b.tree.get(key); n != nil {
		return int(n.i)
	}
	return 0
}

// atLeast is num with a lower bound.
func (b *builder) atLeast(key string, least int) int {
	n := b.num(key)
	if n < least {
		b.errorf("%s must be %d or more", b.at(key), least)
	}
	return n
}

func (b *builder) duration(key string) time.Duration {
	if n := b.tree.get(key); n != nil {
		d, _ := time.ParseDuration(n.str) // check has parsed it already
		return d
	}
	return 0
}

// positive is duration for what must not be zero.
func (b *builder) positive(key string) time.Duration {
	d := b.duration(key)
	if d <= 0 {
		b.errorf("%s must be more than zero", b.at(key))
	}
	return d
}

func (b *builder) list(key string) []string {
	var out []string
	if n := b.tree.get(key); n != nil {
		for _, item := range n.list {
			out = append(out, item.str)
		}
	}
	return out
}

func (b *builder) dict(key string) map[string]string {
	out := map[string]string{}
	if n := b.tree.get(key); n != nil {
		for k, v := range n.obj {
			out[k] = v.str
		}
	}
	return out
}

func (b *builder) prefixes(key string) []netip.Prefix {
	var out []netip.Prefix
	n := b.tree.get(key)
	if n == nil {
		return nil
	}
	for _, item := range n.list {
		pre, err := netip.ParsePrefix(strings.TrimSpace(item.str))
		if err != nil {
			b.errorf("%s: key %q: %q is not a CIDR such as 10.0.0.0/8", item.at, key, cut(item.str))
			continue
		}
		out = append(out, pre.Masked())
	}
	return out
}

func (b *builder) build() *Config {
	b.resolved = map[string]string{}
	c := &Config{}
	c.Node = b.node()
	c.Server = b.server(c.Node)
	c.Ports = b.ports()
	c.Network = b.network()
	c.TLS = b.tls()
	c.HTTP = b.http()
	c.Listeners = b.listeners(c)
	c.Join = b.join(c.Node)
	c.Gossip = b.gossip()
	c.Limits = b.limits()
	c.Log = b.log()
	c.Telemetry = b.telemetry()
	c.RunTime.AutoReload = b.flag("auto_reload_config", false)
	c.Health = b.health()
	c.Services, c.Checks, c.Watches = b.services(c.Health), b.checks(c.Health), b.watches()
	b.combinations(c)
	return c
}

var (
	datacenterName = regexp.MustCompile(`^[a-z0-9_-]+$`)
	dnsLabel       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	uuidForm       = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	metaKey        = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

func (b *builder) node() Node {
	n := Node{
		Name:              strings.TrimSpace(b.str("node_name")),
		ID:                strings.ToLower(strings.TrimSpace(b.str("node_id"))),
		DisableHostNodeID: b.flag("disable_host_node_id", true),
		Meta:              b.dict("node_meta"),
		Datacenter:        strings.ToLower(b.str("datacenter")),
		PrimaryDatacenter: strings.ToLower(b.str("primary_datacenter")),
		Domain:            strings.TrimSuffix(b.str("domain"), "."),
		AltDomain:         strings.TrimSuffix(b.str("alt_domain"), "."),
		DataDir:           b.str("data_dir"),
		Server:            b.flag("server", false),
		ServerName:        b.str("server_name"),
		PidFile:           b.str("pid_file"),
		Dev:               b.dev,
	}
	if n.Name == "" {
		host, err := b.env.hostname()
		if err != nil {
			b.errorf("key \"node_name\" is not set and the host name cannot be read: %w", err)
		}
		n.Name = strings.TrimSpace(host)
	}
	b.resolved["node_name"] = n.Name
	b.checkNode(&n)
	return n
}

func (b *builder) server(n Node) ServerOptions {
	s := ServerOptions{
		Bootstrap:       b.flag("bootstrap", false),
		BootstrapExpect: b.num("bootstrap_expect"),
		Protocol:        b.num("protocol"),
		RaftProtocol:    b.num("raft_protocol"),
		Raft:            b.raft(),
		Autopilot:       b.autopilot(),
		SessionTTLMin:   b.duration("session_ttl_min"),
	}
	if s.SessionTTLMin == 0 {
		s.SessionTTLMin = sessionTTLMin
	}
	b.checkServer(n, &s)
	return s
}

func (b *builder) join(n Node) Join {
	j := Join{
		RetryLAN:                  b.joinAddrs("retry_join"),
		RetryWAN:                  b.joinAddrs("retry_join_wan"),
		RetryIntervalLAN:          b.positive("retry_interval"),
		RetryIntervalWAN:          b.positive("retry_interval_wan"),
		RetryMaxLAN:               b.atLeast("retry_max", 0),
		RetryMaxWAN:               b.atLeast("retry_max_wan", 0),
		RejoinAfterLeave:          b.flag("rejoin_after_leave", false),
		LeaveOnTerminate:          b.flag("leave_on_terminate", !n.Server),
		SkipLeaveOnInterrupt:      b.flag("skip_leave_on_interrupt", n.Server),
		ReconnectTimeoutLAN:       b.duration("reconnect_timeout"),
		ReconnectTimeoutWAN:       b.duration("reconnect_timeout_wan"),
		AdvertiseReconnectTimeout: b.duration("advertise_reconnect_timeout"),
		LeaveDrainTime:            b.duration("performance.leave_drain_time"),
		ServerRejoinAgeMax:        b.duration("server_rejoin_age_max"),
	}
	if len(j.RetryWAN) > 0 && !n.Server {
		b.warnf("%s has no effect on a client agent", b.at("retry_join_wan"))
	}
	if j.AdvertiseReconnectTimeout > 0 && n.Server {
		b.errorf("%s is for client agents only", b.at("advertise_reconnect_timeout"))
	}
	if j.ServerRejoinAgeMax < 6*time.Hour {
		b.errorf("%s must be 6h or more", b.at("server_rejoin_age_max"))
	}
	return j
}

func (b *builder) gossip() Gossip {
	g := Gossip{
		Encrypt:            b.gossipKey(),
		VerifyIncoming:     b.flag("encrypt_verify_incoming", true),
		VerifyOutgoing:     b.flag("encrypt_verify_outgoing", true),
		DisableKeyringFile: b.flag("disable_keyring_file", false),
		AllowPlaintext:     b.flag("encrypt_allow_plaintext", false),
		LAN:                b.timers("gossip_lan."),
		WAN:                b.timers("gossip_wan."),
	}
	if g.AllowPlaintext && !g.Encrypt.Empty() {
		b.warnf("%s has no effect beside \"encrypt\"", b.at("encrypt_allow_plaintext"))
	}
	return g
}

func (b *builder) gossipKey() Secret {
	text := b.str("encrypt")
	if text == "" {
		if b.isSet("encrypt") {
			b.errorf("%s is empty", b.at("encrypt"))
		}
		return Secret{}
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b.errorf("%s is not valid base64", b.at("encrypt"))
		return Secret{}
	}
	switch len(raw) {
	case 16, 24, 32:
		return NewSecret(raw)
	}
	b.errorf("%s must be 16, 24 or 32 bytes in base64; it is %d bytes", b.at("encrypt"), len(raw))
	return Secret{}
}

func (b *builder) timers(prefix string) GossipTimers {
	return GossipTimers{
		GossipNodes:    b.atLeast(prefix+"gossip_nodes", 1),
		GossipInterval: b.positive(prefix + "gossip_interval"),
		ProbeInterval:  b.positive(prefix + "probe_interval"),
		ProbeTimeout:   b.positive(prefix + "probe_timeout"),
		SuspicionMult:  b.atLeast(prefix+"suspicion_mult", 1),
		RetransmitMult: b.atLeast(prefix+"retransmit_mult", 1),
	}
}

func (b *builder) limits() Limits {
	l := Limits{
		HTTPMaxConnsPerClient: b.atLeast("limits.http_max_conns_per_client", 0),
		HTTPSHandshakeTimeout: b.positive("limits.https_handshake_timeout"),
		RPCHandshakeTimeout:   b.positive("limits.rpc_handshake_timeout"),
		RPCClientTimeout:      b.positive("limits.rpc_client_timeout"),
		RPCHoldTimeout:        b.positive("performance.rpc_hold_timeout"),
		RPCMaxConnsPerClient:  b.atLeast("limits.rpc_max_conns_per_client", 0),
		RPCMaxBurst:           b.atLeast("limits.rpc_max_burst", 0),
		KVMaxValueSize:        b.atLeast("limits.kv_max_value_size", 1),
		DefaultQueryTime:      b.positive("default_query_time"),
		MaxQueryTime:          b.positive("max_query_time"),
	}
	l.TxnMaxReqLen = max(b.atLeast("limits.txn_max_req_len", 1), l.KVMaxValueSize)
	if n := b.tree.get("limits.rpc_rate"); n != nil && n.f > 0 {
		l.RPCRate = n.f
	}
	if l.RPCClientTimeout > time.Hour {
		b.errorf("%s must be 1h or less", b.at("limits.rpc_client_timeout"))
	}
	const kept = 20 // descriptors for everything that is not an API connection
	if most, ok := b.env.maxFiles(); ok && uint64(max(l.HTTPMaxConnsPerClient, 0))+kept > most {
		b.errorf("%s is %d, but this process may open %d files of which %d are kept back",
			b.at("limits.http_max_conns_per_client"), l.HTTPMaxConnsPerClient, most, kept)
	}
	return l
}

func (b *builder) http() HTTP {
	return HTTP{
		BlockEndpoints:     b.list("http_config.block_endpoints"),
		ResponseHeaders:    b.responseHeaders(),
		AllowWriteHTTPFrom: b.prefixes("http_config.allow_write_http_from"),
		MaxHeaderBytes:     b.atLeast("http_config.max_header_bytes", 0),
		DisablePathFilter:  b.flag("disable_http_unprintable_char_filter", false),
		EnableDebug:        b.flag("enable_debug", false),
		UseCache:           b.flag("http_config.use_cache", true),
		DisableCoordinates: b.flag("disable_coordinates", false),
		TranslateWAN:       b.flag("translate_wan_addrs", false),
		DiscoveryMaxStale:  b.duration("discovery_max_stale"),
		RPCAuthKey:         b.rpcAuthKey(),
	}
}

func (b *builder) rpcAuthKey() Secret {
	if b.isSet("rpc_auth_key") && b.str("rpc_auth_key") == "" {
		b.errorf("%s is empty", b.at("rpc_auth_key"))
	}
	return NewSecret([]byte(b.str("rpc_auth_key")))
}

// responseHeaders refuses what would let a value end the header it stands in.
func (b *builder) responseHeaders() map[string]string {
	const key = "http_config.response_headers"
	out := b.dict(key)
	for name, value := range out {
		if name == "" || strings.ContainsAny(name, "\r\n\x00: ") || strings.ContainsAny(value, "\r\n\x00") {
			b.errorf("%s: header %q cannot be sent", b.at(key), cut(name))
		}
	}
	return out
}

func (b *builder) log() Log {
	l := Log{
		Level:          strings.ToUpper(b.str("log_level")),
		JSON:           b.flag("log_json", false),
		File:           b.str("log_file"),
		RotateDuration: b.duration("log_rotate_duration"),
		RotateBytes:    b.atLeast("log_rotate_bytes", 0),
		RotateMaxFiles: b.atLeast("log_rotate_max_files", -1),
		Syslog:         b.flag("enable_syslog", false),
		SyslogFacility: strings.ToUpper(b.str("syslog_facility")),
	}
	switch l.Level {
	case "TRACE", "DEBUG", "INFO", "WARN", "ERROR":
	case "ERR":
		l.Level = "ERROR"
	default:
		b.errorf("%s must be trace, debug, info, warn or error, not %q", b.at("log_level"), cut(b.str("log_level")))
	}
	if l.File != "" && l.RotateDuration == 0 {
		l.RotateDuration = 24 * time.Hour
	}
	if !syslogFacilities[l.SyslogFacility] {
		b.errorf("%s: %q is not a syslog facility", b.at("syslog_facility"), cut(l.SyslogFacility))
	}
	return l
}

var syslogFacilities = func() map[string]bool {
	known := map[string]bool{}
	for name := range strings.FieldsSeq("KERN USER MAIL DAEMON AUTH SYSLOG LPR NEWS UUCP CRON AUTHPRIV FTP " +
		"LOCAL0 LOCAL1 LOCAL2 LOCAL3 LOCAL4 LOCAL5 LOCAL6 LOCAL7") {
		known[name] = true
	}
	return known
}()

func (b *builder) telemetry() Telemetry {
	t := Telemetry{
		Prefix:                   b.str("telemetry.metrics_prefix"),
		DisableHostname:          b.flag("telemetry.disable_hostname", false),
		StatsdAddr:               b.str("telemetry.statsd_address"),
		StatsiteAddr:             b.str("telemetry.statsite_address"),
		DogstatsdAddr:            b.str("telemetry.dogstatsd_addr"),
		DogstatsdTags:            b.list("telemetry.dogstatsd_tags"),
		PrometheusRetention:      b.duration("telemetry.prometheus_retention_time"),
		FilterDefault:            b.flag("telemetry.filter_default", true),
		RetryFailedConfiguration: b.flag("telemetry.retry_failed_connection", true),
	}
	for _, rule := range b.list("telemetry.prefix_filter") {
		switch {
		case strings.HasPrefix(rule, "+"):
			t.AllowedPrefixes = append(t.AllowedPrefixes, rule[1:])
		case strings.HasPrefix(rule, "-"):
			t.BlockedPrefixes = append(t.BlockedPrefixes, rule[1:])
		default:
			b.warnf("%s: rule %q begins with neither + nor - and is ignored", b.at("telemetry.prefix_filter"), cut(rule))
		}
	}
	return t
}
