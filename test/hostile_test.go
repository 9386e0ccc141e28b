package test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lictor/test/harness"
)

// What an agent is sent by strangers (threats.md), one row each. An agent in the
// clear and one that is encrypted get every row; both live through all of them,
// and what they hold does not grow by what a stranger claims.

// vmMost is how far the address space may grow over all rows together: below
// the least that one row claims. An allocation shows there even if it is never
// touched and even after it was freed.
const vmMost = 768 << 20

// raceFactor is how much more address space the same heap takes under the race
// detector, which keeps four bytes of its own for each.
const raceFactor = 5

// heapMost is how far the agent's own heap figure may be, in the end, above what
// it was before.
const heapMost = 64 << 20

type hostileRow struct {
	name    string
	network string   // "tcp", "udp" or "unix"
	ports   []string // of "unix": files in the agent's folder
	send    func(conn net.Conn) error
	times   int // how many connections at once; 0 is one
	// closes: the agent must end the connection by itself.
	closes bool
	// slow: that takes as long as a deadline of the agent. Rows like that run
	// side by side with the others.
	slow bool
}

// localSocket is the local RPC's file in an agent's folder.
const localSocket = "rpc.sock"

// hostileAgent starts an agent that is going to be attacked: one in the clear, or
// one that is encrypted and asks for a key on its local RPC too.
func hostileAgent(t *testing.T, encrypted bool, more ...keys) (*harness.Cluster, *harness.Agent) {
	t.Helper()
	c := cluster(t)
	a := c.AddServer("victim")
	ca := newCA(t, "CA")
	put(t, a, issue(t, ca, "server.dc1.consul", "localhost"), ca)
	must(t, a.Put(nil)) // its folder, for the socket
	cfg := []keys{{
		"ports":     keys{"https": 8501},
		"addresses": keys{"rpc": a.IP + " unix://" + filepath.Join(a.Dir, localSocket)},
		// For its heap profile, which collects garbage first: what is left then is
		// what the attacks have left behind.
		"enable_debug": true,
		"limits": keys{
			"rpc_handshake_timeout": "1s", "https_handshake_timeout": "1s",
			"rpc_max_conns_per_client": 40, "http_max_conns_per_client": 60,
		},
	}, tlsFiles}
	if encrypted {
		cfg = append(cfg, keys{"encrypt": guideKey, "rpc_auth_key": "hostile-rpc-auth-key"}, verify(true, true, true))
	}
	config(t, a, append(cfg, more...)...)
	must(t, a.Start())
	return c, a
}

func TestHostileInputsInTheClear(t *testing.T) { hostileInputs(t, false) }
func TestHostileInputsEncrypted(t *testing.T)  { hostileInputs(t, true) }

func hostileInputs(t *testing.T, encrypted bool) {
	t.Parallel()
	_, a := hostileAgent(t, encrypted)
	must(t, a.RPC()) // warm, so that the figures below are of a running agent
	var heap int64
	poll(t, "the heap figure", func() (err error) { heap, err = a.HeapBytes(); return err })
	_, vm, err := a.RSS()
	must(t, err)
	most := int64(vmMost)
	if harness.Race {
		most *= raceFactor
	}
	pid := a.Pid()
	before := held(t, a)
	rows := slices.Concat(gossipRows(!encrypted), rpcRows(encrypted), localRows(encrypted), apiRows())
	var slow sync.WaitGroup
	for _, row := range rows {
		if row.slow {
			slow.Go(func() { attack(t, a, row) })
		}
	}
	for _, row := range rows {
		if row.slow {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			attack(t, a, row)
			if _, err := a.Get("/v1/agent/self"); err != nil {
				t.Fatalf("the agent does not answer any more: %v", err)
			}
			_, v, err := a.RSS()
			must(t, err)
			t.Logf("the address space has grown by %d MiB", (v-vm)>>20)
			if v > vm+most {
				t.Errorf("the address space is %d MiB, it was %d MiB", v>>20, vm>>20)
			}
		})
	}
	slow.Wait()
	if a.Pid() != pid || pid == 0 {
		t.Error("the process is not the one that was started")
	}
	poll(t, "the heap to be as small as before", func() error {
		if _, err := a.Get("/debug/pprof/heap?gc=1"); err != nil {
			return err
		}
		h, err := a.HeapBytes()
		if err == nil && h > heap+heapMost {
			err = fmt.Errorf("it is %d MiB, it was %d MiB", h>>20, heap>>20)
		}
		return err
	})
	poll(t, "files and goroutines to be as many as before", func() error {
		now := held(t, a)
		if now.files > before.files || now.goroutines > before.goroutines {
			return fmt.Errorf("they are %+v, they were %+v", now, before)
		}
		return nil
	})
	members, err := a.Members(false)
	must(t, err)
	if len(members) != 1 {
		t.Errorf("strangers have become members: %v", members)
	}
	if status, err := a.Stop(sigterm); err != nil || status != 1 {
		t.Errorf("stop: status %d, %v", status, err)
	}
}

// holding is what connections cost an agent.
type holding struct{ files, goroutines int }

func held(t testing.TB, a *harness.Agent) (h holding) {
	t.Helper()
	profile, err := a.Get("/debug/pprof/goroutine?debug=1")
	must(t, err)
	if _, err := fmt.Sscanf(string(profile), "goroutine profile: total %d", &h.goroutines); err != nil {
		t.Fatalf("%.100s: %v", profile, err)
	}
	h.files, err = a.Files()
	must(t, err)
	return h
}

// attack runs one row against every port it names.
func attack(t *testing.T, a *harness.Agent, row hostileRow) {
	t.Helper()
	var wg sync.WaitGroup
	for _, port := range row.ports {
		for range max(1, row.times) {
			wg.Go(func() {
				addr := a.Addr(port)
				if row.network == "unix" {
					addr = filepath.Join(a.Dir, port)
				}
				conn, err := net.DialTimeout(row.network, addr, harness.Patience)
				if err != nil {
					t.Errorf("dial %s %s: %v", row.network, port, err)
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(harness.Patience))
				// The agent may well close before all is sent: that is an answer.
				err = row.send(conn)
				if ours := (*ourError)(nil); errors.As(err, &ours) {
					t.Errorf("%s: port %s: %v", row.name, port, err)
				}
				if row.closes {
					_, err := io.Copy(io.Discard, conn)
					var netErr net.Error
					if errors.As(err, &netErr) && netErr.Timeout() {
						t.Errorf("%s: port %s: the connection is still open", row.name, port)
					}
				}
			})
		}
	}
	wg.Wait()
}

// Of the connections that strangers open, exactly as many stay as the limit
// says: from one address, in all, and of those that have not said who they are.
// The others are told so in the log, or in the answer where there is one;
// another address is still served; and there is room again when they are gone.
func TestConnectionCaps(t *testing.T) {
	t.Parallel()
	// Silence is not what ends a connection here.
	c, a := hostileAgent(t, false, keys{"limits": keys{
		"rpc_handshake_timeout": "60s", "https_handshake_timeout": "60s",
		"rpc_max_conns_per_client": 100, "http_max_conns_per_client": 60,
	}})
	// These are not settings.
	const rpcPending, rpcTotal, localTotal, gossipPerClient, gossipTotal = 512, 4096, 128, 128, 1024
	ping := append([]byte{0}, pingCall...)
	gossipPing := packet(0, 0x82, str("SeqNo"), 1, str("Node"), str("victim.dc1"))
	shake := packet(0x82, str("Command"), str("handshake"), str("Seq"), 0, 0x81, str("Version"), 1)
	get := packet("GET /v1/agent/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
	for _, row := range []struct {
		name, port string
		addresses  int // that the connections come from, in turn
		most       int
		ask        []byte // what a connection that was kept answers
		answer     string // how the answer begins; "" is any
		tls        bool
		// oneByOne: each is asked before the next one is opened. Otherwise all are
		// silent until the last one has been refused.
		oneByOne bool
		log      string // what the agent says of the others; "" where it is told them
		told     string // what they are told
	}{
		{name: "rpc per client", port: harness.RPCPort, addresses: 1, most: 100, ask: ping, log: `connection refused: from=FROM:\d+ reason="too many connections from this address \(limits\.rpc_max_conns_per_client\)"`},
		{name: "rpc pending", port: harness.RPCPort, addresses: 10, most: rpcPending, ask: ping, log: `connection refused: .*reason="too many connections that have not sent a request yet"`},
		{name: "rpc total", port: harness.RPCPort, addresses: 50, most: rpcTotal, ask: ping, oneByOne: true, log: `connection refused: .*reason="too many connections"`},
		{name: "http per client", port: harness.HTTPPort, addresses: 1, most: 60, ask: get, answer: "HTTP/1.1 200", told: "HTTP/1.1 429 .*limits.http_max_conns_per_client"},
		{name: "https per client", port: harness.HTTPSPort, addresses: 1, most: 60, ask: get, answer: "HTTP/1.1 200", tls: true},
		{name: "local rpc total", port: harness.LocalPort, addresses: 1, most: localTotal, ask: shake, oneByOne: true, log: `connection refused: too many: limit=128`},
		{name: "gossip per client", port: harness.WANPort, addresses: 1, most: gossipPerClient, ask: gossipPing, log: `gossip stream refused: peer=FROM:\d+ reason="too many gossip streams from this address are open"`},
		{name: "gossip total", port: harness.WANPort, addresses: 20, most: gossipTotal, ask: gossipPing, log: `gossip stream refused: .*reason="too many gossip streams are open"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			mark := a.Log().Mark()
			const over = 50
			var open []net.Conn
			defer func() {
				for _, conn := range open {
					conn.Close()
				}
			}()
			kept := 0
			ask := func(conn net.Conn) bool {
				if row.tls {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				if _, err := conn.Write(row.ask); err != nil {
					return false
				}
				b := make([]byte, max(len(row.answer), 1))
				_, err := io.ReadFull(conn, b)
				return err == nil && (row.answer == "" || string(b) == row.answer)
			}
			for i := range row.most + over {
				from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.IP(200 + i%row.addresses))}, Timeout: harness.Patience}
				conn, err := from.Dial("tcp", a.Addr(row.port))
				must(t, err)
				conn.SetDeadline(time.Now().Add(harness.Patience))
				open = append(open, conn)
				if row.oneByOne && ask(conn) {
					kept++
				}
			}
			// Connections are judged in the order in which they come: once the last
			// one has been refused, all have been.
			last, err := io.ReadAll(open[len(open)-1])
			if netErr := (net.Error)(nil); errors.As(err, &netErr) && netErr.Timeout() {
				t.Fatal("the last connection is still open")
			}
			if row.told != "" {
				wantMatch(t, "what the last one is told", string(last), `(?s)`+row.told)
			}
			if !row.oneByOne {
				for _, conn := range open {
					if ask(conn) {
						kept++
					}
				}
			}
			if kept != row.most {
				t.Errorf("%d of %d connections were kept, want %d", kept, len(open), row.most)
			}
			if row.log != "" {
				wantLog(t, a, mark, strings.ReplaceAll(row.log, "FROM", c.IP(200)))
			}
			if row.addresses == 1 { // others are served all the same
				if _, err := a.Get("/v1/status/peers"); err != nil {
					t.Errorf("another address is not served: %v", err)
				}
				if err := handshakeFrom(c.IP(100), a.Addr(harness.RPCPort)); err != nil {
					t.Errorf("another address is not served: %v", err)
				}
			}
			for _, conn := range open {
				conn.Close()
			}
			open = nil
			poll(t, "room for the first address", func() error {
				from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.IP(200))}, Timeout: harness.Patience}
				conn, err := from.Dial("tcp", a.Addr(row.port))
				if err != nil {
					return err
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(harness.Patience))
				if !ask(conn) {
					return errors.New("there is none")
				}
				return nil
			})
		})
	}
}

// handshakeFrom makes one call in plaintext from an address.
func handshakeFrom(ip, addr string) error {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: harness.Patience}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := conn.Write(append([]byte{0}, pingCall...)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// Every answer of the API, errors too, says what it is and that it is nothing
// else.
func TestAPIAnswersAreTyped(t *testing.T) {
	t.Parallel()
	_, a := hostileAgent(t, false)
	for _, path := range []string{"/", "/v1/agent/self", "/v1/nonsense", "/v1/agent/join/%3Cscript%3E", "/v1/agent/members?wan=%3Cscript%3E",
		"/v1/agent/monitor?loglevel=%3Cscript%3E", "/v1/event/list", "/v1/agent//self", "/v1/agent/%2e%2e/self", "/v1/operator/keyring?relay-factor=%3Cscript%3E"} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			req, err := http.NewRequest(method, "http://"+a.Addr(harness.HTTPPort)+path, nil)
			must(t, err)
			resp, err := http.DefaultTransport.RoundTrip(req)
			must(t, err)
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
			what := fmt.Sprintf("%s %s (%d)", method, path, resp.StatusCode)
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: no nosniff", what)
			}
			ct := resp.Header.Get("Content-Type")
			if ct == "" && len(body) > 0 {
				t.Errorf("%s: no Content-Type", what)
			}
			if strings.Contains(ct, "html") && bytes.Contains(body, []byte("<script>")) {
				t.Errorf("%s: the request comes back as %s", what, ct)
			}
		}
	}
}
