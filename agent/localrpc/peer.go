package localrpc

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// noUser is the agent's own user where users have no numbers.
const noUser = ^uint32(0)

var errNoUserLookup = errors.New("this system does not tell who is at the other end of a loopback connection: " +
	"use a unix:// socket or rpc_auth_key")

func ownUser() uint32 {
	if id := os.Geteuid(); id >= 0 {
		return uint32(id)
	}
	return noUser
}

// caller is who is at the other end of a connection.
type caller struct {
	trusted bool   // the agent's own user, or root
	socket  bool   // came over a unix socket
	name    string // for log lines
	unknown error  // why the user is not known; nil where it is
}

// identify finds out who is at the other end. Who cannot be known is not
// trusted.
func (s *Server) identify(conn net.Conn) caller {
	var uid uint32
	var err error
	_, socket := conn.(*net.UnixConn)
	switch c := conn.(type) {
	case *net.UnixConn:
		if !haveUnixPeers {
			// The file system has let the caller in: there is no more to go by.
			return caller{trusted: true, socket: true, name: "user of the socket"}
		}
		uid, err = unixPeer(c)
	case *net.TCPConn:
		local, _ := c.LocalAddr().(*net.TCPAddr)
		remote, _ := c.RemoteAddr().(*net.TCPAddr)
		if local == nil || remote == nil || !local.IP.IsLoopback() || !remote.IP.IsLoopback() {
			err = errors.New("the connection is not from this machine")
			break
		}
		uid, err = socketOwner(remote.AddrPort(), local.AddrPort())
	default:
		err = fmt.Errorf("a %T has no user", conn)
	}
	if err != nil {
		return caller{socket: socket, name: "unknown user", unknown: err}
	}
	return caller{
		trusted: uid == 0 || uid == s.self && s.self != noUser,
		socket:  socket,
		name:    fmt.Sprintf("user %d", uid),
	}
}
