package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"lictor/agent/config"
	"lictor/agent/localrpc"
)

// A kind of listener, which says what serves it.
type listenKind string

const (
	listenRPC      listenKind = "rpc" // the server RPC port
	listenHTTP     listenKind = "http"
	listenHTTPS    listenKind = "https"
	listenLocalRPC listenKind = "local rpc"
)

// listeners are the bound sockets, by kind. All are bound before anything is
// announced to the cluster, so that a port that is taken stops the start and
// not the cluster.
type listeners map[listenKind][]net.Listener

// bind binds everything cfg asks for; on failure nothing stays bound.
func bind(ctx context.Context, cfg *config.Config) (_ listeners, err error) {
	l := listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if cfg.Node.Server {
		addr := netip.AddrPortFrom(cfg.Network.Bind, uint16(cfg.Ports.Server))
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
		if err != nil {
			return nil, fmt.Errorf("ports.server: %w", err)
		}
		l[listenRPC] = append(l[listenRPC], ln)
	}
	sockets := localrpc.SocketOptions{
		User:  cfg.Network.UnixSockets.User,
		Group: cfg.Network.UnixSockets.Group,
		Mode:  cfg.Network.UnixSockets.Mode,
	}
	for _, want := range []struct {
		kind  listenKind
		key   string
		addrs []string
		auth  bool
	}{
		{listenHTTP, "http", cfg.Listeners.HTTP, true},
		{listenHTTPS, "https", cfg.Listeners.HTTPS, true},
		{listenLocalRPC, "rpc", cfg.Listeners.RPC, !cfg.HTTP.RPCAuthKey.Empty()},
	} {
		for _, addr := range want.addrs {
			ln, err := listen(ctx, want.kind, addr, want.auth, sockets)
			if err != nil {
				return nil, fmt.Errorf("addresses.%s, ports.%s: %w", want.key, want.key, err)
			}
			l[want.kind] = append(l[want.kind], ln)
		}
	}
	return l, nil
}

func listen(ctx context.Context, kind listenKind, addr string, auth bool, sockets localrpc.SocketOptions) (net.Listener, error) {
	if kind == listenLocalRPC || strings.HasPrefix(addr, "unix://") {
		return localrpc.Listen(ctx, addr, auth, sockets)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// tellLocalRPC logs where the local RPC listens if it is not where the banner's
// client address says: it stays on loopback when the API does not.
func (a *Agent) tellLocalRPC(cfg *config.Config) {
	for _, ln := range a.listeners[listenLocalRPC] {
		at, err := netip.ParseAddrPort(ln.Addr().String())
		if err != nil || !slices.Contains(cfg.Network.Client, at.Addr()) {
			a.log.Info("the local RPC does not listen on client_addr", "addr", ln.Addr().String())
		}
	}
}

// port is the TCP port of the first listener of a kind, -1 without one, and 0
// for a unix socket.
func (l listeners) port(kind listenKind) int {
	if len(l[kind]) == 0 {
		return -1
	}
	if a, ok := l[kind][0].Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// close closes every listener. Those that a server already closed are no error.
func (l listeners) close() {
	for _, lns := range l {
		for _, ln := range lns {
			if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				continue // nothing is served from it any more: there is no one to tell
			}
		}
	}
}
