package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	network string // "tcp" or "udp"
	ports   []string
	send    func(conn net.Conn) error
	times   int // how many connections at once; 0 is one
	// closes: the agent must end the connection by itself.
	closes bool
	// slow: that takes as long as a deadline of the agent. Rows like that run
	// side by side with the others.
	slow bool
}

func hostileAgent(t *testing.T, encrypted bool) (*harness.Cluster, *harness.Agent) {
	t.Helper()
	c := cluster(t)
	a := c.AddServer("victim")
	ca := newCA(t, "CA")
	put(t, a, issue(t, ca, "server.dc1.consul", "localhost"), ca)
	cfg := []keys{{
		"ports": keys{"https": 8501},
		// For its heap profile, which collects garbage first: what is left then is
		// what the attacks have left behind.
		"enable_debug": true,
		"limits": keys{
			"rpc_handshake_timeout": "1s", "https_handshake_timeout": "1s",
			"rpc_max_conns_per_client": 40, "http_max_conns_per_client": 60,
		},
	}, tlsFiles}
	if encrypted {
		cfg = append(cfg, keys{"encrypt": guideKey}, verify(true, true, true))
	}
	config(t, a, cfg...)
	must(t, a.Start())
	return c, a
}

func TestHostileInputs(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%t", encrypted), func(t *testing.T) {
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
			rows := slices.Concat(gossipRows(), rpcRows(encrypted), localRows(), apiRows())
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
			members, err := a.Members(false)
			must(t, err)
			if len(members) != 1 {
				t.Errorf("strangers have become members: %v", members)
			}
			if status, err := a.Stop(sigterm); err != nil || status != 1 {
				t.Errorf("stop: status %d, %v", status, err)
			}
		})
	}
}

// attack runs one row against every port it names.
func attack(t *testing.T, a *harness.Agent, row hostileRow) {
	t.Helper()
	var wg sync.WaitGroup
	for _, port := range row.ports {
		for range max(1, row.times) {
			wg.Go(func() {
				conn, err := net.DialTimeout(row.network, a.Addr(port), harness.Patience)
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

// From one address at most the configured number of connections stays; another
// address is still served; and when they are gone there is room again.
func TestConnectionCaps(t *testing.T) {
	t.Parallel()
	c, a := hostileAgent(t, false)
	for _, row := range []struct {
		port string
		most int
		hold []byte // what keeps a connection open
	}{
		{harness.RPCPort, 40, packet(4)},
		{harness.HTTPPort, 60, packet("GET /v1/agent/self HTTP/1.1\r\nHost: localhost\r\n\r\n")},
	} {
		t.Run(row.port, func(t *testing.T) {
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.IP(201))}, Timeout: harness.Patience}
			var open []net.Conn
			defer func() {
				for _, conn := range open {
					conn.Close()
				}
			}()
			for range row.most + 50 {
				conn, err := from.Dial("tcp", a.Addr(row.port))
				must(t, err)
				conn.Write(row.hold)
				open = append(open, conn)
			}
			kept := 0
			poll(t, "the connections above the cap to be closed", func() error {
				kept = 0
				for _, conn := range open {
					if alive(conn) {
						kept++
					}
				}
				if kept > row.most {
					return fmt.Errorf("%d of %d are open", kept, len(open))
				}
				return nil
			})
			if kept == 0 {
				t.Error("none was kept")
			}
			if _, err := a.Get("/v1/status/peers"); err != nil {
				t.Errorf("another address is not served: %v", err)
			}
			if err := handshakeFrom(c.IP(202), a.Addr(harness.RPCPort)); err != nil {
				t.Errorf("another address is not served: %v", err)
			}
			for _, conn := range open {
				conn.Close()
			}
			open = nil
			poll(t, "room for the first address", func() error { return handshakeFrom(c.IP(201), a.Addr(harness.RPCPort)) })
		})
	}
}

// alive reports whether the other end has left a connection open.
func alive(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	buf := make([]byte, 4096)
	for {
		_, err := conn.Read(buf)
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			return true
		}
		if err != nil {
			return false
		}
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
