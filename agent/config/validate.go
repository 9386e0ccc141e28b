package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

func (b *builder) checkNode(n *Node) {
	if n.Name == "" || len(n.Name) > 128 || strings.ContainsFunc(n.Name, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' || r == '/' }) {
		b.errorf("%s must be 1 to 128 printable characters without blanks or slashes", b.at("node_name"))
	} else if !dnsLabel.MatchString(n.Name) {
		b.warnf("%s: %q cannot be looked up by DNS", b.at("node_name"), n.Name)
	}
	if n.ID != "" && !uuidForm.MatchString(n.ID) {
		b.errorf("%s must be a UUID", b.at("node_id"))
	}
	for key, name := range map[string]string{"datacenter": n.Datacenter, "primary_datacenter": n.PrimaryDatacenter} {
		switch {
		case name == "" && key == "primary_datacenter":
		case !datacenterName.MatchString(name) || len(name) > 63:
			b.errorf("%s must be 1 to 63 of a-z, 0-9, - and _", b.at(key))
		case !dnsLabel.MatchString(name):
			b.warnf("%s: %q cannot be looked up by DNS", b.at(key), name)
		}
	}
	if n.PrimaryDatacenter == "" {
		n.PrimaryDatacenter = n.Datacenter
	}
	if n.Domain == "" || strings.ContainsAny(n.Domain, " /\\\r\n\x00") {
		b.errorf("%s must be a DNS name", b.at("domain"))
	}
	first, _, _ := strings.Cut(strings.ToLower(n.AltDomain), ".")
	if slices.Contains([]string{"service", "connect", "node", "query", "addr", n.Datacenter}, first) && n.AltDomain != "" {
		b.errorf("%s must not begin with %q", b.at("alt_domain"), first)
	}
	b.checkMeta(n.Meta)
	b.checkDataDir(n)
}

func (b *builder) checkMeta(meta map[string]string) {
	at := b.at("node_meta")
	if len(meta) > 64 {
		b.errorf("%s has %d pairs, at most 64 are allowed", at, len(meta))
	}
	for k, v := range meta {
		switch {
		case len(k) > 128 || !metaKey.MatchString(k):
			b.errorf("%s: name %q must be 1 to 128 of A-Z, a-z, 0-9, - and _", at, cut(k))
		case strings.HasPrefix(k, "consul-"):
			b.errorf("%s: names that begin with \"consul-\" are reserved (%q)", at, k)
		case len(v) > 512:
			b.errorf("%s: the value of %q is longer than 512 bytes", at, k)
		}
	}
}

func (b *builder) checkDataDir(n *Node) {
	if n.Dev {
		if n.DataDir != "" {
			b.warnf("%s is ignored with -dev: nothing is written to disk", b.at("data_dir"))
		}
		n.DataDir = ""
		return
	}
	if n.DataDir == "" {
		b.errorf("key \"data_dir\" must be set")
		return
	}
	if info, err := os.Stat(n.DataDir); err == nil && !info.IsDir() {
		b.errorf("%s: %s is not a directory", b.at("data_dir"), n.DataDir)
	}
	if n.Server {
		if _, err := os.Stat(filepath.Join(n.DataDir, "mdb")); err == nil {
			b.errorf("%s holds data of a version that is too old (mdb)", b.at("data_dir"))
		}
	}
}

func (b *builder) checkServer(n Node, s *ServerOptions) {
	if s.Bootstrap && !n.Server {
		b.errorf("%s needs \"server\"", b.at("bootstrap"))
	}
	switch e := s.BootstrapExpect; {
	case e < 0:
		b.errorf("%s must not be negative", b.at("bootstrap_expect"))
	case e > 0 && b.dev:
		b.errorf("%s cannot be used with -dev", b.at("bootstrap_expect"))
	case e > 0 && !n.Server:
		b.errorf("%s needs \"server\"", b.at("bootstrap_expect"))
	case e > 1 && s.Bootstrap:
		b.errorf("%s and \"bootstrap\" exclude each other", b.at("bootstrap_expect"))
	case e == 1:
		b.warnf("%s is 1: this server elects itself, as with \"bootstrap\"", b.at("bootstrap_expect"))
		s.Bootstrap, s.BootstrapExpect = true, 0
	case e == 2:
		b.warnf("%s is 2: a cluster of 2 servers cannot lose one", b.at("bootstrap_expect"))
	case e > 2 && e%2 == 0:
		b.warnf("%s is even: it survives no more failures than one server less", b.at("bootstrap_expect"))
	}
	if s.Protocol < 2 || s.Protocol > 3 {
		b.errorf("%s must be 2 or 3", b.at("protocol"))
	}
	if s.RaftProtocol != 3 {
		b.errorf("%s must be 3", b.at("raft_protocol"))
	}
}

// combinations are the checks that need more than one section.
func (b *builder) combinations(c *Config) {
	b.collisions(c)
	if !b.dev {
		b.tlsAsked(c)
	}
	for _, key := range []string{"segment", "segments"} {
		if n := b.tree.get(key); n != nil && (n.str != "" || len(n.list) > 0) {
			b.errorf("%s: network segments are not supported", b.at(key))
		}
	}
	if n := b.tree.get("primary_gateways"); n != nil && len(n.list) > 0 && (!c.Node.Server || c.Node.PrimaryDatacenter == c.Node.Datacenter) {
		b.errorf("%s is for servers outside the primary datacenter", b.at("primary_gateways"))
	}
	autoTLS, autoConf := b.flag("auto_encrypt.tls", false), b.flag("auto_config.enabled", false)
	if autoTLS && c.Node.Server {
		b.errorf("%s is for client agents only", b.at("auto_encrypt.tls"))
	}
	if b.flag("auto_encrypt.allow_tls", false) {
		if !c.Node.Server {
			b.errorf("%s is for servers only", b.at("auto_encrypt.allow_tls"))
		} else if !c.TLS.InternalRPC.VerifyIncoming {
			b.warnf("%s without \"verify_incoming\" lets anyone ask", b.at("auto_encrypt.allow_tls"))
		}
	}
	if autoTLS && autoConf {
		b.errorf("%s and \"auto_config.enabled\" exclude each other", b.at("auto_encrypt.tls"))
	}
	// Both promise encryption that this agent cannot set up: going on in the
	// clear would break the promise.
	for key, on := range map[string]bool{"auto_encrypt.tls": autoTLS, "auto_config.enabled": autoConf} {
		if on && !c.TLS.InternalRPC.VerifyOutgoing {
			b.errorf("%s asks for TLS in a way that is not supported yet; set \"ca_file\" and \"verify_outgoing\"", b.at(key))
		}
	}
	if c.Health.EnableScripts && len(c.HTTP.AllowWriteHTTPFrom) == 0 {
		b.warnf("script checks are on without \"allow_write_http_from\": whoever reaches the API may run programs")
	}
	b.ranges()
}

// ranges are the bounds of keys that are not acted upon yet.
func (b *builder) ranges() {
	least := func(key string, least int) {
		if b.isSet(key) {
			b.atLeast(key, least)
		}
	}
	least("dns_config.udp_answer_limit", 0)
	least("dns_config.a_record_limit", 0)
	least("cache.entry_fetch_max_burst", 1)
	if n := b.tree.get("cache.entry_fetch_rate"); n != nil && n.f <= 0 {
		b.errorf("%s must be more than zero", b.at("cache.entry_fetch_rate"))
	}
	b.oneOf("limits.request_limits.mode", "disabled", "permissive", "enforcing")
	b.oneOf("dns_config.recursor_strategy", "sequential", "random")
	for _, r := range b.list("recursors") {
		if strings.HasPrefix(r, "unix:") || r == "0.0.0.0" || r == "::" || strings.HasPrefix(r, "0.0.0.0:") || strings.HasPrefix(r, "[::]") {
			b.errorf("%s: %q cannot be asked", b.at("recursors"), cut(r))
		}
	}
	if b.flag("ui_config.enabled", false) && b.str("ui_config.dir") != "" {
		b.errorf("%s and \"ui_config.enabled\" exclude each other", b.at("ui_config.dir"))
	}
	if b.str("locality.zone") != "" && b.str("locality.region") == "" {
		b.errorf("%s needs \"locality.region\"", b.at("locality.zone"))
	}
}

func (b *builder) oneOf(key string, known ...string) {
	if b.isSet(key) && b.str(key) != "" && !slices.Contains(known, b.str(key)) {
		b.errorf("%s must be one of %s", b.at(key), strings.Join(known, ", "))
	}
}
