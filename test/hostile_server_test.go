package test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"lictor/test/harness"
)

// What a server answers that has been taken over. A client agent that asks it
// goes on: whatever the answer, its own callers get one, on the API and on the
// local RPC, its process is the same, and it does not allocate what is claimed.
func TestHostileServerAnswers(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s := c.AddServer("s1")
	front := c.IP(100)
	s.Set(keys{"serf_lan": front, "serf_wan": front, "advertise_addr": front})
	must(t, s.Start())
	a := c.AddClient("victim")
	a.Alone = true
	config(t, a, keys{"performance": keys{"rpc_hold_timeout": "20ms"}})

	type row struct {
		name string
		b    []byte
		raw  bool // instead of a session; otherwise the answer to each request
	}
	head := func(errText []byte) []byte {
		return packet(0x83, str("Error"), errText, str("Seq"), 1, str("ServiceMethod"), str("x"))
	}
	ok := head(str(""))
	list := func(b ...any) []byte { return packet(ok, 0x81, str("Responses"), packet(b...)) }
	gb := u32(1_000_000_000)
	rows := []row{
		{name: "nothing"},
		{name: "nil-in-a-list", b: list(0x91, 0xc0)},
		{name: "nil-list", b: list(0xc0)},
		{name: "empty-entry", b: list(0x92, 0x80, 0xc0)},
		{name: "list-of-numbers", b: list(0x91, 5)},
		{name: "nil-body", b: packet(ok, 0xc0)},
		{name: "number-body", b: packet(ok, 5)},
		{name: "list-of-maps", b: packet(ok, 0x91, 0x81, str("a"), 1)},
		{name: "another-sequence-number", b: packet(0x82, str("Error"), str(""), str("Seq"), 9, 0x80)},
		{name: "number-header", b: []byte{5, 5, 5}},
		{name: "error-that-steers-a-terminal", b: packet(head(str("\x1b[2J\r\nforged")), 0x80)},
		{name: "error-of-1-MiB", b: packet(head(packet(0xdb, u32(1<<20), bytes.Repeat([]byte{'x'}, 1<<20))), 0x80)},
		{name: "deep-header", b: deep(100_000)},
		{name: "deep-body", b: packet(ok, deep(100_000))},
		{name: "http", b: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), raw: true},
		{name: "frame-of-4-GB", b: packet(0, 0, 0, 0, u32(1), u32(0xffffffff)), raw: true},
		{name: "frame-for-nobody", b: packet(0, 0, 0, 0, u32(77), u32(4), "abcd"), raw: true},
		{name: "frame-of-no-type", b: packet(0, 9, 0, 0, u32(1), u32(0)), raw: true},
		{name: "version-9", b: packet(9, 0, 0, 0, u32(1), u32(0)), raw: true},
		{name: "go-away", b: packet(0, 3, 0, 0, u32(0), u32(0)), raw: true},
	}
	for name, code := range sizes {
		claim := packet(int(code), gb)
		rows = append(rows,
			row{name: "header-" + name, b: packet(0x81, str("Error"), claim)},
			row{name: "body-" + name, b: packet(ok, 0x81, str("Responses"), claim)},
			row{name: "body-below-the-limit-" + name, b: packet(ok, int(code), u32(60<<20))})
	}

	var current atomic.Pointer[row]
	current.Store(&rows[0])
	var asked atomic.Int64
	stop := answerRPC(t, net.JoinHostPort(front, harness.RPCPort), func(conn net.Conn, session bool) {
		now := current.Load()
		if session == now.raw {
			return
		}
		asked.Add(1)
		conn.Write(now.b)
	}, func() bool { return current.Load().raw })
	must(t, a.Start("-retry-join="+front))
	must(t, c.WaitMembers())
	pid := a.Pid()
	_, vm, err := a.RSS()
	must(t, err)
	most := int64(vmMost)
	if harness.Race {
		most *= raceFactor
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			current.Store(&row)
			asked.Store(0)
			for _, path := range []string{"/v1/status/peers", "/v1/status/leader", "/v1/operator/keyring"} {
				_, err := a.Get(path)
				if status := (*harness.StatusError)(nil); err != nil && !errors.As(err, &status) {
					t.Errorf("GET %s: %v", path, err)
				}
			}
			r, err := a.CLI(c.Dir, "keyring", "-list")
			must(t, err)
			if r.Code != 0 && r.Code != 1 || strings.ContainsAny(r.Stdout+r.Stderr, "\x1b\r") {
				t.Errorf("keyring -list: exit %d, %q %q", r.Code, r.Stdout, r.Stderr)
			}
			if err := familyKeys(a); err != nil {
				t.Errorf("list-keys: %v", err)
			}
			if asked.Load() == 0 {
				t.Error("the server has not been asked")
			}
			if a.Pid() != pid || pid == 0 {
				t.Fatal("the process is not the one that was started")
			}
			_, v, err := a.RSS()
			must(t, err)
			if v > vm+most {
				t.Errorf("the address space is %d MiB, it was %d MiB", v>>20, vm>>20)
			}
		})
	}
	stop()
	harness.NewRecorder(t, net.JoinHostPort(front, harness.RPCPort), s.Addr(harness.RPCPort))
	poll(t, "the real server to be believed", a.RPC)
	if strings.ContainsRune(a.Log().String(), 0x1b) {
		t.Error("what the server has answered steers a terminal that shows the log")
	}
}

// familyKeys asks for the keys as the family's old clients do, and waits for the
// header of the answer.
func familyKeys(a *harness.Agent) error {
	conn, err := net.DialTimeout("tcp", a.Addr(harness.LocalPort), harness.Patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(harness.Patience))
	_, err = conn.Write(packet(0x83, str("Command"), str("handshake"), str("Seq"), 0, str("Token"), str(""), 0x81, str("Version"), 1,
		0x83, str("Command"), str("list-keys"), str("Seq"), 1, str("Token"), str(""), 0x81, str("RelayFactor"), 0))
	if err != nil {
		return err
	}
	var all []byte
	b := make([]byte, 4096)
	for bytes.Count(all, []byte("Seq")) < 2 {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		all = append(all, b[:n]...)
	}
	return nil
}

// answerRPC plays an RPC port in plaintext. answer is given each stream of each
// session after its first request has come, or where raw says so the connection
// itself; it is closed afterwards.
func answerRPC(t *testing.T, addr string, answer func(conn net.Conn, session bool), raw func() bool) (stop func()) {
	t.Helper()
	ln := harness.Listen(t, addr)
	var all sync.WaitGroup
	var mu sync.Mutex // guards open
	open := map[net.Conn]bool{}
	handle := func(conn net.Conn) {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(harness.Patience))
		first := make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil || first[0] != 4 {
			return
		}
		if raw() {
			conn.Read(make([]byte, 4096))
			answer(conn, false)
			return
		}
		conf := yamux.DefaultConfig()
		conf.LogOutput = io.Discard
		session, err := yamux.Server(conn, conf)
		if err != nil {
			return
		}
		defer session.Close()
		for {
			stream, err := session.AcceptStream()
			if err != nil {
				return
			}
			all.Go(func() { // an answer that is not taken holds up no other
				if _, err := stream.Read(make([]byte, 4096)); err == nil { // one request fits
					answer(stream, true)
				}
				stream.Close()
				if raw() {
					session.Close() // this row is about another connection
				}
			})
		}
	}
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() { handle(conn) })
		}
	})
	stop = sync.OnceFunc(func() {
		ln.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	t.Cleanup(stop)
	return stop
}
