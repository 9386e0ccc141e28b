package tlsutil

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustCA(t testing.TB) *Pair {
	t.Helper()
	p, err := CreateCA(CARequest{Domain: "consul", Days: 10})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustIssue(t testing.TB, ca *Pair, role Role, dc string) *Pair {
	t.Helper()
	p, err := IssueCertificate(ca, CertRequest{Kind: role, Datacenter: dc, Domain: "consul", Days: 5})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// issueRaw signs any template.
func issueRaw(t testing.TB, ca *Pair, tpl *x509.Certificate) *Pair {
	t.Helper()
	caCert, caKey, err := signer(ca)
	if err != nil {
		t.Fatal(err)
	}
	key, keyPEM, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	if tpl.SerialNumber == nil {
		tpl.SerialNumber = big.NewInt(7)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, caCert, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return &Pair{Cert: encode("CERTIFICATE", der), Key: keyPEM}
}

func rpcConfig(ca []byte, cert *Pair, in, out, name bool) Config {
	s := Stanza{CAPEM: ca, VerifyIncoming: in, VerifyOutgoing: out, VerifyServerHostname: name}
	if cert != nil {
		s.CertPEM, s.KeyPEM = cert.Cert, cert.Key
	}
	return Config{InternalRPC: s, Datacenter: "dc1", Domain: "consul"}
}

func mustNew(t testing.TB, cfg Config) *Configurator {
	t.Helper()
	c, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake runs one over loopback and returns what each end has.
func handshake(t testing.TB, server *tls.Config, client *tls.Config) (*tls.Conn, *tls.Conn, error, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, c := tls.Server(accepted, server), tls.Client(raw, client)
	t.Cleanup(func() { s.Close(); c.Close() })
	deadline := time.Now().Add(20 * time.Second)
	raw.SetDeadline(deadline)
	accepted.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	clientErr := c.Handshake()
	if clientErr != nil {
		raw.Close()
	}
	return s, c, <-done, clientErr
}

func TestRoleOf(t *testing.T) {
	for _, row := range []struct {
		names []string
		want  Role
	}{
		{[]string{"server.dc1.consul", "localhost"}, RoleServer},
		{[]string{"SERVER.DC1.Consul"}, RoleServer},
		{[]string{"server.dc2.consul"}, RoleRemoteServer},
		{[]string{"client.dc1.consul"}, RoleClient},
		{[]string{"cli.dc1.consul"}, RoleCLI},
		{[]string{"client.dc2.consul"}, RoleNone},
		{[]string{"server.dc1.consul", "client.dc1.consul"}, RoleClient},
		{[]string{"*.dc1.consul"}, RoleNone},
		{[]string{"server.*.consul"}, RoleNone},
		{[]string{"server.dc1.consul."}, RoleNone},
		{[]string{"node1.server.dc1.consul"}, RoleNone},
		{[]string{"server.dc1.consul.evil"}, RoleNone},
		{[]string{"server.consul"}, RoleNone},
		{[]string{"server..consul"}, RoleNone},
		{[]string{"ſerver.dc1.consul"}, RoleNone},
		{[]string{"localhost"}, RoleNone},
		{nil, RoleNone},
	} {
		if got, _ := roleOf(row.names, "dc1", "consul"); got != row.want {
			t.Errorf("%q: %s, want %s", row.names, got, row.want)
		}
	}
}

// The common name gives nothing, and an intermediate that comes only with the
// handshake counts.
func TestIdentify(t *testing.T) {
	ca := mustCA(t)
	server := mustNew(t, rpcConfig(ca.Cert, mustIssue(t, ca, RoleServer, "dc1"), true, true, true))
	now := time.Now()
	inter := issueRaw(t, ca, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	leaf := issueRaw(t, inter, &x509.Certificate{DNSNames: []string{"server.dc1.consul"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	chained := &Pair{Cert: append(bytes.Clone(leaf.Cert), inter.Cert...), Key: leaf.Key}
	cn := issueRaw(t, ca, &x509.Certificate{Subject: x509Name("server.dc1.consul"), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	for name, row := range map[string]struct {
		cert *Pair
		want Role
	}{
		"client":       {mustIssue(t, ca, RoleClient, "dc1"), RoleClient},
		"intermediate": {chained, RoleServer},
		"common name":  {cn, RoleNone},
	} {
		t.Run(name, func(t *testing.T) {
			client := mustNew(t, rpcConfig(ca.Cert, row.cert, false, true, true))
			in, err := server.IncomingRPC()
			if err != nil {
				t.Fatal(err)
			}
			out, err := client.OutgoingRPC("dc1")
			if err != nil {
				t.Fatal(err)
			}
			s, _, serr, cerr := handshake(t, in, out)
			if serr != nil || cerr != nil {
				t.Fatal(serr, cerr)
			}
			cs := s.ConnectionState()
			if id := server.Identify(&cs); id.Role != row.want {
				t.Errorf("identified as %s", id)
			}
			if cs.Version != tls.VersionTLS13 {
				t.Errorf("two Lictors speak %s", tls.VersionName(cs.Version))
			}
			if cs.CurveID != tls.X25519MLKEM768 {
				t.Errorf("key exchange %s is not the hybrid one", cs.CurveID)
			}
		})
	}
	if id := server.Identify(nil); id.Role != RoleNone {
		t.Errorf("plaintext is %s", id)
	}
}

// For every combination of the flags: TLS is dialled exactly where one of them
// asks for it, and bad servers are refused with a reason.
func TestVerifyMatrix(t *testing.T) {
	ca, evil := mustCA(t), mustCA(t)
	cert := mustIssue(t, ca, RoleServer, "dc1")
	for n := range 8 {
		in, out, name := n&1 != 0, n&2 != 0, n&4 != 0
		c := mustNew(t, rpcConfig(ca.Cert, cert, in, out, name))
		conf, err := c.OutgoingRPC("dc1")
		if err != nil {
			t.Fatal(err)
		}
		if (conf != nil) != (out || name) {
			t.Errorf("incoming %v, outgoing %v, hostname %v: dials TLS: %v", in, out, name, conf != nil)
		}
		if conf == nil {
			continue
		}
		for what, row := range map[string]struct {
			cert *Pair
			ok   bool
			why  string
		}{
			"good":         {cert, true, ""},
			"client's":     {mustIssue(t, ca, RoleClient, "dc1"), !name, "server.dc1.consul"},
			"dc2's":        {mustIssue(t, ca, RoleServer, "dc2"), !name, "server.dc2.consul"},
			"another CA's": {mustIssue(t, evil, RoleServer, "dc1"), false, "unknown authority"},
		} {
			pair, err := tls.X509KeyPair(row.cert.Cert, row.cert.Key)
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, cerr := handshake(t, &tls.Config{Certificates: []tls.Certificate{pair}}, conf)
			if (cerr == nil) != row.ok {
				t.Errorf("flags %d, %s: %v", n, what, cerr)
			}
			if cerr != nil && !strings.Contains(Explain(cerr, time.Now()), row.why) {
				t.Errorf("flags %d, %s: explained as %q", n, what, Explain(cerr, time.Now()))
			}
		}
	}
}

// A connection is judged by the CA of now, not by that of its handshake; and no
// ticket carries the past over.
func TestReload(t *testing.T) {
	old, next := mustCA(t), mustCA(t)
	server := mustNew(t, rpcConfig(old.Cert, mustIssue(t, old, RoleServer, "dc1"), true, true, true))
	client := mustNew(t, rpcConfig(old.Cert, mustIssue(t, old, RoleClient, "dc1"), false, true, true))
	in, _ := server.IncomingRPC()
	out, _ := client.OutgoingRPC("dc1")
	out.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	s, _, serr, cerr := handshake(t, in, out)
	if serr != nil || cerr != nil {
		t.Fatal(serr, cerr)
	}
	cs := s.ConnectionState()
	if err := server.Recheck(&cs, true, ""); err != nil {
		t.Errorf("before the change: %v", err)
	}
	if err := server.Recheck(nil, true, ""); err == nil {
		t.Error("plaintext passes with verify_incoming")
	}
	bad := rpcConfig(next.Cert, mustIssue(t, old, RoleServer, "dc1"), true, true, true)
	if err := server.Update(bad); err == nil || server.Recheck(&cs, true, "") != nil {
		t.Errorf("a certificate of another CA was taken over: %v", err)
	}
	ran := 0
	server.OnUpdate(func() { ran++ })
	if err := server.Update(rpcConfig(next.Cert, mustIssue(t, next, RoleServer, "dc1"), true, true, true)); err != nil || ran != 1 {
		t.Fatal(err, ran)
	}
	if server.Recheck(&cs, true, "") == nil || server.Identify(&cs).Role != RoleNone {
		t.Error("a client of the old CA still counts")
	}
	// The listener made before follows, and a client of the old CA is refused
	// whatever it has kept.
	trustsBoth := mustNew(t, rpcConfig(append(bytes.Clone(old.Cert), next.Cert...), mustIssue(t, old, RoleClient, "dc1"), false, true, true))
	again, _ := trustsBoth.OutgoingRPC("dc1")
	again.ClientSessionCache = out.ClientSessionCache
	s, _, serr, _ = handshake(t, in, again)
	if serr == nil {
		t.Errorf("accepted, resumed: %v", s.ConnectionState().DidResume)
	}
}

func TestBadSettings(t *testing.T) {
	ca, evil := mustCA(t), mustCA(t)
	cert, other := mustIssue(t, ca, RoleServer, "dc1"), mustIssue(t, ca, RoleServer, "dc1")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	caFile, certFile, keyFile := write("ca.pem", ca.Cert), write("cert.pem", cert.Cert), write("key.pem", cert.Key)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		s    Stanza
		want []string
	}{
		"cert, no key":      {Stanza{CertFile: certFile}, []string{"key_file", certFile}},
		"key, no cert":      {Stanza{KeyFile: keyFile}, []string{"cert_file", keyFile}},
		"another's key":     {Stanza{CertFile: certFile, KeyFile: write("other.pem", other.Key)}, []string{"cert_file", "does not belong"}},
		"no such file":      {Stanza{CAFile: filepath.Join(dir, "none.pem")}, []string{"ca_file", "none.pem"}},
		"CA is a key":       {Stanza{CAFile: keyFile}, []string{"ca_file", "no CERTIFICATE"}},
		"empty ca_path":     {Stanza{CAPath: empty}, []string{"ca_path", "no files"}},
		"incoming, no CA":   {Stanza{CertFile: certFile, KeyFile: keyFile, VerifyIncoming: true}, []string{"verify_incoming", "ca_file"}},
		"outgoing, no CA":   {Stanza{VerifyOutgoing: true}, []string{"verify_outgoing", "ca_file"}},
		"hostname, no CA":   {Stanza{VerifyServerHostname: true}, []string{"verify_server_hostname"}},
		"incoming, no cert": {Stanza{CAFile: caFile, VerifyIncoming: true}, []string{"verify_incoming", "cert_file"}},
		"another CA":        {Stanza{CAFile: write("evil.pem", evil.Cert), CertFile: certFile, KeyFile: keyFile}, []string{"not signed by the CA"}},
		"version":           {Stanza{MinVersion: "TLSv9"}, []string{"tls_min_version"}},
		"suite":             {Stanza{CipherSuites: []string{"TLS_RSA_WITH_AES_128_CBC_SHA"}}, []string{"tls_cipher_suites"}},
		"suite with 1.3":    {Stanza{MinVersion: "TLSv1_3", CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}, []string{"tls_cipher_suites"}},
	} {
		_, err := New(Config{InternalRPC: row.s, Datacenter: "dc1", Domain: "consul"}, nil)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range append(row.want, "tls.internal_rpc.") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), string(cert.Key[40:80])) {
			t.Errorf("%s: a key is in the error", name)
		}
	}
	// What both stanzas have from one key is said once.
	gone := Stanza{CAFile: caFile, CertFile: filepath.Join(dir, "none.pem"), KeyFile: keyFile}
	for _, load := range []func(Config) error{
		func(c Config) error { _, err := New(c, nil); return err },
		func(c Config) error { _, err := Check(c, time.Now()); return err },
	} {
		err := load(Config{InternalRPC: gone, HTTPS: gone, Datacenter: "dc1", Domain: "consul"})
		if err == nil || !strings.HasPrefix(err.Error(), "cert_file: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("shared key: %v", err)
		}
	}
	cfg := Config{InternalRPC: Stanza{CAFile: caFile, CertFile: certFile, KeyFile: keyFile}, Datacenter: "dc1", Domain: "consul", Server: true}
	if w, err := Check(cfg, time.Now()); err != nil || len(w) == 0 { // five days left: a warning
		t.Errorf("now: %v, %v", w, err)
	}
	if _, err := Check(cfg, time.Now().AddDate(0, 0, 6)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("in six days: %v", err)
	}
	if _, err := Check(cfg, time.Now().AddDate(0, 0, -1)); err == nil || !strings.Contains(err.Error(), "not valid before") {
		t.Errorf("yesterday: %v", err)
	}
}

func TestBundles(t *testing.T) {
	ca := mustCA(t)
	cert := mustIssue(t, ca, RoleServer, "dc1")
	crlf := bytes.ReplaceAll(cert.Cert, []byte("\n"), []byte("\r\n"))
	for name, b := range map[string][]byte{
		"CRLF":               crlf,
		"no final newline":   bytes.TrimRight(cert.Cert, "\n"),
		"text around":        append([]byte("# a comment\nsubject=x\n"), cert.Cert...),
		"key first":          append(bytes.Clone(cert.Key), cert.Cert...),
		"chain, CA first":    append(bytes.Clone(ca.Cert), cert.Cert...),
		"chain, no newlines": append(append(bytes.TrimRight(cert.Cert, "\n"), '\n'), ca.Cert...),
	} {
		p, err := pair(b, cert.Key)
		if err != nil || p.Leaf.Subject.CommonName != "server.dc1.consul" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	ca := mustCA(t)
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	if err := SavePair(cert, key, ca); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{cert: 0o644, key: 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	if err := SavePair(filepath.Join(dir, "new.pem"), key, mustCA(t)); err == nil || err.Error() != key+" already exists." {
		t.Errorf("overwrote, or says %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new.pem")); !os.IsNotExist(err) {
		t.Error("half a pair was left behind")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	if err := SaveNew(link, []byte("x"), KeyMode); err == nil {
		t.Error("a symlink was followed")
	}
}

func TestRenewAndInspect(t *testing.T) {
	ca := mustCA(t)
	old := mustIssue(t, ca, RoleServer, "dc1")
	renewed, err := Renew(ca, old.Cert, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair(renewed, old.Key); err != nil {
		t.Errorf("the key does not fit any more: %v", err)
	}
	a, err := Inspect(old.Cert, ca.Cert, "dc1", "consul", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Inspect(renewed, ca.Cert, "dc2", "consul", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a.Serial == b.Serial || a.Subject != b.Subject || strings.Join(a.DNSNames, ",") != strings.Join(b.DNSNames, ",") || !b.NotAfter.After(a.NotAfter) {
		t.Errorf("renewed %+v to %+v", a, b)
	}
	if a.Role != "server of dc1" || a.Chain != "yes" || a.Verdicts[2][1] != "accepted" || !strings.HasPrefix(b.Verdicts[2][1], "refused") {
		t.Errorf("inspected as %+v and %+v", a, b)
	}
	long, err := IssueCertificate(ca, CertRequest{Kind: RoleClient, Datacenter: "dc1", Domain: "consul", Days: 9999})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Inspect(long.Cert, nil, "dc1", "consul", time.Now()); err != nil || r.Left(time.Now()) > 11*24*time.Hour {
		t.Errorf("a certificate outlives its CA: %v, %v", r, err)
	}
	for _, dc := range []string{"a.b", "DC 1", "", strings.Repeat("x", 64), "-x"} {
		if _, err := IssueCertificate(ca, CertRequest{Kind: RoleServer, Datacenter: dc, Domain: "consul", Days: 1}); err == nil {
			t.Errorf("a certificate for datacenter %q", dc)
		}
	}
	narrow, err := CreateCA(CARequest{Domain: "consul", Days: 1, NameConstraint: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := IssueCertificate(narrow, CertRequest{Kind: RoleServer, Datacenter: "dc1", Domain: "consul", Days: 1, DNSNames: []string{"evil.example"}}); err == nil {
		t.Error("a name outside the CA's constraint was signed")
	}
}

// A raised tls_min_version holds for open connections, also where nobody has to
// show a certificate.
func TestRecheckOfTheVersion(t *testing.T) {
	ca := mustCA(t)
	cfg := rpcConfig(ca.Cert, mustIssue(t, ca, RoleServer, "dc1"), false, false, false)
	cfg.HTTPS = cfg.InternalRPC
	c := mustNew(t, cfg)
	old := &tls.ConnectionState{Version: tls.VersionTLS12}
	if err := errors.Join(c.Recheck(old, true, ""), c.RecheckHTTPS(old)); err != nil {
		t.Fatal(err)
	}
	cfg.InternalRPC.MinVersion, cfg.HTTPS.MinVersion = "TLSv1_3", "TLSv1_3"
	if err := c.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if c.Recheck(old, true, "") == nil || c.RecheckHTTPS(old) == nil {
		t.Error("a connection of TLS 1.2 may stay")
	}
	if err := errors.Join(c.Recheck(nil, true, ""), c.Recheck(&tls.ConnectionState{Version: tls.VersionTLS13}, true, "")); err != nil {
		t.Error(err)
	}
}

// A bundle of a stranger's making is an error or certificates, never a panic.
func FuzzParseBundle(f *testing.F) {
	ca := mustCA(f)
	f.Add(ca.Cert)
	f.Add(ca.Key)
	f.Add(append(bytes.Clone(ca.Key), ca.Cert...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseCertificates(b)
		if err == nil && len(certs) == 0 {
			t.Error("no certificate and no error")
		}
		if _, err := ParseKey(b); err != nil && len(err.Error()) > 200 {
			t.Errorf("a long error: %q", err)
		}
		pair(b, ca.Key)
		Inspect(b, ca.Cert, "dc1", "consul", time.Now())
	})
}
