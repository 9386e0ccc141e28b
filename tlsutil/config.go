package tlsutil

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Stanza is the settings of one protocol: internal RPC or HTTPS. Material in
// memory (…PEM) wins over files.
type Stanza struct {
	CAFile, CAPath, CertFile, KeyFile                    string
	CAPEM, CertPEM, KeyPEM                               []byte
	MinVersion                                           string
	CipherSuites                                         []string
	VerifyIncoming, VerifyOutgoing, VerifyServerHostname bool
}

// Config is what a Configurator is made of.
type Config struct {
	InternalRPC, HTTPS Stanza
	Datacenter, Domain string
	ServerName         string // the name this agent's own certificate goes by; unused where empty
	Server             bool
}

// Settings is what is in force for one protocol.
type Settings struct {
	HasCA, HasCert                                       bool
	VerifyIncoming, VerifyOutgoing, VerifyServerHostname bool
	MinVersion                                           uint16
	CipherSuites                                         string // as configured, "" for Go's choice
	CertRole                                             Role
	CertNotAfter, CANotAfter                             time.Time // zero without one
	// Material names the certificate and the CAs that are loaded: two that differ
	// have different ones.
	Material [sha256.Size]byte
}

var versions = map[string]uint16{
	"": tls.VersionTLS12, "TLS_AUTO": tls.VersionTLS12,
	"TLSv1_0": tls.VersionTLS10, "TLSv1_1": tls.VersionTLS11, "TLSv1_2": tls.VersionTLS12, "TLSv1_3": tls.VersionTLS13,
	"tls10": tls.VersionTLS10, "tls11": tls.VersionTLS11, "tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13,
}

// ParseMinVersion reads a tls_min_version: TLSv1_0 to TLSv1_3, TLS_AUTO, or the
// older tls10 to tls13. The default is TLS 1.2.
func ParseMinVersion(name string) (uint16, error) {
	v, ok := versions[name]
	if !ok {
		return 0, fmt.Errorf("unknown version %.32q: want TLS_AUTO, TLSv1_0, TLSv1_1, TLSv1_2 or TLSv1_3", name)
	}
	return v, nil
}

// suites are the cipher suites of TLS 1.2 and before that may be named. All
// have forward secrecy (config.md, section 5).
var suites = map[string]uint16{
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256":       tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384":       tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA":          tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA":          tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256":         tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384":         tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA":            tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA":            tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// ParseCipherSuites reads the names of a tls_cipher_suites.
func ParseCipherSuites(names []string) ([]uint16, error) {
	var ids []uint16
	for _, n := range names {
		if n = strings.TrimSpace(n); n == "" {
			continue
		}
		id, ok := suites[n]
		if !ok {
			return nil, fmt.Errorf("unknown or unsafe cipher suite %.64q", n)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// material is one loaded stanza. It is never changed after it was made.
type material struct {
	pool   *x509.CertPool // nil without a CA
	cas    []*x509.Certificate
	cert   *tls.Certificate // nil without one
	suites []uint16
	s      Settings
}

// load reads and checks one stanza. name starts the keys that errors name, as
// in "tls.internal_rpc".
func (c Config) load(name string, s Stanza, now time.Time) (*material, stanzaErrors) {
	m := &material{s: Settings{
		VerifyIncoming:       s.VerifyIncoming,
		VerifyOutgoing:       s.VerifyOutgoing || s.VerifyServerHostname, // CVE-2018-19653
		VerifyServerHostname: s.VerifyServerHostname,
		CipherSuites:         strings.Join(s.CipherSuites, ","),
	}}
	var errs stanzaErrors
	fail := func(key string, err error) { errs = append(errs, stanzaError{name, key, err}) }

	var err error
	if m.s.MinVersion, err = ParseMinVersion(s.MinVersion); err != nil {
		fail("tls_min_version", err)
	}
	if m.suites, err = ParseCipherSuites(s.CipherSuites); err != nil {
		fail("tls_cipher_suites", err)
	} else if len(m.suites) > 0 && m.s.MinVersion == tls.VersionTLS13 {
		fail("tls_cipher_suites", errors.New("cannot be set where tls_min_version is TLSv1_3: its suites are fixed"))
	}
	m.loadCA(s, fail)
	m.loadCert(s, fail)

	if m.pool == nil && len(errs) == 0 {
		for _, v := range []struct {
			on  bool
			key string
		}{{s.VerifyIncoming, "verify_incoming"}, {s.VerifyServerHostname, "verify_server_hostname"}, {s.VerifyOutgoing, "verify_outgoing"}} {
			if v.on {
				fail(v.key, errors.New("is on, but there is no CA to verify against: set ca_file or ca_path"))
			}
		}
	}
	if s.VerifyIncoming && m.cert == nil && len(errs) == 0 {
		fail("verify_incoming", errors.New("is on, but there is no certificate to answer with: set cert_file and key_file"))
	}
	if len(errs) == 0 {
		c.own(name, s, m, now, fail)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	m.s.HasCA, m.s.HasCert = m.pool != nil, m.cert != nil
	m.s.Material = m.digest()
	if m.cert != nil {
		m.s.CertNotAfter = m.cert.Leaf.NotAfter
		m.s.CertRole, _ = roleOf(m.cert.Leaf.DNSNames, c.Datacenter, c.Domain)
	}
	for _, ca := range m.cas {
		if m.s.CANotAfter.IsZero() || ca.NotAfter.Before(m.s.CANotAfter) {
			m.s.CANotAfter = ca.NotAfter
		}
	}
	return m, nil
}

// stanzaError is what is wrong with one key of a stanza.
type stanzaError struct {
	name, key string // name is "" for what both stanzas have from the same key
	err       error
}

func (e stanzaError) Error() string {
	if e.name == "" {
		return fmt.Sprintf("%s: %s", e.key, e.err)
	}
	return fmt.Sprintf("%s.%s: %s", e.name, e.key, e.err)
}

func (e stanzaError) Unwrap() error { return e.err }

type stanzaErrors []stanzaError

// join makes one error of those of two stanzas; nil if there are none.
func (es stanzaErrors) join(others stanzaErrors) error {
	return errors.Join(es.with(others)...)
}

// with is es and others. What both have, because both inherit the key, is said
// once and without a stanza's name, which may be nowhere in the file.
func (es stanzaErrors) with(others stanzaErrors) []error {
	var all []error
	same := func(a stanzaError) func(stanzaError) bool {
		return func(b stanzaError) bool { return a.key == b.key && a.err.Error() == b.err.Error() }
	}
	for _, e := range es {
		if slices.ContainsFunc(others, same(e)) {
			e.name = ""
		}
		all = append(all, e)
	}
	for _, e := range others {
		if !slices.ContainsFunc(es, same(e)) {
			all = append(all, e)
		}
	}
	return all
}

// rpcName is the stanza of internal RPC, whose certificate peers verify against
// the same CA as we do.
const rpcName = "tls.internal_rpc"

// own checks what this agent will show to others: a certificate that no peer
// would accept is better refused here, with the reason, than there.
func (c Config) own(name string, s Stanza, m *material, now time.Time, fail func(string, error)) {
	if m.cert == nil {
		return
	}
	leaf := m.cert.Leaf
	if err := validAt(leaf, now); err != nil {
		fail("cert_file", fmt.Errorf("%s: %w", s.CertFile, err))
		return
	}
	if name != rpcName || m.pool == nil {
		return
	}
	for _, ca := range m.cas {
		if leaf.CheckSignatureFrom(ca) == nil && validAt(ca, now) != nil {
			fail("ca_file", fmt.Errorf("CA %.64q: %w", ca.Subject.CommonName, validAt(ca, now)))
			return
		}
	}
	if err := verifyChain(leaf, m.cert.Certificate[1:], m.pool, now, x509.ExtKeyUsageAny); err != nil {
		fail("cert_file", fmt.Errorf("%s is not signed by the CA in %s%s: %w", s.CertFile, s.CAFile, s.CAPath, err))
	}
}

func (m *material) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, ca := range m.cas {
		h.Write(ca.Raw)
	}
	if m.cert != nil {
		h.Write([]byte("certificate"))
		for _, raw := range m.cert.Certificate {
			h.Write(raw)
		}
	}
	h.Sum(sum[:0])
	return sum
}

func (m *material) loadCA(s Stanza, fail func(string, error)) {
	add := func(key, file string, b []byte, err error) {
		var certs []*x509.Certificate
		if err == nil {
			if certs, err = ParseCertificates(b); err != nil {
				err = fmt.Errorf("%s: %w", file, err)
			}
		}
		if err != nil {
			fail(key, err)
			return
		}
		m.cas = append(m.cas, certs...)
	}
	switch {
	case s.CAPEM != nil:
		add("ca", "in memory", s.CAPEM, nil)
	case s.CAFile != "":
		b, err := readBounded(s.CAFile)
		add("ca_file", s.CAFile, b, err)
	case s.CAPath != "":
		files, err := caFiles(s.CAPath)
		if err != nil {
			fail("ca_path", fmt.Errorf("%s: %w", s.CAPath, err))
		}
		for _, f := range files {
			b, err := readBounded(f)
			add("ca_path", f, b, err)
		}
	}
	if len(m.cas) > 0 {
		m.pool = x509.NewCertPool()
		for _, c := range m.cas {
			m.pool.AddCert(c)
		}
	}
}

func (m *material) loadCert(s Stanza, fail func(string, error)) {
	certPEM, keyPEM := s.CertPEM, s.KeyPEM
	if certPEM == nil {
		switch {
		case s.CertFile == "" && s.KeyFile == "":
			return
		case s.KeyFile == "":
			fail("key_file", fmt.Errorf("is missing: cert_file is %s", s.CertFile))
			return
		case s.CertFile == "":
			fail("cert_file", fmt.Errorf("is missing: key_file is %s", s.KeyFile))
			return
		}
		var errCert, errKey error
		if certPEM, errCert = readBounded(s.CertFile); errCert != nil {
			fail("cert_file", errCert)
		}
		if keyPEM, errKey = readBounded(s.KeyFile); errKey != nil {
			fail("key_file", errKey)
		}
		if errCert != nil || errKey != nil {
			return
		}
	}
	cert, err := pair(certPEM, keyPEM)
	if err != nil {
		fail("cert_file", fmt.Errorf("%s with key_file %s: %w", s.CertFile, s.KeyFile, err))
		return
	}
	m.cert = cert
}

// Check reports what would fail, or surprise, when cfg is used at the time now:
// everything New checks, and besides that certificates and CAs that have
// expired or are not valid yet, a certificate that the CA did not sign, one
// whose name is not the agent's role, and key files that others may read. All
// problems are collected; warnings are for what works but should not stay.
func Check(cfg Config, now time.Time) (warnings []string, err error) {
	var errs []error
	var bad, odd [2]stanzaErrors
	for i, p := range []struct {
		name string
		s    Stanza
	}{{rpcName, cfg.InternalRPC}, {"tls.https", cfg.HTTPS}} {
		m, loadErrs := cfg.load(p.name, p.s, now)
		if loadErrs != nil {
			bad[i] = loadErrs
			continue
		}
		var checkErrs []error
		odd[i], checkErrs = cfg.check(p.name, p.s, m, now)
		errs = append(errs, checkErrs...)
	}
	for _, w := range odd[0].with(odd[1]) {
		warnings = append(warnings, w.Error())
	}
	return warnings, errors.Join(append([]error{bad[0].join(bad[1])}, errs...)...)
}

// expirySoon is when Check begins to warn.
const expirySoon = 30 * 24 * time.Hour

func (c Config) check(name string, s Stanza, m *material, now time.Time) (warnings stanzaErrors, errs []error) {
	warn := func(key, format string, args ...any) {
		warnings = append(warnings, stanzaError{name, key, fmt.Errorf(format, args...)})
	}
	for _, ca := range m.cas {
		if err := validAt(ca, now); err != nil {
			errs = append(errs, fmt.Errorf("%s: CA %.64q: %w", name, ca.Subject.CommonName, err))
		}
	}
	if m.s.MinVersion < tls.VersionTLS12 {
		warn("tls_min_version", "it allows versions of TLS that are broken")
	}
	if m.cert == nil {
		return warnings, errs
	}
	leaf := m.cert.Leaf
	if leaf.NotAfter.Sub(now) < expirySoon {
		warn("cert_file", "%s expires in %d days", s.CertFile, int(leaf.NotAfter.Sub(now).Hours()/24))
	}
	if name == rpcName && c.Server && m.s.CertRole != RoleServer {
		err := fmt.Errorf("%s has no name %s, so others do not take this agent for a server", s.CertFile, ServerName(c.Datacenter, c.Domain))
		if e := (stanzaError{name, "cert_file", err}); s.VerifyServerHostname {
			errs = append(errs, e)
		} else {
			warnings = append(warnings, e)
		}
	}
	if s.KeyFile != "" && runtime.GOOS != "windows" {
		if st, err := os.Stat(s.KeyFile); err == nil && st.Mode().Perm()&0o077 != 0 {
			warn("key_file", "%s can be read by others (mode %#o): chmod 600", s.KeyFile, st.Mode().Perm())
		}
	}
	return warnings, errs
}

// validAt says whether a certificate's dates hold, with both clocks in the
// error.
func validAt(c *x509.Certificate, now time.Time) error {
	const layout = time.RFC3339
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("expired at %s (now %s)", c.NotAfter.UTC().Format(layout), now.UTC().Format(layout))
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s (now %s)", c.NotBefore.UTC().Format(layout), now.UTC().Format(layout))
	}
	return nil
}
