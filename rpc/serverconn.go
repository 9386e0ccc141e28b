package rpc

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/yamux"

	"lictor/tlsutil"
)

func serverTLS(raw net.Conn, conf *tls.Config) *tls.Conn { return tls.Server(raw, conf) }

// serverConn is one accepted connection.
type serverConn struct {
	s   *Server
	raw net.Conn
	ip  netip.Addr

	draining atomic.Bool
	who      atomic.Pointer[Peer]

	mu        sync.Mutex // guards the fields below
	isPending bool
	conn      net.Conn // raw, or TLS over it; nil until the opening is done
	session   *yamux.Session
	active    int           // calls in flight
	idle      chan struct{} // closed when active falls to 0 while draining; nil else
}

// establish ends the opening.
func (sc *serverConn) establish(conn net.Conn) {
	sc.mu.Lock()
	sc.conn = conn
	sc.mu.Unlock()
	sc.identify()
}

func (sc *serverConn) established() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.conn != nil
}

// tlsState is nil for plaintext.
func (sc *serverConn) tlsState() *tls.ConnectionState {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	t, ok := sc.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	cs := t.ConnectionState()
	return &cs
}

// identify decides who the peer is under the settings in force now.
func (sc *serverConn) identify() {
	p := &Peer{Addr: sc.raw.RemoteAddr()}
	if cs := sc.tlsState(); cs != nil {
		p.TLS = true
		p.Identity = sc.s.cfg.TLS.Identify(cs)
	}
	sc.who.Store(p)
}

// peer is who the peer is now. Where nobody is identified its address is looked
// up anew each time: members come and go.
func (sc *serverConn) peer() Peer {
	p := *sc.who.Load()
	verify := sc.s.cfg.TLS != nil && sc.s.cfg.TLS.RPC().VerifyIncoming
	if p.Identity.Role == tlsutil.RoleNone && !verify && sc.s.cfg.AddrRole != nil {
		p.AddrRole = sc.s.cfg.AddrRole(sc.ip)
	}
	return p
}

func (sc *serverConn) pending() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.isPending
}

// known ends the peer's time of being a stranger: its deadline is lifted and its
// place among the pending is free.
func (sc *serverConn) known() {
	sc.mu.Lock()
	was := sc.isPending
	sc.isPending = false
	sc.mu.Unlock()
	if !was {
		return
	}
	sc.raw.SetDeadline(time.Time{})
	sc.s.mu.Lock()
	sc.s.pending--
	sc.s.mu.Unlock()
}

// begin counts a call in, and end counts it out: a connection that drains waits
// for them.
func (sc *serverConn) begin() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.active++
}

func (sc *serverConn) end() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.active--
	if sc.active == 0 && sc.idle != nil {
		close(sc.idle)
		sc.idle = nil
	}
}

// drainPause is how long a connection that has become idle stays open for
// requests that were already on their way.
const drainPause = 250 * time.Millisecond

// drain ends the connection once the calls on it have ended, at the latest
// after the timeout. It does not wait.
func (sc *serverConn) drain(timeout time.Duration) {
	if sc.draining.Swap(true) {
		return
	}
	sc.mu.Lock()
	session := sc.session
	sc.mu.Unlock()
	if session != nil {
		session.GoAway() // the session may have ended by itself
	}
	go func() {
		defer sc.raw.Close()
		for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
			sc.mu.Lock()
			var idle chan struct{}
			if sc.active > 0 {
				if sc.idle == nil {
					sc.idle = make(chan struct{})
				}
				idle = sc.idle
			}
			sc.mu.Unlock()
			if idle == nil {
				time.Sleep(drainPause)
				sc.mu.Lock()
				still := sc.active == 0
				sc.mu.Unlock()
				if still {
					return
				}
				continue
			}
			select {
			case <-idle:
			case <-time.After(time.Until(deadline)):
			}
		}
	}()
}

// muxConfig is yamux as the family has it (wire.md, 1.4), with its log at debug:
// what matters is logged here.
func muxConfig(log hclog.Logger, writeTimeout time.Duration) *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = nil
	c.Logger = log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug})
	c.ConnectionWriteTimeout = writeTimeout
	return c
}

// serveSession serves the streams of a session. The accept loop never reads
// from a stream: one that stays silent holds up nobody.
func (s *Server) serveSession(ctx context.Context, sc *serverConn, conn net.Conn) error {
	l := s.limits()
	session, err := yamux.Server(&frameConn{Conn: conn}, muxConfig(s.log, l.WriteTimeout))
	if err != nil {
		return err
	}
	defer session.Close()
	sc.mu.Lock()
	sc.session = session
	sc.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var streams sync.WaitGroup
	defer func() {
		session.Close()
		cancel()
		streams.Wait()
	}()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			if err == io.EOF && sc.pending() {
				return errNoRequest
			}
			return err
		}
		if !s.openStream(sc, session, l) {
			stream.Close()
			s.refused("streams", sc.raw.RemoteAddr(), "stream refused", "reason", "too many open streams")
			continue
		}
		streams.Go(func() {
			defer s.closeStream(sc)
			defer stream.Close()
			c := &conversation{s: s, of: sc, conn: stream, w: getWire(stream)}
			err := c.serve(ctx)
			c.w.release()
			if malformed(err) {
				s.ended(sc, err)
				session.Close() // who sends this once sends it again
			}
		})
	}
}

func (s *Server) openStream(sc *serverConn, session *yamux.Session, l *Limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session.NumStreams() > l.MaxStreams || s.streamsOf[sc.ip] >= l.MaxStreamsPerClient || s.streams >= l.MaxTotalStreams {
		return false
	}
	s.streams++
	s.streamsOf[sc.ip]++
	return true
}

func (s *Server) closeStream(sc *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	if s.streamsOf[sc.ip]--; s.streamsOf[sc.ip] == 0 {
		delete(s.streamsOf, sc.ip)
	}
}
