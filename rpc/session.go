package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"lictor/tlsutil"
)

// prefixConn sends some bytes together with the first write: a protocol byte
// needs no packet, and no TLS record, of its own.
type prefixConn struct {
	net.Conn
	prefix []byte // nil once sent; only the first writer touches it
}

func (c *prefixConn) Write(p []byte) (int, error) {
	if c.prefix == nil {
		return c.Conn.Write(p)
	}
	b := append(c.prefix, p...)
	n, err := c.Conn.Write(b)
	n -= len(b) - len(p)
	c.prefix = nil
	return max(n, 0), err
}

// CloseWrite says that nothing more is sent: over TLS with its own alert.
func (c *prefixConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// watchedConn remembers why reading ended: yamux tells its streams only that it
// did.
type watchedConn struct {
	net.Conn
	failed atomic.Pointer[error]
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// outgoing is the TLS that the settings ask for towards t; nil is plaintext.
func (p *Pool) outgoing(t Target) (*tls.Config, error) {
	if p.cfg.TLS == nil {
		return nil, nil
	}
	return p.cfg.TLS.OutgoingRPC(t.Datacenter)
}

// dial opens a connection to t, through TLS unless conf is nil, and with
// protocol as its (inner) first byte, which goes out with the first write.
func (p *Pool) dial(ctx context.Context, t Target, protocol byte, conf *tls.Config) (net.Conn, *tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	d := net.Dialer{}
	if p.cfg.LocalAddr.IsValid() {
		if to, err := netip.ParseAddrPort(t.Addr); err == nil && to.Addr().Is4() == p.cfg.LocalAddr.Is4() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.cfg.LocalAddr, 0))
		}
	}
	raw, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, nil, err
	}
	if conf == nil {
		return &prefixConn{Conn: raw, prefix: []byte{protocol}}, nil, nil
	}
	conn := tls.Client(&prefixConn{Conn: raw, prefix: []byte{ByteTLS}}, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return &prefixConn{Conn: conn, prefix: []byte{protocol}}, conn, nil
}

// session is one yamux session to one server. Streams that are idle are used
// again.
type session struct {
	target   Target
	conn     *watchedConn
	tls      *tls.Conn // nil: plaintext
	settings tlsutil.Settings
	mux      *yamux.Session

	mu       sync.Mutex // guards the fields below
	idle     []*callStream
	active   int
	lastUsed time.Time
	answered bool // something has come back over it: both ends accept each other
	retired  bool // no new call; it is closed when active falls to 0
	limited  bool // and at the latest when its grace is over
}

// callStream is one stream of a session with what a conversation over it needs.
type callStream struct {
	*yamux.Stream
	w   *wireState
	seq uint64
}

// maxIdleStreams is how many streams of a session are kept (wire.md, 1.4).
const maxIdleStreams = 64

// errRetired: the session takes no new calls; another one will.
var errRetired = errors.New("rpc: session retired")

// stream returns a stream for one call. It counts as active until put or drop.
func (s *session) stream() (*callStream, error) {
	for {
		s.mu.Lock()
		if s.retired || s.mux.IsClosed() {
			s.mu.Unlock()
			return nil, errRetired
		}
		s.active++
		var cs *callStream
		if n := len(s.idle); n > 0 {
			cs = s.idle[n-1]
			s.idle = s.idle[:n-1]
		}
		s.mu.Unlock()
		if cs == nil {
			st, err := s.mux.OpenStream()
			if err != nil {
				s.done()
				return nil, fmt.Errorf("%w: %w", errRetired, err)
			}
			return &callStream{Stream: st, w: getWire(st)}, nil
		}
		if cs.usable() {
			return cs, nil
		}
		s.drop(cs)
	}
}

// past is a deadline that has gone by: a read under it takes what is there.
var past = time.Unix(1, 0)

// usable says whether an idle stream can carry another call: the server has not
// ended it, and nothing is waiting in it that nobody asked for.
func (cs *callStream) usable() bool {
	if cs.w.br.Buffered() > 0 {
		return false
	}
	var b [1]byte
	cs.SetReadDeadline(past)
	n, err := cs.Stream.Read(b[:])
	var timeout net.Error
	return n == 0 && errors.As(err, &timeout) && timeout.Timeout()
}

// put gives a stream back after a call that ended in order.
func (s *session) put(cs *callStream) {
	cs.w.trim()
	s.mu.Lock()
	s.answered = true
	s.lastUsed = time.Now()
	keep := !s.retired && len(s.idle) < maxIdleStreams
	if keep {
		s.idle = append(s.idle, cs)
	}
	s.mu.Unlock()
	if !keep {
		cs.close()
	}
	s.done()
}

// drop ends a stream after a call that did not end in order.
func (s *session) drop(cs *callStream) {
	cs.close()
	s.done()
}

func (cs *callStream) close() {
	cs.Stream.Close()
	cs.w.release()
}

func (s *session) done() {
	s.mu.Lock()
	s.active--
	last := s.retired && s.active == 0
	s.mu.Unlock()
	if last {
		s.close()
	}
}

// tlsState is nil for plaintext.
func (s *session) tlsState() *tls.ConnectionState {
	if s.tls == nil {
		return nil
	}
	cs := s.tls.ConnectionState()
	return &cs
}

// noLimit is the grace of a session that is given up for a better one only.
const noLimit = -1

// retire lets calls in flight finish, then closes the session; a call that
// takes longer than the grace is cut off.
func (s *session) retire(grace time.Duration) {
	s.mu.Lock()
	s.retired = true
	limit := grace != noLimit && !s.limited
	s.limited = s.limited || limit
	idle := s.idle
	s.idle = nil
	last := s.active == 0
	s.mu.Unlock()
	for _, cs := range idle {
		cs.close()
	}
	switch {
	case last:
		s.close()
	case limit:
		time.AfterFunc(grace, s.close)
	}
}

func (s *session) close() {
	s.mux.Close()
	s.conn.Close()
}

// why is the reason for the end of the session's connection, as far as it is
// known; refused says that the server would not have it at all, so that no call
// over it can have run.
func (s *session) why(err error) (reason error, refused bool) {
	s.mu.Lock()
	answered := s.answered
	s.mu.Unlock()
	cause := s.conn.failed.Load()
	if cause == nil {
		return err, false
	}
	var alert *net.OpError
	if s.tls != nil && errors.As(*cause, &alert) && alert.Op == "remote error" {
		return errors.New(tlsutil.Explain(*cause, time.Now())), !answered
	}
	if !answered && (errors.Is(*cause, io.EOF) || s.mux.IsClosed()) {
		hint := "the server closed the connection without an answer: its log says why"
		if s.tls == nil {
			hint += " (this connection is plaintext: the server may have verify_incoming on, and verify_outgoing is off here)"
		}
		return fmt.Errorf("%s: %w", hint, *cause), false
	}
	return *cause, false
}
