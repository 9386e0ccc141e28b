package localrpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/serf/serf"

	"lictor/rpc/wire"
)

const (
	answerBytes  = 16 << 20 // largest answer a Client takes: the members of a big cluster
	dialTimeout  = 10 * time.Second
	shortTimeout = 30 * time.Second // commands that the agent answers from memory
	longTimeout  = 3 * time.Minute  // commands that wait for other agents
)

// Options are a Client's.
type Options struct {
	AuthKey string // a secret; "" where the agent asks for none
}

// RemoteError is an error that the agent answered with, in its own words.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// ErrClosed is returned by a Client that was closed, or that an earlier error
// left in the middle of an answer.
var ErrClosed = errors.New("localrpc: connection is closed")

// ErrProtocol is the answer of a server that is no local RPC.
var ErrProtocol = errors.New("what answers there does not speak the local RPC")

// ErrStreamEnded ends a Monitor whose agent closed the stream.
var ErrStreamEnded = errors.New("localrpc: the agent ended the log stream")

// Client is a connection to an agent. Its methods block until the agent has
// answered, ctx is done, or a time has passed that no working agent takes; they
// may be called from any goroutine and then wait for each other. After an error
// other than a RemoteError the connection is closed.
type Client struct {
	addr   string
	opts   Options
	conn   net.Conn
	closed atomic.Bool

	mu  sync.Mutex // held for a request and its answer; guards the fields below
	br  *bufio.Reader
	seq uint64
}

// Dial connects to host:port, tcp://host:port or unix:///path, shakes hands and
// presents the auth key. The caller closes the Client.
func Dial(ctx context.Context, addr string, opts Options) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network, where := splitAddr(addr)
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, where)
	if err != nil {
		return nil, fmt.Errorf("connect to agent: %w", err)
	}
	c := &Client{addr: addr, opts: opts, conn: conn, br: bufio.NewReader(conn)}
	if err := c.call(ctx, dialTimeout, cmdHandshake, &handshakeRequest{Version: protocolVersion}, nil); err != nil {
		c.Close()
		if errors.Is(err, errFields) || errors.Is(err, errTooLarge) || errors.Is(err, errTooDeep) {
			err = ErrProtocol // bytes of another protocol, read as this one: what is wrong with them helps nobody
		}
		return nil, fmt.Errorf("handshake with agent at %s: %w", addr, err)
	}
	if opts.AuthKey != "" {
		if err := c.call(ctx, dialTimeout, cmdAuth, &authRequest{AuthKey: opts.AuthKey}, nil); err != nil {
			c.Close()
			return nil, fmt.Errorf("authenticate to agent at %s: %w", addr, err)
		}
	}
	return c, nil
}

// Close ends the connection at once, also under a call that waits. It may be
// called more than once.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.conn.Close()
}

// Members are the members of the LAN or WAN pool. Asking an agent that is in no
// WAN pool for its members gives none.
func (c *Client) Members(ctx context.Context, wan bool) ([]serf.Member, error) {
	cmd := cmdMembersLAN
	if wan {
		cmd = cmdMembersWAN
	}
	var res membersResponse
	if err := c.call(ctx, shortTimeout, cmd, nil, &res); err != nil {
		return nil, err
	}
	members := make([]serf.Member, len(res.Members))
	for i, m := range res.Members {
		members[i] = m.serf()
	}
	return members, nil
}

// Join has the agent join a pool and returns how many of addrs answered. It is
// an error only that none did; it then lists them.
func (c *Client) Join(ctx context.Context, addrs []string, wan bool) (int, error) {
	var res joinResponse
	err := c.call(ctx, longTimeout, cmdJoin, &joinRequest{Existing: addrs, WAN: wan}, &res)
	return int(res.Num), err
}

// Leave has the agent leave gracefully and stop.
func (c *Client) Leave(ctx context.Context) error {
	return c.call(ctx, longTimeout, cmdLeave, nil, nil)
}

// ForceLeave makes a failed member a left one; prune also forgets it. wan means
// the WAN pool only.
func (c *Client) ForceLeave(ctx context.Context, node string, prune, wan bool) error {
	return c.call(ctx, longTimeout, cmdForceLeave, &forceLeaveRequest{Node: node, Prune: prune, WAN: wan}, nil)
}

// Reload has the agent read its configuration again, and returns after it has.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, longTimeout, cmdReload, nil, nil)
}

// Stats are figures of the running agent, by part.
func (c *Client) Stats(ctx context.Context) (map[string]map[string]string, error) {
	var res map[string]map[string]string
	err := c.call(ctx, shortTimeout, cmdStats, nil, &res)
	return res, err
}

// Keyring runs a keyring operation across the pools of all datacenters. Errors
// of single pools and nodes are in the answer.
func (c *Client) Keyring(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	var res wire.KeyringResponses
	if err := c.call(ctx, longTimeout, cmdKeyring, req, &res); err != nil {
		return nil, err
	}
	res.DropNil()
	return &res, nil
}

// FireEvent sends a user event to a datacenter, "" for the agent's own, and
// sets its ID.
func (c *Client) FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) error {
	var res eventFireResponse
	if err := c.call(ctx, longTimeout, cmdEventFire, &eventFireRequest{Datacenter: dc, Event: *ev}, &res); err != nil {
		return err
	}
	ev.ID = res.ID
	return nil
}

// LogStream is a running Monitor.
type LogStream struct {
	// C has the agent's log lines, in order. It is closed at the end of the
	// stream; Err then says why.
	C <-chan string

	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed
}

// Err waits for the end of the stream and is its reason: nil where ctx or Close
// ended it, ErrStreamEnded where the agent did.
func (s *LogStream) Err() error {
	<-s.done
	return s.err
}

// Close ends the stream and waits until it has ended. It may be called more
// than once.
func (s *LogStream) Close() {
	s.cancel()
	<-s.done
}

// Monitor streams the agent's log at level and above until ctx is done. It uses
// a connection of its own, so that the Client can be used meanwhile. A caller
// that does not read C loses lines, and is told how many by a line in between.
// The caller closes the stream.
func (c *Client) Monitor(ctx context.Context, level string, json bool) (*LogStream, error) {
	own, err := Dial(ctx, c.addr, c.opts)
	if err != nil {
		return nil, err
	}
	if err := own.call(ctx, shortTimeout, cmdMonitor, &monitorRequest{LogLevel: level, LogJSON: json}, nil); err != nil {
		own.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	lines := make(chan string)
	s := &LogStream{C: lines, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer close(lines)
		defer cancel()
		defer own.Close()
		s.err = own.receive(ctx, lines)
	}()
	return s, nil
}

func (c *Client) receive(ctx context.Context, lines chan<- string) error {
	defer context.AfterFunc(ctx, func() { c.conn.SetReadDeadline(aLongTimeAgo) })()
	for {
		var rec logRecord
		_, err := readAnswer(c.br, func(*responseHeader) any { return &rec })
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF), isReset(err):
			return ErrStreamEnded
		case err != nil:
			return fmt.Errorf("read log stream: %w", err)
		}
		select {
		case lines <- rec.Log:
		case <-ctx.Done():
			return nil
		}
	}
}

// call sends one request and reads its answer into res, which is nil for a
// command that is answered by a header alone.
func (c *Client) call(ctx context.Context, timeout time.Duration, cmd string, req, res any) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return errors.Join(err, c.Close())
	}
	// The callback must be over before the next call sets its deadline.
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(over); c.conn.SetDeadline(aLongTimeAgo) })
	defer func() {
		if !stop() {
			<-over
		}
		if _, remote := err.(RemoteError); err == nil || remote { // only our own, unwrapped
			return
		}
		if c.closed.Load() {
			err = ErrClosed
		} else if cause := ctx.Err(); cause != nil {
			err = fmt.Errorf("%s: %w", cmd, cause)
		} else {
			err = fmt.Errorf("%s: %w", cmd, err)
		}
		c.Close() // what is left of the answer belongs to nobody; the first error is the one to tell
	}()

	c.seq++
	frame, err := encodeFrame(&requestHeader{Command: cmd, Seq: c.seq}, req)
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(frame); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	head, err := readAnswer(c.br, func(h *responseHeader) any {
		if h.Error == errAuthRequired {
			return nil // no body follows
		}
		return res
	})
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the agent closed the connection")
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case head.Seq != c.seq:
		return fmt.Errorf("the answer is for request %d, not %d", head.Seq, c.seq)
	case head.Error != "":
		return RemoteError(head.Error)
	}
	return nil
}

// readAnswer reads a header, and a body into what dest returns, unless nil.
func readAnswer(br *bufio.Reader, dest func(*responseHeader) any) (responseHeader, error) {
	var head responseHeader
	buf, err := readObject(br, nil, answerBytes)
	if err != nil {
		return head, err
	}
	if err := decode(buf, &head); err != nil {
		return head, err
	}
	v := dest(&head)
	if v == nil {
		return head, nil
	}
	if buf, err = readObject(br, buf[:0], answerBytes); err != nil {
		return head, err
	}
	return head, decode(buf, v)
}

// splitAddr returns what net.Dial and net.Listen take.
func splitAddr(addr string) (network, where string) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		return "unix", path
	}
	return "tcp", strings.TrimPrefix(addr, "tcp://")
}
