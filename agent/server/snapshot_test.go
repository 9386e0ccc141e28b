package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/server"
	"lictor/agent/server/archive"
	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// exchange is the snapshot port of a server.
type exchange struct {
	*server.Snapshots
	addr string
	temp string
}

var asServer = rpc.Peer{Identity: tlsutil.Identity{Role: tlsutil.RoleServer}}

// serveSnapshots serves the exchange of n on a port of its own, as peer.
func serveSnapshots(t *testing.T, n *raftServer, peer rpc.Peer, dial func(ctx context.Context, dc, addr string) (net.Conn, error), ln net.Listener) *exchange {
	t.Helper()
	e := &exchange{temp: t.TempDir()}
	e.Snapshots = server.NewSnapshots(server.SnapshotConfig{
		Datacenter: "dc1", NodeID: n.id, Raft: n.Node, Dial: dial, Restored: n.leader.Restored, TempDir: e.temp, MaxState: 256 << 20,
		HoldTimeout: 100 * time.Millisecond, Log: hclog.NewNullLogger(),
		Servers: func(dc string) []string {
			if dc == "dc2" {
				return []string{"gone", "there"}
			}
			return nil
		},
	})
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	e.addr = ln.Addr().String()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go e.Serve(conn, peer)
		}
	}()
	t.Cleanup(func() { ln.Close(); e.Close() })
	return e
}

func dialTCP(ctx context.Context, _, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (e *exchange) call(t *testing.T, req *wire.SnapshotRequest, in io.Reader) ([]byte, *wire.SnapshotResponse, error) {
	t.Helper()
	conn, err := dialTCP(t.Context(), "", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	return exchangeOver(t, conn, req, in)
}

func exchangeOver(t *testing.T, conn net.Conn, req *wire.SnapshotRequest, in io.Reader) ([]byte, *wire.SnapshotResponse, error) {
	t.Helper()
	resp, out, err := server.SnapshotCall(t.Context(), conn, req, in)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	b, err := io.ReadAll(out)
	return b, resp, err
}

func (n *raftServer) put(t *testing.T, key, value string) {
	t.Helper()
	n.must(t, fsm.KVS, &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte(value)}})
}

func (n *raftServer) get(t *testing.T, key string) string {
	t.Helper()
	_, e, err := n.state().KVSGet(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	if e == nil {
		return ""
	}
	return string(e.Value)
}

func TestASnapshotIsSavedAndRestored(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	e := serveSnapshots(t, n, asServer, dialTCP, nil)
	n.put(t, "key", "old")
	saved, resp, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Index == 0 || !resp.KnownLeader {
		t.Errorf("answered %+v", resp)
	}
	a, err := archive.Open(bytes.NewReader(saved), t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if a.Meta.Index != resp.Index {
		t.Errorf("the archive ends with entry %d, and the answer says %d", a.Meta.Index, resp.Index)
	}
	a.Close()

	n.put(t, "key", "new")
	n.session(t, "00000000-0000-0000-0000-000000000001", "")
	before := n.LastIndex()
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotRestore}, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if got := n.get(t, "key"); got != "old" {
		t.Errorf("restored %q", got)
	}
	if n.LastIndex() <= before {
		t.Error("the index went backwards")
	}
	eventually(t, "the leader begins anew", func() bool { return strings.Count(n.log.String(), "this server leads now") == 2 })
	n.put(t, "key", "newer")

	// The same again from within the process.
	_, out, err := e.Do(t.Context(), &wire.SnapshotRequest{Op: wire.SnapshotSave}, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := io.ReadAll(out)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	if _, out, err = e.Do(t.Context(), &wire.SnapshotRequest{Op: wire.SnapshotRestore}, bytes.NewReader(again)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if got := n.get(t, "key"); got != "newer" {
		t.Errorf("restored %q", got)
	}
	if left, _ := os.ReadDir(e.temp); len(left) > 0 {
		t.Errorf("left %s behind", left[0].Name())
	}
}

// What cannot be restored changes nothing, and the caller hears why.
func TestASnapshotThatCannotBeRestored(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	e := serveSnapshots(t, n, asServer, dialTCP, nil)
	n.put(t, "key", "value")
	good, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// An archive that is good, of a state that is not.
	state := func(change func([]byte) []byte) []byte {
		a, err := archive.Open(bytes.NewReader(good), t.TempDir(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		r, _ := a.State()
		b, _ := io.ReadAll(r)
		b = change(b)
		meta := a.Meta
		meta.Size = int64(len(b))
		var out bytes.Buffer
		if err := archive.Write(&out, &meta, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	before := n.LastIndex()
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"junk":                 {[]byte("junk"), "failed to decompress snapshot"},
		"nothing":              {nil, "failed to decompress snapshot"},
		"half of it":           {good[:len(good)/2], "unexpected EOF"},
		"a damaged state":      {state(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "nothing was changed"},
		"another version":      {state(func(b []byte) []byte { b[12] = 99; return b }), "version 99"},
		"the state of another": {state(func([]byte) []byte { return []byte("\x81\xa9LastIndex\x0a") }), "another agent"},
		"a megabyte of junk":   {bytes.Repeat([]byte("junk"), 1<<20), "failed to decompress snapshot"},
	} {
		_, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotRestore}, bytes.NewReader(c.b))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: 7}, nil); err == nil || !strings.Contains(err.Error(), "unknown snapshot operation 7") {
		t.Errorf("operation 7: %v", err)
	}
	if n.LastIndex() != before || n.get(t, "key") != "value" {
		t.Error("something was changed")
	}
	if left, _ := os.ReadDir(e.temp); len(left) > 0 {
		t.Errorf("left %s behind", left[0].Name())
	}
}

func TestWhoMaySaveAndRestore(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	for role, may := range map[tlsutil.Role]bool{
		tlsutil.RoleNone: false, tlsutil.RoleClient: true, tlsutil.RoleCLI: true, tlsutil.RoleServer: true, tlsutil.RoleRemoteServer: true,
	} {
		e := serveSnapshots(t, n, rpc.Peer{Identity: tlsutil.Identity{Role: role}}, dialTCP, nil)
		for _, op := range []int{wire.SnapshotSave, wire.SnapshotRestore} {
			_, _, err := e.call(t, &wire.SnapshotRequest{Op: op}, strings.NewReader("junk"))
			denied := err != nil && strings.HasPrefix(err.Error(), "Permission denied")
			if denied == may {
				t.Errorf("%s, operation %d: %v", role, op, err)
			}
		}
	}
}

func TestRubbishInsteadOfASnapshotRequest(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	e := serveSnapshots(t, n, asServer, dialTCP, nil)
	for name, b := range map[string]string{
		"nothing": "", "a number": "\x07", "a long string": "\xdb\xff\xff\xff\xff", "a deep list": strings.Repeat("\x91", 1000),
		"a huge map": "\xdf\xff\xff\xff\xff", "text": "GET / HTTP/1.1\r\n\r\n", "half a request": "\x82\xa2Op",
	} {
		conn, err := dialTCP(t.Context(), "", e.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, b)
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("%s: answered %q, %v", name, got, err)
		}
		conn.Close()
	}
}

// A follower passes a request on, and answers a stale one itself.
func TestAFollowerPassesSnapshotRequestsOn(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	nodes := c.three(func(_ *consensus.Config, lc *server.LeaderConfig) { lc.Times.Reconcile = time.Hour })
	lead := c.leader(nodes...)
	follower := nodes[0]
	if follower == lead {
		follower = nodes[1]
	}
	at := serveSnapshots(t, lead, asServer, dialTCP, nil)
	dialed := 0
	e := serveSnapshots(t, follower, asServer, func(ctx context.Context, dc, addr string) (net.Conn, error) {
		dialed++
		switch {
		case dc == "dc1" && addr == lead.addr, dc == "dc2" && addr == "there":
			return dialTCP(ctx, dc, at.addr)
		}
		return nil, errors.New("nobody at " + addr)
	}, nil)
	lead.put(t, "key", "value")
	saved, resp, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave}, nil)
	if err != nil || dialed != 1 || resp.Index == 0 {
		t.Fatalf("save: %v, dialed %d times", err, dialed)
	}
	lead.put(t, "key", "later")
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotRestore}, bytes.NewReader(saved)); err != nil || dialed != 2 {
		t.Fatalf("restore: %v, dialed %d times", err, dialed)
	}
	for _, n := range nodes {
		eventually(t, "every server has it", func() bool { return n.get(t, "key") == "value" })
	}
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotRestore}, strings.NewReader("junk")); err == nil ||
		!strings.HasPrefix(err.Error(), "rpc error making call: failed to decompress snapshot") {
		t.Errorf("junk: %v", err)
	}
	dialed = 0
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave, AllowStale: true}, nil); err != nil || dialed != 0 {
		t.Errorf("a stale save: %v, dialed %d times", err, dialed)
	}
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave, Datacenter: "dc9"}, nil); err == nil || !strings.Contains(err.Error(), "No path to datacenter") {
		t.Errorf("an unknown datacenter: %v", err)
	}
	// dc2's first server does not answer, its second one does, and says that dc2 is
	// not it.
	if _, _, err := e.call(t, &wire.SnapshotRequest{Op: wire.SnapshotSave, Datacenter: "dc2"}, nil); err == nil || !strings.Contains(err.Error(), "rpc error making call: ") {
		t.Errorf("another datacenter: %v", err)
	}
}

func TestASnapshotWithoutALeader(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.start("b", nil)
	e := serveSnapshots(t, n, asServer, dialTCP, nil)
	for _, op := range []int{wire.SnapshotSave, wire.SnapshotRestore} {
		if _, _, err := e.call(t, &wire.SnapshotRequest{Op: op}, strings.NewReader("")); err == nil || err.Error() != "No cluster leader" {
			t.Errorf("operation %d: %v", op, err)
		}
	}
}

// Megabytes over TLS, whose end the client tells by closing its half.
func TestALargeSnapshotOverTLS(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	// A certificate that nobody has to make.
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	conf := ts.TLS.Clone()
	conf.NextProtos = nil
	ts.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := serveSnapshots(t, n, asServer, dialTCP, tls.NewListener(plain, conf))
	random := make([]byte, 64<<10)
	x := uint32(1)
	for i := range random {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		random[i] = byte(x)
	}
	for i := range 40 {
		n.put(t, strings.Repeat("k", i+1), string(random))
	}
	over := func() net.Conn {
		conn, err := tls.Dial("tcp", e.addr, &tls.Config{InsecureSkipVerify: true}) // a test of the exchange, not of TLS
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	saved, _, err := exchangeOver(t, over(), &wire.SnapshotRequest{Op: wire.SnapshotSave}, nil)
	if err != nil || len(saved) < 40*len(random) {
		t.Fatalf("saved %d bytes, %v", len(saved), err)
	}
	n.must(t, fsm.KVS, &wire.KVSRequest{Op: wire.KVDeleteTree, DirEnt: wire.DirEntry{Key: "k"}})
	if _, _, err := exchangeOver(t, over(), &wire.SnapshotRequest{Op: wire.SnapshotRestore}, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if n.get(t, strings.Repeat("k", i+1)) != string(random) {
			t.Fatalf("key %d is not what it was", i)
		}
	}
}

func TestCloseEndsExchanges(t *testing.T) {
	t.Parallel()
	c := newRaftCluster(t)
	n := c.first(nil)
	e := serveSnapshots(t, n, asServer, dialTCP, nil)
	conn, err := dialTCP(t.Context(), "", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, err := rpc.AppendObject(nil, &wire.SnapshotRequest{Op: wire.SnapshotRestore})
	if err != nil {
		t.Fatal(err)
	}
	conn.Write(b)
	conn.Write([]byte{0x1f, 0x8b}) // an archive begins, and goes on never
	eventually(t, "the archive is being read", func() bool { return e.Open() == 1 })
	e.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("answered %q, %v", got, err)
	}
}
