package localrpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// tcpEstablished is the only state that is asked for: see errNotEstablished.
const tcpEstablished = 1

// Layout of struct inet_diag_req_v2, of inet_diag_sockid within it, and of
// struct inet_diag_msg.
const (
	diagReqLen  = 56
	sockIDLen   = 48
	addrsLen    = 36 // ports and addresses, without interface and cookie
	diagMsgLen  = 72
	diagUID     = 64
	diagInode   = 68
	diagMsgSock = 4
)

// diagOwner asks over netlink (sock_diag(7)) for this one socket.
func diagOwner(self, peer netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open netlink socket: %w", err)
	}
	defer unix.Close(fd)
	// The kernel answers at once or never.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return 0, fmt.Errorf("netlink: %w", err)
	}
	req := diagRequest(self, peer)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("ask netlink: %w", err)
	}
	buf := make([]byte, 4096)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return 0, fmt.Errorf("read netlink: %w", err)
	}
	if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
		return 0, errors.New("netlink: the answer is not the kernel's")
	}
	return parseDiag(buf[:n], req[unix.NLMSG_HDRLEN+8:][:sockIDLen])
}

func diagRequest(self, peer netip.AddrPort) []byte {
	b := make([]byte, 0, unix.NLMSG_HDRLEN+diagReqLen)
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, unix.NLMSG_HDRLEN+diagReqLen)
	b = ne.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST)
	b = ne.AppendUint32(b, 1) // sequence
	b = ne.AppendUint32(b, 0) // port id: the kernel
	family := byte(unix.AF_INET6)
	if self.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = ne.AppendUint32(b, 1<<tcpEstablished)
	b = binary.BigEndian.AppendUint16(b, self.Port())
	b = binary.BigEndian.AppendUint16(b, peer.Port())
	for _, a := range []netip.Addr{self.Addr(), peer.Addr()} {
		raw := a.Unmap().AsSlice()
		b = append(b, raw...)
		b = append(b, make([]byte, 16-len(raw))...)
	}
	b = ne.AppendUint32(b, 0)                           // any interface
	return append(b, slices.Repeat([]byte{0xff}, 8)...) // no cookie
}

// parseDiag reads the owner out of an answer about the socket id.
func parseDiag(b, id []byte) (uint32, error) {
	if len(b) < unix.NLMSG_HDRLEN+4 {
		return 0, errors.New("netlink: the answer is cut short")
	}
	body := b[unix.NLMSG_HDRLEN:]
	switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
	case unix.SOCK_DIAG_BY_FAMILY:
	case unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		return 0, fmt.Errorf("netlink: %w", errno)
	default:
		return 0, fmt.Errorf("netlink: an answer of unknown type %d", kind)
	}
	if len(body) < diagMsgLen {
		return 0, errors.New("netlink: the answer is cut short")
	}
	// Without an exact match the kernel answers with a listening socket.
	if string(body[diagMsgSock:][:addrsLen]) != string(id[:addrsLen]) {
		return 0, errNotEstablished
	}
	if body[1] != tcpEstablished || binary.NativeEndian.Uint32(body[diagInode:]) == 0 {
		return 0, errNotEstablished
	}
	return binary.NativeEndian.Uint32(body[diagUID:]), nil
}
