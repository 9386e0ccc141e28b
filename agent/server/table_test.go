package server_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/rpc"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// The classes of callers, and sets of them, written out: a method's row is
// decided here as well as in the table.
const (
	everybody = rpc.AllowNobody | rpc.AllowClient | rpc.AllowCLI | rpc.AllowServer | rpc.AllowRemoteServer
	agents    = rpc.AllowClient | rpc.AllowServer | rpc.AllowRemoteServer
	withCLI   = agents | rpc.AllowCLI
)

// want is who may call each method, written by hand: a method that is not here
// may not exist, and one whose row changes changes this list too.
var want = map[string]rpc.Access{
	"Status.Ping":        everybody,
	"Status.Leader":      everybody,
	"Status.Peers":       everybody,
	"Status.RaftStats":   rpc.AllowServer,
	"Internal.AgentInfo": everybody,

	"Internal.KeyringOperation": withCLI,
	"Internal.EventFire":        withCLI,
	"Agent.Monitor":             rpc.AllowServer | rpc.AllowCLI,

	"Internal.NodeInfo":        agents,
	"Internal.NodeDump":        agents,
	"Internal.ServiceDump":     agents,
	"Internal.CatalogOverview": agents,

	"Catalog.Register":        agents,
	"Catalog.Deregister":      agents,
	"Catalog.ListDatacenters": agents,
	"Catalog.ListNodes":       agents,
	"Catalog.ListServices":    agents,
	"Catalog.ServiceList":     agents,
	"Catalog.ServiceNodes":    agents,
	"Catalog.NodeServices":    agents,
	"Catalog.NodeServiceList": agents,

	"Health.ChecksInState":    agents,
	"Health.NodeChecks":       agents,
	"Health.ServiceChecks":    agents,
	"Health.ServiceNodes":     agents,
	"Health.ServiceNodesJSON": agents,

	"KVS.Apply":    agents,
	"KVS.Get":      agents,
	"KVS.List":     agents,
	"KVS.ListKeys": agents,

	"Session.Apply":        agents,
	"Session.Renew":        agents,
	"Session.Get":          agents,
	"Session.List":         agents,
	"Session.NodeSessions": agents,

	"Txn.Apply": agents,
	"Txn.Read":  agents,

	"Coordinate.Update":          agents,
	"Coordinate.ListDatacenters": agents,
	"Coordinate.ListNodes":       agents,
	"Coordinate.Node":            agents,

	"Operator.RaftGetConfiguration":      agents,
	"Operator.RaftRemovePeerByAddress":   agents,
	"Operator.RaftRemovePeerByID":        agents,
	"Operator.TransferLeader":            agents,
	"Operator.AutopilotGetConfiguration": agents,
	"Operator.AutopilotSetConfiguration": agents,
	"Operator.ServerHealth":              agents,
	"Operator.AutopilotState":            agents,
	"Operator.Usage":                     agents,
}

func TestEveryMethodSaysWhoMayCallIt(t *testing.T) {
	table := server.New(server.Config{Log: hclog.NewNullLogger()}).Table()
	for name, row := range table {
		access, ok := want[name]
		switch {
		case !ok:
			t.Errorf("%s: this test does not know who may call it", name)
		case row.Access != access:
			t.Errorf("%s: may be called by %s, want %s", name, row.Access, access)
		}
	}
	for name := range want {
		if _, ok := table[name]; !ok {
			t.Errorf("%s: there is no such method", name)
		}
	}
}

// Every method, called by every class of caller over a real connection: with
// certificates where verify_incoming is on, and by address where it is off.
func TestEveryMethodForEveryCaller(t *testing.T) {
	authority, err := tlsutil.CreateCA(tlsutil.CARequest{Domain: "consul", Days: 2})
	if err != nil {
		t.Fatal(err)
	}
	stanza := func(role tlsutil.Role, dc string, incoming bool) tlsutil.Stanza {
		cert, err := tlsutil.IssueCertificate(authority, tlsutil.CertRequest{Kind: role, Datacenter: dc, Domain: "consul", Days: 1})
		if err != nil {
			t.Fatal(err)
		}
		return tlsutil.Stanza{CAPEM: authority.Cert, CertPEM: cert.Cert, KeyPEM: cert.Key,
			VerifyIncoming: incoming, VerifyOutgoing: true, VerifyServerHostname: true}
	}
	strict := stanza(tlsutil.RoleServer, "dc1", true)
	strangers := func(netip.Addr) tlsutil.Role { return tlsutil.RoleNone }
	at := func(r tlsutil.Role) func(netip.Addr) tlsutil.Role { return func(netip.Addr) tlsutil.Role { return r } }
	for name, c := range map[string]struct {
		server, caller tlsutil.Stanza
		addrRole       func(netip.Addr) tlsutil.Role
		classes        rpc.Access
	}{
		"client":                {strict, stanza(tlsutil.RoleClient, "dc1", false), strangers, rpc.AllowClient},
		"operator":              {strict, stanza(tlsutil.RoleCLI, "dc1", false), strangers, rpc.AllowCLI},
		"server":                {strict, stanza(tlsutil.RoleServer, "dc1", false), strangers, rpc.AllowServer},
		"server of dc2":         {strict, stanza(tlsutil.RoleServer, "dc2", false), strangers, rpc.AllowRemoteServer},
		"client of dc2":         {strict, stanza(tlsutil.RoleClient, "dc2", false), at(tlsutil.RoleServer), rpc.AllowNobody},
		"stranger in plaintext": {tlsutil.Stanza{}, tlsutil.Stanza{}, strangers, rpc.AllowNobody},
		"client by its address": {tlsutil.Stanza{}, tlsutil.Stanza{}, at(tlsutil.RoleClient), rpc.AllowNobody | rpc.AllowClient},
		"server by its address": {tlsutil.Stanza{}, tlsutil.Stanza{}, at(tlsutil.RoleServer), rpc.AllowNobody | rpc.AllowServer},
		"dc2 by its address":    {tlsutil.Stanza{}, tlsutil.Stanza{}, at(tlsutil.RoleRemoteServer), rpc.AllowNobody | rpc.AllowRemoteServer},
	} {
		t.Run(name, func(t *testing.T) {
			cl := &cluster{}
			n := startNode(t, cl, "a", options{stanza: c.server, addrRole: c.addrRole})
			cl.lead(n.raft)
			conf, err := tlsutil.New(tlsutil.Config{InternalRPC: c.caller, Datacenter: "dc1", Domain: "consul"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			pool := rpc.NewPool(rpc.PoolConfig{TLS: conf})
			t.Cleanup(func() { pool.Close() })
			for method := range n.Table() {
				err := pool.Call(testContext(t), n.target, method, wire.Empty{}, nil)
				var remote rpc.RemoteError
				if err != nil && !errors.As(err, &remote) {
					t.Errorf("%s: no answer: %v", method, err)
					continue
				}
				denied := strings.HasPrefix(string(remote), rpc.ErrPermissionDenied.Error())
				if allowed := want[method]&c.classes != 0; allowed == denied {
					t.Errorf("%s: denied %v (%v), want allowed %v", method, denied, err, allowed)
				}
			}
			for method, text := range map[string]string{
				"KVS.Steal": "rpc: can't find method KVS.Steal", "ACL.Login": "rpc: can't find service ACL.Login",
			} {
				var remote rpc.RemoteError
				if err := pool.Call(testContext(t), n.target, method, wire.Empty{}, nil); !errors.As(err, &remote) || string(remote) != text {
					t.Errorf("%s: %v", method, err)
				}
			}
			if c.classes&agents == 0 {
				n.raft.locked(func() {
					if n.raft.applies != 0 {
						t.Error("something was written")
					}
				})
			}
		})
	}
}

func TestParseServer(t *testing.T) {
	good := func() serf.Member {
		return serf.Member{Name: "a", Addr: net.IPv4(10, 0, 0, 1), Status: serf.StatusAlive, Tags: map[string]string{
			"role": "consul", "dc": "dc1", "port": "8300", "vsn": "2", "build": "1.2.3:abcd", "id": "x", "wan_join_port": "8302",
		}}
	}
	s, ok := server.ParseServer(good())
	if !ok || s.Addr.String() != "10.0.0.1:8300" || s.Build != "1.2.3" || s.WANPort != 8302 || !s.Alive() {
		t.Errorf("parsed %+v, %v", s, ok)
	}
	for name, spoil := range map[string]func(*serf.Member){
		"a client":        func(m *serf.Member) { m.Tags["role"] = "node" },
		"no port":         func(m *serf.Member) { delete(m.Tags, "port") },
		"port 0":          func(m *serf.Member) { m.Tags["port"] = "0" },
		"port over 65535": func(m *serf.Member) { m.Tags["port"] = "70000" },
		"no version":      func(m *serf.Member) { delete(m.Tags, "vsn") },
		"no build":        func(m *serf.Member) { delete(m.Tags, "build") },
		"no datacenter":   func(m *serf.Member) { delete(m.Tags, "dc") },
		"no address":      func(m *serf.Member) { m.Addr = nil },
		"odd address":     func(m *serf.Member) { m.Addr = []byte{1, 2, 3} },
		"no tags":         func(m *serf.Member) { m.Tags = nil },
	} {
		m := good()
		spoil(&m)
		if s, ok := server.ParseServer(m); ok {
			t.Errorf("%s: taken for the server %+v", name, s)
		}
	}
}
