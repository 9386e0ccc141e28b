package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-metrics"

	"lictor/tlsutil"
)

// ServerConfig is what a Server needs. Table is required; TLS nil means
// plaintext only.
type ServerConfig struct {
	Table  Table
	TLS    *tlsutil.Configurator
	Limits Limits
	Log    hclog.Logger // nil: no log

	// AddrRole says what the gossip list has at an address; it is asked only
	// about peers without a role of their own, and only where verify_incoming is
	// off. nil: no address counts. It must not block.
	AddrRole func(netip.Addr) tlsutil.Role

	// Raft takes over a connection whose first byte is 1 and whose peer is a
	// server of this datacenter; it must close it in the end and may return at
	// once. nil: such connections are refused.
	Raft func(net.Conn, Peer)
	// Snapshot is the same for first byte 5; it does its own access check by
	// Peer.Classes. nil: refused.
	Snapshot func(net.Conn, Peer)
}

// Stats counts what a server has done and holds.
type Stats struct {
	Conns, Pending, Streams int               // now
	Accepted                uint64            // since start
	Refused                 map[string]uint64 // since start, by reason
}

// Server serves the RPC port. Its methods may be called from any goroutine.
type Server struct {
	cfg ServerConfig
	log hclog.Logger
	lim atomic.Pointer[Limits]
	// say bounds the lines that peers can cause.
	say *logLimit

	mu      sync.Mutex // guards the fields below
	conns   map[*serverConn]struct{}
	perIP   map[netip.Addr]int // connections
	pending int
	streams int
	// streamsOf are the open streams by the peer's address.
	streamsOf map[netip.Addr]int
	stats     Stats
}

// NewServer checks cfg and returns a server that does not listen yet.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Table.check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, say: newLogLimit(),
		conns: map[*serverConn]struct{}{}, perIP: map[netip.Addr]int{},
		streamsOf: map[netip.Addr]int{}, stats: Stats{Refused: map[string]uint64{}},
	}
	s.SetLimits(cfg.Limits)
	return s, nil
}

func (s *Server) limits() *Limits { return s.lim.Load() }

// SetLimits replaces the limits; open connections stay even if over a new cap.
func (s *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	s.lim.Store(&l)
}

// Stats returns a copy of the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Conns, st.Pending, st.Streams = len(s.conns), s.pending, s.streams
	st.Refused = map[string]uint64{}
	for k, v := range s.stats.Refused {
		st.Refused[k] = v
	}
	return st
}

// refused counts a refusal and logs it, at most once in a while for each reason
// and peer.
func (s *Server) refused(reason string, peer net.Addr, msg string, args ...any) {
	metrics.IncrCounterWithLabels([]string{"rpc", "refused"}, 1, []metrics.Label{{Name: "reason", Value: reason}})
	s.mu.Lock()
	s.stats.Refused[reason]++
	s.mu.Unlock()
	if s.say.ok(reason, addrIP(peer)) {
		s.log.Warn(msg, append([]any{"from", peer}, args...)...)
	}
}

// acceptPause is the wait after a failed accept: out of descriptors, say.
const acceptPause = 100 * time.Millisecond

// Serve accepts on ln until ctx ends. It closes ln and every connection, and
// returns only once every handler it started has returned. The error is nil if
// ctx ended it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var handlers sync.WaitGroup
	defer func() {
		ln.Close()
		cancel() // every connection ends with it
		handlers.Wait()
	}()
	for {
		raw, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("rpc: listener %s closed under us: %w", ln.Addr(), err)
		case err != nil:
			if s.say.ok("accept", netip.Addr{}) {
				s.log.Error("accept failed, will try again", "addr", ln.Addr(), "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		default:
			sc, reason := s.admit(raw)
			if sc == nil {
				raw.Close()
				s.refused(reason, raw.RemoteAddr(), "connection refused", "reason", reason)
				continue
			}
			handlers.Go(func() { s.handle(ctx, sc) })
		}
	}
}

// Reasons for not admitting a connection. Each names the setting, where there
// is one.
const (
	overPerClient = "too many connections from this address (limits.rpc_max_conns_per_client)"
	overTotal     = "too many connections"
	overPending   = "too many connections that have not sent a request yet"
)

// admit counts a connection in, or says why not.
func (s *Server) admit(raw net.Conn) (*serverConn, string) {
	l, ip := s.limits(), addrIP(raw.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.MaxConnsPerClient > 0 && s.perIP[ip] >= l.MaxConnsPerClient:
		return nil, overPerClient
	case len(s.conns) >= l.MaxConns:
		return nil, overTotal
	case s.pending >= l.MaxPending:
		return nil, overPending
	}
	sc := &serverConn{s: s, raw: raw, ip: ip, isPending: true}
	s.perIP[ip]++
	s.pending++
	s.stats.Accepted++
	s.conns[sc] = struct{}{}
	metrics.IncrCounter([]string{"rpc", "accept_conn"}, 1)
	return sc, ""
}

func (s *Server) forget(sc *serverConn) {
	sc.raw.Close()
	sc.known()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[sc]; !ok {
		return
	}
	delete(s.conns, sc)
	if s.perIP[sc.ip]--; s.perIP[sc.ip] == 0 {
		delete(s.perIP, sc.ip)
	}
}

// Recheck asks of every open connection whether today's TLS settings would
// accept it, and who its peer is now. Refused ones are told to go away, calls
// in flight may finish within Limits.DrainTimeout, then they are closed. It
// does not wait for that.
func (s *Server) Recheck() {
	if s.cfg.TLS == nil {
		return
	}
	s.mu.Lock()
	conns := make([]*serverConn, 0, len(s.conns))
	for sc := range s.conns {
		conns = append(conns, sc)
	}
	s.mu.Unlock()
	for _, sc := range conns {
		if !sc.established() {
			continue // its handshake is judged by the settings it ends under
		}
		if err := s.cfg.TLS.Recheck(sc.tlsState(), true, ""); err != nil {
			s.log.Info("closing a connection that the new settings refuse", "from", sc.raw.RemoteAddr(), "reason", tlsutil.Explain(err, time.Now()))
			sc.drain(s.limits().DrainTimeout)
			continue
		}
		sc.identify()
	}
}

// handle serves one connection to its end.
func (s *Server) handle(ctx context.Context, sc *serverConn) {
	defer s.forget(sc)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { sc.raw.Close() })
	defer stop()

	// One deadline for the first byte, the handshake, the inner byte and the
	// first request header together: it is not moved until known().
	sc.raw.SetDeadline(time.Now().Add(s.limits().HandshakeTimeout))
	conn, kind, err := s.open(sc)
	if err != nil {
		s.handshakeFailed(sc, err)
		linger(sc.raw)
		return
	}
	sc.establish(conn)
	// The settings may have changed while the handshake ran.
	if s.cfg.TLS != nil {
		if err := s.cfg.TLS.Recheck(sc.tlsState(), true, ""); err != nil {
			s.handshakeFailed(sc, err)
			return
		}
	}
	switch kind {
	case ByteRPC:
		c := &conversation{s: s, of: sc, conn: conn, w: getWire(conn), single: true}
		err = c.serve(ctx)
		c.w.release()
	case ByteMux:
		err = s.serveSession(ctx, sc, conn)
	case ByteRaft, ByteSnapshot:
		s.handOver(sc, conn, kind, stop)
		return
	}
	s.ended(sc, err)
}

// How long, and for how many bytes, a refused connection is read to its end.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// linger reads what a refused peer still sends. Closing a socket with unread
// bytes resets it, and a reset can overtake the TLS alert that tells the peer why
// it was refused.
func linger(raw net.Conn) {
	c, ok := raw.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	raw.SetDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, raw, lingerBytes)
}

// Errors of the opening, whose text is what the log says.
var (
	errNotTLS    = errors.New("Non-TLS connection attempted with VerifyIncoming set")
	errNested    = errors.New("TLS inside TLS")
	errNoRequest = errors.New("the connection ended before its first complete request")
)

// open reads the first byte, does the TLS handshake where it asks for one, and
// returns the connection to go on with and what it is for.
func (s *Server) open(sc *serverConn) (net.Conn, byte, error) {
	kind, err := firstByte(sc.raw)
	if err != nil {
		return nil, 0, err
	}
	if kind != ByteTLS {
		if s.cfg.TLS != nil && s.cfg.TLS.RPC().VerifyIncoming {
			return nil, 0, errNotTLS
		}
		return sc.raw, kind, known(kind)
	}
	if s.cfg.TLS == nil {
		return nil, 0, tlsutil.ErrNoCertificate
	}
	conf, err := s.cfg.TLS.IncomingRPC()
	if err != nil {
		return nil, 0, err
	}
	conn := serverTLS(sc.raw, conf)
	if err := conn.Handshake(); err != nil {
		return nil, 0, fmt.Errorf("TLS handshake: %w", err)
	}
	if kind, err = firstByte(conn); err != nil {
		return nil, 0, err
	}
	if kind == ByteTLS {
		return nil, 0, errNested
	}
	return conn, kind, known(kind)
}

func firstByte(c net.Conn) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return b[0], err
}

func known(kind byte) error {
	switch kind {
	case ByteRPC, ByteRaft, ByteMux, ByteSnapshot:
		return nil
	}
	return fmt.Errorf("first byte %d is no protocol of this port", kind)
}

func (s *Server) handshakeFailed(sc *serverConn, err error) {
	peer := sc.raw.RemoteAddr()
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		s.log.Trace("connection closed before it said anything", "from", peer)
	case errors.Is(err, errNotTLS):
		s.refused("plaintext", peer, errNotTLS.Error(), "fix", "set verify_outgoing = true on the peer, or verify_incoming = false here while the cluster is being changed")
	case errors.As(err, &timeout) && timeout.Timeout():
		s.refused("timeout", peer, "connection closed", "reason", "no complete request within limits.rpc_handshake_timeout")
	default:
		s.refused("handshake", peer, "connection refused", "reason", tlsutil.Explain(err, time.Now()))
	}
}

// ended says why a connection or a stream ended, where that was no plain end.
func (s *Server) ended(sc *serverConn, err error) {
	peer := sc.raw.RemoteAddr()
	var timeout net.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errRefused), errors.Is(err, net.ErrClosed):
	case sc.pending():
		s.handshakeFailed(sc, fmt.Errorf("%w: %w", errNoRequest, err))
	case errors.Is(err, errTooLarge), errors.Is(err, errTooDeep), errors.Is(err, errTooMany), errors.Is(err, errMalformed):
		s.refused("malformed", peer, "connection closed", "reason", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		s.log.Debug("idle connection closed", "from", peer)
	default:
		s.log.Debug("connection ended", "from", peer, "error", clip(err.Error(), 256))
	}
}

// handOver gives a connection to the owner of another protocol.
func (s *Server) handOver(sc *serverConn, conn net.Conn, kind byte, unwatch func() bool) {
	peer := sc.peer()
	take, name := s.cfg.Raft, "Raft"
	if kind == ByteSnapshot {
		take, name = s.cfg.Snapshot, "snapshot"
	}
	switch {
	case take == nil:
		s.refused("protocol", peer.Addr, "connection refused", "reason", name+" is not served on this port")
	case kind == ByteRaft && peer.Classes()&AllowServer == 0:
		s.refused("access", peer.Addr, "connection refused", "reason", "Raft is for servers of this datacenter", "peer", peer.String())
	default:
		sc.known()
		unwatch()
		taken := make(chan struct{})
		take(&handedConn{Conn: conn, done: sync.OnceFunc(func() { close(taken) })}, peer)
		<-taken
	}
}

// handedConn tells when its new owner has closed it.
type handedConn struct {
	net.Conn
	done func()
}

func (c *handedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
