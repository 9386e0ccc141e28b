package config

import (
	"slices"
	"strings"

	"lictor/tlsutil"
)

var tlsVersions = map[string]string{
	"": "TLSv1_2", "TLS_AUTO": "TLSv1_2", "TLSv1_0": "TLSv1_0", "TLSv1_1": "TLSv1_1", "TLSv1_2": "TLSv1_2", "TLSv1_3": "TLSv1_3",
}

// cipherSuites are the ones that may be asked for; they matter below TLS 1.3 only.
var cipherSuites = func() map[string]bool {
	known := map[string]bool{}
	for _, auth := range []string{"ECDSA", "RSA"} {
		for _, c := range []string{"CHACHA20_POLY1305_SHA256", "AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "AES_128_CBC_SHA", "AES_256_CBC_SHA"} {
			known["TLS_ECDHE_"+auth+"_WITH_"+c] = true
		}
	}
	return known
}()

func (b *builder) tls() TLS {
	for _, key := range []string{"tls.https.verify_server_hostname", "tls.grpc.verify_server_hostname", "tls.grpc.verify_outgoing",
		"tls.defaults.use_auto_cert", "tls.internal_rpc.use_auto_cert", "tls.https.use_auto_cert"} {
		if b.isSet(key) {
			b.errorf("%s is not allowed there", b.at(key))
		}
	}
	t := TLS{InternalRPC: b.stanza("tls.internal_rpc."), HTTPS: b.stanza("tls.https.")}
	t.HTTPS.VerifyServerHostname = false
	if t.InternalRPC.VerifyServerHostname {
		t.InternalRPC.VerifyOutgoing = true // a name is only worth what the chain is (CVE-2018-19653)
	}
	return t
}

// stanza reads one protocol's keys; what is not set comes from tls.defaults.
func (b *builder) stanza(prefix string) TLSStanza {
	from := func(key string) string { // where the value comes from
		if b.isSet(prefix + key) {
			return prefix + key
		}
		return "tls.defaults." + key
	}
	s := TLSStanza{
		CAFile:               b.str(from("ca_file")),
		CAPath:               b.str(from("ca_path")),
		CertFile:             b.str(from("cert_file")),
		KeyFile:              b.str(from("key_file")),
		VerifyIncoming:       b.flag(from("verify_incoming"), false),
		VerifyOutgoing:       b.flag(from("verify_outgoing"), false),
		VerifyServerHostname: b.flag(from("verify_server_hostname"), false),
	}
	version := from("tls_min_version")
	known, ok := tlsVersions[b.str(version)]
	if !ok {
		b.errOnce(version, "%s must be one of TLS_AUTO, TLSv1_0, TLSv1_1, TLSv1_2, TLSv1_3", b.at(version))
	}
	s.MinVersion = known
	if known == "TLSv1_0" || known == "TLSv1_1" {
		b.once(version, "%s: versions below TLSv1_2 are not secure", b.at(version))
	}
	suites := from("tls_cipher_suites")
	if text := b.str(suites); text != "" {
		inherited := strings.HasPrefix(suites, "tls.defaults.") && b.isSet(prefix+"tls_min_version")
		switch {
		case known == "TLSv1_3" && inherited:
		case known == "TLSv1_3":
			b.errOnce(suites, "%s has no effect with TLSv1_3", b.at(suites))
		default:
			s.CipherSuites = b.suites(suites, text)
		}
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		set, missing := from("cert_file"), from("key_file")
		if s.CertFile == "" {
			set, missing = missing, set
		}
		if n := b.tree.get(set); n != nil && n.was != "" { // speak as the file does
			missing = strings.TrimPrefix(missing, "tls.defaults.")
		}
		b.errOnce(set, "%s is set and \"%s\" is not", b.at(set), missing)
	}
	return s
}

func (b *builder) suites(key, text string) []string {
	var out []string
	for name := range strings.SplitSeq(text, ",") {
		if !cipherSuites[name] {
			b.errOnce(key+name, "%s: %q is not a cipher suite that may be used", b.at(key), cut(name))
			continue
		}
		out = append(out, name)
	}
	return out
}

// errOnce is errorf for what both stanzas may inherit from one key.
func (p *problems) errOnce(key, format string, args ...any) {
	if p.warned == nil {
		p.warned = map[string]bool{}
	}
	if !p.warned["error "+key] {
		p.warned["error "+key] = true
		p.errorf(format, args...)
	}
}

// tlsAsked refuses settings that ask for TLS without what TLS needs: the
// alternative is an agent that goes on in the clear.
func (b *builder) tlsAsked(c *Config) {
	rpc, https := c.TLS.InternalRPC, c.TLS.HTTPS
	need := func(on bool, protocol, asked string, ok bool, what string) {
		if !on || ok {
			return
		}
		key := "tls." + protocol + "." + asked
		if !b.isSet(key) {
			key = "tls.defaults." + asked
		}
		b.errOnce(key+what, "%s is on and no %s is set", b.at(key), what)
	}
	hasCA := rpc.CAFile != "" || rpc.CAPath != ""
	const ca, cert = `"ca_file" or "ca_path"`, `"cert_file" and "key_file"`
	if rpc.VerifyServerHostname {
		need(true, "internal_rpc", "verify_server_hostname", hasCA, ca)
	} else {
		need(rpc.VerifyOutgoing, "internal_rpc", "verify_outgoing", hasCA, ca)
	}
	need(rpc.VerifyIncoming, "internal_rpc", "verify_incoming", hasCA, ca)
	need(rpc.VerifyIncoming, "internal_rpc", "verify_incoming", rpc.CertFile != "", cert)
	if len(c.Listeners.HTTPS) > 0 {
		need(https.VerifyIncoming, "https", "verify_incoming", https.CAFile != "" || https.CAPath != "", ca)
		if https.CertFile == "" {
			b.errorf("%s is on and no \"cert_file\" and \"key_file\" are set", b.at("ports.https"))
		}
	}
}

// TLSUtil is the part of c that tlsutil needs. In dev mode the caller adds the
// material, which is in memory.
func (c *Config) TLSUtil() tlsutil.Config {
	stanza := func(s TLSStanza) tlsutil.Stanza {
		return tlsutil.Stanza{
			CAFile: s.CAFile, CAPath: s.CAPath, CertFile: s.CertFile, KeyFile: s.KeyFile,
			MinVersion: s.MinVersion, CipherSuites: slices.Clone(s.CipherSuites),
			VerifyIncoming: s.VerifyIncoming, VerifyOutgoing: s.VerifyOutgoing, VerifyServerHostname: s.VerifyServerHostname,
		}
	}
	return tlsutil.Config{
		InternalRPC: stanza(c.TLS.InternalRPC),
		HTTPS:       stanza(c.TLS.HTTPS),
		Datacenter:  c.Node.Datacenter,
		Domain:      c.Node.Domain,
		ServerName:  c.Node.ServerName,
		Server:      c.Node.Server,
	}
}

// DebugMap is every setting by its key for people to look at; secrets that
// are set read "hidden". The caller owns the map.
func (c *Config) DebugMap() map[string]any {
	out := make(map[string]any, len(c.settings))
	for k, v := range c.settings {
		out[k] = v.shown()
	}
	return out
}
