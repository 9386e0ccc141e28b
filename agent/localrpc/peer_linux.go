package localrpc

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const haveUnixPeers = true

func unixPeer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if ctlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); ctlErr != nil {
		return 0, ctlErr
	}
	if err != nil {
		return 0, fmt.Errorf("read peer credentials: %w", err)
	}
	return cred.Uid, nil
}

// tcpEstablished is the only state in which the kernel says whose a socket is.
// One that its owner has closed is no more than an entry in a table, of no
// inode, and is shown as root's: who closes right after sending would be root.
const tcpEstablished = 1

var errNotEstablished = errors.New("the caller has closed its end of the connection")

// socketOwner asks the kernel for the user of the TCP socket whose own address
// is self and that is connected to peer.
func socketOwner(self, peer netip.AddrPort) (uint32, error) {
	uid, err := diagOwner(self, peer)
	if err == nil || errors.Is(err, errNotEstablished) {
		return uid, err
	}
	uid, procErr := procOwner(self, peer)
	if procErr != nil {
		return 0, errors.Join(err, procErr)
	}
	return uid, nil
}

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

// procOwner reads the same from /proc/net, for where netlink is not allowed.
func procOwner(self, peer netip.AddrPort) (uint32, error) {
	files := map[string][2]string{"/proc/net/tcp6": {procAddr(self, true), procAddr(peer, true)}}
	if self.Addr().Unmap().Is4() {
		files["/proc/net/tcp"] = [2]string{procAddr(self, false), procAddr(peer, false)}
	}
	err := errNotEstablished
	for name, want := range files {
		f, openErr := os.Open(name)
		if openErr != nil {
			err = openErr
			continue
		}
		uid, ok, scanErr := scanProc(f, want[0], want[1])
		f.Close()
		if ok {
			return uid, nil
		}
		if scanErr != nil {
			err = scanErr
		}
	}
	return 0, err
}

func scanProc(r io.Reader, self, peer string) (uid uint32, ok bool, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		// sl local remote st queues timer retransmits uid timeout inode
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[1] != self || f[2] != peer || f[3] != "01" || f[9] == "0" {
			continue
		}
		n, err := strconv.ParseUint(f[7], 10, 32)
		if err != nil {
			return 0, false, fmt.Errorf("user in socket table: %w", err)
		}
		return uint32(n), true, nil
	}
	return 0, false, sc.Err()
}

// procAddr is an address as /proc/net prints it: words of 4 bytes in the
// machine's own order, then the port.
func procAddr(a netip.AddrPort, six bool) string {
	var raw []byte
	if six {
		b := a.Addr().As16()
		raw = b[:]
	} else {
		b := a.Addr().Unmap().As4()
		raw = b[:]
	}
	var out []byte
	for i := 0; i < len(raw); i += 4 {
		out = binary.BigEndian.AppendUint32(out, binary.NativeEndian.Uint32(raw[i:]))
	}
	return fmt.Sprintf("%s:%04X", strings.ToUpper(hex.EncodeToString(out)), a.Port())
}
