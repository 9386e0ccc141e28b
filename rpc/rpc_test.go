package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/yamux"

	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

func TestCallAndErrors(t *testing.T) {
	authority := newCA(t)
	both := authority.stanza(authority.issue(t, tlsutil.RoleServer, "dc1"), true, true, true)
	for name, stanza := range map[string]tlsutil.Stanza{"plaintext": {}, "TLS": both} {
		t.Run(name, func(t *testing.T) {
			_, target := serve(t, rpc.ServerConfig{TLS: configurator(t, stanza)})
			p := pool(t, configurator(t, stanza))
			var got echo
			sent := echo{Text: strings.Repeat("x", 300), Bytes: []byte{0, 1, 0xff}}
			if err := p.Call(withTimeout(t), target, "Status.Ping", sent, &got); err != nil || got.Text != sent.Text || string(got.Bytes) != string(sent.Bytes) {
				t.Fatalf("got %+v, %v", got, err)
			}
			for method, want := range map[string]string{
				"Bad.Error":     "no such luck",
				"Bad.Panic":     "internal error",
				"Nothing.There": "rpc: can't find service Nothing.There",
				"Status.There":  "rpc: can't find method Status.There",
			} {
				var remote rpc.RemoteError
				if err := p.Call(withTimeout(t), target, method, echo{}, nil); !errors.As(err, &remote) || string(remote) != want {
					t.Errorf("%s: %v, want %q", method, err, want)
				}
			}
			if err := p.Call(withTimeout(t), target, "Status.Ping", sent, &got); err != nil {
				t.Errorf("after the errors: %v", err)
			}
		})
	}
}

func TestStream(t *testing.T) {
	_, target := serve(t, rpc.ServerConfig{})
	p := pool(t, nil)
	s, err := p.Stream(withTimeout(t), target, "Stream.Frames", echo{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, want := range []string{"one", "two", "three"} {
		var f wire.LogFrame
		if err := s.Recv(&f); err != nil || f.Log != want {
			t.Fatalf("got %q, %v, want %q", f.Log, err, want)
		}
	}
	var f wire.LogFrame
	if err := s.Recv(&f); err != io.EOF {
		t.Errorf("after the last frame: %v", err)
	}
}

func TestDeadlineAndCancel(t *testing.T) {
	_, target := serve(t, rpc.ServerConfig{})
	p := pool(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Call(ctx, target, "Slow.Wait", echo{}, nil) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := p.Call(withTimeout(t), target, "Status.Ping", echo{}, nil); err != nil {
		t.Errorf("the session did not survive: %v", err)
	}
}

// Who may call what, over real connections, for every class of caller.
func TestAccess(t *testing.T) {
	good, evil := newCA(t), newCA(t)
	server := good.issue(t, tlsutil.RoleServer, "dc1")
	callers := []struct {
		name     string
		stanza   tlsutil.Stanza
		incoming bool // the server has verify_incoming
		addr     tlsutil.Role
		want     string // the one method besides Status.Ping; "" = no connection
	}{
		{"client", good.stanza(good.issue(t, tlsutil.RoleClient, "dc1"), false, true, true), true, 0, "For.Client"},
		{"cli", good.stanza(good.issue(t, tlsutil.RoleCLI, "dc1"), false, true, true), true, 0, "For.CLI"},
		{"server", good.stanza(good.issue(t, tlsutil.RoleServer, "dc1"), false, true, true), true, 0, "For.Server"},
		{"server of dc2", good.stanza(good.issue(t, tlsutil.RoleServer, "dc2"), false, true, true), true, 0, "For.Remote"},
		{"client of dc2", good.stanza(good.issue(t, tlsutil.RoleClient, "dc2"), false, true, true), true, 0, "For.Nobody"},
		{"no certificate", good.stanza(nil, false, true, true), true, tlsutil.RoleServer, ""},
		{"plaintext", tlsutil.Stanza{}, true, tlsutil.RoleServer, ""},
		{"client, nothing required", good.stanza(good.issue(t, tlsutil.RoleClient, "dc1"), false, true, true), false, tlsutil.RoleServer, "For.Client"},
		{"no certificate, nothing required", good.stanza(nil, false, true, true), false, 0, "For.Nobody"},
		{"plaintext, nothing required", tlsutil.Stanza{}, false, 0, "For.Nobody"},
		{"plaintext from a server's address", tlsutil.Stanza{}, false, tlsutil.RoleServer, "For.Server"},
		{"plaintext from a client's address", tlsutil.Stanza{}, false, tlsutil.RoleClient, "For.Client"},
		{"plaintext from another datacenter's", tlsutil.Stanza{}, false, tlsutil.RoleRemoteServer, "For.Remote"},
	}
	// A certificate of another CA, shown to a server that requires ours.
	foreign := good.stanza(nil, false, true, true)
	foreign.CAPEM = append(append([]byte{}, good.pair.Cert...), evil.pair.Cert...)
	cert := evil.issue(t, tlsutil.RoleServer, "dc1")
	foreign.CertPEM, foreign.KeyPEM = cert.Cert, cert.Key
	callers = append(callers, struct {
		name     string
		stanza   tlsutil.Stanza
		incoming bool
		addr     tlsutil.Role
		want     string
	}{"server of another CA", foreign, true, tlsutil.RoleServer, ""})

	for _, c := range callers {
		t.Run(c.name, func(t *testing.T) {
			_, target := serve(t, rpc.ServerConfig{
				TLS:      configurator(t, good.stanza(server, c.incoming, false, false)),
				AddrRole: func(netip.Addr) tlsutil.Role { return c.addr },
			})
			p := pool(t, configurator(t, c.stanza))
			for _, method := range []string{"Status.Ping", "For.Nobody", "For.Client", "For.CLI", "For.Server", "For.Remote"} {
				err := p.Call(withTimeout(t), target, method, echo{}, nil)
				var remote rpc.RemoteError
				allowed := err == nil
				denied := errors.As(err, &remote) && strings.HasPrefix(string(remote), rpc.ErrPermissionDenied.Error())
				switch {
				case c.want == "" && (allowed || denied):
					t.Errorf("%s: got an answer (%v), want no connection", method, err)
				case c.want == "":
				case method == c.want || method == "Status.Ping":
					if !allowed {
						t.Errorf("%s: %v", method, err)
					}
				case method == "For.Nobody" && c.addr != 0 && !c.incoming && c.stanza.CAPEM == nil:
					// Who has only an address is nobody as well.
					if !allowed {
						t.Errorf("%s: %v", method, err)
					}
				case !denied:
					t.Errorf("%s: %v, want a refusal", method, err)
				}
			}
		})
	}
}

// A server that is not what the pool wants is not talked to.
func TestPoolRefusesServers(t *testing.T) {
	good, evil := newCA(t), newCA(t)
	client := good.stanza(good.issue(t, tlsutil.RoleClient, "dc1"), false, true, true)
	for name, row := range map[string]struct {
		server tlsutil.Stanza
		reason string
	}{
		"a client's certificate": {good.stanza(good.issue(t, tlsutil.RoleClient, "dc1"), false, false, false), "server.dc1.consul"},
		"another datacenter's":   {good.stanza(good.issue(t, tlsutil.RoleServer, "dc2"), false, false, false), "server.dc1.consul"},
		"another CA's":           {evil.stanza(evil.issue(t, tlsutil.RoleServer, "dc1"), false, false, false), "unknown authority"},
		"no TLS at all":          {tlsutil.Stanza{}, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			_, target := serve(t, rpc.ServerConfig{TLS: configurator(t, row.server)})
			err := pool(t, configurator(t, client)).Call(withTimeout(t), target, "Status.Ping", echo{}, nil)
			if err == nil || !strings.Contains(err.Error(), row.reason) || !rpc.NotSent(err) {
				t.Errorf("got %v (not sent: %v), want %q", err, rpc.NotSent(err), row.reason)
			}
		})
	}
}

// A caller that has a certificate and requires nothing yet follows a server that
// requires TLS already, and speaks plaintext to one that does not. A server it
// cannot verify gets no call.
func TestPlaintextRefusedFallsBackToTLS(t *testing.T) {
	good, evil := newCA(t), newCA(t)
	ready := good.stanza(good.issue(t, tlsutil.RoleClient, "dc1"), false, false, false)
	for name, row := range map[string]struct {
		server, client tlsutil.Stanza
		method, reason string
	}{
		"strict server":       {good.stanza(good.issue(t, tlsutil.RoleServer, "dc1"), true, true, true), ready, "For.Client", ""},
		"server without TLS":  {tlsutil.Stanza{}, ready, "Status.Ping", ""},
		"another CA's server": {evil.stanza(evil.issue(t, tlsutil.RoleServer, "dc1"), true, true, true), ready, "Status.Ping", "unknown authority"},
		"no certificate":      {good.stanza(good.issue(t, tlsutil.RoleServer, "dc1"), true, true, true), good.stanza(nil, false, false, false), "Status.Ping", "verify_outgoing is off here"},
	} {
		t.Run(name, func(t *testing.T) {
			snapshots := make(chan rpc.Peer, 1)
			_, target := serve(t, rpc.ServerConfig{
				TLS:      configurator(t, row.server),
				Snapshot: func(c net.Conn, peer rpc.Peer) { snapshots <- peer; c.Close() },
			})
			p := pool(t, configurator(t, row.client))
			err := p.Call(withTimeout(t), target, row.method, echo{Text: "x"}, nil)
			if row.reason == "" && err != nil || row.reason != "" && (err == nil || !strings.Contains(err.Error(), row.reason)) {
				t.Errorf("got %v, want %q", err, row.reason)
			}
			if row.reason != "" {
				return
			}
			// A connection for another protocol goes the same way.
			c, err := p.Dial(withTimeout(t), target, rpc.ByteSnapshot)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if peer := <-snapshots; peer.TLS != row.server.VerifyIncoming {
				t.Errorf("the connection is of %s", peer)
			}
		})
	}
}

func TestRaftIsForServersOfThisDatacenter(t *testing.T) {
	authority := newCA(t)
	for role, want := range map[string]bool{"server dc1": true, "server dc2": false, "client dc1": false, "cli dc1": false} {
		t.Run(role, func(t *testing.T) {
			got := make(chan struct{}, 1)
			_, target := serve(t, rpc.ServerConfig{
				TLS:  configurator(t, authority.stanza(authority.issue(t, tlsutil.RoleServer, "dc1"), true, true, true)),
				Raft: func(c net.Conn, _ rpc.Peer) { got <- struct{}{}; c.Close() },
			})
			kind := map[string]tlsutil.Role{"server": tlsutil.RoleServer, "client": tlsutil.RoleClient, "cli": tlsutil.RoleCLI}
			name, dc, _ := strings.Cut(role, " ")
			p := pool(t, configurator(t, authority.stanza(authority.issue(t, kind[name], dc), false, true, true)))
			c, err := p.Dial(withTimeout(t), target, rpc.ByteRaft)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte{0}); err != nil {
				t.Fatal(err)
			}
			closed(t, c)
			if reached := len(got) == 1; reached != want {
				t.Errorf("reached Raft: %v, want %v", reached, want)
			}
		})
	}
}

func TestManyCallers(t *testing.T) {
	s, target := serve(t, rpc.ServerConfig{})
	p := pool(t, nil)
	var callers sync.WaitGroup
	for i := range 64 {
		callers.Go(func() {
			for n := range 50 {
				want := fmt.Sprintf("%d-%d", i, n)
				var got echo
				if err := p.Call(withTimeout(t), target, "Status.Ping", echo{Text: want}, &got); err != nil || got.Text != want {
					t.Errorf("got %q, %v, want %q", got.Text, err, want)
					return
				}
			}
		})
	}
	callers.Wait()
	if st := s.Stats(); st.Conns != 1 {
		t.Errorf("64 callers made %d connections, want 1", st.Conns)
	}
}

// While certificates, CA and verify settings change on both ends, no call fails,
// and nothing that the new rules refuse lives on.
func TestRecheckUnderCalls(t *testing.T) {
	old, next := newCA(t), newCA(t)
	both := append(append([]byte{}, old.pair.Cert...), next.pair.Cert...)
	stanza := func(authority *ca, trust []byte, role tlsutil.Role) tlsutil.Stanza {
		s := authority.stanza(authority.issue(t, role, "dc1"), true, true, true)
		s.CAPEM = trust
		return s
	}
	// From plaintext to TLS, and over to another CA, in the guide's steps.
	type step struct{ server, client tlsutil.Stanza }
	loaded := func(role tlsutil.Role) tlsutil.Stanza {
		s := stanza(old, old.pair.Cert, role)
		s.VerifyIncoming, s.VerifyOutgoing, s.VerifyServerHostname = false, false, false
		return s
	}
	outgoing := func(role tlsutil.Role) tlsutil.Stanza {
		s := stanza(old, old.pair.Cert, role)
		s.VerifyIncoming = false
		return s
	}
	srv, cli := tlsutil.RoleServer, tlsutil.RoleClient
	steps := []step{
		{loaded(srv), loaded(cli)},
		{outgoing(srv), outgoing(cli)},
		{stanza(old, old.pair.Cert, srv), stanza(old, old.pair.Cert, cli)},
		{stanza(old, both, srv), stanza(old, both, cli)},
		{stanza(next, both, srv), stanza(next, both, cli)},
		{stanza(next, next.pair.Cert, srv), stanza(next, next.pair.Cert, cli)},
	}
	serverTLS, clientTLS := configurator(t, steps[0].server), configurator(t, steps[0].client)
	s, target := serve(t, rpc.ServerConfig{TLS: serverTLS})
	p := pool(t, clientTLS)
	router := rpc.NewRouter("dc1", p, rpc.RouterOptions{})
	router.SetServers("dc1", []rpc.Target{target})

	// A connection of the first rules, which the last ones must not leave open.
	stale, err := net.Dial("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	if _, err := stale.Write([]byte{rpc.ByteRPC}); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(withTimeout(t))
	var callers sync.WaitGroup
	calls := make(chan struct{}, 1024)
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := router.Call(ctx, "", "Status.Ping", echo{Text: "x"}, nil); err != nil && ctx.Err() == nil {
					t.Errorf("a call failed: %v", err)
					return
				}
				select {
				case calls <- struct{}{}:
				default:
				}
			}
		})
	}
	some := func() {
		for range 40 {
			select {
			case <-calls:
			case <-ctx.Done():
				t.Fatal("no calls go through")
			}
		}
	}
	for _, st := range steps[1:] {
		some()
		for _, up := range []struct {
			conf *tlsutil.Configurator
			s    tlsutil.Stanza
		}{{clientTLS, st.client}, {serverTLS, st.server}} {
			if err := up.conf.Update(tlsutil.Config{InternalRPC: up.s, Datacenter: "dc1", Domain: "consul"}); err != nil {
				t.Fatal(err)
			}
			p.Recheck()
			s.Recheck()
			some()
		}
	}
	cancel()
	callers.Wait()
	closed(t, stale)
}

func TestFailover(t *testing.T) {
	p := pool(t, nil)
	router := rpc.NewRouter("dc1", p, rpc.RouterOptions{})
	if err := router.Call(withTimeout(t), "dc9", "Status.Ping", echo{}, nil); !errors.Is(err, rpc.ErrNoPath) {
		t.Errorf("unknown datacenter: %v", err)
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := dead.Addr().String()
	dead.Close()
	_, alive := serve(t, rpc.ServerConfig{})
	router.SetServers("dc1", []rpc.Target{{Addr: addr, Datacenter: "dc1", Name: "dead"}, alive})
	for range 20 {
		if err := router.Call(withTimeout(t), "", "Status.Ping", echo{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := router.Servers("dc1")[0]; got.Name != "server" {
		t.Errorf("the router still prefers %s", got.Name)
	}
	router.SetServers("dc2", []rpc.Target{{Addr: addr, Datacenter: "dc2", Name: "dead"}})
	router.SetHoldTimeout(1)
	if err := router.Call(withTimeout(t), "dc2", "Status.Ping", echo{}, nil); !errors.Is(err, rpc.ErrRemoteDCUnreachable) {
		t.Errorf("datacenter without a server that answers: %v", err)
	}
}

func TestRateLimit(t *testing.T) {
	_, target := serve(t, rpc.ServerConfig{})
	router := rpc.NewRouter("dc1", pool(t, nil), rpc.RouterOptions{Rate: 0.001, Burst: 2})
	router.SetServers("dc1", []rpc.Target{target})
	for range 2 {
		if err := router.Call(withTimeout(t), "", "Status.Ping", echo{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := router.Call(withTimeout(t), "", "Status.Ping", echo{}, nil); !errors.Is(err, rpc.ErrRateLimited) {
		t.Errorf("third call: %v", err)
	}
}

func TestTableWithoutAccessIsRefused(t *testing.T) {
	ok := func(context.Context, *rpc.Call) error { return nil }
	for name, tbl := range map[string]rpc.Table{
		"no access":  {"A.B": {Handle: ok}},
		"no handler": {"A.B": {Access: rpc.AllowAll}},
		"no method":  {"A": {Access: rpc.AllowAll, Handle: ok}},
	} {
		if _, err := rpc.NewServer(rpc.ServerConfig{Table: tbl}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// lastMoment is a reply whose decoding ends the caller's ctx.
type lastMoment struct{ cancel func() }

func (l *lastMoment) CodecEncodeSelf(*codec.Encoder) {}
func (l *lastMoment) CodecDecodeSelf(d *codec.Decoder) {
	var e echo
	d.MustDecode(&e)
	l.cancel()
}

// A ctx that ends as its answer comes must not end the next call, which uses the
// same stream.
func TestCancelAtTheLastMoment(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that what cancel starts runs last
	_, target := serve(t, rpc.ServerConfig{})
	p := pool(t, nil)
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		if err := p.Call(ctx, target, "Status.Ping", echo{}, &lastMoment{cancel}); err != nil {
			t.Fatal(err)
		}
		if err := p.Call(context.Background(), target, "Status.Ping", echo{}, nil); err != nil {
			t.Fatalf("somebody else's call: %v", err)
		}
	}
}

// A peer that goes silent between the header and the body of a request is not
// waited for: neither within its time as a stranger nor after it.
func TestSilenceBeforeTheBody(t *testing.T) {
	limits := rpc.Limits{HandshakeTimeout: time.Second, IdleTimeout: 500 * time.Millisecond, RequestTimeout: time.Second}
	s, target := serve(t, rpc.ServerConfig{Limits: limits})
	header := append([]byte{0x82, 0xa3}, "Seq\x01\xadServiceMethod\xabStatus.Ping"...)
	for name, sent := range map[string][]byte{
		"first request":  append([]byte{rpc.ByteRPC}, header...),
		"second request": append(append(append([]byte{rpc.ByteRPC}, header...), 0x80), header...),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", target.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			closed(t, c)
		})
	}
	t.Run("in a session", func(t *testing.T) {
		c, err := net.Dial("tcp", target.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte{rpc.ByteMux}); err != nil {
			t.Fatal(err)
		}
		session, err := yamux.Client(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		stream, err := session.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write(header); err != nil {
			t.Fatal(err)
		}
		closed(t, stream)
	})
	for end := time.Now().Add(patience); s.Stats().Conns > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still open: %+v", s.Stats())
		}
	}
}

// A server that hangs up on every connection, as one does that has too many, is
// not dialled as fast as it can be.
func TestNoHotDialling(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var dialled atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	p := pool(t, nil)
	for range 50 {
		dialled.Store(0)
		if err := p.Call(withTimeout(t), rpc.Target{Addr: ln.Addr().String()}, "Status.Ping", echo{}, nil); err == nil {
			t.Fatal("there was an answer")
		}
		if n := dialled.Load(); n > 4 {
			t.Fatalf("one call dialled %d times", n)
		}
	}
}

// A server that wants a certificate says so only after its client thinks the
// handshake done. However far the client has come by then, its error gives the
// reason.
func TestRefusedCallerIsToldWhy(t *testing.T) {
	authority := newCA(t)
	_, target := serve(t, rpc.ServerConfig{TLS: configurator(t, authority.stanza(authority.issue(t, tlsutil.RoleServer, "dc1"), true, true, true))})
	p := pool(t, configurator(t, authority.stanza(nil, false, true, true)))
	for range 100 {
		err := p.Call(withTimeout(t), target, "Status.Ping", echo{}, nil)
		if err == nil || !strings.Contains(err.Error(), "the peer wants a certificate and we showed none") || !rpc.NotSent(err) {
			t.Fatal(err)
		}
	}
}
