package server_test

import (
	"testing"

	"github.com/hashicorp/serf/serf"

	"lictor/agent/server"
)

// Whatever a member puts into its tags, what is taken for a server has all that
// is needed to call it, and is what its tags say.
func FuzzParseServer(f *testing.F) {
	f.Add("a", []byte{10, 0, 0, 1}, "consul", "dc1", "8300", "2", "1.2.3:abcd", "8302", "1")
	f.Add("", []byte{}, "node", "", "", "", "", "", "")
	f.Add("a.dc1", make([]byte, 16), "consul", "dc1", "65535", "-1", ":", "65536", "true")
	f.Add("a", []byte{1, 2, 3}, "consul", "dc1", "0", "2", "1", "-1", "")
	f.Add("a\n", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}, "consul", "d c", "+8300", "0x2", "\x00", "08302", "1")
	f.Fuzz(func(t *testing.T, name string, addr []byte, role, dc, port, vsn, build, wanPort, bootstrap string) {
		m := serf.Member{Name: name, Addr: addr, Status: serf.StatusAlive, Tags: map[string]string{
			"role": role, "dc": dc, "port": port, "vsn": vsn, "build": build, "wan_join_port": wanPort, "bootstrap": bootstrap,
		}}
		s, ok := server.ParseServer(m)
		if list := server.Servers([]serf.Member{m, m}); ok != (len(list) == 2) {
			t.Errorf("a server: %t, in a list of servers: %v", ok, list)
		}
		if !ok {
			return
		}
		switch {
		case role != "consul" || build == "" || vsn == "":
			t.Errorf("taken for a server: %+v", m)
		case !s.Addr.IsValid() || s.Addr.Port() == 0 || s.Addr.Addr().Is4In6():
			t.Errorf("its address is %s", s.Addr)
		case s.Datacenter == "" || s.Datacenter != dc || s.Name != name || !s.Alive():
			t.Errorf("%+v from %+v", s, m)
		}
	})
}
