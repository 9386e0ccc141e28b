package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-metrics"
)

// Call is one request while its handler runs. Its methods are for the
// handler's goroutine only and do not work after the handler has returned.
type Call struct {
	Peer   Peer
	Method string // "Service.Method"

	c       *conversation
	seq     uint64
	stream  bool
	replied bool
}

// Decode decodes the request body into v, a pointer to a wire type. It may be
// called more than once.
func (c *Call) Decode(v any) error { return c.c.w.decode(c.c.w.body, v) }

// errReplied: a handler replied twice, or sent a frame before its reply.
var errReplied = errors.New("rpc: a call has one reply, and frames only after it")

// Reply sends v as the answer. A handler that returns nil without calling it
// answers with an empty map. A second Reply is an error.
func (c *Call) Reply(v any) error {
	if c.replied {
		return errReplied
	}
	w := c.c.w
	w.out.b = appendResponseHeader(w.out.b[:0], c.Method, c.seq, "")
	if c.stream {
		w.out.b = append(w.out.b, emptyMap)
	} else if err := w.encode(v); err != nil {
		return err
	}
	c.replied = true
	return c.c.flush()
}

// UntilGone is for a handler that may wait for long. The context it returns ends
// with ctx, and as soon as the caller has given up: closed its stream, or lost its
// connection. The handler calls stop before it returns, and may reply before or
// after that.
func (c *Call) UntilGone(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	br, conn := c.c.w.br, c.c.conn
	if br.Buffered() > 0 {
		return ctx, cancel // the next request is here: its sender waits for both
	}
	conn.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := br.Peek(1); err != nil {
			cancel()
		}
	}()
	return ctx, func() {
		conn.SetReadDeadline(past) // ends the Peek
		<-done
		conn.SetReadDeadline(time.Time{})
		cancel()
	}
}

// Send sends one frame after Reply, in a method whose row says Stream. It blocks
// until the connection takes it, at most the write timeout; after an error the
// stream is over.
func (c *Call) Send(v any) error {
	if !c.stream || !c.replied {
		return errReplied
	}
	c.c.w.out.b = c.c.w.out.b[:0]
	if err := c.c.w.encode(v); err != nil {
		return err
	}
	return c.c.flush()
}

// conversation is one stream of requests and answers: a whole connection with
// first byte 0, or a stream of a session.
type conversation struct {
	s    *Server
	of   *serverConn
	conn net.Conn
	w    *wireState
	// single: the conversation is the connection, and idles no longer than
	// Limits.IdleTimeout.
	single bool
}

// errRefused ends a conversation whose last answer was a refusal.
var errRefused = errors.New("rpc: conversation ended")

func (c *conversation) flush() error {
	c.conn.SetWriteDeadline(time.Now().Add(c.s.limits().WriteTimeout))
	_, err := c.conn.Write(c.w.out.b)
	return err
}

// serve answers requests until the peer or the server ends it. The error is why
// it ended; io.EOF where the peer was done.
func (c *conversation) serve(ctx context.Context) error {
	for {
		head, err := c.read()
		if err != nil {
			return err
		}
		if err := c.answer(ctx, head); err != nil {
			return err
		}
		c.w.trim()
		// A connection that Recheck refused answers what was already asked on
		// each of its streams, and no more.
		if c.of.draining.Load() {
			return errRefused
		}
	}
}

// read reads one request: its header is returned, its body left in c.w.body.
func (c *conversation) read() (header, error) {
	l := c.s.limits()
	pending := c.of.pending()
	if !pending && c.single {
		c.conn.SetReadDeadline(time.Now().Add(l.IdleTimeout))
	}
	// The wait for the first byte is idling; what follows is a request that has
	// to arrive. Pending connections keep their one deadline.
	if c.w.br.Buffered() == 0 {
		if _, err := c.w.br.Peek(1); err != nil {
			return header{}, err
		}
	}
	timed := false
	arrive := func() {
		if !timed && !c.of.pending() {
			timed = true
			c.conn.SetReadDeadline(time.Now().Add(l.RequestTimeout))
		}
	}
	c.w.sc.reset(l.HeaderBytes, maxElements)
	b, err := readObject(c.w.br, c.w.head[:0], &c.w.sc, arrive)
	c.w.head = b
	if err != nil {
		return header{}, unexpected(err)
	}
	head, err := parseHeader(b)
	if err != nil {
		return header{}, err
	}
	c.of.known() // a complete header ends the handshake
	c.w.sc.reset(l.BodyBytes, maxElements)
	if c.w.body, err = readObject(c.w.br, c.w.body[:0], &c.w.sc, arrive); err != nil {
		return header{}, unexpected(err)
	}
	if timed {
		c.conn.SetReadDeadline(time.Time{})
	}
	return head, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// answer finds the method, asks the table whether the peer may call it, and
// runs it.
func (c *conversation) answer(ctx context.Context, head header) error {
	name := string(head.method)
	row, ok := c.s.cfg.Table[name]
	if !ok {
		return errors.Join(c.fail(name, head.seq, c.s.unknown(name)), errRefused)
	}
	peer := c.of.peer()
	if peer.Classes()&row.Access == 0 {
		c.s.refused("access", peer.Addr, "call refused", "method", name, "peer", peer.String(), "allowed", row.Access.String())
		return c.fail(name, head.seq, fmt.Errorf("%w: %s may be called by %s, and this connection is %s",
			ErrPermissionDenied, name, row.Access, peer.Classes()))
	}
	c.of.begin()
	defer c.of.end()
	metrics.IncrCounter([]string{"rpc", "request"}, 1)
	call := &Call{Peer: peer, Method: name, c: c, seq: head.seq, stream: row.Stream}
	err := c.run(ctx, row, call)
	switch {
	case err != nil && call.replied:
		return errRefused // the answer has begun: all that is left is to end it
	case err != nil:
		metrics.IncrCounter([]string{"rpc", "request_error"}, 1)
		return c.fail(name, head.seq, err)
	case !call.replied:
		return call.Reply(nil)
	case row.Stream:
		return errRefused // a stream ends with its conversation
	}
	return nil
}

// run runs the handler; a panic of its becomes an error.
func (c *conversation) run(ctx context.Context, row Row, call *Call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.s.log.Error("panic in a method", "method", call.Method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return row.Handle(ctx, call)
}

// maxErrorText is how much of an error a peer is told.
const maxErrorText = 8 << 10

func (c *conversation) fail(method string, seq uint64, err error) error {
	c.w.out.b = appendResponseHeader(c.w.out.b[:0], clip(method, maxMethodName), seq, clip(err.Error(), maxErrorText))
	c.w.out.b = append(c.w.out.b, emptyMap)
	return c.flush()
}

// unknown is the text for a method without a row (wire.md, section 2: existing
// clients match it).
func (s *Server) unknown(name string) error {
	service, _, _ := strings.Cut(name, ".")
	for known := range s.cfg.Table {
		if strings.HasPrefix(known, service+".") {
			return fmt.Errorf("rpc: %s %s", TextNoMethod, name)
		}
	}
	return fmt.Errorf("rpc: can't find service %s", name)
}

// TextNoMethod is in the error of a server that does not have the method asked
// for, of this family or of another; it is how a caller knows an older one.
const TextNoMethod = "can't find method"
