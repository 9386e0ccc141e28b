package consensus

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// address is a server's address as text.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// streams is Raft's stream layer over connections that others make: it is given
// the accepted ones, dials through Config.Dial, and knows all that are open. A
// connection to the node itself is a pipe.
type streams struct {
	self address
	dial func(ctx context.Context, addr string) (net.Conn, error)
	in   chan net.Conn
	done chan struct{}

	mu     sync.Mutex // guards the fields below
	open   map[*stream]struct{}
	closed bool
}

func newStreams(cfg *Config) *streams {
	return &streams{
		self: address(cfg.Address), dial: cfg.Dial,
		in: make(chan net.Conn), done: make(chan struct{}), open: map[*stream]struct{}{},
	}
}

// stream is one open Raft connection.
type stream struct {
	net.Conn
	of *streams
}

func (c *stream) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// track notes an open connection; nil, and conn closed, once the layer is closed.
func (s *streams) track(conn net.Conn) *stream {
	c := &stream{Conn: conn, of: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil
	}
	s.open[c] = struct{}{}
	return c
}

// give hands an accepted connection to Raft; it is closed where Raft has
// stopped.
func (s *streams) give(conn net.Conn) {
	c := s.track(conn)
	if c == nil {
		return
	}
	select {
	case s.in <- &inbound{stream: c}:
	case <-s.done:
		c.Close()
	}
}

// closeAll closes what is open now; Raft dials again.
func (s *streams) closeAll() {
	s.mu.Lock()
	open := make([]*stream, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (s *streams) Addr() net.Addr { return s.self }

// Close ends the layer and every connection.
func (s *streams) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if !was {
		close(s.done)
	}
	s.closeAll()
	return nil
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(addr) == string(s.self) {
		near, far := net.Pipe()
		s.give(far)
		return s.outbound(near)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // the end of the node ends a dialling
		select {
		case <-s.done:
			cancel()
		case <-stop:
		}
	}()
	conn, err := s.dial(ctx, string(addr))
	if err != nil {
		return nil, err
	}
	return s.outbound(conn)
}

func (s *streams) outbound(conn net.Conn) (net.Conn, error) {
	c := s.track(conn)
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

// How long a peer may stall in the middle of a request, and while it is
// answered. Raft itself sets no deadline on accepted connections, and reads a
// snapshot in the one goroutine that does everything else: a leader that is cut
// off while it sends one would stop this server until it is restarted.
const (
	stallTimeout = 30 * time.Second
	replyTimeout = 10 * time.Second
)

// inbound is an accepted connection. From the first byte of a request until it
// is answered each read has a deadline; between requests it may idle.
type inbound struct {
	*stream
	// Both belong to the goroutine that reads requests and writes answers.
	busy, timed bool
}

func (c *inbound) Read(p []byte) (int, error) {
	switch {
	case c.busy:
		c.SetReadDeadline(time.Now().Add(stallTimeout))
		c.timed = true
	case c.timed:
		c.SetReadDeadline(time.Time{})
		c.timed = false
	}
	n, err := c.stream.Read(p)
	c.busy = c.busy || n > 0
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		err = io.EOF // closed on this end: nothing for Raft to complain of
	}
	return n, err
}

func (c *inbound) Write(p []byte) (int, error) {
	c.busy = false
	c.SetWriteDeadline(time.Now().Add(replyTimeout))
	return c.stream.Write(p)
}
