package test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/server"
	"lictor/rpc"
	"lictor/test/harness"
	"lictor/tlsutil"
)

// Every RPC method of a real server, called with a certificate of each role, and
// with bodies that are none: who may call gets an answer or an error of the
// method, who may not is refused by name, and the process lives. Which roles may
// call is the table's word here; a hand-written list beside the table checks that.
func TestEveryMethodWithEveryRole(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey, "bootstrap": true}, tlsFiles, verify(true, true, true))
	put(t, s, issue(t, ca, "server.dc1.consul"), ca)
	must(t, s.Start())
	table := server.New(server.Config{Log: hclog.NewNullLogger(), Datacenter: "dc1"}).Table()

	roles := []struct {
		name  string
		class rpc.Access
	}{
		{"server.dc1.consul", rpc.AllowServer},
		{"client.dc1.consul", rpc.AllowClient},
		{"cli.dc1.consul", rpc.AllowCLI},
		{"server.dc2.consul", rpc.AllowRemoteServer},
		{"client.dc2.consul", rpc.AllowNobody},
		{"somebody.example", rpc.AllowNobody},
		{"server.dc1.consul.example", rpc.AllowNobody},
		{"*.dc1.consul", rpc.AllowNobody},
	}
	bodies := []any{struct{}{}, nil, "text", 7, []int{1, 2}, map[string]any{"Datacenter": 5}, map[string]any{"Datacenter": "nowhere"},
		map[string]any{"Key": strings.Repeat("k", 100_000)}, map[string]any{"Ops": []any{nil, 1, "x"}}, map[string]any{"Coord": nil, "Node": "\x00"}}
	target := rpc.Target{Addr: s.Addr(harness.RPCPort), Datacenter: "dc1", Name: "s1"}
	for _, role := range roles {
		t.Run(role.name, func(t *testing.T) {
			pool := dialAs(t, ca, role.name)
			for _, method := range slices.Sorted(maps.Keys(table)) {
				allowed := table[method].Access&role.class != 0
				for _, body := range bodies {
					err := callOnce(pool, target, method, body, table[method].Stream)
					denied := err != nil && strings.Contains(err.Error(), "Permission denied")
					var remote rpc.RemoteError
					switch {
					case err != nil && !errors.As(err, &remote):
						t.Errorf("%s with %T: %v", method, body, err)
					case denied == allowed:
						t.Errorf("%s with %T: may be called by %s, and the answer is %v", method, body, table[method].Access, err)
					}
				}
			}
			err := callOnce(pool, target, "Internal.NoSuchMethod", struct{}{}, false)
			if err == nil || !strings.Contains(err.Error(), "rpc: can't find method Internal.NoSuchMethod") {
				t.Errorf("a method that is not there: %v", err)
			}
			if conn, err := pool.Dial(context.Background(), target, rpc.ByteRaft); err == nil {
				// The port takes the byte; only a server of the datacenter is heard.
				heard := answersRaft(t, conn)
				if heard != (role.class == rpc.AllowServer) {
					t.Errorf("Raft speaks with it: %t", heard)
				}
			}
		})
	}
	must(t, s.RPC())
}

// dialAs is a pool whose connections show a certificate of this name.
func dialAs(t *testing.T, ca *harness.CA, name string) *rpc.Pool {
	t.Helper()
	cert := issue(t, ca, name)
	conf, err := tlsutil.New(tlsutil.Config{
		InternalRPC: tlsutil.Stanza{CAPEM: ca.PEM, CertPEM: cert.CertPEM, KeyPEM: cert.KeyPEM, VerifyOutgoing: true, VerifyServerHostname: true},
		Datacenter:  "dc1", Domain: "consul",
	}, nil)
	must(t, err)
	pool := rpc.NewPool(rpc.PoolConfig{TLS: conf})
	t.Cleanup(func() { pool.Close() })
	return pool
}

func callOnce(pool *rpc.Pool, target rpc.Target, method string, body any, stream bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if !stream {
		return pool.Call(ctx, target, method, body, nil)
	}
	st, err := pool.Stream(ctx, target, method, body)
	if err == nil {
		st.Close()
	}
	return err
}

// answersRaft sends a request that Raft does not know and says whether it was
// answered; a peer that may not speak Raft is cut off.
func answersRaft(t *testing.T, conn net.Conn) bool {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(harness.Patience))
	// RequestVote (1) of a candidate that nobody knows, with an empty request.
	if _, err := conn.Write([]byte{1, 0x80}); err != nil {
		return false
	}
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("neither answer nor refusal")
	}
	return n > 0
}
