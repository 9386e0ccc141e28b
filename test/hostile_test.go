package test

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
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

// ourError is a row's own complaint, as opposed to a connection that broke.
type ourError struct{ error }

func complain(format string, args ...any) error { return &ourError{fmt.Errorf(format, args...)} }

// bytesOf sends b and nothing more.
func bytesOf(parts ...any) func(net.Conn) error {
	b := packet(parts...)
	return func(conn net.Conn) error {
		_, err := conn.Write(b)
		return err
	}
}

// packet joins bytes, numbers (one byte each) and strings.
func packet(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		default:
			panic(fmt.Sprintf("packet: %T", p))
		}
	}
	return b
}

// str is a short msgpack string.
func str(s string) []byte { return packet(0xa0|len(s), s) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// num is a msgpack uint32.
func num(n uint32) []byte { return packet(0xce, u32(n)) }

// zeros is n zero bytes, compressed as memberlist does.
func zeros(n int) []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	w.Write(make([]byte, n))
	w.Close()
	return b.Bytes()
}

func gossipRows() []hostileRow {
	ports := []string{harness.LANPort, harness.WANPort}
	bomb := zeros(40<<20 + 1)
	compressed := func(b []byte) []byte {
		return packet(9, 0x82, str("Algo"), 0, str("Buf"), 0xdb, u32(uint32(len(b))), b)
	}
	pushPull := packet(6, 0x83, str("Nodes"), 1, str("UserStateLen"), 0, str("Join"), 0xc3,
		0x87, str("Name"), str("x"), str("Addr"), 0xa4, 127, 0, 0, 1, str("Port"), 0xcd, 0x20, 0x6d,
		str("Meta"), 0xa0, str("Incarnation"), 1, str("State"), 0, str("Vsn"), 0xa1, 1)
	alive := func(vsn []byte) []byte {
		return packet(4, 0x86, str("Incarnation"), 1, str("Node"), str("mallory"), str("Addr"), 0xa4, 127, 9, 9, 9,
			str("Port"), 0xcd, 0x20, 0x6d, str("Meta"), 0xa0, str("Vsn"), 0xa0|len(vsn), vsn)
	}
	var rows []hostileRow
	both := func(name string, b []byte) {
		rows = append(rows,
			hostileRow{name: "gossip/tcp/" + name, network: "tcp", ports: ports, send: bytesOf(b)},
			hostileRow{name: "gossip/udp/" + name, network: "udp", ports: ports, send: bytesOf(b[:min(len(b), 60_000)])})
	}
	both("compressed-inflates-to-nothing", packet(9, 0x82, str("Algo"), 0, str("Buf"), 0xa3, 0, 3, 2))
	both("push-pull-short-version-array", pushPull)
	both("push-pull-20-million-nodes", packet(6, 0x83, str("Nodes"), num(20_000_000), str("UserStateLen"), 0, str("Join"), 0xc3))
	both("push-pull-2-GB-user-state", packet(6, 0x83, str("Nodes"), 0, str("UserStateLen"), num(2_000_000_000), str("Join"), 0xc3))
	both("push-pull-negative-nodes", packet(6, 0x83, str("Nodes"), 0xff, str("UserStateLen"), 0xff, str("Join"), 0xc3))
	both("user-message-1.5-GB", packet(8, 0x81, str("UserMsgLen"), num(1_500_000_000)))
	both("user-message-negative", packet(8, 0x81, str("UserMsgLen"), 0xff))
	both("label-header-truncated", packet(244))
	both("label-header-size-only", packet(244, 255))
	both("label-header-zero", packet(244, 0))
	both("compressed-zeros-40-MiB", compressed(bomb))
	both("compressed-in-compressed", compressed(compressed(zeros(1<<20))))
	both("encrypted-4-GB", packet(10, u32(0xffffffff)))
	both("encrypted-empty", packet(10, u32(0)))
	both("compound-short", packet(7, 255))
	both("compound-lengths-beyond-end", packet(7, 2, 0xff, 0xff, 0xff, 0xff, 0))
	both("alive-version-0", alive(make([]byte, 6)))
	both("alive-version-255", alive(bytes.Repeat([]byte{255}, 6)))
	both("alive-short-version-array", alive([]byte{1}))
	both("crc-short", packet(12, 0, 0))
	both("nested-maps", packet(0, bytes.Repeat([]byte{0x81, 0xa1, 'x'}, 20_000)))
	both("array32", packet(0, 0xdd, u32(0x7fffffff)))
	both("unknown-type", packet(200, "hello"))
	rows = append(rows, hostileRow{name: "gossip/tcp/push-pull-x200", network: "tcp", ports: ports, times: 200, send: bytesOf(packet(6, 0x83,
		str("Nodes"), num(10_000), str("UserStateLen"), 0, str("Join"), 0xc3))})
	rows = append(rows, hostileRow{name: "gossip/tcp/silent", network: "tcp", ports: ports, times: 5, send: bytesOf(), closes: true, slow: true})
	for b := range 256 { // one connection and packet for each first byte there is
		if b%16 == 0 {
			rows = append(rows, hostileRow{name: fmt.Sprintf("gossip/udp/first-byte-%d-to-%d", b, b+15), network: "udp", ports: ports,
				send: func(conn net.Conn) error {
					for i := range 16 {
						conn.Write(packet(b+i, 0xdf, 0xff, 0xff, 0xff, 0xff))
					}
					return nil
				}})
		}
	}
	return rows
}

// deep is a msgpack value nested n deep.
func deep(n int) []byte { return bytes.Repeat([]byte{0x91}, n) }

// sizes are the msgpack headers that claim about 1 GB or 1 G elements.
var sizes = map[string]byte{"str32": 0xdb, "bin32": 0xc6, "array32": 0xdd, "map32": 0xdf, "ext32": 0xc9}

func rpcRows(encrypted bool) []hostileRow {
	ports := []string{harness.RPCPort}
	var rows []hostileRow
	add := func(name string, b []byte, times int) {
		rows = append(rows, hostileRow{name: "rpc/" + name, network: "tcp", ports: ports, times: times, send: bytesOf(b), closes: true})
	}
	wait := func(name string, b []byte, times int) {
		add(name, b, times)
		rows[len(rows)-1].slow = true
	}
	gb := u32(1_000_000_000)
	for name, code := range sizes {
		claim := packet(int(code), gb)
		add("header-"+name, packet(0, 0x82, str("ServiceMethod"), claim), 8)
		add("whole-header-"+name, packet(0, claim), 2)
		add("seq-"+name, packet(0, 0x82, str("ServiceMethod"), str("Status.Ping"), str("Seq"), claim), 2)
		add("body-"+name, packet(0, rpcHeader("Status.Ping"), claim), 8)
		add("body-field-"+name, packet(0, rpcHeader("Status.Leader"), 0x81, str("Datacenter"), claim), 2)
		add("stream-"+name, packet(4, yamuxOpen(1), yamuxData(1, packet(0x82, str("ServiceMethod"), claim))), 2)
		add("raft-"+name, packet(1, 0, claim), 2)
		add("snapshot-"+name, packet(5, claim), 2)
	}
	add("header-deep", packet(0, deep(10_000)), 1)
	add("body-deep", packet(0, rpcHeader("Status.Leader"), deep(100_000)), 1)
	add("header-many-keys", packet(0, 0xde, 0xff, 0xff, bytes.Repeat(packet(str("k"), 1), 5000)), 1)
	wait("silent", nil, 20)
	wait("first-byte-then-silent/0", packet(0), 5)
	wait("first-byte-then-silent/tls", packet(3), 5)
	wait("tls-half-hello", packet(3, 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc), 5)
	add("tls-nonsense", packet(3, "GET / HTTP/1.1\r\n\r\n"), 2)
	wait("yamux-then-silent-stream", packet(4, yamuxOpen(1)), 2)
	add("yamux-bad-version", packet(4, 9, make([]byte, 11)), 1)
	add("yamux-4-GB-frame", packet(4, yamuxOpen(1), 0, 0, 0, 0, u32(1), u32(0xffffffff)), 1)
	wait("half-a-header", packet(0, 0x82, str("ServiceMethod")), 5)
	wait("half-a-body", packet(0, rpcHeader("Status.Leader"), 0x81, str("Datacenter")), 5)
	for _, b := range []int{2, 6, 7, 8, 9, 10, 0x16, 'G', 255} {
		add(fmt.Sprintf("first-byte/%d", b), packet(b, "nonsense"), 1)
	}
	if !encrypted {
		rows = append(rows, hostileRow{name: "rpc/silent-stream-stalls-no-other", network: "tcp", ports: ports, send: silentStream, closes: false})
	}
	return rows
}

// yamux frames, by hand: version 0, type, flags, stream, length.
func yamuxOpen(stream uint32) []byte { return packet(0, 1, 0, 1, u32(stream), u32(0)) }

func yamuxData(stream uint32, b []byte) []byte {
	return packet(0, 0, 0, 0, u32(stream), u32(uint32(len(b))), b)
}

// silentStream opens a stream that says nothing and makes a call on another.
func silentStream(conn net.Conn) error {
	if _, err := conn.Write(packet(4, yamuxOpen(1), yamuxOpen(3), yamuxData(3, pingCall))); err != nil {
		return complain("write: %w", err)
	}
	var all []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(all, []byte("Status.Ping")) {
		n, err := conn.Read(buf)
		if err != nil {
			return complain("no answer on the other stream: %w", err)
		}
		all = append(all, buf[:n]...)
	}
	return nil
}

func localRows() []hostileRow {
	ports := []string{harness.LocalPort}
	var rows []hostileRow
	add := func(name string, b []byte, times int) {
		rows = append(rows, hostileRow{name: "local/" + name, network: "tcp", ports: ports, times: times, send: bytesOf(b), closes: true})
	}
	wait := func(name string, b []byte, times int) {
		add(name, b, times)
		rows[len(rows)-1].slow = true
	}
	shake := packet(0x82, str("Command"), str("handshake"), str("Seq"), 0, 0x81, str("Version"), 1)
	gb := u32(1_000_000_000)
	for name, code := range sizes {
		claim := packet(int(code), gb)
		add("header-"+name, packet(0x82, str("Command"), claim), 4)
		add("whole-"+name, claim, 2)
		add("body-"+name, packet(shake, 0x82, str("Command"), str("join"), str("Seq"), 1, 0x82, str("Existing"), claim), 4)
	}
	wait("silent", nil, 10)
	wait("half-a-header", packet(0x82, str("Command")), 5)
	add("deep", packet(deep(100_000)), 1)
	add("unknown-command", packet(shake, 0x82, str("Command"), str("nonsense"), str("Seq"), 1), 1)
	add("no-handshake", packet(0x82, str("Command"), str("leave"), str("Seq"), 1), 1)
	add("http", packet("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1)
	return rows
}

func apiRows() []hostileRow {
	plain := []string{harness.HTTPPort}
	var rows []hostileRow
	add := func(name string, ports []string, times int, send func(net.Conn) error) {
		rows = append(rows, hostileRow{name: "api/" + name, network: "tcp", ports: ports, times: times, send: send, closes: true})
	}
	wait := func(name string, ports []string, times int, send func(net.Conn) error) {
		add(name, ports, times, send)
		rows[len(rows)-1].slow = true
	}
	put := "PUT /v1/event/fire/x HTTP/1.1\r\nHost: localhost\r\n"
	wait("slow-header", plain, 5, bytesOf("GET /v1/agent/self HTTP/1.1\r\nHost: local"))
	wait("silent", plain, 5, bytesOf())
	add("endless-header", plain, 2, func(conn net.Conn) error {
		conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n"))
		for i := range 100_000 {
			if _, err := fmt.Fprintf(conn, "X-%d: %s\r\n", i, strings.Repeat("x", 100)); err != nil {
				return err
			}
		}
		return complain("10 MB of header were read")
	})
	add("10-GiB-length", plain, 5, answers(put+"Content-Length: 10737418241\r\n\r\n", 413))
	add("endless-chunks", plain, 2, func(conn net.Conn) error {
		if _, err := conn.Write([]byte(put + "Transfer-Encoding: chunked\r\n\r\n")); err != nil {
			return err
		}
		chunk := packet("10000\r\n", make([]byte, 0x10000), "\r\n")
		for range 1024 {
			if _, err := conn.Write(chunk); err != nil {
				return err
			}
		}
		return complain("64 MiB of body were read")
	})
	add("negative-length", plain, 1, answers(put+"Content-Length: -1\r\n\r\n", 400))
	add("two-lengths", plain, 1, answers(put+"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400))
	add("length-overflow", plain, 1, answers(put+"Content-Length: 99999999999999999999\r\n\r\n", 400))
	add("nonsense", plain, 1, answers("\x00\x01\x02\r\n\r\n", 400))
	wait("https-silent", []string{harness.HTTPSPort}, 10, bytesOf())
	wait("https-half-hello", []string{harness.HTTPSPort}, 10, bytesOf(packet(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc)))
	add("https-plaintext", []string{harness.HTTPSPort}, 2, bytesOf("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	return rows
}

// answers sends a request and wants this status.
func answers(request string, status int) func(net.Conn) error {
	return func(conn net.Conn) error {
		if _, err := conn.Write([]byte(request)); err != nil {
			return err
		}
		line := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, line); err != nil {
			return complain("no answer: %w", err)
		}
		if want := fmt.Sprintf("HTTP/1.1 %d", status); string(line) != want {
			return complain("the answer is %q, want %q", line, want)
		}
		return nil
	}
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
