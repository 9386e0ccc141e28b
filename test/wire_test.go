package test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"lictor/test/harness"
)

// Every combination of the verify settings, on the wire (CVE-2018-19653): the
// first bytes of an agent's connections to a server are TLS if and only if a
// setting asks for it or the server refuses anything else, and what an RPC
// carries is then never in the clear.
func TestVerifyMatrix(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	c := cluster(t)
	s := c.AddServer("s1")
	front := c.IP(100)
	s.Set(keys{"serf_lan": front, "serf_wan": front, "advertise_addr": front})
	put(t, s, issue(t, ca, "server.dc1.consul"), ca)
	rec := harness.NewRecorder(t, net.JoinHostPort(front, harness.RPCPort), s.Addr(harness.RPCPort))

	type row struct {
		name string
		keys keys
		tls  bool // a setting asks for TLS on outgoing connections
	}
	var rows []row
	for bits := range 8 {
		in, out, host := bits&1 != 0, bits&2 != 0, bits&4 != 0
		rows = append(rows, row{fmt.Sprintf("incoming=%t,outgoing=%t,hostname=%t", in, out, host), verify(in, out, host), out || host})
	}
	stanza := func(name string, k keys) keys { return keys{"tls": keys{name: k}} }
	rows = append(rows,
		row{"tls.defaults.outgoing", stanza("defaults", keys{"verify_outgoing": true}), true},
		row{"tls.internal_rpc.outgoing", stanza("internal_rpc", keys{"verify_outgoing": true}), true},
		row{"tls.internal_rpc.hostname", stanza("internal_rpc", keys{"verify_server_hostname": true}), true},
		row{"tls.https.outgoing", stanza("https", keys{"verify_outgoing": true}), false},
	)
	servers := []struct {
		name    string
		keys    []keys
		speaks  bool // TLS
		demands bool
	}{
		{"server-without-tls", nil, false, false},
		{"server-ready", []keys{tlsFiles}, true, false},
		{"server-strict", []keys{tlsFiles, verify(true, true, true)}, true, true},
	}
	n := 0
	for _, srv := range servers {
		config(t, s, append(srv.keys, keys{"encrypt": guideKey})...)
		must(t, s.Start())
		for _, row := range rows {
			t.Run(srv.name+"/"+row.name, func(t *testing.T) {
				n++
				a := c.AddClient(fmt.Sprintf("c%d", n))
				impatient(a)
				config(t, a, tlsFiles, row.keys, keys{"encrypt": guideKey})
				put(t, a, issue(t, ca, "client.dc1.consul"), ca)
				rec.Reset()
				must(t, a.Start("-retry-join="+front))
				defer a.Kill()

				// A datacenter that nobody has: the servers alone can say so.
				marker := fmt.Sprintf("marker-%d-in-clear", n)
				works := !row.tls || srv.speaks
				falls := !row.tls && srv.demands // plaintext is refused before a call is made, and TLS dialled
				if works {
					poll(t, "an RPC", a.RPC)
				} else {
					refused(t, a)
				}
				_, err := a.Get("/v1/status/peers?dc=" + marker)
				if err == nil {
					t.Error("there is such a datacenter")
				} else if reached := strings.Contains(err.Error(), "No path to datacenter"); reached != works {
					t.Errorf("the RPC reached a server: %t (%v)", reached, err)
				}
				conns := rec.FirstBytes(2)
				if len(conns) == 0 {
					t.Error("no connection was recorded")
				}
				for _, first := range conns {
					isTLS := first[0] == 3 && (len(first) < 2 || first[1] == 0x16)
					if isTLS != row.tls && !falls {
						t.Errorf("a connection began with % x, TLS wanted: %t", first, row.tls)
					}
				}
				switch saw := rec.Saw([]byte(marker)); {
				case saw && (row.tls || falls):
					t.Error("the marker was in the clear")
				case !saw && !row.tls && !falls: // or else this test sees nothing at all
					t.Error("the marker was not recorded")
				}
			})
		}
		s.Kill()
		rec.Drop()
	}
}
