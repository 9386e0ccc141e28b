package test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lictor/test/harness"
)

// forger is a key of which only the public part exists. What it signs is
// nonsense.
type forger struct {
	pub  crypto.PublicKey
	size int
}

func (f forger) Public() crypto.PublicKey { return f.pub }
func (f forger) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return bytes.Repeat([]byte{7}, f.size), nil
}

// hugeRSA is a public key of so many bits.
func hugeRSA(bits, exponent int) forger {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	low, err := rand.Int(rand.Reader, n)
	if err != nil {
		panic(err) // the system has no randomness
	}
	n.Or(n, low).SetBit(n, 0, 1)
	return forger{&rsa.PublicKey{N: n, E: exponent}, bits / 8}
}

// presented is a certificate that somebody shows to an agent.
type presented struct {
	name string
	cert tls.Certificate
	good bool // odd, and right all the same
}

func hostileCertificates(t *testing.T, ca *harness.CA) []presented {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	edPub, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	names := []string{"client.dc1.consul", "server.dc1.consul"}
	var all []presented
	add := func(name string, good bool, by *harness.CA, key crypto.Signer, chain [][]byte, edit func(*x509.Certificate), tbs func([]byte) []byte) {
		der, err := by.Odd(key.Public(), func(c *x509.Certificate) {
			c.DNSNames = names
			if edit != nil {
				edit(c)
			}
		}, tbs)
		must(t, err)
		all = append(all, presented{name, tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key}, good})
	}
	simple := func(name string, good bool, edit func(*x509.Certificate)) { add(name, good, ca, ec, nil, edit, nil) }
	// swap replaces one object identifier by another one of the same length.
	swap := func(from, to asn1.ObjectIdentifier) func([]byte) []byte {
		return func(tbs []byte) []byte {
			a, err := asn1.Marshal(from)
			must(t, err)
			b, err := asn1.Marshal(to)
			must(t, err)
			if len(a) != len(b) || !bytes.Contains(tbs, a) {
				t.Fatalf("%v cannot become %v", from, to)
			}
			return bytes.ReplaceAll(tbs, a, b)
		}
	}
	sans := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.DNSNames = nil
			for i := range n {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.example", i))
			}
			c.DNSNames = append(c.DNSNames, names...)
		}
	}
	extension := func(size int, critical bool) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: critical, Value: make([]byte, size)})
		}
	}

	add("ed25519", true, ca, ed, nil, nil, nil)
	simple("10000-names", true, sans(10_000))
	simple("20000-names", false, sans(20_000))
	simple("100-KiB-extension", true, extension(100<<10, false))
	simple("300-KiB-extension", false, extension(300<<10, false))
	simple("unknown-critical-extension", false, extension(10, true))
	simple("expired", false, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	simple("not-yet-valid", false, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	simple("for-signing-code", false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })
	add("rsa-8192-forged", false, ca, hugeRSA(8192, 65537), nil, nil, nil)
	add("rsa-8192-large-exponent", false, ca, hugeRSA(8192, 1<<31-1), nil, nil, nil)
	add("rsa-16384", false, ca, hugeRSA(16384, 65537), nil, nil, nil)
	add("rsa-512", false, ca, hugeRSA(512, 65537), nil, nil, nil)
	add("p224", false, ca, p224, nil, nil, nil)
	add("key-of-another", false, ca, ec, nil, nil, nil)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	all[len(all)-1].cert.PrivateKey = other
	add("dsa", false, ca, ec, nil, nil, swap(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}))
	add("ed448", false, ca, forger{edPub, 64}, nil, nil, swap(asn1.ObjectIdentifier{1, 3, 101, 112}, asn1.ObjectIdentifier{1, 3, 101, 113}))
	all = append(all,
		presented{"nonsense", tls.Certificate{Certificate: [][]byte{[]byte("this is no certificate")}, PrivateKey: ec}, false},
		presented{"empty", tls.Certificate{Certificate: [][]byte{{}}, PrivateKey: ec}, false},
		presented{"truncated", tls.Certificate{Certificate: [][]byte{all[0].cert.Certificate[0][:200]}, PrivateKey: ec}, false})

	deepest, chain := ca, [][]byte(nil)
	for i := range 150 {
		deepest, err = deepest.Intermediate(fmt.Sprintf("CA at depth %d", i), nil)
		must(t, err)
		chain = append([][]byte{deepest.DER()}, chain...)
	}
	add("150-deep-chain", false, deepest, ec, chain, nil, nil)
	chain = nil
	for range 200 { // all may be the issuer, none is
		twin, err := newCA(t, "stranger").Intermediate("twin", nil)
		must(t, err)
		chain = append(chain, twin.DER())
	}
	twin, err := newCA(t, "stranger").Intermediate("twin", nil)
	must(t, err)
	add("200-twin-issuers", false, twin, ec, chain, nil, nil)
	narrow, err := ca.Intermediate("narrow", func(c *x509.Certificate) {
		for i := range 3000 {
			c.PermittedDNSDomains = append(c.PermittedDNSDomains, fmt.Sprintf("p%d.example", i))
		}
	})
	must(t, err)
	add("9-million-constraint-checks", false, narrow, ec, [][]byte{narrow.DER()}, sans(3000), nil)
	return all
}

// Certificates that cost much to look at, or that are of no kind that works, are
// refused or taken by agents in either role of TLS, each on its own merits and
// well within the handshake's deadline; the agents live on and log little of
// what they were shown.
func TestHostileCertificates(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	c := cluster(t)
	s := c.AddServer("s1")
	front := c.IP(100)
	s.Set(keys{"serf_lan": front, "serf_wan": front, "advertise_addr": front})
	strict := []keys{{"encrypt": guideKey}, tlsFiles, verify(true, true, true)}
	config(t, s, append(strict, keys{"ports": keys{"https": 8501}})...)
	put(t, s, issue(t, ca, "server.dc1.consul", "localhost"), ca)
	must(t, s.Start())
	client := c.AddClient("c1")
	client.Alone = true
	client.Set(keys{"performance": keys{"rpc_hold_timeout": "1s"}})
	config(t, client, strict...)
	put(t, client, issue(t, ca, "client.dc1.consul"), ca)
	shown := hostileCertificates(t, ca)

	stop, next := showCertificates(t, net.JoinHostPort(front, harness.RPCPort), shown)
	must(t, client.Start("-retry-join="+front))
	pid, serverPid := client.Pid(), s.Pid()

	for i, row := range shown {
		t.Run(row.name, func(t *testing.T) {
			for _, port := range []string{harness.RPCPort, harness.HTTPSPort} {
				mark := s.Log().Mark()
				from := c.IP(110 + i) // the log has one line for each address
				answer, err := present(from, s.Addr(port), port, row.cert)
				if netErr := (net.Error)(nil); errors.As(err, &netErr) && netErr.Timeout() {
					t.Fatalf("port %s: neither answer nor refusal", port)
				}
				if row.good != (answer != "") {
					t.Errorf("port %s: the answer is %q (%v), want one: %t", port, answer, err, row.good)
				}
				if port == harness.RPCPort && !row.good {
					wantLog(t, s, mark, `\[WARN\].*connection refused: from=`+regexp.QuoteMeta(from)+`:\d+ reason="`)
				}
				for line := range strings.Lines(s.Log().Since(mark)) {
					if len(line) > 2048 {
						t.Errorf("a line of %d bytes: %.200s", len(line), line)
					}
				}
			}
		})
	}
	poll(t, "the client to have seen them all", func() error {
		err := client.RPC()
		if status := (*harness.StatusError)(nil); !errors.As(err, &status) {
			t.Fatalf("the call: %v", err)
		}
		if strings.Contains(err.Error(), "in time") {
			t.Errorf("the client has waited for its deadline: %v", err)
		}
		if n := next(); n < len(shown) {
			return fmt.Errorf("it has seen %d of %d", n, len(shown))
		}
		return nil
	})
	stop()
	for _, a := range []*harness.Agent{s, client} {
		if log := a.Log().String(); strings.Contains(log, "rpc_handshake_timeout") || strings.Contains(log, "did not finish the TLS handshake in time") {
			t.Errorf("%s has waited for its deadline", a.Name)
		}
	}
	harness.NewRecorder(t, net.JoinHostPort(front, harness.RPCPort), s.Addr(harness.RPCPort))
	poll(t, "the real server to be believed", client.RPC)
	if client.Pid() != pid || s.Pid() != serverPid || pid == 0 || serverPid == 0 {
		t.Error("the processes are not the ones that were started")
	}
}

// present shows a certificate to a port, from an address, and returns the first bytes of the
// answer to a call.
func present(from, addr, port string, cert tls.Certificate) (string, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: harness.Patience}
	raw, err := d.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(harness.Patience))
	ask := packet("GET /v1/status/peers HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if port == harness.RPCPort {
		if _, err := raw.Write([]byte{3}); err != nil {
			return "", err
		}
		ask = packet(0, pingCall)
	}
	conn := tls.Client(raw, &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	if _, err := conn.Write(ask); err != nil {
		return "", err
	}
	b := make([]byte, 16)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

// showCertificates plays a server that shows each caller the next certificate;
// next says how many have been shown.
func showCertificates(t *testing.T, addr string, shown []presented) (stop func(), next func() int) {
	t.Helper()
	ln := harness.Listen(t, addr)
	var mu sync.Mutex // guards n
	n := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			row := shown[n%len(shown)]
			mu.Unlock()
			conn.SetDeadline(time.Now().Add(harness.Patience))
			first := make([]byte, 1)
			if _, err := io.ReadFull(conn, first); err == nil && first[0] == 3 {
				server := tls.Server(conn, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &row.cert, nil }})
				err := server.Handshake()
				if err == nil {
					_, err = server.Read(first) // TLS 1.3: the client's verdict comes now
				}
				if netErr := (net.Error)(nil); errors.As(err, &netErr) && netErr.Timeout() {
					t.Errorf("%s: the client has neither refused nor called", row.name)
				}
				mu.Lock()
				n++
				mu.Unlock()
			}
			conn.Close()
		}
	}()
	stop = sync.OnceFunc(func() { ln.Close(); <-done })
	t.Cleanup(stop)
	return stop, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
