package rpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/tlsutil"
)

const maxMethodName = 256

// Call is one request while its handler runs. Its methods are for the
// handler's goroutine only and do not work after the handler has returned.
type Call struct {
	Peer   Peer
	Method string // "Service.Method"
}

// Decode decodes the request body into v, a pointer to a wire type. It may be
// called more than once (after a forward, say).
func (c *Call) Decode(v any) error { return nil }

// Reply sends v as the answer. A handler that returns nil without calling it
// answers with an empty map. A second Reply is an error.
func (c *Call) Reply(v any) error { return nil }

// Send sends one frame after Reply (streaming rows only). It blocks until the
// peer takes it, at most the write timeout; after an error the stream is over.
func (c *Call) Send(v any) error { return nil }

// RemoteError is an error that the other end's handler returned, its text as
// it was on the wire.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// Sentinels. The texts are those of the family: existing clients match them.
var (
	// ErrNoServers: no server of this datacenter is known.
	ErrNoServers = errors.New("No known Consul servers") //nolint
	// ErrNoPath: the datacenter asked for is not known at all.
	ErrNoPath = errors.New("No path to datacenter") //nolint
	// ErrRemoteDCUnreachable: the datacenter is known, none of its servers answered.
	ErrRemoteDCUnreachable = errors.New("Remote DC has no server currently reachable") //nolint
	// ErrRateLimited: this agent's own limits.rpc_rate is used up.
	ErrRateLimited = errors.New("RPC rate limit exceeded") //nolint
	// ErrNoLeader is what a server method returns while there is no leader;
	// routers retry it.
	ErrNoLeader = errors.New("No cluster leader") //nolint
	// ErrPermissionDenied: a handler refuses; its text starts the answer. The
	// table's own refusals start with the same words.
	ErrPermissionDenied = errors.New("Permission denied") //nolint
	// ErrClosed: the pool or router was closed.
	ErrClosed = errors.New("rpc: closed")
)

// Limits bounds what peers may use. A zero field takes its default.
type Limits struct {
	HandshakeTimeout  time.Duration // accept to first complete request header; 5s
	IdleTimeout       time.Duration // no request and no keepalive answer; 60s
	WriteTimeout      time.Duration // one write of a reply or frame; 10s
	DrainTimeout      time.Duration // calls in flight on a connection that Recheck refuses; 5s
	MaxConnsPerClient int           // limits.rpc_max_conns_per_client; 100, negative = no limit
	MaxConns          int           // all connections; 4096
	MaxPending        int           // connections before their first request header; 512
	MaxStreams        int           // open streams of one session; 1024
	MaxTotalStreams   int           // open streams of all sessions; 65536
	HeaderBytes       int           // request header; 512
	BodyBytes         int           // request body; 1 MiB
}

// ServerConfig is what a Server needs. Table is required; TLS nil means
// plaintext only.
type ServerConfig struct {
	Table  Table
	TLS    *tlsutil.Configurator
	Limits Limits
	Log    hclog.Logger // nil: no log

	// IsServerAddr says whether the gossip list has a server of this datacenter
	// at an address; it is asked only about peers without a role, and only where
	// verify_incoming is off. nil: no address is one. It must not block.
	IsServerAddr func(netip.Addr) bool
	// IsRemoteServerAddr is the same for servers of other datacenters.
	IsRemoteServerAddr func(netip.Addr) bool

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
	Conns, Pending, Sessions, Streams int               // now
	Accepted, Requests                uint64            // since start
	Refused                           map[string]uint64 // by reason
}

// Server serves the RPC port. Methods may be called from any goroutine.
type Server struct{}

// NewServer checks cfg and returns a server that does not listen yet.
func NewServer(cfg ServerConfig) (*Server, error) { return &Server{}, nil }

// Serve accepts on ln until ctx ends. It closes ln and every connection, and
// returns only once every handler it started has returned. The error is nil
// if ctx ended it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return nil }

// Recheck asks of every open connection whether today's TLS settings would
// accept it, and who its peer is now. Refused ones are told to go away, calls
// in flight may finish within Limits.DrainTimeout, then they are closed. It
// does not wait for that.
func (s *Server) Recheck() {}

// SetLimits replaces the limits; open connections stay even if over a new cap.
func (s *Server) SetLimits(l Limits) {}

// Stats returns a copy of the counters.
func (s *Server) Stats() Stats { return Stats{} }

// Local runs a method of the table in this process, without the network, as
// the server itself: args and reply go through the codec, so nothing is shared.
// Errors of the handler are returned as they are. Streaming methods are refused.
func (s *Server) Local(ctx context.Context, method string, args, reply any) error { return nil }

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
	ReplyBytes  int                   // largest reply body; 64 MiB
}

// Pool keeps one session for each server address and sends calls over it.
// Methods may be called from any goroutine.
type Pool struct{}

// NewPool returns a pool. Close must be called.
func NewPool(cfg PoolConfig) *Pool { return &Pool{} }

// Call calls method on t and decodes the answer into reply (nil: discarded). It
// blocks until the answer, the deadline of ctx (or CallTimeout without one), or
// the loss of the connection. An error of type RemoteError is the handler's; any
// other means the call may or may not have run, unless NotSent says it did not.
func (p *Pool) Call(ctx context.Context, t Target, method string, args, reply any) error { return nil }

// Stream calls a streaming method, waits for its reply header, and returns the
// stream of frames, which the caller must Close. ctx ends the stream too.
func (p *Pool) Stream(ctx context.Context, t Target, method string, args any) (*Stream, error) {
	return nil, nil
}

// Dial opens a connection of its own for another protocol of the port (ByteRaft,
// ByteSnapshot), through TLS if the settings ask for it. The caller closes it.
func (p *Pool) Dial(ctx context.Context, t Target, protocol byte) (net.Conn, error) { return nil, nil }

// SetCallTimeout replaces PoolConfig.CallTimeout.
func (p *Pool) SetCallTimeout(d time.Duration) {}

// Recheck asks of every session whether today's TLS settings would open it, and
// retires those they would not: no new call uses them, calls in flight finish.
func (p *Pool) Recheck() {}

// Close ends every session and waits until nothing of the pool runs.
func (p *Pool) Close() error { return nil }

// NotSent reports whether err says that the call never left this process, so
// that it may be sent elsewhere.
func NotSent(err error) bool { return false }

// Stream is a streaming call. Recv is for one goroutine; Close for any.
type Stream struct{}

// Recv decodes the next frame into v. It blocks until there is one; io.EOF when
// the other end has finished, the ctx's error when that ended it.
func (s *Stream) Recv(v any) error { return nil }

// Close ends the call; a blocked Recv returns.
func (s *Stream) Close() error { return nil }

// RouterOptions are a Router's; zero values take the defaults.
type RouterOptions struct {
	Log         hclog.Logger
	HoldTimeout time.Duration // performance.rpc_hold_timeout; 7s
	Rate        float64       // limits.rpc_rate, calls a second; 0 = no limit
	Burst       int           // limits.rpc_max_burst; 1000
	Rebalance   time.Duration // shortest time between changes of server; 2m
	// ReadOnly says which methods may be sent again after the connection was lost
	// mid-call. nil: DefaultReadOnly.
	ReadOnly func(method string) bool
	// Nodes gives the cluster's size, which stretches Rebalance. nil: 0.
	Nodes func() int
}

// Router knows the servers of every datacenter and picks one for each call.
type Router struct{}

// NewRouter returns a router for an agent of localDC. Run should run beside it.
func NewRouter(localDC string, pool *Pool, opts RouterOptions) *Router { return &Router{} }

// Run moves to another, answering server from time to time, until ctx ends.
func (r *Router) Run(ctx context.Context) error { return nil }

// SetServers replaces the list of dc; servers known before keep their place,
// new ones are put at random places. An empty list forgets the datacenter.
func (r *Router) SetServers(dc string, servers []Target) {}

// Servers returns the list of dc, the one in use first.
func (r *Router) Servers(dc string) []Target { return nil }

// Datacenters returns the names of all datacenters that have servers, sorted.
func (r *Router) Datacenters() []string { return nil }

// Call calls method on a server of dc ("" = the local one). Until the hold
// timeout it tries again: on another server when a call was not sent or is
// read-only, and after a pause when servers say that there is no leader yet.
func (r *Router) Call(ctx context.Context, dc, method string, args, reply any) error { return nil }

// Stream is Call for a streaming method. Only the opening is tried again.
func (r *Router) Stream(ctx context.Context, dc, method string, args any) (*Stream, error) {
	return nil, nil
}

// SetRate replaces the rate limit; rate 0 means none.
func (r *Router) SetRate(rate float64, burst int) {}

// SetHoldTimeout replaces the hold timeout.
func (r *Router) SetHoldTimeout(d time.Duration) {}

// DatacenterRequest is a request that names the datacenter that must answer.
type DatacenterRequest interface{ RequestDatacenter() string }

// Forward passes a call on if its decoded request names another datacenter
// than localDC: it calls the same method there and decodes into reply. done is
// false if the request is for localDC (or names none) and the handler must
// serve it. Errors of a forwarded call start with "rpc error making call: ".
func Forward(ctx context.Context, r *Router, localDC string, call *Call, req DatacenterRequest, reply any) (done bool, err error) {
	return false, nil
}

// First bytes of the RPC port.
const (
	ByteRPC      byte = 0
	ByteRaft     byte = 1
	ByteTLS      byte = 3
	ByteMux      byte = 4
	ByteSnapshot byte = 5
)
