package test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"lictor/gossip"
	"lictor/test/harness"
)

// Gossip that must be refused. Each row is an agent that asks to join a server;
// both must say why, the one to who asked and both in their logs, in words that
// fit no other reason, and neither may see the other as a member.
func TestGossipRefusals(t *testing.T) {
	t.Parallel()
	print := func(key string) string {
		raw, err := base64.StdEncoding.DecodeString(key)
		must(t, err)
		return gossip.Fingerprint(raw)
	}
	ours, theirs := print(guideKey), print(otherKey)
	const id = "6a3c1c5e-3b5c-4e0a-9d4e-0c6b8f1d2a37"
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey, "node_id": id})
	must(t, s.Start())
	plain := c.AddServer("s2")
	plain.Alone = true
	plain.Set(keys{"datacenter": "dc3"})
	must(t, plain.Start())

	rows := []struct {
		name           string
		keys           keys
		to             *harness.Agent
		joiner, server string // what each end must say
	}{
		{"plaintext", keys{}, s,
			`the peer accepts only encrypted gossip, and this agent has no gossip key \(key none\): set encrypt here`,
			`gossip refused: .*reason="the peer's gossip is plaintext and this agent \(key ` + ours + `\) accepts only encrypted gossip`},
		{"wrong-key", keys{"encrypt": otherKey}, s,
			`the peer uses another gossip key than this agent: ours is ` + theirs,
			`gossip refused: .*reason="it is encrypted with a key that this agent does not have .*: our key is ` + ours},
		{"other-datacenter", keys{"encrypt": guideKey, "datacenter": "dc2"}, s,
			`Member 's1' part of wrong datacenter 'dc1'; expected 'dc2'`,
			`member refused: .*Member 'other-datacenter' part of wrong datacenter 'dc2'; expected 'dc1'`},
		{"conflicting-id", keys{"encrypt": guideKey, "node_id": id}, s,
			`Member 's1' has conflicting node ID '` + id + `' with this agent's ID`,
			`member refused: .*Member 'conflicting-id' has conflicting node ID '` + id + `' with this agent's ID`},
		{"encrypted-to-plaintext", keys{"datacenter": "dc3", "encrypt": guideKey}, plain,
			`the peer's gossip is plaintext and this agent \(key ` + ours + `\) accepts only encrypted gossip`,
			`gossip refused: .*reason="the peer's gossip is encrypted and this agent has no gossip key`},
	}
	said := map[string][2]string{} // by row: what the joiner and the server have said
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := c.AddClient(row.name)
			a.Alone = true
			a.Set(row.keys)
			must(t, a.Start())
			mark, serverMark := a.Log().Mark(), row.to.Log().Mark()
			r, err := a.CLI(c.Dir, "join", row.to.IP)
			must(t, err)
			if r.Code != 1 {
				t.Errorf("join: exit status %d, want 1 (%s)", r.Code, r.Stdout)
			}
			wantMatch(t, "what the joiner is told", r.Stderr, row.joiner)
			wantMatch(t, "what the joiner is told", r.Stderr, `Failed to join any nodes\.`)
			wantLog(t, a, mark, `\[WARN\].*`+row.joiner)
			wantLog(t, row.to, serverMark, `\[WARN\].*`+row.server)
			said[row.name] = [2]string{r.Stderr + a.Log().Since(mark), row.to.Log().Since(serverMark)}
			for _, pair := range [][2]*harness.Agent{{a, row.to}, {row.to, a}} {
				members, err := pair[0].Members(false)
				must(t, err)
				if _, ok := members[pair[1].Name]; ok {
					t.Errorf("%s sees %s as a member: %v", pair[0].Name, pair[1].Name, members)
				}
			}
		})
	}
	for _, row := range rows {
		for name, texts := range said {
			if name != row.name && (regexp.MustCompile(row.joiner).MatchString(texts[0]) || regexp.MustCompile(row.server).MatchString(texts[1])) {
				t.Errorf("what is said of %s can be taken for %s:\n%s", name, row.name, texts)
			}
		}
	}

	// A cluster with a label (of another program: this one has none) and the same
	// key.
	t.Run("label", func(t *testing.T) {
		conf := memberlist.DefaultLANConfig()
		conf.Name, conf.BindAddr, conf.BindPort = "labelled", c.IP(150), 8301
		key, err := base64.StdEncoding.DecodeString(guideKey)
		must(t, err)
		conf.Label, conf.SecretKey = "another-cluster", key
		conf.LogOutput = io.Discard
		other, err := memberlist.Create(conf)
		must(t, err)
		defer other.Shutdown()
		mark := s.Log().Mark()
		if n, err := other.Join([]string{s.IP}); n != 0 || err == nil {
			t.Errorf("it has joined %d", n)
		}
		const reason = `it belongs to another cluster: its gossip carries a label \(key `
		wantLog(t, s, mark, `\[WARN\].*gossip refused: .*reason="`+reason+ours)
		for name, texts := range said {
			if regexp.MustCompile(reason).MatchString(texts[1]) {
				t.Errorf("what is said of %s can be taken for a label:\n%s", name, texts[1])
			}
		}
		mark = s.Log().Mark()
		r, err := s.CLI(c.Dir, "join", c.IP(150))
		must(t, err)
		const silent = `the peer closed the connection without an answer: its log says why \(our key is `
		wantMatch(t, "what the joiner is told", r.Stderr, silent+ours)
		wantLog(t, s, mark, `\[WARN\].*`+silent+ours)
		if members, err := s.Members(false); err != nil || len(members) != 1 {
			t.Errorf("members: %v, %v", members, err)
		}
	})
}

// Callers that a server with verify_incoming must refuse. Each row is a client
// agent; the reason must be in the log of both ends, and in the answer.
func TestCallerRefusals(t *testing.T) {
	t.Parallel()
	good, evil := newCA(t, "good CA"), newCA(t, "evil CA")
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
	put(t, s, issue(t, good, "server.dc1.consul", "localhost"), good)
	must(t, s.Start())

	// An agent does not start with an expired certificate. This one's expires
	// while it runs.
	expires := time.Now().Add(15 * time.Second)
	late := c.AddClient("expired")
	impatient(late)
	config(t, late, keys{"encrypt": guideKey}, tlsFiles, verify(false, true, true))
	put(t, late, issueUntil(t, good, expires, "client.dc1.consul"), good)
	must(t, late.Start())

	caOnly := keys{"ca_file": "ca.pem"}
	rows := []struct {
		name           string
		keys           []keys
		cert           *harness.Cert
		cas            []*harness.CA
		caller, server string // in the log, where quotes are escaped
	}{
		{"plain-rpc", nil, nil, nil,
			`this connection is plaintext: the server may have verify_incoming on, and verify_outgoing is off here`,
			`Non-TLS connection attempted with VerifyIncoming set: from=FROM:\d+ fix="set verify_outgoing = true on the peer`},
		{"no-certificate", []keys{caOnly, verify(false, true, true)}, nil, []*harness.CA{good},
			`the peer wants a certificate and we showed none: it has verify_incoming on; set cert_file and key_file here`,
			`connection refused: from=FROM:\d+ reason="the peer showed no certificate, and verify_incoming is on"`},
		{"wrong-ca", []keys{tlsFiles, verify(false, true, true)}, issue(t, evil, "client.dc1.consul"), []*harness.CA{evil},
			`the peer's certificate is not signed by our CA .*: shown names \[\\?"server\.dc1\.consul\\?" \\?"localhost\\?"\], .*issuer \\?"good CA\\?"`,
			`connection refused: from=FROM:\d+ reason="the peer refused our certificate`},
		{"own-certificate-of-wrong-ca", []keys{tlsFiles, verify(false, true, true)}, issue(t, evil, "client.dc1.consul"), []*harness.CA{good, evil},
			`the peer does not know the CA of our certificate`,
			`connection refused: from=FROM:\d+ reason="the peer's certificate is not signed by our CA .*: shown names \[\\"client\.dc1\.consul\\"\], .*issuer \\"evil CA\\"`},
		{"expired", nil, nil, nil, // the agent that was started above
			`the peer says that our certificate has expired: compare the clocks`,
			`connection refused: from=FROM:\d+ reason="the peer's certificate has expired or is not valid yet: our clock says \S+, shown names \[\\"client\.dc1\.consul\\"\], .* to ` + expires.UTC().Format(time.RFC3339)},
	}
	said := map[string][2]string{}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			// Agents call their servers by themselves, and the log has one line for
			// a reason in a while: what counts is what is said from the start on.
			a, serverMark := late, s.Log().Mark()
			mark := a.Log().Mark()
			if row.name == "expired" {
				poll(t, "the certificate to expire", func() error {
					if !time.Now().After(expires.Add(time.Second)) { // certificates know whole seconds
						return fmt.Errorf("it is good until %s", expires)
					}
					return nil
				})
				// The server looks at its connections at a reload, and every minute.
				if r, err := s.CLI(c.Dir, "reload"); err != nil || r.Code != 0 {
					t.Fatalf("reload: %+v, %v", r, err)
				}
			} else {
				a = c.AddClient(row.name)
				impatient(a)
				config(t, a, append(row.keys, keys{"encrypt": guideKey})...)
				put(t, a, row.cert, row.cas...)
				mark = a.Log().Mark()
				must(t, a.Start())
			}
			answer := refused(t, a)
			wantMatch(t, "the answer", answer, row.caller)
			wantLog(t, a, mark, `\[WARN\].*`+row.caller)
			from := regexp.QuoteMeta(a.IP)
			wantLog(t, s, serverMark, `\[WARN\].*`+strings.ReplaceAll(row.server, "FROM", from))
			ofThis := regexp.MustCompile(`(?m)^.*`+from+`:.*$`).FindAllString(s.Log().Since(serverMark), -1)
			said[row.name] = [2]string{answer + a.Log().Since(mark), strings.Join(ofThis, "\n")}
			a.Kill()
		})
	}
	for _, row := range rows {
		for name, texts := range said {
			server := strings.ReplaceAll(row.server, "FROM", `\S+`)
			if name != row.name && (regexp.MustCompile(row.caller).MatchString(texts[0]) || regexp.MustCompile(server).MatchString(texts[1])) {
				t.Errorf("what is said of %s can be taken for %s:\n%s", name, row.name, texts)
			}
		}
	}

	t.Run("expired at the start", func(t *testing.T) {
		a := c.AddClient("expired-at-start")
		config(t, a, keys{"encrypt": guideKey}, tlsFiles, verify(true, true, true))
		put(t, a, issueUntil(t, good, time.Now().Add(-time.Hour), "client.dc1.consul"), good)
		must(t, a.Launch())
		status, err := a.Wait()
		must(t, err)
		if status != 1 {
			t.Errorf("exit status %d, want 1", status)
		}
		wantLog(t, a, 0, `Error starting agent: cert_file: cert\.pem: expired at \S+ \(now \S+\)`)
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
// is a real agent; where no agent would do what the row is about, its RPC port is
// played by the test.
func TestServerRefusals(t *testing.T) {
	t.Parallel()
	good, evil := newCA(t, "good CA"), newCA(t, "evil CA")
	wrongName := func(names string) string {
		return `the name in the peer's certificate is not the expected one: want \\?"server\.dc1\.consul\\?", shown names \[` + names + `\], `
	}
	const refusedUs = `connection refused: from=FROM:\d+ reason="the peer refused our certificate`
	rows := []struct {
		name   string
		cert   *harness.Cert // nil: a server that speaks no TLS
		played bool
		caller string
		server string // in the agent's log; of a played one, its error
	}{
		{"client-playing-server", issue(t, good, "client.dc1.consul", "localhost"), false, wrongName(`\\?"client\.dc1\.consul\\?" \\?"localhost\\?"`), refusedUs},
		{"server-of-other-datacenter", issue(t, good, "server.dc2.consul", "localhost"), false, wrongName(`\\?"server\.dc2\.consul\\?" \\?"localhost\\?"`), refusedUs},
		{"localhost", issue(t, good, "localhost"), false, wrongName(`\\?"localhost\\?"`), refusedUs},
		{"wrong-ca", issue(t, evil, "server.dc1.consul"), false,
			`the peer's certificate is not signed by our CA .*: shown names \[\\?"server\.dc1\.consul\\?"\], .*issuer \\?"evil CA\\?"`, refusedUs},
		{"no-tls", nil, false,
			`the peer closed the connection during the TLS handshake: its log says why`,
			`connection refused: from=FROM:\d+ reason="the peer speaks TLS, and this agent has no certificate \(cert_file, key_file\)"`},
		{"expired", issueUntil(t, good, time.Now().Add(-time.Hour), "server.dc1.consul"), true,
			`the peer's certificate has expired or is not valid yet: our clock says \S+, shown names \[\\?"server\.dc1\.consul\\?"\]`, `bad certificate`},
		{"something-else", nil, true, `the peer does not speak TLS here \(it sent something else\)`, ``},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			s := c.AddServer("s1")
			goodCert := issue(t, good, "server.dc1.consul")
			strict := []keys{{"encrypt": guideKey}, tlsFiles, verify(true, true, true)}
			switch {
			case row.played:
				config(t, s, strict...)
				put(t, s, goodCert, good)
			case row.cert == nil:
				config(t, s, keys{"encrypt": guideKey})
				put(t, s, nil, good)
			default:
				config(t, s, strict...)
				put(t, s, row.cert, good, evil)
			}
			front := s.IP
			if row.played {
				front = c.IP(100)
				s.Set(keys{"serf_lan": front, "serf_wan": front, "advertise_addr": front})
			}
			must(t, s.Start())

			client := c.AddClient("c1")
			impatient(client)
			client.Alone = true
			config(t, client, strict...)
			put(t, client, issue(t, good, "client.dc1.consul"), good)
			got, stop := make(chan error, 1), func() {}
			if row.played {
				stop = playServer(t, net.JoinHostPort(front, harness.RPCPort), row.cert, got)
			}
			mark, serverMark := client.Log().Mark(), s.Log().Mark()
			must(t, client.Start("-retry-join="+front))
			must(t, c.WaitMembers())
			wantMatch(t, "the answer", refused(t, client), row.caller)
			wantLog(t, client, mark, `\[WARN\].*`+row.caller)
			if !row.played {
				wantLog(t, s, serverMark, `\[WARN\].*`+strings.ReplaceAll(row.server, "FROM", regexp.QuoteMeta(client.IP)))
				// It was the certificate: with a good one the server is believed.
				put(t, s, goodCert, good)
				reload(t, s, false, strict...)
				poll(t, "the server to be believed", client.RPC)
				return
			}
			select {
			case err := <-got:
				if row.cert != nil && err == nil {
					t.Error("the agent finished the handshake")
				}
				if row.server != "" {
					wantMatch(t, "what the server hears", fmt.Sprint(err), row.server)
				}
			case <-time.After(harness.Patience):
				t.Error("the agent has not called")
			}
			stop()

			// The same client and the real server.
			harness.NewRecorder(t, net.JoinHostPort(front, harness.RPCPort), s.Addr(harness.RPCPort))
			poll(t, "the real server to be believed", client.RPC)
		})
	}
}

// playServer listens on an RPC port, shows cert to who comes (nothing if nil)
// and sends the outcome of the first connection to got.
func playServer(t testing.TB, addr string, cert *harness.Cert, got chan<- error) (stop func()) {
	t.Helper()
	ln := harness.Listen(t, addr)
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
