//go:build darwin || freebsd

package localrpc

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const haveUnixPeers = true

// solLocal is SOL_LOCAL of sys/un.h, which x/sys has for one of the two only.
const solLocal = 0

func unixPeer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	if ctlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptXucred(int(fd), solLocal, unix.LOCAL_PEERCRED)
	}); ctlErr != nil {
		return 0, ctlErr
	}
	if err != nil {
		return 0, fmt.Errorf("read peer credentials: %w", err)
	}
	return cred.Uid, nil
}

func socketOwner(_, _ netip.AddrPort) (uint32, error) { return 0, errNoUserLookup }
