package localrpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxAuthFailures is how many wrong auth keys one connection may present.
const maxAuthFailures = 3

// maxErrorText bounds the error text of an answer.
const maxErrorText = 4 << 10

// errHangUp ends a connection after its last answer.
var errHangUp = errors.New("hang up")

// session is one connection. Fields without a comment belong to the goroutine
// of handle.
type session struct {
	s       *Server
	nc      net.Conn
	caller  caller
	opened  time.Time
	greeted bool   // handshake done
	authed  bool   // auth key presented
	full    bool   // may do everything
	fails   int    // wrong auth keys
	after   func() // runs once the answer is out; set by a handler
	streams streams

	write sync.Mutex // held for one message

	mu      sync.Mutex // guards the fields below
	ended   bool       // no more requests are read
	waiting bool       // for a request's first byte
}

// handle serves one connection until it ends. ctx ends it politely, hard at once.
func (s *Server) handle(ctx, hard context.Context, nc net.Conn) {
	defer nc.Close()
	c := &session{s: s, nc: nc, opened: time.Now()}
	defer func() { s.exit(c.full) }()
	c.caller = s.identify(nc)
	if s.keySum == nil && c.caller.trusted {
		c.full = true
		s.promote()
	} else if !c.caller.trusted && !s.mayStay() {
		s.warn("connection refused: too many from callers that are not trusted", "from", c.caller.name, "limit", s.limits.MaxOthers)
		return
	}

	life, end := context.WithCancel(ctx)
	c.streams.init(c, life)
	defer context.AfterFunc(hard, func() { nc.Close() })()
	defer func() {
		end()
		// One may be in the middle of a record that nobody reads.
		last := time.AfterFunc(s.limits.WriteTimeout, func() { nc.Close() })
		c.streams.wait()
		last.Stop()
	}()
	defer context.AfterFunc(ctx, c.hangUp)()

	err := c.serve(hard)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, errHangUp), errors.Is(err, io.EOF), isReset(err):
	case errors.Is(err, os.ErrDeadlineExceeded) && c.ready():
		s.log.Debug("connection closed: idle", "from", c.caller.name, "addr", nc.RemoteAddr())
	default:
		s.warn("connection closed", "from", c.caller.name, "addr", nc.RemoteAddr(), "err", err)
	}
	// The client may still be sending. Closing with bytes unread would reset the
	// connection and could take our last answer away with it.
	if errors.Is(err, errHangUp) {
		c.drain()
	}
}

// ready says that the handshake, and the auth where one is asked for, is done.
func (c *session) ready() bool { return c.greeted && (c.authed || c.s.keySum == nil) }

// hangUp lets no more requests in. The one that runs is still answered.
func (c *session) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.nc.SetReadDeadline(aLongTimeAgo)
}

// await sets the time until which the next request must begin. It is false
// where none is let in any more.
func (c *session) await() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	switch {
	case c.ended:
	case !c.ready():
		c.nc.SetReadDeadline(c.opened.Add(c.s.limits.HandshakeTimeout))
	case c.streams.count() > 0:
		c.nc.SetReadDeadline(time.Time{})
	default:
		c.nc.SetReadDeadline(time.Now().Add(c.s.limits.IdleTimeout))
	}
	return !c.ended
}

// begun sets the time until which a request that has begun must be complete.
func (c *session) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	if c.ended || !c.ready() {
		return // the deadline of the handshake holds for all of it
	}
	c.nc.SetReadDeadline(time.Now().Add(c.s.limits.RequestTimeout))
}

// streamEnded restarts the idle time.
func (c *session) streamEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && !c.ended {
		c.nc.SetReadDeadline(time.Now().Add(c.s.limits.IdleTimeout))
	}
}

func (c *session) serve(ctx context.Context) error {
	br := bufio.NewReader(c.nc)
	for {
		if !c.await() {
			return nil
		}
		if _, err := br.Peek(1); err != nil {
			return c.readError(err)
		}
		c.begun()
		var head requestHeader
		n, err := readInto(br, &head, c.s.limits.RequestBytes)
		if err != nil {
			return c.readError(fmt.Errorf("request header: %w", err))
		}
		if err := c.request(ctx, br, &head, c.s.limits.RequestBytes-n); err != nil {
			return err
		}
	}
}

// readError says why a request did not arrive.
func (c *session) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.ready() {
		return fmt.Errorf("no handshake and authentication within %s: %w", c.s.limits.HandshakeTimeout, err)
	}
	return err
}

// readInto reads one object of at most limit bytes into v, and returns its size.
func readInto(br *bufio.Reader, v any, limit int) (int, error) {
	b, err := readObject(br, nil, limit)
	if err != nil {
		return len(b), err
	}
	return len(b), decode(b, v)
}

// request reads the rest of a request, of at most limit bytes, runs it and
// answers. An error ends the connection.
func (c *session) request(ctx context.Context, br *bufio.Reader, head *requestHeader, limit int) error {
	row, known := table[head.Command]
	switch {
	case !known:
		c.s.warn("unknown command", "command", fmt.Sprintf("%.64q", head.Command), "from", c.caller.name)
		return c.hangUpWith(head, errUnsupportedCommand)
	case !c.greeted && head.Command != cmdHandshake:
		return c.hangUpWith(head, errHandshakeRequired)
	}
	// The body is read, even if the request is refused: what follows it must be
	// found.
	var body any
	if row.body != nil {
		if body = row.body(head); body != nil {
			if _, err := readInto(br, body, limit); err != nil {
				return c.readError(fmt.Errorf("body of %s: %w", head.Command, err))
			}
		}
	}
	if row.access != open && !c.ready() {
		c.s.warn("command before authentication", "command", head.Command, "from", c.caller.name)
		return c.answer(head, errors.New(errAuthRequired), nil) // no body follows this one
	}
	if err := c.allowed(head.Command, row.access); err != nil {
		c.s.warn("command refused", "command", head.Command, "from", c.caller.name, "addr", c.nc.RemoteAddr(), "err", err)
		return c.answer(head, err, row.empty)
	}
	if row.access == change {
		c.s.log.Info("command", "command", head.Command, "from", c.caller.name)
	}
	res, err := row.run(ctx, c, head, body)
	if errors.Is(err, errHangUp) {
		return err
	}
	if res == nil {
		res = row.empty
	}
	err = c.answer(head, err, res)
	if after := c.after; after != nil {
		c.after = nil
		after() // also after a failure, so that what the handler opened is closed
	}
	return err
}

// allowed says whether this caller may use a command.
func (c *session) allowed(command string, need access) error {
	switch {
	case need == open, c.full, need == read && !c.caller.socket:
		return nil
	case c.caller.unknown != nil:
		return fmt.Errorf("Permission denied: %s is for the agent's own user and root, and who calls is not known: %w", command, c.caller.unknown) // for the caller to read
	}
	return fmt.Errorf("Permission denied: %s is for the agent's own user and root, not for %s", command, c.caller.name) // for the caller to read
}

// answer sends the answer to a request; body nil means that none follows.
func (c *session) answer(head *requestHeader, err error, body any) error {
	res := responseHeader{Seq: head.Seq}
	if err != nil {
		res.Error = err.Error()
		if len(res.Error) > maxErrorText {
			res.Error = res.Error[:maxErrorText] + "..."
		}
	}
	return c.send(context.Background(), c.s.limits.WriteTimeout, &res, body)
}

func (c *session) hangUpWith(head *requestHeader, text string) error {
	if err := c.answer(head, errors.New(text), nil); err != nil {
		return err
	}
	return errHangUp
}

// send sends one message, unless ctx is done by the time that it is its turn.
// Part of a message can never be followed by another.
func (c *session) send(ctx context.Context, timeout time.Duration, head *responseHeader, body any) error {
	frame, err := encodeFrame(head, body)
	if err != nil {
		return err
	}
	c.write.Lock()
	defer c.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.nc.Write(frame); err != nil {
		c.nc.Close()
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// drain ends our side and takes in, for a moment, what the client still sends.
func (c *session) drain() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c.nc, int64(c.s.limits.RequestBytes))
}
