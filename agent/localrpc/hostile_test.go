package localrpc

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func frame(t testing.TB, head, body any) []byte {
	t.Helper()
	b, err := encodeFrame(head, body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each row is what a hostile caller sends, and the last answer before the
// server hangs up; "" for none. The server serves on.
func TestHostileCallers(t *testing.T) {
	t.Parallel()
	addr := start(t, Config{Backend: newFake(t), Limits: Limits{HandshakeTimeout: 300 * time.Millisecond, RequestTimeout: 300 * time.Millisecond}})
	hello := frame(t, &requestHeader{Command: cmdHandshake}, &handshakeRequest{Version: 1})
	head := func(cmd string) []byte { return frame(t, &requestHeader{Command: cmd}, nil) }
	for _, tt := range []struct {
		name      string
		handshake bool
		send      []byte
		answer    string
	}{
		{"nothing", false, nil, ""},
		{"half a handshake", false, hello[:len(hello)-1], ""},
		{"HTTP", false, []byte("GET / HTTP/1.1\r\n\r\n"), ""},
		{"command before handshake", false, head(cmdMembers), errHandshakeRequired},
		{"unknown command", true, head("eval"), errUnsupportedCommand},
		{"empty command", true, head(""), errUnsupportedCommand},
		{"unknown command before handshake", false, head("eval"), errUnsupportedCommand},
		{"half a request", true, head(cmdJoin), ""},
		{"string said to have 4 GiB", true, append(head(cmdJoin), 0xdb, 0xff, 0xff, 0xff, 0xff), ""},
		{"list said to have 4 G elements", true, append(head(cmdJoin), 0xdd, 0xff, 0xff, 0xff, 0xff), ""},
		{"map said to have 4 G elements", true, append(head(cmdJoin), 0xdf, 0xff, 0xff, 0xff, 0xff), ""},
		{"extension said to have 4 GiB", true, append(head(cmdJoin), 0xc9, 0xff, 0xff, 0xff, 0xff, 1), ""},
		{"nested without end", true, append(head(cmdJoin), bytes.Repeat([]byte{0x91}, 1000)...), ""},
		{"no msgpack", true, append(head(cmdJoin), 0xc1), ""},
		{"list instead of a map of strings", true, append(head(cmdMembersFiltered), 0x81, 0xa4, 'T', 'a', 'g', 's', 0x92, 0x90, 0x90), ""},
		{"number as a header", true, []byte{0x05}, ""},
		{"request that is too large", true, append(head(cmdEvent), frame(t, &eventRequest{Payload: make([]byte, 64<<10)}, nil)...), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, "tcp", addr)
			if tt.handshake {
				c.handshake()
			}
			if _, err := c.Write(tt.send); err != nil {
				t.Fatal(err)
			}
			if tt.answer != "" {
				if h := c.answer(nil); h.Error != tt.answer {
					t.Fatalf("%q", h.Error)
				}
			}
			// With bytes of ours unread, the end may come as a reset.
			rest := make([]byte, 1)
			for {
				n, err := c.br.Read(rest)
				if n > 0 && tt.answer != errUnsupportedCommand {
					t.Fatalf("answered with %#x", rest)
				}
				if err == nil {
					continue
				}
				if ne, ok := err.(net.Error); ok && ne.Timeout() { // read errors are not wrapped
					t.Fatal("the server does not hang up")
				}
				break
			}
		})
	}
}

// Declared lengths allocate nothing: 60 callers that each announce 4 GiB cost
// no more than their connections.
func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	var before, after runtime.MemStats
	addr := start(t, Config{Backend: newFake(t)})
	runtime.ReadMemStats(&before)
	for _, lead := range []byte{0xdb, 0xdd, 0xdf, 0xc6} {
		for range 15 {
			c := dialRaw(t, "tcp", addr)
			c.handshake()
			c.send(&requestHeader{Command: cmdJoin}, nil)
			c.write([]byte{0x81, 0xa8, 'E', 'x', 'i', 's', 't', 'i', 'n', 'g', lead, 0xff, 0xff, 0xff, 0xff})
			c.closedRoughly()
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

func (c *rawConn) closedRoughly() {
	c.t.Helper()
	if _, err := c.br.ReadByte(); err == nil {
		c.t.Fatal("an answer")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() { // read errors are not wrapped
		c.t.Fatal("the server does not hang up")
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	addr := start(t, Config{Backend: newFake(t), Limits: Limits{MaxConns: 2}})
	first, second := dialRaw(t, "tcp", addr), dialRaw(t, "tcp", addr)
	first.handshake()
	second.handshake()
	dialRaw(t, "tcp", addr).closedRoughly()
	first.Close()
	for deadline := time.Now().Add(patience); ; { // its place is free when the server has noticed
		c, err := Dial(t.Context(), addr, Options{})
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// strangers is a listener whose callers are nobody that is known.
type strangers struct{ net.Listener }

func (l strangers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil // of no type that a user can be looked up for
}

// Callers that are not known have half of the places, and the others those that
// are left, also where they have not presented the key yet.
func TestWithoutTheKeyOnlyHalfOfThePlaces(t *testing.T) {
	t.Parallel()
	ln, err := Listen(t.Context(), "127.0.0.1:0", true, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := Listen(t.Context(), "127.0.0.1:0", true, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// No deadline ends a connection here.
	s := serve(t, Config{Backend: newFake(t), AuthKey: []byte("secret"), Limits: Limits{MaxConns: 4, HandshakeTimeout: time.Hour}}, strangers{ln})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, own) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, "end of Serve", done); err != nil {
			t.Error(err)
		}
	})
	dialRaw(t, "tcp", ln.Addr().String()).handshake()
	dialRaw(t, "tcp", ln.Addr().String()).handshake()
	dialRaw(t, "tcp", ln.Addr().String()).closedRoughly()
	dialRaw(t, "tcp", own.Addr().String()).handshake()
	dialRaw(t, "tcp", own.Addr().String()).handshake()
	dialRaw(t, "tcp", own.Addr().String()).closedRoughly()
}

func TestAuthKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	addr := start(t, Config{Backend: f, AuthKey: []byte("secret"), Limits: Limits{AuthDelay: 1}})
	c := dialRaw(t, "tcp", addr)
	c.handshake()
	for _, cmd := range []string{cmdMembers, cmdStats, cmdLeave, cmdReload, cmdListKeys} {
		c.send(&requestHeader{Command: cmd}, nil)
		if h := c.answer(nil); h.Error != errAuthRequired {
			t.Fatal(cmd, h.Error)
		}
	}
	for range maxAuthFailures {
		c.send(&requestHeader{Command: cmdAuth}, &authRequest{AuthKey: "guess"})
		if h := c.answer(nil); h.Error != errAuthToken {
			t.Fatal(h.Error)
		}
	}
	c.closed()
	if calls := f.list(); len(calls) != 0 {
		t.Fatal(calls)
	}
	if _, err := Dial(t.Context(), addr, Options{AuthKey: "secret2"}); err == nil || !strings.Contains(err.Error(), errAuthToken) {
		t.Fatal(err)
	}
	own, err := Dial(t.Context(), addr, Options{AuthKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := own.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An empty key is no key: it opens nothing.
func TestAuthWithoutAKeySet(t *testing.T) {
	t.Parallel()
	c := dialRaw(t, "tcp", start(t, Config{Backend: newFake(t), Limits: Limits{AuthDelay: 1}}))
	c.handshake()
	c.send(&requestHeader{Command: cmdAuth}, &authRequest{})
	if h := c.answer(nil); h.Error != errAuthToken {
		t.Fatal(h.Error)
	}
}

// A row that forgets to say who may use it would be a hole.
func TestEveryCommandSaysWhoMay(t *testing.T) {
	t.Parallel()
	everybody := map[string]access{
		cmdHandshake: open, cmdAuth: open, cmdStop: read, cmdStats: read, cmdGetCoordinate: read,
		cmdMembers: read, cmdMembersFiltered: read, cmdMembersLAN: read, cmdMembersWAN: read,
	}
	for name, r := range table {
		want := change
		if a, ok := everybody[name]; ok {
			want = a
		}
		if r.access != want {
			t.Errorf("%s has access %d, want %d", name, r.access, want)
		}
		stranger := session{caller: caller{name: "user 7"}}
		if err := stranger.allowed(name, r.access); (err == nil) != (want != change) {
			t.Errorf("%s for a stranger: %v", name, err)
		}
	}
}

// A caller of whom the system does not tell is told what to do.
func TestUnknownCallerIsTold(t *testing.T) {
	t.Parallel()
	s := session{caller: caller{name: "unknown user", unknown: errNoUserLookup}}
	err := s.allowed(cmdLeave, change)
	if err == nil || !strings.Contains(err.Error(), "rpc_auth_key") || !strings.Contains(err.Error(), "unix://") {
		t.Fatal(err)
	}
	if err := s.allowed(cmdMembers, read); err != nil {
		t.Fatal(err)
	}
}

// A monitor that is not read neither holds up the log nor the end of the server,
// and is told of what it missed.
func TestSlowMonitor(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := dialRaw(t, "tcp", start(t, Config{Backend: f}))
	c.handshake()
	c.send(&requestHeader{Command: cmdMonitor, Seq: 7}, &monitorRequest{LogLevel: "info"})
	if h := c.answer(nil); h.Error != "" {
		t.Fatal(h.Error)
	}
	line := strings.Repeat("x", 16<<10)
	for range 2000 {
		f.log.Info(line)
	}
	for {
		var rec logRecord
		if h := c.answer(&rec); h.Seq != 7 || h.Error != "" {
			t.Fatal(h)
		}
		if strings.Contains(rec.Log, "log lines were dropped") {
			return
		}
	}
}

func TestServeEndsUnderAStreamThatIsNotRead(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ln, err := Listen(t.Context(), "127.0.0.1:0", false, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Backend: f, Limits: Limits{StopTimeout: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	c := dialRaw(t, "tcp", ln.Addr().String())
	c.handshake()
	c.send(&requestHeader{Command: cmdMonitor, Seq: 7}, &monitorRequest{LogLevel: "info"})
	if h := c.answer(nil); h.Error != "" {
		t.Fatal(h.Error)
	}
	line := strings.Repeat("x", 64<<10)
	for range 1000 {
		f.log.Info(line)
	}
	cancel()
	if err := receive(t, "end of Serve", done); err != nil {
		t.Fatal(err)
	}
}
