package tlsutil

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ErrNoCertificate: TLS cannot be served or a certificate shown, because none
// is configured.
var ErrNoCertificate = errors.New("tlsutil: no certificate is configured (cert_file, key_file)")

// Configurator makes tls.Configs from settings that may be replaced while it is
// in use. What it hands out follows the settings in force at each handshake,
// not those at the time of the call. All methods may be called from any
// goroutine.
type Configurator struct {
	log   hclog.Logger
	state atomic.Pointer[state]

	update sync.Mutex // one Update at a time; guards hooks
	hooks  []func()
}

// state is one complete, checked set of settings. It is never changed.
type state struct {
	cfg        Config
	rpc, https *material
	inRPC      *tls.Config // nil without a certificate
	inHTTPS    *tls.Config
}

// New loads and checks everything cfg names. The error lists every problem with
// the key and file it is about, never what is in a file.
func New(cfg Config, log hclog.Logger) (*Configurator, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	st, err := newState(cfg)
	if err != nil {
		return nil, err
	}
	c := &Configurator{log: log}
	c.state.Store(st)
	c.logMaterial(st)
	return c, nil
}

func newState(cfg Config) (*state, error) {
	st := &state{cfg: cfg}
	var errRPC, errHTTPS stanzaErrors
	now := time.Now()
	st.rpc, errRPC = cfg.load(rpcName, cfg.InternalRPC, now)
	st.https, errHTTPS = cfg.load("tls.https", cfg.HTTPS, now)
	if err := errRPC.join(errHTTPS); err != nil {
		return nil, err
	}
	st.inRPC = st.rpc.incoming()
	if st.inRPC != nil && !st.rpc.s.VerifyIncoming {
		// Who shows a certificate all the same is known by it (Identify).
		st.inRPC.ClientAuth = tls.RequestClientCert
	}
	if st.inHTTPS = st.https.incoming(); st.inHTTPS != nil {
		st.inHTTPS.NextProtos = []string{"h2", "http/1.1"}
	}
	return st, nil
}

// incoming is the server side of a stanza; nil without a certificate.
//
// Session tickets are off: a resumed session would carry a verdict of the past
// over a change of the CA (CVE-2025-68121), and connections are long-lived
// enough not to miss them.
func (m *material) incoming() *tls.Config {
	if m.cert == nil {
		return nil
	}
	tc := &tls.Config{
		Certificates:           []tls.Certificate{*m.cert},
		MinVersion:             m.s.MinVersion,
		CipherSuites:           m.suites,
		SessionTicketsDisabled: true,
	}
	if m.s.VerifyIncoming {
		tc.ClientAuth = tls.RequireAndVerifyClientCert
		tc.ClientCAs = m.pool
	}
	return tc
}

func (c *Configurator) logMaterial(st *state) {
	for _, p := range []struct {
		name string
		m    *material
	}{{"internal_rpc", st.rpc}, {"https", st.https}} {
		if p.m.cert == nil {
			continue
		}
		id := identityOf(p.m.cert.Leaf, st.cfg.Datacenter, st.cfg.Domain)
		c.log.Debug("certificate loaded", "for", p.name, "certificate", id.String(), "key", keyType(p.m.cert.Leaf.PublicKey))
	}
}

// Update replaces the settings. The new ones are built and checked completely
// first; on an error the old ones stay in force. After the swap it runs the
// functions given to OnUpdate, on this goroutine.
func (c *Configurator) Update(cfg Config) error {
	st, err := newState(cfg)
	if err != nil {
		return err
	}
	c.update.Lock()
	defer c.update.Unlock()
	c.state.Store(st)
	c.logMaterial(st)
	for _, fn := range c.hooks {
		fn()
	}
	return nil
}

// OnUpdate adds a function for Update to run. It must not call Update.
func (c *Configurator) OnUpdate(fn func()) {
	c.update.Lock()
	defer c.update.Unlock()
	c.hooks = append(c.hooks, fn)
}

// RPC is what is in force for internal RPC.
func (c *Configurator) RPC() Settings { return c.state.Load().rpc.s }

// HTTPS is what is in force for the HTTPS API.
func (c *Configurator) HTTPS() Settings { return c.state.Load().https.s }

// IncomingRPC is the server side of the RPC port. The error is ErrNoCertificate
// where TLS cannot be served now.
func (c *Configurator) IncomingRPC() (*tls.Config, error) {
	return c.incoming(func(st *state) *tls.Config { return st.inRPC })
}

// IncomingHTTPS is the server side of the HTTPS API.
func (c *Configurator) IncomingHTTPS() (*tls.Config, error) {
	return c.incoming(func(st *state) *tls.Config { return st.inHTTPS })
}

func (c *Configurator) incoming(of func(*state) *tls.Config) (*tls.Config, error) {
	now := of(c.state.Load())
	if now == nil {
		return nil, ErrNoCertificate
	}
	outer := now.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if tc := of(c.state.Load()); tc != nil {
			return tc, nil
		}
		return nil, ErrNoCertificate
	}
	return outer, nil
}

// OutgoingRPC is the client side for a server of datacenter dc. It is nil,
// without an error, where verify_outgoing is off: dial plaintext then, and
// FallbackRPC where that is refused.
//
// The chain is always verified; the name server.<dc>.<domain> where
// verify_server_hostname is on. Our certificate is shown even to a server that
// names other CAs, so that its log can say why it refuses us.
func (c *Configurator) OutgoingRPC(dc string) (*tls.Config, error) {
	st := c.state.Load()
	m := st.rpc
	if !m.s.VerifyOutgoing {
		return nil, nil
	}
	tc := m.outgoing()
	if m.s.VerifyServerHostname {
		tc.ServerName = ServerName(dc, st.cfg.Domain)
		return tc, nil
	}
	return m.chainOnly(tc), nil
}

// FallbackRPC is the client side for a server that refuses plaintext, where
// OutgoingRPC is nil: the chain is verified, as with verify_outgoing. It is nil
// without a certificate to show or a CA to verify with.
func (c *Configurator) FallbackRPC() *tls.Config {
	m := c.state.Load().rpc
	if m.cert == nil || m.pool == nil {
		return nil
	}
	return m.chainOnly(m.outgoing())
}

// outgoing is what every client side of a stanza has.
func (m *material) outgoing() *tls.Config {
	return &tls.Config{
		RootCAs:      m.pool,
		MinVersion:   m.s.MinVersion,
		CipherSuites: m.suites,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if m.cert == nil {
				return &tls.Certificate{}, nil
			}
			return m.cert, nil
		},
	}
}

// chainOnly has tc verify the peer's chain whatever its name is. It is the one
// place that turns crypto/tls's own check off, because that cannot check a chain
// without a name; VerifyConnection checks the chain instead.
func (m *material) chainOnly(tc *tls.Config) *tls.Config {
	tc.InsecureSkipVerify = true
	tc.VerifyConnection = func(cs tls.ConnectionState) error {
		return m.verifyPeer(&cs, x509.ExtKeyUsageServerAuth, "")
	}
	return tc
}

// verifyPeer checks the peer's chain, and its name where one is given, against
// this material's CA.
func (m *material) verifyPeer(cs *tls.ConnectionState, usage x509.ExtKeyUsage, name string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	if m.pool == nil {
		return errors.New("there is no CA to verify the peer against")
	}
	leaf, now := cs.PeerCertificates[0], time.Now()
	var err error
	if !m.stillVerified(cs.VerifiedChains, now) {
		err = verifyCerts(leaf, cs.PeerCertificates[1:], m.pool, now, usage)
	}
	if err == nil && name != "" {
		err = leaf.VerifyHostname(name)
	}
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	return nil
}

// stillVerified says whether a chain that the handshake verified, for the same
// use, holds under this material: its root is one of ours and no date has
// passed. Signatures do not change, so they are not computed again.
func (m *material) stillVerified(chains [][]*x509.Certificate, now time.Time) bool {
	for _, chain := range chains {
		root := chain[len(chain)-1]
		if !slices.ContainsFunc(m.cas, root.Equal) {
			continue
		}
		if !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return validAt(c, now) != nil }) {
			return true
		}
	}
	return false
}

// verifyCerts checks a chain at a time. Intermediates that the peer sent count
// (GH-10964).
func verifyCerts(leaf *x509.Certificate, chain []*x509.Certificate, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	inter := x509.NewCertPool()
	for _, c := range chain {
		inter.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func verifyChain(leaf *x509.Certificate, chain [][]byte, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	var certs []*x509.Certificate
	for _, raw := range chain {
		if c, err := x509.ParseCertificate(raw); err == nil {
			certs = append(certs, c)
		}
	}
	return verifyCerts(leaf, certs, roots, now, usage)
}

// Identify says who is at the other end of a connection, by a certificate that
// verifies against the CA in force now. Without one, and for a nil state
// (plaintext), it is nobody.
func (c *Configurator) Identify(cs *tls.ConnectionState) Identity {
	st := c.state.Load()
	if cs == nil || len(cs.PeerCertificates) == 0 || st.rpc.pool == nil {
		return Identity{}
	}
	if st.rpc.verifyPeer(cs, x509.ExtKeyUsageClientAuth, "") != nil {
		return Identity{}
	}
	return identityOf(cs.PeerCertificates[0], st.cfg.Datacenter, st.cfg.Domain)
}

// Recheck says whether a connection that is open would be accepted under the
// settings in force now: an incoming one, or an outgoing one to datacenter dc.
// A nil state is a plaintext connection.
func (c *Configurator) Recheck(cs *tls.ConnectionState, incoming bool, dc string) error {
	st := c.state.Load()
	return st.rpc.recheck(cs, incoming, ServerName(dc, st.cfg.Domain))
}

// RecheckHTTPS is Recheck for a connection to the HTTPS API.
func (c *Configurator) RecheckHTTPS(cs *tls.ConnectionState) error {
	return c.state.Load().https.recheck(cs, true, "")
}

func (m *material) recheck(cs *tls.ConnectionState, incoming bool, name string) error {
	required, key, usage := m.s.VerifyOutgoing, "verify_outgoing", x509.ExtKeyUsageServerAuth
	if incoming {
		required, key, usage, name = m.s.VerifyIncoming, "verify_incoming", x509.ExtKeyUsageClientAuth, ""
	} else if !m.s.VerifyServerHostname {
		name = ""
	}
	switch {
	case cs != nil && cs.Version < m.s.MinVersion: // whether or not a certificate is asked for
		return fmt.Errorf("the connection speaks %s, and tls_min_version is %s now", tls.VersionName(cs.Version), tls.VersionName(m.s.MinVersion))
	case !required:
		return nil
	case cs == nil:
		return fmt.Errorf("the connection is plaintext, and %s is on now", key)
	}
	return m.verifyPeer(cs, usage, name)
}
