//go:build !linux && !darwin && !freebsd

package localrpc

import (
	"net"
	"net/netip"
)

const haveUnixPeers = false

func unixPeer(*net.UnixConn) (uint32, error) { return 0, errNoUserLookup }

func socketOwner(_, _ netip.AddrPort) (uint32, error) { return 0, errNoUserLookup }
