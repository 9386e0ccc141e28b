package localrpc

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
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

// errNotEstablished: only of an established connection does the kernel say whose
// it is. A socket that its owner has closed is no more than an entry in a table,
// of no inode, and is shown as root's: who closes right after sending would be
// root.
var errNotEstablished = errors.New("the caller has closed its end of the connection")

// lookups is how often the socket table is read: a table that changes meanwhile
// may be shown without a socket that is in it.
const lookups = 3

// socketOwner asks the kernel for the user of the TCP socket whose own address
// is self and that is connected to peer: over netlink, which looks up this one
// socket, or where that is not to be had in its table of all sockets, which
// takes the longer the busier the machine is.
func socketOwner(self, peer netip.AddrPort) (uint32, error) {
	uid, diagErr := diagOwner(self, peer)
	if diagErr == nil || errors.Is(diagErr, errNotEstablished) {
		return uid, diagErr
	}
	var err error
	for range lookups {
		if uid, err = procOwner(self, peer); err == nil {
			return uid, nil
		}
	}
	return 0, fmt.Errorf("%w (%w)", err, diagErr)
}

func procOwner(self, peer netip.AddrPort) (uint32, error) {
	tables := []struct {
		file string
		six  bool
	}{{"/proc/net/tcp6", true}}
	if self.Addr().Unmap().Is4() { // a socket of either family may hold it
		tables = append(tables, tables[0])
		tables[0].file, tables[0].six = "/proc/net/tcp", false
	}
	err := errNotEstablished
	for _, t := range tables {
		f, openErr := os.Open(t.file)
		if openErr != nil {
			if !errors.Is(openErr, fs.ErrNotExist) { // no IPv6 in this kernel
				err = openErr
			}
			continue
		}
		uid, ok, scanErr := scanProc(f, procAddr(self, t.six), procAddr(peer, t.six))
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
