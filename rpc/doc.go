// Package rpc is the transport of the server port: the listener with its
// first-byte demultiplexer, TLS, yamux sessions, msgpack conversations, the
// method table with its access column, the client's connection pool and its
// choice of server.
//
// On the wire (wire.md, sections 1 and 2): the first byte of a connection is 0
// for one conversation, 1 for Raft, 3 for TLS with another first byte inside, 4
// for a yamux session of conversations, 5 for a snapshot. A conversation is
// request header, request body, response header, response body, and again; each
// is one msgpack object in the old dialect (no str8, no bin).
//
// Until a peer has sent its first complete request header it has one deadline
// for everything, from the accept on, and a place among a bounded number of such
// peers. The size of a message is checked from what it declares, before
// anything is allocated for it. Who may call a method is one row in a table; a
// method without a row cannot be called.
//
// The package does not defend against a peer that is allowed to call a method
// and calls it often, beyond bounding its connections and streams.
package rpc

import (
	"errors"
	"time"
)

// First bytes of the RPC port.
const (
	ByteRPC      byte = 0
	ByteRaft     byte = 1
	ByteTLS      byte = 3
	ByteMux      byte = 4
	ByteSnapshot byte = 5
)

const maxMethodName = 256

// Sentinels. The texts are those of the family: existing clients match them.
var (
	// ErrNoServers: no server of this datacenter is known.
	ErrNoServers = errors.New("No known Consul servers")
	// ErrNoPath: the datacenter asked for is not known at all.
	ErrNoPath = errors.New("No path to datacenter")
	// ErrRemoteDCUnreachable: the datacenter is known, none of its servers answered.
	ErrRemoteDCUnreachable = errors.New("Remote DC has no server currently reachable")
	// ErrRateLimited: this agent's own limits.rpc_rate is used up.
	ErrRateLimited = errors.New("RPC rate limit exceeded")
	// ErrNoLeader is what a server method returns while there is no leader;
	// routers retry it.
	ErrNoLeader = errors.New("No cluster leader")
	// ErrPermissionDenied starts the text of every refusal by the method table.
	ErrPermissionDenied = errors.New("Permission denied")
	// ErrClosed: the pool was closed.
	ErrClosed = errors.New("rpc: closed")
)

// RemoteError is an error that the other end's handler returned, its text as it
// was on the wire.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// Limits bounds what peers may use. A zero field takes its default.
type Limits struct {
	HandshakeTimeout  time.Duration // accept to first complete request header; 5s
	RequestTimeout    time.Duration // a later request, first byte to last; and the body of the first; 10s
	IdleTimeout       time.Duration // a single conversation between requests; 60s
	WriteTimeout      time.Duration // one write of a reply or frame; 10s
	DrainTimeout      time.Duration // calls in flight on a connection that Recheck refuses; 5s
	MaxConnsPerClient int           // limits.rpc_max_conns_per_client; 100, negative = no limit
	MaxConns          int           // all connections; 4096
	MaxPending        int           // connections before their first request header; 512
	MaxStreams        int           // open streams of one session; 1024
	// MaxStreamsPerClient bounds the open streams of all sessions from one
	// address; 8192.
	MaxStreamsPerClient int
	MaxTotalStreams     int // open streams of all sessions; 65536
	HeaderBytes         int // request header; 512
	BodyBytes           int // request body; 1 MiB
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.HandshakeTimeout, 5*time.Second)
	setDefault(&l.RequestTimeout, 10*time.Second)
	setDefault(&l.IdleTimeout, time.Minute)
	setDefault(&l.WriteTimeout, 10*time.Second)
	setDefault(&l.DrainTimeout, 5*time.Second)
	setDefault(&l.MaxConnsPerClient, 100)
	setDefault(&l.MaxConns, 4096)
	setDefault(&l.MaxPending, 512)
	setDefault(&l.MaxStreams, 1024)
	setDefault(&l.MaxStreamsPerClient, 8192)
	setDefault(&l.MaxTotalStreams, 65536)
	setDefault(&l.HeaderBytes, 512)
	setDefault(&l.BodyBytes, 1<<20)
	return l
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
