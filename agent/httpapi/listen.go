package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"lictor/tlsutil"
)

// connLimit counts open connections by client address.
type connLimit struct {
	mu        sync.Mutex // guards the fields below
	perClient int        // 0 or less: no limit
	total     int
	open      map[netip.Addr]int
	all       int
}

func newConnLimit(perClient, total int) *connLimit {
	return &connLimit{perClient: perClient, total: total, open: map[netip.Addr]int{}}
}

func (l *connLimit) setPerClient(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perClient = n
}

// admit counts a connection in and returns how to count it out; ok is false
// where it is one too many.
func (l *connLimit) admit(addr netip.Addr) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.total || addr.IsValid() && l.perClient > 0 && l.open[addr] >= l.perClient {
		return nil, false
	}
	l.all++
	l.open[addr]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.open[addr]--; l.open[addr] == 0 {
			delete(l.open, addr)
		}
	}), true
}

// limitListener hands out connections within the limits. One over them gets a
// 429 and is closed. On the HTTPS port the handshake runs on a goroutine of its
// own, with a deadline: a silent client holds up nobody.
type limitListener struct {
	net.Listener
	api    *API
	secure bool
	wrap   func(net.Conn) (net.Conn, error)

	once    sync.Once
	ready   chan accepted
	quit    chan struct{}
	pending sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: 98\r\n\r\n" +
	"Too many connections from this address: the limit is limits.http_max_conns_per_client on the agent"

func (l *limitListener) Accept() (net.Conn, error) {
	l.once.Do(func() {
		l.ready, l.quit = make(chan accepted), make(chan struct{})
		l.pending.Go(l.accept)
	})
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.quit:
		return nil, net.ErrClosed
	}
}

func (l *limitListener) stop() {
	l.once.Do(func() { l.quit = make(chan struct{}) })
	l.Listener.Close()
	close(l.quit)
	l.pending.Wait()
}

func (l *limitListener) give(a accepted) {
	select {
	case l.ready <- a:
	case <-l.quit:
		if a.conn != nil {
			a.conn.Close()
		}
	}
}

func (l *limitListener) accept() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.give(accepted{err: err})
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors, say: net/http waits as well
			case <-l.quit:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		done, ok := l.api.conns.admit(addrOf(c.RemoteAddr()))
		if !ok {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			if !l.secure {
				c.Write([]byte(tooMany))
			}
			c.Close()
			continue
		}
		c = &countedConn{Conn: c, done: done}
		if l.wrap == nil {
			l.give(accepted{conn: c})
			continue
		}
		l.pending.Go(func() {
			stop := context.AfterFunc(quitContext(l.quit), func() { c.Close() })
			t, err := l.wrap(c)
			stop()
			if err != nil {
				c.Close()
				return
			}
			l.give(accepted{conn: t})
		})
	}
}

// quitContext is a context that a channel ends.
func quitContext(quit <-chan struct{}) context.Context {
	return chanContext{context.Background(), quit}
}

type chanContext struct {
	context.Context
	done <-chan struct{}
}

func (c chanContext) Done() <-chan struct{} { return c.done }
func (c chanContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func addrOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{} // a unix socket
	}
	return ap.Addr().Unmap().WithZone("")
}

type countedConn struct {
	net.Conn
	done func()
}

func (c *countedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// secureConn is one HTTPS connection as Recheck sees it.
type secureConn struct {
	idle    bool
	refused bool
}

// plainAnswer is what a client that speaks HTTP to the HTTPS port reads.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// startTLS does the handshake within its deadline. The connection it returns is
// known to Recheck until it closes.
func (a *API) startTLS(c net.Conn) (net.Conn, error) {
	conf, err := a.cfg.TLS.IncomingHTTPS()
	if err != nil {
		return nil, err
	}
	t := tls.Server(c, conf)
	c.SetDeadline(time.Now().Add(orDefault(a.cfg.HandshakeTimeout, defaultHandsake)))
	if err := t.Handshake(); err != nil {
		var header tls.RecordHeaderError
		if errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader) {
			c.Write([]byte(plainAnswer))
		}
		a.log.Debug("HTTPS handshake failed", "peer", c.RemoteAddr(), "reason", tlsutil.Explain(err, time.Now()))
		return nil, err
	}
	c.SetDeadline(time.Time{})
	a.mu.Lock()
	a.secure[t] = &secureConn{}
	a.mu.Unlock()
	// The settings may have changed while the handshake ran: from here on
	// Recheck sees the connection, and this sees what came before.
	cs := t.ConnectionState()
	if err := a.cfg.TLS.RecheckHTTPS(&cs); err != nil {
		a.mu.Lock()
		delete(a.secure, t)
		a.mu.Unlock()
		a.log.Debug("HTTPS connection refused", "peer", c.RemoteAddr(), "reason", tlsutil.Explain(err, time.Now()))
		return nil, err
	}
	return t, nil
}

func looksLikeHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

type connKey struct{}

// connContext lets a handler find its connection.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func (a *API) connState(c net.Conn, s http.ConnState) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return
	}
	a.mu.Lock()
	sc := a.secure[t]
	if sc == nil {
		a.mu.Unlock()
		return
	}
	sc.idle = s == http.StateIdle || s == http.StateNew
	refused := sc.refused && sc.idle
	if s == http.StateClosed || s == http.StateHijacked {
		delete(a.secure, t)
	}
	a.mu.Unlock()
	if refused {
		t.Close()
	}
}

// Recheck closes the HTTPS connections that the TLS settings in force now would
// refuse: idle ones at once, others after the answer they are giving, at the
// latest after DrainTimeout: a monitor's answer has no end, and over HTTP/2 a
// client can always have one under way.
func (a *API) Recheck() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for t, sc := range a.secure {
		cs := t.ConnectionState()
		if err := a.cfg.TLS.RecheckHTTPS(&cs); err != nil {
			first := !sc.refused
			sc.refused = true
			switch {
			case !sc.idle && first:
				time.AfterFunc(a.cfg.DrainTimeout, func() { t.Close() })
			case sc.idle:
				go t.Close() // may wait for a peer that does not read; bounded by crypto/tls
			}
		}
	}
}
