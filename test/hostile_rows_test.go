package test

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"

	"lictor/test/harness"
)

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

// gossipRows go to both pools. Silence in the WAN pool takes half a minute: all
// says whether that row is among them.
func gossipRows(all bool) []hostileRow {
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
	silent := ports[:1]
	if all {
		silent = ports
	}
	rows = append(rows, hostileRow{name: "gossip/tcp/silent", network: "tcp", ports: silent, times: 5, send: bytesOf(), closes: true, slow: true})
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

// localRows go to the local RPC, over TCP and over its socket. authenticated says
// that it asks for a key.
func localRows(authenticated bool) []hostileRow {
	var rows []hostileRow
	add := func(name string, b []byte, times int) {
		for network, port := range map[string]string{"tcp": harness.LocalPort, "unix": localSocket} {
			rows = append(rows, hostileRow{name: "local/" + network + "/" + name, network: network, ports: []string{port}, times: times, send: bytesOf(b), closes: true})
		}
	}
	wait := func(name string, b []byte, times int) {
		add(name, b, times)
		for i := range rows[len(rows)-2:] {
			rows[len(rows)-2+i].slow = true
		}
	}
	shake := packet(0x82, str("Command"), str("handshake"), str("Seq"), 0, 0x81, str("Version"), 1)
	auth := packet(0x82, str("Command"), str("auth"), str("Seq"), 1)
	gb := u32(1_000_000_000)
	for name, code := range sizes {
		claim := packet(int(code), gb)
		add("header-"+name, packet(0x82, str("Command"), claim), 4)
		add("whole-"+name, claim, 2)
		add("body-"+name, packet(shake, 0x82, str("Command"), str("join"), str("Seq"), 1, 0x82, str("Existing"), claim), 4)
		add("auth-"+name, packet(shake, auth, 0x81, str("AuthKey"), claim), 4)
	}
	wait("silent", nil, 10)
	wait("half-a-header", packet(0x82, str("Command")), 5)
	wait("half-a-body", packet(shake, 0x82, str("Command"), str("join"), str("Seq"), 1, 0x82, str("Existing")), 5)
	add("deep", packet(deep(100_000)), 1)
	add("unknown-command", packet(shake, 0x82, str("Command"), str("nonsense"), str("Seq"), 1), 1)
	add("no-handshake", packet(0x82, str("Command"), str("leave"), str("Seq"), 1), 1)
	add("http", packet("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1)
	wait("wrong-keys", packet(shake, bytes.Repeat(packet(auth, 0x81, str("AuthKey"), str("guess")), 3)), 5)
	if authenticated {
		wait("handshake-then-silent", shake, 5)
		leave := packet(0x82, str("Command"), str("leave"), str("Seq"), 1)
		wait("commands-without-the-key", packet(shake, bytes.Repeat(leave, 100)), 2)
	}
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
