package rpc_test

import (
	"context"
	"testing"
	"time"

	"lictor/rpc"
	"lictor/tlsutil"
)

// gated is a method that answers once its gate is open, or its caller has gone.
func gated(entered chan<- struct{}, gate <-chan struct{}) rpc.Table {
	t := table()
	t["Slow.Gate"] = rpc.Row{Access: rpc.AllowAll, Handle: func(ctx context.Context, c *rpc.Call) error {
		entered <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	return t
}

// What a reload of the client's settings does to its sessions: nothing where
// they are what they were; with a new certificate, new calls take a new
// connection and old ones end in their own time; a session that the new settings
// would not make is cut off after the grace.
func TestPoolRecheck(t *testing.T) {
	authority := newCA(t)
	stanza := authority.stanza(authority.issue(t, tlsutil.RoleServer, "dc1"), false, true, true)
	entered, gate := make(chan struct{}, 2), make(chan struct{})
	s, target := serve(t, rpc.ServerConfig{TLS: configurator(t, stanza), Table: gated(entered, gate)})

	start := func(from tlsutil.Stanza) (*rpc.Pool, *tlsutil.Configurator, <-chan error) {
		conf := configurator(t, from)
		p := rpc.NewPool(rpc.PoolConfig{TLS: conf, DrainGrace: 50 * time.Millisecond})
		t.Cleanup(func() { p.Close() })
		done := make(chan error, 1)
		go func() { done <- p.Call(withTimeout(t), target, "Slow.Gate", echo{}, nil) }()
		<-entered
		return p, conf, done
	}
	update := func(p *rpc.Pool, conf *tlsutil.Configurator, to tlsutil.Stanza) {
		t.Helper()
		if err := conf.Update(tlsutil.Config{InternalRPC: to, Datacenter: "dc1", Domain: "consul"}); err != nil {
			t.Fatal(err)
		}
		p.Recheck()
	}
	ping := func(p *rpc.Pool) {
		t.Helper()
		if err := p.Call(withTimeout(t), target, "Status.Ping", echo{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	encrypted, conf, renewed := start(stanza)
	plain, plainConf, cut := start(tlsutil.Stanza{})

	before := s.Stats().Accepted
	update(encrypted, conf, stanza)
	if ping(encrypted); s.Stats().Accepted != before {
		t.Error("a reload that changes nothing made a new connection")
	}
	stanza = authority.stanza(authority.issue(t, tlsutil.RoleClient, "dc1"), false, true, true)
	update(encrypted, conf, stanza)
	if ping(encrypted); s.Stats().Accepted != before+1 {
		t.Errorf("%d new connections after a new certificate, want 1", s.Stats().Accepted-before)
	}
	update(plain, plainConf, stanza)
	if err := <-cut; err == nil {
		t.Error("the call in plaintext was not cut off")
	}
	// By now as much time has gone by for the other call.
	close(gate)
	if err := <-renewed; err != nil {
		t.Errorf("a call during the change of the certificate: %v", err)
	}
}

// One address cannot take all the streams that there are.
func TestStreamsPerClient(t *testing.T) {
	entered, gate := make(chan struct{}, 4), make(chan struct{})
	defer close(gate)
	_, target := serve(t, rpc.ServerConfig{Table: gated(entered, gate), Limits: rpc.Limits{MaxStreamsPerClient: 2}})
	for range 2 { // two sessions: the bound is not one of a session
		p := pool(t, nil)
		go p.Call(withTimeout(t), target, "Slow.Gate", echo{}, nil)
		<-entered
	}
	if err := pool(t, nil).Call(withTimeout(t), target, "Status.Ping", echo{}, nil); err == nil {
		t.Error("a third stream was served")
	}
}
