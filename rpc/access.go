package rpc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strings"

	"lictor/tlsutil"
)

// Access is a set of classes of callers. A peer belongs to one or more classes
// (Peer.Classes); a method's row names the classes that may call it.
type Access uint8

// The classes. A peer without a verified certificate, or whose certificate
// names no role, is Nobody. Server is a server of this datacenter.
const (
	AllowNobody Access = 1 << iota
	AllowClient
	AllowCLI
	AllowServer
	AllowRemoteServer
)

// Sets that rows use often.
const (
	// AllowAll is everybody who got through the handshake. With verify_incoming
	// that is everybody whose certificate our CA signed.
	AllowAll = AllowNobody | AllowClient | AllowCLI | AllowServer | AllowRemoteServer
	// AllowAgents is identified agents of this datacenter.
	AllowAgents = AllowClient | AllowServer
	// AllowServers is servers of this and of other datacenters.
	AllowServers = AllowServer | AllowRemoteServer
)

var accessNames = []struct {
	bit  Access
	name string
}{
	{AllowNobody, "nobody"},
	{AllowClient, "client"},
	{AllowCLI, "cli"},
	{AllowServer, "server"},
	{AllowRemoteServer, "remote server"},
}

// String lists the classes in the set, for logs and errors.
func (a Access) String() string {
	var names []string
	for _, n := range accessNames {
		if a&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Handler serves one call. It runs on the conversation's goroutine; ctx ends
// when the server stops or the connection is lost or no longer acceptable, or
// when the row's handler has returned. An error becomes the Error of the
// response header, as text; its cause stays home only if the handler keeps it
// out of the text.
type Handler func(ctx context.Context, call *Call) error

// Row says who may call a method and what serves it. Stream marks a method
// whose handler may send frames after its reply (Call.Send).
type Row struct {
	Access Access
	Handle Handler
	Stream bool
}

// Table maps "Service.Method" to its row. A method without a row cannot be
// called, and NewServer refuses a row that names no class.
type Table map[string]Row

// check returns what is wrong with the table.
func (t Table) check() error {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		row := t[name]
		service, method, ok := strings.Cut(name, ".")
		switch {
		case !ok || service == "" || method == "" || len(name) > maxMethodName:
			return fmt.Errorf("rpc: method %q: want Service.Method", name)
		case row.Access&AllowAll == 0 || row.Access&^AllowAll != 0:
			return fmt.Errorf("rpc: method %s: its row does not say who may call it", name)
		case row.Handle == nil:
			return fmt.Errorf("rpc: method %s: no handler", name)
		}
	}
	return nil
}

// Peer says who is at the other end of a connection. It is decided again after
// every reload of the TLS settings (Server.Recheck).
type Peer struct {
	Addr     net.Addr         // remote address of the TCP connection
	TLS      bool             // the connection is TLS
	Identity tlsutil.Identity // from the verified certificate; RoleNone without one
	// AddrRole is set for a peer without a role where verify_incoming is off: what
	// the gossip list has at the peer's address.
	AddrRole tlsutil.Role
	// Local marks a call of this process to itself (Server.Local).
	Local bool
}

// Classes returns the classes the peer belongs to. A certificate that names a
// role decides alone; addresses count only for peers without one.
func (p Peer) Classes() Access {
	if p.Local {
		return AllowServer
	}
	if class := classOf[p.Identity.Role]; class != 0 {
		return class
	}
	return AllowNobody | classOf[p.AddrRole]
}

var classOf = map[tlsutil.Role]Access{
	tlsutil.RoleClient:       AllowClient,
	tlsutil.RoleCLI:          AllowCLI,
	tlsutil.RoleServer:       AllowServer,
	tlsutil.RoleRemoteServer: AllowRemoteServer,
}

// String names the peer for a log line.
func (p Peer) String() string {
	if p.Local {
		return "this agent"
	}
	how := "plaintext"
	if p.TLS {
		how = "TLS, " + p.Identity.String()
	}
	addr := "unknown address"
	if p.Addr != nil {
		addr = p.Addr.String()
	}
	return fmt.Sprintf("%s (%s; class %s)", addr, how, p.Classes())
}

// addrIP returns the address of a peer, unmapped and without zone; the zero
// Addr if it has none (net.Pipe in tests).
func addrIP(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
