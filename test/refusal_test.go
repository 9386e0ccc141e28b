package test

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"lictor/test/harness"
)

// Gossip that must be refused. Each row is an agent that asks to join a server
// with a key; both must say why, and neither may see the other as a member.
func TestGossipRefusals(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name           string
		keys           keys
		joiner, server string // what each end must say
	}{
		{"plaintext", keys{}, `(?i)encrypt`, `(?i)(not encrypted|plaintext|unencrypted)`},
		{"wrong-key", keys{"encrypt": otherKey}, `(?i)(key|decrypt)`, `(?i)(no installed keys|decrypt|key)`},
		{"other-datacenter", keys{"encrypt": guideKey, "datacenter": "dc2"}, `(?i)wrong datacenter`, `(?i)wrong datacenter`},
	}
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey})
	must(t, s.Start())
	plain := c.AddServer("s2")
	plain.Alone = true
	plain.Set(keys{"datacenter": "dc3"})
	must(t, plain.Start())

	refuses := func(t *testing.T, a, s *harness.Agent, joiner, server string) {
		mark := s.Log().Mark()
		r, err := a.CLI(c.Dir, "join", s.IP)
		must(t, err)
		if r.Code != 1 {
			t.Errorf("join: exit status %d, want 1 (%s)", r.Code, r.Stdout)
		}
		wantMatch(t, "what the joiner is told", r.Stderr, joiner)
		wantMatch(t, "what the joiner is told", r.Stderr, `Failed to join any nodes\.`)
		if r.Stderr == "EOF" {
			t.Error("the joiner is told EOF")
		}
		wantLog(t, s, mark, server)
		for _, pair := range [][2]*harness.Agent{{a, s}, {s, a}} {
			members, err := pair[0].Members(false)
			must(t, err)
			if _, ok := members[pair[1].Name]; ok {
				t.Errorf("%s sees %s as a member: %v", pair[0].Name, pair[1].Name, members)
			}
		}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := c.AddClient(row.name)
			a.Alone = true
			a.Set(row.keys)
			must(t, a.Start())
			refuses(t, a, s, row.joiner, row.server)
		})
	}
	t.Run("encrypted-to-plaintext", func(t *testing.T) {
		a := c.AddClient("encrypted")
		a.Alone = true
		a.Set(keys{"datacenter": "dc3", "encrypt": guideKey})
		must(t, a.Start())
		refuses(t, a, plain, `(?i)encrypt`, `(?i)encrypt`)
	})
}

// Callers that a server with verify_incoming must refuse. Each row is a client
// agent; the reason must be in the log of both ends.
func TestCallerRefusals(t *testing.T) {
	t.Parallel()
	good, evil := newCA(t, "good CA"), newCA(t, "evil CA")
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
	put(t, s, issue(t, good, "server.dc1.consul", "localhost"), good)
	must(t, s.Start())

	caOnly := keys{"ca_file": "ca.pem"}
	rows := []struct {
		name           string
		keys           []keys
		cert           *harness.Cert
		cas            []*harness.CA
		caller, server string
	}{
		{"plain-rpc", nil, nil, nil,
			`(?i)(tls|verify_incoming|refused|closed)`, `(?i)non-TLS connection`},
		{"no-certificate", []keys{caOnly, verify(false, true, true)}, nil, []*harness.CA{good},
			`(?i)certificate`, `(?i)(no client certificate|didn't provide a certificate|no certificate)`},
		{"wrong-ca", []keys{tlsFiles, verify(false, true, true)}, issue(t, evil, "client.dc1.consul"), []*harness.CA{evil},
			`(?i)(unknown authority|unknown CA|not signed by)`, `(?i)(unknown CA|bad certificate|refused our certificate|unknown authority)`},
		{"own-certificate-of-wrong-ca", []keys{tlsFiles, verify(false, true, true)}, issue(t, evil, "client.dc1.consul"), []*harness.CA{good, evil},
			`(?i)(unknown certificate authority|unknown CA|bad certificate|refused our certificate)`, `(?i)(unknown authority|unknown CA)`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := c.AddClient(row.name)
			impatient(a)
			config(t, a, append(row.keys, keys{"encrypt": guideKey})...)
			put(t, a, row.cert, row.cas...)
			mark := s.Log().Mark()
			must(t, a.Start())
			wantMatch(t, "the answer", refused(t, a), row.caller)
			wantLog(t, a, 0, row.caller)
			wantLog(t, s, mark, row.server)
			wantLog(t, s, mark, `(?i)`+a.IP)
			a.Kill()
		})
	}

	t.Run("expired", func(t *testing.T) {
		// An agent does not start with an expired certificate, so what calls
		// here is no agent; the agent's own refusal is the second half.
		expired := issueUntil(t, good, time.Now().Add(-time.Hour), "client.dc1.consul")
		mark := s.Log().Mark()
		err := handshake(t, s.Addr(harness.RPCPort), expired)
		if err == nil {
			t.Fatal("the server took an expired certificate")
		}
		wantMatch(t, "the caller's error", err.Error(), `(?i)expired|bad certificate`)
		wantLog(t, s, mark, `(?i)expired`)

		a := c.AddClient("expired")
		config(t, a, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
		put(t, a, expired, good)
		must(t, a.Launch())
		status, err := a.Wait()
		must(t, err)
		if status != 1 {
			t.Errorf("exit status %d, want 1", status)
		}
		wantLog(t, a, 0, `(?i)expired`)
	})
}

// handshake does what an agent does to speak TLS to an RPC port, and then reads,
// because a server's verdict comes after the client's part of the handshake.
func handshake(t testing.TB, addr string, cert *harness.Cert) error {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, harness.Patience)
	must(t, err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(harness.Patience))
	_, err = raw.Write([]byte{3})
	must(t, err)
	tc := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		pair, err := cert.TLS()
		must(t, err)
		tc.Certificates = []tls.Certificate{pair}
	}
	conn := tls.Client(raw, tc)
	if err := conn.Handshake(); err != nil {
		return err
	}
	// A call of Status.Ping, in the clear inside TLS (byte 0).
	if _, err := conn.Write(append([]byte{0}, pingCall...)); err != nil {
		return err
	}
	buf := make([]byte, 1)
	if _, err = conn.Read(buf); err == nil {
		return nil
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		t.Fatal("neither answer nor refusal")
	}
	return err
}

// pingCall is a request of Status.Ping with an empty body.
var pingCall = append(rpcHeader("Status.Ping"), 0x80)

// rpcHeader is the msgpack of a request header.
func rpcHeader(method string) []byte {
	b := []byte{0x82, 0xa0 | 13}
	b = append(b, "ServiceMethod"...)
	b = append(b, 0xa0|byte(len(method)))
	b = append(b, method...)
	b = append(b, 0xa3, 'S', 'e', 'q', 1)
	return b
}

// Servers that an agent with verify_server_hostname must refuse although its CA
// signed their certificates, or although they look right but are not. The server
// is a real agent in gossip; its RPC port is played by the test.
func TestServerRefusals(t *testing.T) {
	t.Parallel()
	good, evil := newCA(t, "good CA"), newCA(t, "evil CA")
	rows := []struct {
		name   string
		cert   *harness.Cert // nil: a server that speaks no TLS
		caller string
	}{
		{"client-playing-server", issue(t, good, "client.dc1.consul", "localhost"), `server\.dc1\.consul`},
		{"server-of-other-datacenter", issue(t, good, "server.dc2.consul", "localhost"), `server\.dc2\.consul`},
		{"localhost", issue(t, good, "localhost"), `server\.dc1\.consul`},
		{"wrong-ca", issue(t, evil, "server.dc1.consul"), `(?i)(unknown authority|unknown CA)`},
		{"expired", issueUntil(t, good, time.Now().Add(-time.Hour), "server.dc1.consul"), `(?i)expired`},
		{"no-tls", nil, `(?i)(tls|does not speak)`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			s := c.AddServer("s1")
			config(t, s, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
			put(t, s, issue(t, good, "server.dc1.consul"), good)
			front := c.IP(100)
			s.Set(keys{"serf_lan": front, "serf_wan": front, "advertise_addr": front})
			must(t, s.Start())

			client := c.AddClient("c1")
			impatient(client)
			client.Alone = true
			config(t, client, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
			put(t, client, issue(t, good, "client.dc1.consul"), good)
			got := make(chan error, 1)
			stop := playServer(t, net.JoinHostPort(front, harness.RPCPort), row.cert, got)
			must(t, client.Start("-retry-join="+front))
			must(t, c.WaitMembers())

			wantMatch(t, "the answer", refused(t, client), row.caller)
			wantLog(t, client, 0, row.caller)
			select {
			case err := <-got:
				if row.cert != nil && err == nil {
					t.Error("the agent finished the handshake")
				}
			case <-time.After(harness.Patience):
				t.Error("the agent has not called")
			}
			stop()

			// The same client and the real server: it was the certificate.
			harness.NewRecorder(t, net.JoinHostPort(front, harness.RPCPort), s.Addr(harness.RPCPort))
			poll(t, "the real server to be believed", client.RPC)
		})
	}
}

// playServer listens on an RPC port, shows cert to who comes (nothing if nil)
// and sends the outcome of the first connection to got.
func playServer(t testing.TB, addr string, cert *harness.Cert, got chan<- error) (stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			err = playOne(conn, cert)
			select {
			case got <- err:
			default:
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		ln.Close()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

func playOne(conn net.Conn, cert *harness.Cert) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if cert == nil {
		_, err := conn.Write([]byte("this is no TLS\r\n"))
		return err
	}
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil {
		return err
	}
	if first[0] != 3 {
		return errors.New("it did not ask for TLS")
	}
	pair, err := cert.TLS()
	if err != nil {
		return err
	}
	tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err := tc.Handshake(); err != nil {
		return err
	}
	_, err = tc.Read(first) // TLS 1.3: the client's refusal may come after our part
	return err
}
