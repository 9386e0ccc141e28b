package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

type echo struct {
	Text  string
	Bytes []byte
}

// table has a method for each class of caller, and some that misbehave.
func table() rpc.Table {
	reply := func(_ context.Context, c *rpc.Call) error {
		var e echo
		if err := c.Decode(&e); err != nil {
			return err
		}
		return c.Reply(e)
	}
	return rpc.Table{
		"Status.Ping":   {Access: rpc.AllowAll, Handle: reply},
		"For.Nobody":    {Access: rpc.AllowNobody, Handle: reply},
		"For.Client":    {Access: rpc.AllowClient, Handle: reply},
		"For.CLI":       {Access: rpc.AllowCLI, Handle: reply},
		"For.Server":    {Access: rpc.AllowServer, Handle: reply},
		"For.Remote":    {Access: rpc.AllowRemoteServer, Handle: reply},
		"Bad.Panic":     {Access: rpc.AllowAll, Handle: func(context.Context, *rpc.Call) error { panic("boom") }},
		"Bad.Error":     {Access: rpc.AllowAll, Handle: func(context.Context, *rpc.Call) error { return errors.New("no such luck") }},
		"Stream.Frames": {Access: rpc.AllowAll, Stream: true, Handle: frames},
		"Slow.Wait": {Access: rpc.AllowAll, Handle: func(ctx context.Context, c *rpc.Call) error {
			<-ctx.Done()
			return ctx.Err()
		}},
	}
}

func frames(_ context.Context, c *rpc.Call) error {
	if err := c.Reply(nil); err != nil {
		return err
	}
	for _, line := range []string{"one", "two", "three"} {
		if err := c.Send(wire.LogFrame{Log: line}); err != nil {
			return err
		}
	}
	return nil
}

// ca issues certificates for the tests.
type ca struct{ pair *tlsutil.Pair }

func newCA(t testing.TB) *ca {
	t.Helper()
	p, err := tlsutil.CreateCA(tlsutil.CARequest{Domain: "consul", Days: 2})
	if err != nil {
		t.Fatal(err)
	}
	return &ca{p}
}

func (c *ca) issue(t testing.TB, role tlsutil.Role, dc string) *tlsutil.Pair {
	t.Helper()
	p, err := tlsutil.IssueCertificate(c.pair, tlsutil.CertRequest{Kind: role, Datacenter: dc, Domain: "consul", Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stanza is TLS material in memory; cert may be nil.
func (c *ca) stanza(cert *tlsutil.Pair, in, out, name bool) tlsutil.Stanza {
	s := tlsutil.Stanza{CAPEM: c.pair.Cert, VerifyIncoming: in, VerifyOutgoing: out, VerifyServerHostname: name}
	if cert != nil {
		s.CertPEM, s.KeyPEM = cert.Cert, cert.Key
	}
	return s
}

func configurator(t testing.TB, s tlsutil.Stanza) *tlsutil.Configurator {
	t.Helper()
	c, err := tlsutil.New(tlsutil.Config{InternalRPC: s, Datacenter: "dc1", Domain: "consul"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve runs a server on a free port until the test ends.
func serve(t testing.TB, cfg rpc.ServerConfig) (*rpc.Server, rpc.Target) {
	t.Helper()
	if cfg.Table == nil {
		cfg.Table = table()
	}
	s, err := rpc.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
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
			t.Error("Serve did not return")
		}
	})
	return s, rpc.Target{Addr: ln.Addr().String(), Datacenter: "dc1", Name: "server"}
}

func pool(t testing.TB, tls *tlsutil.Configurator) *rpc.Pool {
	t.Helper()
	p := rpc.NewPool(rpc.PoolConfig{TLS: tls, LocalAddr: netip.MustParseAddr("127.0.0.1")})
	t.Cleanup(func() { p.Close() })
	return p
}

func withTimeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// closed waits for the other end to close.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection was not closed")
	}
}
