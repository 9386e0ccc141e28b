package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lictor/test/harness"
)

// calls makes RPCs from an agent to a server as fast as they are answered until
// it is stopped, and reports how many there were and the first that failed.
func calls(a *harness.Agent) (stop func() (int64, error)) {
	var n atomic.Int64
	done := make(chan struct{})
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := a.RPC(); err != nil {
					mu.Lock()
					if first == nil {
						first = fmt.Errorf("RPC %d of %s: %w", n.Load(), a.Name, err)
					}
					mu.Unlock()
				}
				n.Add(1)
			}
		})
	}
	return func() (int64, error) {
		close(done)
		wg.Wait()
		return n.Load(), first
	}
}

// hold opens a connection to an RPC port and makes one call on it, so that it is
// one the server has accepted. cert nil and cas nil is plaintext.
func hold(t testing.TB, addr string, cert *harness.Cert) net.Conn {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, harness.Patience)
	must(t, err)
	t.Cleanup(func() { raw.Close() })
	conn := raw
	if cert != nil {
		_, err = raw.Write([]byte{3})
		must(t, err)
		pair, err := cert.TLS()
		must(t, err)
		conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	}
	conn.SetDeadline(time.Now().Add(harness.Patience))
	_, err = conn.Write(append([]byte{0}, pingCall...))
	must(t, err)
	buf := make([]byte, 512)
	if _, err := conn.Read(buf); err != nil {
		t.Fatalf("the call to %s: %v", addr, err)
	}
	return conn
}

// wantClosed waits until the other end closes conn.
func wantClosed(t testing.TB, what string, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(harness.Patience))
	_, err := io.Copy(io.Discard, conn)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		t.Errorf("%s is still open", what)
	}
}

// reload changes an agent's configuration file and reloads it, by the CLI or,
// every other time, by SIGHUP.
func reload(t testing.TB, a *harness.Agent, bySignal bool, parts ...keys) {
	t.Helper()
	config(t, a, parts...)
	mark := a.Log().Mark()
	if bySignal {
		must(t, a.Signal(syscall.SIGHUP))
		if _, err := a.Log().Wait(mark, `(?i)(configuration|reload).*(reloaded|done|complete|applied)`); err != nil {
			t.Error(err)
		}
		return
	}
	r, err := a.CLI(a.Dir, "reload")
	must(t, err)
	if r.Code != 0 {
		t.Errorf("%s: reload: exit %d: %s", a.Name, r.Code, r.Stderr)
	}
}

// The CA is replaced in three steps (trust both, new certificates, trust the new
// one alone) while RPCs run: none fails, and a connection that was opened with
// the old certificate does not outlive the last step.
func TestReloadCARollover(t *testing.T) {
	t.Parallel()
	oldCA, newerCA := newCA(t, "old CA"), newCA(t, "new CA")
	c := cluster(t)
	agents := []*harness.Agent{c.AddServer("s1"), c.AddServer("s2"), c.AddClient("c1")}
	s1, client := agents[0], agents[2]
	name := func(a *harness.Agent) string {
		if a.Server {
			return "server.dc1.consul"
		}
		return "client.dc1.consul"
	}
	cfg := []keys{{"encrypt": guideKey}, tlsFiles, verify(true, true, true)}
	certs := map[string]*harness.Cert{}
	for _, a := range agents {
		config(t, a, cfg...)
		certs[a.Name] = issue(t, oldCA, name(a))
		put(t, a, certs[a.Name], oldCA)
	}
	must(t, c.StartAll())
	poll(t, "the first RPC", client.RPC)

	oldCert, newCert := issue(t, oldCA, "client.dc1.consul"), issue(t, newerCA, "client.dc1.consul")
	probe, stopCalls := c.StartProbe(), calls(client)
	held := hold(t, s1.Addr(harness.RPCPort), oldCert)

	for i, a := range agents { // 1: trust both
		put(t, a, certs[a.Name], oldCA, newerCA)
		reload(t, a, i%2 == 1, cfg...)
	}
	if err := handshake(t, s1.Addr(harness.RPCPort), newCert); err != nil {
		t.Errorf("a certificate of the new CA is not trusted: %v", err)
	}
	for i, a := range agents { // 2: new certificates
		certs[a.Name] = issue(t, newerCA, name(a))
		put(t, a, certs[a.Name], oldCA, newerCA)
		reload(t, a, i%2 == 0, cfg...)
	}
	for i, a := range agents { // 3: trust the new CA alone
		put(t, a, certs[a.Name], newerCA)
		reload(t, a, i%2 == 1, cfg...)
	}
	wantClosed(t, "the connection with a certificate of the old CA", held)
	if err := handshake(t, s1.Addr(harness.RPCPort), oldCert); err == nil {
		t.Error("a certificate of the old CA is still trusted")
	}
	if err := handshake(t, s1.Addr(harness.RPCPort), newCert); err != nil {
		t.Errorf("a certificate of the new CA is not trusted: %v", err)
	}
	n, err := stopCalls()
	if err != nil {
		t.Errorf("of %d calls: %v", n, err)
	}
	if err := probe.Stop(); err != nil {
		t.Error(err)
	}

	t.Run("bad files change nothing", func(t *testing.T) {
		good := certs["s1"]
		bad := issue(t, newCA(t, "stranger"), "server.dc1.consul")
		for _, row := range []struct {
			name  string
			files map[string][]byte
			why   string
		}{
			{"key of another certificate", map[string][]byte{"key.pem": bad.KeyPEM}, `(?i)key`},
			{"no certificate in the file", map[string][]byte{"cert.pem": []byte("nonsense")}, `(?i)cert`},
			{"certificate of another CA", map[string][]byte{"cert.pem": bad.CertPEM, "key.pem": bad.KeyPEM}, `(?i)(CA|authority|sign)`},
			{"empty CA file", map[string][]byte{"ca.pem": nil}, `(?i)ca`},
		} {
			must(t, s1.Put(row.files))
			r, err := s1.CLI(s1.Dir, "reload")
			must(t, err)
			if r.Code != 1 {
				t.Errorf("%s: exit %d", row.name, r.Code)
			}
			wantMatch(t, row.name, r.Stderr, row.why)
			if err := handshake(t, s1.Addr(harness.RPCPort), newCert); err != nil {
				t.Errorf("%s: the old set is gone: %v", row.name, err)
			}
			put(t, s1, good, newerCA)
		}
		must(t, client.RPC())
	})
}

// The verify settings go on and off again while RPCs run: none fails, and a
// plaintext connection does not outlive verify_incoming.
func TestReloadVerifyOnAndOff(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	c := cluster(t)
	agents := []*harness.Agent{c.AddServer("s1"), c.AddServer("s2"), c.AddClient("c1")}
	s1, client := agents[0], agents[2]
	base := keys{"encrypt": guideKey}
	for _, a := range agents {
		name := "server.dc1.consul"
		if !a.Server {
			name = "client.dc1.consul"
		}
		put(t, a, issue(t, ca, name), ca)
		config(t, a, base, tlsFiles, verify(false, false, false))
	}
	must(t, c.StartAll())
	poll(t, "the first RPC", client.RPC)
	probe, stopCalls := c.StartProbe(), calls(client)
	plain := hold(t, s1.Addr(harness.RPCPort), nil)

	step := func(bySignal bool, k keys) {
		for _, a := range agents {
			reload(t, a, bySignal, base, tlsFiles, k)
		}
	}
	step(false, verify(false, true, true)) // everyone dials TLS, then plaintext is refused
	step(true, verify(true, true, true))
	wantClosed(t, "the plaintext connection", plain)
	if raw, err := net.Dial("tcp", s1.Addr(harness.RPCPort)); err != nil {
		t.Error(err)
	} else {
		raw.SetDeadline(time.Now().Add(harness.Patience))
		raw.Write(append([]byte{0}, pingCall...))
		if n, _ := raw.Read(make([]byte, 1)); n > 0 {
			t.Error("a plaintext call was answered")
		}
		raw.Close()
	}
	nobody := func() error { return handshake(t, s1.Addr(harness.RPCPort), nil) }
	if nobody() == nil {
		t.Error("a caller without a certificate was answered")
	}
	step(false, verify(false, true, true)) // and off again, in the other order
	if err := nobody(); err != nil {
		t.Errorf("verify_incoming is still on: %v", err)
	}
	step(true, verify(false, false, false))
	hold(t, s1.Addr(harness.RPCPort), nil).Close()
	poll(t, "an RPC in plaintext", client.RPC)

	n, err := stopCalls()
	if err != nil {
		t.Errorf("of %d calls: %v", n, err)
	}
	if err := probe.Stop(); err != nil {
		t.Error(err)
	}
}
