package localrpc

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// Both ways of asking the kernel give the same answer, and none takes a socket
// that its owner has closed, which the kernel shows as root's, for root's.
func TestSocketOwner(t *testing.T) {
	t.Parallel()
	ways := map[string]func(self, peer netip.AddrPort) (uint32, error){
		"netlink": diagOwner, "proc": procOwner, "both": socketOwner,
	}
	for _, dst := range []string{"127.0.0.1", "::1"} {
		for _, network := range []string{"tcp", "tcp4", "tcp6"} { // "tcp" listens for both in one socket
			ln, err := net.Listen(network, ":0")
			if err != nil {
				t.Logf("%s: %v", network, err)
				continue
			}
			defer ln.Close()
			_, port, err := net.SplitHostPort(ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			client, err := net.Dial("tcp", net.JoinHostPort(dst, port))
			if err != nil {
				continue // the listener is of the other family
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			remote, local := server.RemoteAddr().(*net.TCPAddr).AddrPort(), server.LocalAddr().(*net.TCPAddr).AddrPort()

			for name, owner := range ways {
				if uid, err := owner(remote, local); err != nil || uid != uint32(os.Geteuid()) {
					t.Errorf("%s over %s, %s: user %d, %v", dst, network, name, uid, err)
				}
				if uid, err := owner(remote, netip.AddrPortFrom(local.Addr(), local.Port()^1)); err == nil {
					t.Errorf("%s over %s, %s: no such connection, and yet user %d", dst, network, name, uid)
				}
			}
			client.Close()
			if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			for name, owner := range ways {
				if uid, err := owner(remote, local); !errors.Is(err, errNotEstablished) {
					t.Errorf("%s over %s, %s: closed, and yet user %d, %v", dst, network, name, uid, err)
				}
			}
		}
	}
}
