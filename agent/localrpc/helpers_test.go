package localrpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/logs"
	"lictor/gossip"
	"lictor/rpc/wire"
)

// patience bounds every wait; no test passes by waiting it out.
const patience = 20 * time.Second

const testKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

// fakeAgent is a Backend: a real LAN pool and log, and a record of calls.
type fakeAgent struct {
	pool *gossip.Pool
	log  *logs.Log

	mu    sync.Mutex // guards the field below
	calls []string
}

func (f *fakeAgent) called(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
}

func (f *fakeAgent) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.calls...)
}

func (f *fakeAgent) LAN() *gossip.Pool { return f.pool }

func (f *fakeAgent) Members(wan bool) []serf.Member {
	if wan {
		return nil
	}
	return f.pool.Members()
}

func (f *fakeAgent) Join(ctx context.Context, addrs []string, wan bool) (int, error) {
	if wan {
		return 0, errors.New("this agent is in no WAN pool")
	}
	n, failed := f.pool.Join(ctx, addrs)
	if len(failed) > 0 {
		return n, failed[0]
	}
	return n, nil
}

func (f *fakeAgent) Leave(context.Context) error  { f.called("leave"); return nil }
func (f *fakeAgent) Reload(context.Context) error { f.called("reload"); return nil }

func (f *fakeAgent) ForceLeave(node string, _, _ bool) error {
	f.called("force-leave " + node)
	return nil
}

func (f *fakeAgent) Stats() map[string]map[string]string {
	return map[string]map[string]string{"serf_lan": f.pool.Stats()}
}

func (f *fakeAgent) Keyring(_ context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	f.called("keyring " + req.Operation)
	r, err := f.pool.Keyring(req.Operation, req.Key, req.RelayFactor)
	res := &wire.KeyringResponse{Datacenter: "dc1", Messages: r.Messages, Keys: r.Keys, PrimaryKeys: r.PrimaryKeys, NumNodes: r.NumNodes}
	if err != nil {
		res.Error = err.Error()
	}
	return &wire.KeyringResponses{Responses: []*wire.KeyringResponse{res}}, nil
}

func (f *fakeAgent) FireEvent(_ context.Context, dc string, ev *wire.UserEvent) error {
	f.called("event " + dc + " " + ev.Name)
	ev.ID = "the id"
	return nil
}

func (f *fakeAgent) Monitor(level string, json bool) (*logs.Stream, error) {
	return f.log.Monitor(level, json)
}

// startPool opens an encrypted pool on an address of the test's own.
func startPool(t testing.TB, node, ip string) *gossip.Pool {
	t.Helper()
	p, err := gossip.Open(t.Context(), gossip.Config{
		Node:       node,
		NodeID:     "00000000-0000-0000-0000-0000" + node,
		Datacenter: "dc1",
		Tags:       map[string]string{"role": "node", "dc": "dc1"},
		Bind:       netip.AddrPortFrom(netip.MustParseAddr(ip), 0),
		Keyring:    gossip.KeyringConfig{Key: mustKey(t), VerifyIncoming: true, VerifyOutgoing: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newFake(t testing.TB) *fakeAgent {
	t.Helper()
	log, err := logs.New(logs.Options{Level: "DEBUG", Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeAgent{pool: startPool(t, "n1", "127.0.0.1"), log: log}
}

// serve runs a server on ln until the test ends and fails it if Serve does.
func serve(t testing.TB, cfg Config, ln net.Listener) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
	})
	return s
}

// start serves a fake agent on loopback and returns its address.
func start(t testing.TB, cfg Config) string {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0", len(cfg.AuthKey) > 0, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, cfg, ln)
	return ln.Addr().String()
}

func startUnix(t testing.TB, cfg Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(t.Context(), "unix://"+path, false, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, cfg, ln)
	return path
}

// rawConn speaks the protocol by hand.
type rawConn struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func dialRaw(t testing.TB, network, addr string) *rawConn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{Conn: c, t: t, br: bufio.NewReader(c)}
}

func (c *rawConn) send(head, body any) {
	c.t.Helper()
	frame, err := encodeFrame(head, body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(frame)
}

func (c *rawConn) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a header and, unless nil, a body.
func (c *rawConn) answer(body any) responseHeader {
	c.t.Helper()
	h, err := readAnswer(c.br, func(*responseHeader) any { return body })
	if err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	return h
}

// closed waits for the server to hang up.
func (c *rawConn) closed() {
	c.t.Helper()
	n, err := io.Copy(io.Discard, c.br)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the server does not hang up")
	}
	if n > 0 {
		c.t.Fatalf("%d more bytes", n)
	}
}

func (c *rawConn) handshake() {
	c.t.Helper()
	c.send(&requestHeader{Command: cmdHandshake}, &handshakeRequest{Version: 1})
	if h := c.answer(nil); h.Error != "" {
		c.t.Fatal(h.Error)
	}
}

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
	panic("unreachable")
}
