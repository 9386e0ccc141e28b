package server_test

import (
	"net"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
	"lictor/rpc"
)

// want is who may call each method, written by hand: a method that is not here
// may not exist, and one whose row changes changes this list too.
var want = map[string]rpc.Access{
	"Status.Ping":               rpc.AllowAll,
	"Status.Leader":             rpc.AllowAll,
	"Status.Peers":              rpc.AllowAll,
	"Internal.AgentInfo":        rpc.AllowAll,
	"Status.RaftStats":          rpc.AllowServer,
	"Agent.Monitor":             rpc.AllowServer | rpc.AllowCLI,
	"Internal.KeyringOperation": rpc.AllowClient | rpc.AllowCLI | rpc.AllowServer | rpc.AllowRemoteServer,
	"Internal.EventFire":        rpc.AllowClient | rpc.AllowCLI | rpc.AllowServer | rpc.AllowRemoteServer,
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
