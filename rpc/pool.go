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

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/yamux"

	"lictor/tlsutil"
)

// Target is one server.
type Target struct {
	Addr       string // ip:port of its RPC port
	Datacenter string
	Name       string // node name, for log lines and errors
}

// PoolConfig is what a Pool needs; zero durations and sizes take the defaults.
type PoolConfig struct {
	TLS         *tlsutil.Configurator // nil: plaintext
	Log         hclog.Logger          // nil: no log
	LocalAddr   netip.Addr            // source address of connections; zero = any
	DialTimeout time.Duration         // TCP and TLS together; 10s
	CallTimeout time.Duration         // limits.rpc_client_timeout, for a ctx without deadline; 60s
	IdleTimeout time.Duration         // a session unused for this long is closed; 2m
	DrainGrace  time.Duration         // calls in flight on a session that is given up; 10s
	ReplyBytes  int                   // largest reply body; 64 MiB
}

// Pool keeps one session for each server address and sends calls over it. Its
// methods may be called from any goroutine.
type Pool struct {
	cfg         PoolConfig
	log         hclog.Logger
	say         *logLimit
	callTimeout atomic.Int64
	base        context.Context // ends with the pool: diallings do with it
	cancel      context.CancelFunc
	reaper      sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sessions map[string]*entry
	closed   bool
}

// entry is a session, or the dialling of one that everybody waits for.
type entry struct {
	ready chan struct{} // closed when s or err is set
	s     *session
	err   error
}

// NewPool returns a pool. The caller closes it.
func NewPool(cfg PoolConfig) *Pool {
	setDefault(&cfg.DialTimeout, 10*time.Second)
	setDefault(&cfg.CallTimeout, time.Minute)
	setDefault(&cfg.IdleTimeout, 2*time.Minute)
	setDefault(&cfg.DrainGrace, 10*time.Second)
	setDefault(&cfg.ReplyBytes, 64<<20)
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	p := &Pool{cfg: cfg, log: cfg.Log, say: newLogLimit(), sessions: map[string]*entry{}}
	p.base, p.cancel = context.WithCancel(context.Background())
	p.SetCallTimeout(cfg.CallTimeout)
	p.reaper.Go(p.reap)
	return p
}

// SetCallTimeout replaces PoolConfig.CallTimeout.
func (p *Pool) SetCallTimeout(d time.Duration) {
	setDefault(&d, time.Minute)
	p.callTimeout.Store(int64(d))
}

// notSent is an error of a call that never reached a server's handler.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// NotSent reports whether err says that no server has seen the call, so that it
// may be sent elsewhere.
func NotSent(err error) bool { return errors.As(err, &notSent{}) }

// session returns the open session to t, or opens one. Callers of the same
// target wait for one dialling together.
func (p *Pool) session(ctx context.Context, t Target) (*session, error) {
	key := t.Datacenter + "/" + t.Addr
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	e := p.sessions[key]
	if e != nil {
		select {
		case <-e.ready:
			if e.err == nil && !e.s.over() {
				p.mu.Unlock()
				return e.s, nil
			}
			e = nil
		default: // being dialled
		}
	}
	if e == nil {
		e = &entry{ready: make(chan struct{})}
		p.sessions[key] = e
		go p.open(e, key, t)
	}
	p.mu.Unlock()
	select {
	case <-e.ready:
		return e.s, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired || s.mux.IsClosed()
}

// open dials for everybody who waits on e: the first caller's ctx does not
// decide for the others.
func (p *Pool) open(e *entry, key string, t Target) {
	defer close(e.ready)
	var err error
	e.s, err = p.connect(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		e.err = p.explain(t, err)
		if p.sessions[key] == e {
			delete(p.sessions, key)
		}
		return
	}
	if p.closed || p.sessions[key] != e { // closed, or rechecked, while we dialled
		e.s.retire(p.cfg.DrainGrace)
		e.s, e.err = nil, ErrClosed
		if !p.closed {
			e.err = errRetired
		}
	}
}

// connect dials t as the settings say and starts a session.
//
// Where they say plaintext (verify_outgoing is off) and the server refuses it,
// it is dialled again with TLS, if there is a certificate to show and a CA to
// verify with: in a cluster on its way to TLS, servers require it before all
// their callers have been told to. A ping finds that out before the first call,
// which might not be one that can be sent twice. It never goes the other way.
func (p *Pool) connect(t Target) (*session, error) {
	conf, err := p.outgoing(t)
	if err != nil {
		return nil, err
	}
	s, err := p.start(t, conf)
	if err != nil || conf != nil || p.cfg.TLS == nil {
		return s, err
	}
	if conf = p.cfg.TLS.FallbackRPC(); conf == nil {
		return s, nil
	}
	stop := context.AfterFunc(p.base, s.close) // ends the ping
	_, err = s.mux.Ping()
	stop()
	if err == nil {
		return s, nil
	}
	refusal, _ := s.why(err)
	s.close()
	if s, err = p.start(t, conf); err != nil {
		return nil, fmt.Errorf("%w; and with TLS: %w", refusal, err)
	}
	if p.say.ok("fallback", parseIP(t.Addr)) {
		p.log.Info("this server refuses plaintext: calls to it go over TLS, although verify_outgoing is off", "server", t.Name, "addr", t.Addr)
	}
	return s, nil
}

// start dials t and starts a session on the connection.
func (p *Pool) start(t Target, conf *tls.Config) (*session, error) {
	var settings tlsutil.Settings
	if p.cfg.TLS != nil {
		settings = p.cfg.TLS.RPC() // before dialling: it may be under newer ones, never under older
	}
	conn, tlsConn, err := p.dial(p.base, t, ByteMux, conf)
	if err != nil {
		return nil, err
	}
	s := &session{target: t, conn: &watchedConn{Conn: conn}, tls: tlsConn, settings: settings, lastUsed: time.Now()}
	if s.mux, err = yamux.Client(&frameConn{Conn: s.conn}, muxConfig(p.log, 10*time.Second)); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// explain logs why a server could not be reached, and makes the error that the
// caller gets.
func (p *Pool) explain(t Target, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		reason := tlsutil.Explain(err, time.Now())
		if p.say.ok("dial", parseIP(t.Addr)) {
			p.log.Warn("could not open an RPC connection", "server", t.Name, "addr", t.Addr, "reason", reason)
		}
		return fmt.Errorf("rpc: %s (%s): %s", t.Name, t.Addr, reason)
	}
	return fmt.Errorf("rpc: %s (%s): %w", t.Name, t.Addr, err)
}

func parseIP(addr string) netip.Addr {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// maxSessions is how many sessions one call tries: they may be retired under it
// by a reload, and a server that hangs up on each must not be dialled in a loop.
const maxSessions = 4

// errHangsUp: no session lasted long enough for a stream.
var errHangsUp = errors.New("the server closes connections as soon as they are open: its log says why")

// acquire returns a stream to t for one call, and its session.
func (p *Pool) acquire(ctx context.Context, t Target) (*session, *callStream, error) {
	why := errHangsUp
	for tried := 1; ; tried++ {
		s, err := p.session(ctx, t)
		if err == nil {
			var cs *callStream
			if cs, err = s.stream(); err == nil {
				return s, cs, nil
			}
			if errors.Is(err, errRetired) {
				s.retire(p.cfg.DrainGrace) // and a new one is dialled
				why, _ = s.why(errHangsUp)
			}
		}
		if !errors.Is(err, errRetired) {
			return nil, nil, err
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if tried == maxSessions {
			p.lost(t, why)
			return nil, nil, fmt.Errorf("rpc: %s (%s): %w", t.Name, t.Addr, why)
		}
	}
}

// maxResponseHeader bounds the header of a response, error text included.
const maxResponseHeader = 64 << 10

// Call calls method on t and decodes the answer into reply (nil: discarded). It
// blocks until the answer, the deadline of ctx (or CallTimeout without one), or
// the loss of the connection. An error of type RemoteError is the handler's; any
// other means the call may or may not have run, unless NotSent says it did not.
func (p *Pool) Call(ctx context.Context, t Target, method string, args, reply any) error {
	s, cs, err := p.acquire(ctx, t)
	if err != nil {
		return notSent{err}
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Duration(p.callTimeout.Load()))
	}
	cs.SetDeadline(deadline)
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { cs.SetDeadline(past) })
	}
	err = p.exchange(cs, method, args, func(body []byte) error {
		if reply == nil {
			return nil
		}
		return cs.w.decode(body, reply)
	})
	// Where ctx ended as the answer came, its function may still be about to set
	// the deadline: the stream must not carry somebody else's call then.
	ours := stop()
	var remote RemoteError
	switch {
	case ours && (err == nil || errors.As(err, &remote) && !ends(remote)):
		s.put(cs)
		return err
	case err == nil:
		s.end(cs)
		return nil
	case errors.As(err, &remote):
		s.end(cs)
		return err
	}
	return p.failed(ctx, s, cs, method, err)
}

// ends says whether a server closes the conversation after this error.
func ends(e RemoteError) bool { return len(e) > 15 && e[:15] == "rpc: can't find" }

// end notes that the server has answered, and ends the stream.
func (s *session) end(cs *callStream) {
	s.mu.Lock()
	s.answered = true
	s.mu.Unlock()
	s.drop(cs)
}

// exchange sends one request and reads its answer.
func (p *Pool) exchange(cs *callStream, method string, args any, take func(body []byte) error) error {
	if err := cs.send(method, args); err != nil {
		return err
	}
	if err := cs.header(); err != nil {
		return err
	}
	cs.w.sc.reset(p.cfg.ReplyBytes, maxReplyElements)
	var err error
	if cs.w.body, err = readObject(cs.w.br, cs.w.body[:0], &cs.w.sc, nil); err != nil {
		return unexpected(err)
	}
	if cs.w.remote != "" {
		return RemoteError(cs.w.remote)
	}
	return take(cs.w.body)
}

// send writes a request, header and body in one write.
func (cs *callStream) send(method string, args any) error {
	cs.seq++
	cs.w.out.b = appendRequestHeader(cs.w.out.b[:0], method, cs.seq)
	if err := cs.w.encode(args); err != nil {
		return notSent{err}
	}
	_, err := cs.Stream.Write(cs.w.out.b)
	return err
}

// header reads a response header; its error text is kept in w.remote.
func (cs *callStream) header() error {
	cs.w.remote = ""
	cs.w.sc.reset(maxResponseHeader, maxElements)
	b, err := readObject(cs.w.br, cs.w.head[:0], &cs.w.sc, nil)
	cs.w.head = b
	if err != nil {
		return err
	}
	h, err := parseHeader(b)
	if err != nil {
		return err
	}
	if h.seq != cs.seq {
		return fmt.Errorf("%w: an answer to request %d came for request %d", errMalformed, h.seq, cs.seq)
	}
	cs.w.remote = string(h.err)
	return nil
}

// failed ends a stream whose call broke, and says why it did.
func (p *Pool) failed(ctx context.Context, s *session, cs *callStream, method string, err error) error {
	var timeout net.Error
	timedOut := errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, yamux.ErrTimeout)
	if errors.Is(err, yamux.ErrConnectionWriteTimeout) {
		s.close() // yamux itself would leave it open, and its readers waiting
	}
	s.drop(cs)
	t := s.target
	switch {
	case NotSent(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("rpc: %s on %s (%s): %w", method, t.Name, t.Addr, ctx.Err())
	case timedOut:
		return fmt.Errorf("rpc: %s on %s (%s): no answer in time: %w", method, t.Name, t.Addr, err)
	}
	if errors.Is(err, io.EOF) || s.mux.IsClosed() {
		s.retire(p.cfg.DrainGrace)
	}
	reason, refused := s.why(err)
	wrapped := fmt.Errorf("rpc: %s on %s (%s): %w", method, t.Name, t.Addr, reason)
	if s.mux.IsClosed() {
		p.lost(t, reason)
	}
	if refused {
		return notSent{wrapped}
	}
	return wrapped
}

// lost logs why a connection ended.
func (p *Pool) lost(t Target, reason error) {
	if p.say.ok("lost", parseIP(t.Addr)) {
		p.log.Warn("RPC connection lost", "server", t.Name, "addr", t.Addr, "reason", clip(reason.Error(), 512))
	}
}

// Stream is a streaming call. Recv is for one goroutine, Close for any.
type Stream struct {
	p    *Pool
	s    *session
	cs   *callStream
	ctx  context.Context
	stop func() bool
	once sync.Once
	read sync.Mutex // held while Recv uses the buffers that Close gives back
}

// Stream calls a streaming method, waits for its reply header, and returns the
// stream of frames, which the caller closes. ctx ends the stream too.
func (p *Pool) Stream(ctx context.Context, t Target, method string, args any) (*Stream, error) {
	s, cs, err := p.acquire(ctx, t)
	if err != nil {
		return nil, notSent{err}
	}
	cs.SetDeadline(time.Now().Add(time.Duration(p.callTimeout.Load())))
	stop := context.AfterFunc(ctx, func() { cs.Stream.Close(); cs.SetDeadline(past) })
	err = p.exchange(cs, method, args, func([]byte) error { return nil })
	var remote RemoteError
	if errors.As(err, &remote) {
		stop()
		s.end(cs)
		return nil, err
	}
	if err != nil {
		stop()
		return nil, p.failed(ctx, s, cs, method, err)
	}
	if ctx.Err() == nil {
		cs.SetDeadline(time.Time{})
	}
	return &Stream{p: p, s: s, cs: cs, ctx: ctx, stop: stop}, nil
}

// Recv decodes the next frame into v. It blocks until there is one; io.EOF when
// the other end has finished, the ctx's error when that ended it.
func (st *Stream) Recv(v any) error {
	st.read.Lock()
	defer st.read.Unlock()
	if st.cs == nil {
		return ErrClosed
	}
	w := st.cs.w
	w.sc.reset(st.p.cfg.ReplyBytes, maxReplyElements)
	var err error
	if w.body, err = readObject(w.br, w.body[:0], &w.sc, nil); err != nil {
		if st.ctx.Err() != nil {
			return st.ctx.Err()
		}
		return err
	}
	return w.decode(w.body, v)
}

// Close ends the call; a blocked Recv returns. It may be called more than once.
func (st *Stream) Close() error {
	st.once.Do(func() {
		st.stop()
		st.cs.Stream.Close()
		st.cs.SetDeadline(past) // wakes a Recv that waits
		st.read.Lock()
		defer st.read.Unlock()
		st.s.end(st.cs)
		st.cs = nil
	})
	return nil
}

// Dial opens a connection of its own for another protocol of the port (ByteRaft,
// ByteSnapshot), through TLS if the settings ask for it, or if the server refuses
// plaintext and its session is TLS for that (see connect). The caller closes it.
func (p *Pool) Dial(ctx context.Context, t Target, protocol byte) (net.Conn, error) {
	conf, err := p.outgoing(t)
	if err == nil && conf == nil && p.cfg.TLS != nil && p.cfg.TLS.FallbackRPC() != nil {
		var s *session
		if s, err = p.session(ctx, t); err == nil && s.tls != nil {
			conf = p.cfg.TLS.FallbackRPC()
		}
	}
	var conn net.Conn
	if err == nil {
		conn, _, err = p.dial(ctx, t, protocol, conf)
	}
	if err != nil {
		return nil, p.explain(t, err)
	}
	return conn, nil
}

// Recheck looks at every session after the TLS settings have changed. One that
// was made under settings like those in force now stays. Any other takes no new
// call, so that from now on calls go over connections made under the new
// settings; calls in flight on it may take as long as they need where the new
// settings would accept the connection too, else DrainGrace at the most.
func (p *Pool) Recheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.sessions {
		select {
		case <-e.ready:
		default:
			delete(p.sessions, key) // its dialler sees that it is no longer wanted
			continue
		}
		switch {
		case e.s == nil || p.cfg.TLS == nil || e.s.settings == p.cfg.TLS.RPC():
			continue
		case p.cfg.TLS.Recheck(e.s.tlsState(), false, e.s.target.Datacenter) == nil:
			e.s.retire(noLimit)
		default:
			e.s.retire(p.cfg.DrainGrace)
		}
		delete(p.sessions, key)
	}
}

// reap closes sessions that nobody uses.
func (p *Pool) reap() {
	tick := time.NewTicker(p.cfg.IdleTimeout / 4)
	defer tick.Stop()
	for {
		select {
		case <-p.base.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		for key, e := range p.sessions {
			select {
			case <-e.ready:
			default:
				continue
			}
			if e.s == nil || e.s.over() || e.s.unused(p.cfg.IdleTimeout) {
				delete(p.sessions, key)
				if e.s != nil {
					e.s.retire(p.cfg.DrainGrace)
				}
			}
		}
		p.mu.Unlock()
	}
}

func (s *session) unused(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active == 0 && time.Since(s.lastUsed) >= d
}

// Close ends every session at once. Calls in flight fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	old := p.sessions
	p.sessions = map[string]*entry{}
	p.mu.Unlock()
	p.cancel()
	p.reaper.Wait()
	for _, e := range old {
		<-e.ready
		if e.s != nil {
			e.s.retire(0)
			e.s.close()
		}
	}
	return nil
}
