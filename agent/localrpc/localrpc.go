// Package localrpc is the agent's RPC for its own machine: what the CLI and
// Serf's client library speak to port 8400 or to a unix socket.
//
// It promises that nothing is changed and no key is shown before the caller is
// known: by the auth key, by the user at the other end of a unix socket, or by
// the user that the kernel names as owner of the other end of a loopback
// connection (Linux; elsewhere nobody is known over TCP without a key). Who is
// not known to be the agent's user or root may read membership and statistics
// only, and over a unix socket nothing. The table in table.go says it command by
// command; a command without a row cannot be called.
//
// The protocol is the Serf agent's (wire.md, section 7): a stream of msgpack
// maps, each request a header {Command, Seq} and, for most commands, a body;
// each answer a header {Seq, Error} and, for some, a body. The commands of the
// Consul family before 0.8 (section 8) are served on the same port. The two
// dialects share names. They differ where it matters only in the key commands,
// and are told apart by the header: the family's clients always send a Token in
// it, Serf's never do. So list-keys has a body if and only if the header has a
// Token; a key command with a Token, or with a RelayFactor in its body, works on
// all pools and answers with lists.
//
// It does not defend against other programs of the same user or of root, nor,
// over TCP, against somebody who reads the wire: the auth key is sent as it is,
// and is not proof against a program that listens on the port while no agent
// does. Use a unix socket where that matters.
package localrpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"
	"golang.org/x/time/rate"

	"lictor/agent/logs"
	"lictor/gossip"
	"lictor/rpc/wire"
)

// Backend is the agent as this package needs it. Its methods are called from
// many goroutines.
type Backend interface {
	// Members is nil for the WAN pool of an agent that is in none.
	Members(wan bool) []serf.Member
	// Join returns how many of addrs answered; the error lists those that did
	// not, also where others did.
	Join(ctx context.Context, addrs []string, wan bool) (int, error)
	// Leave leaves gracefully. The agent stops afterwards.
	Leave(ctx context.Context) error
	ForceLeave(node string, prune, wan bool) error
	// Reload returns after the reload has run.
	Reload(ctx context.Context) error
	Stats() map[string]map[string]string
	Keyring(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error)
	// FireEvent sends ev to a datacenter, "" for the agent's own, and sets its ID.
	FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) error
	Monitor(level string, json bool) (*logs.Stream, error)
	// LAN is the LAN pool, for the commands that only Serf itself can answer.
	LAN() *gossip.Pool
}

// Config is what a Server needs. Backend is required.
type Config struct {
	Backend Backend
	// AuthKey, where not empty, must be presented before anything else, and who
	// presents it may do everything. It is a secret; New does not keep it.
	AuthKey []byte
	Log     hclog.Logger // nil: no log
	Limits  Limits
}

// Limits bounds what callers may use. A zero field takes its default.
type Limits struct {
	HandshakeTimeout time.Duration // accept to the end of handshake and auth; 5s
	RequestTimeout   time.Duration // first to last byte of a request; 10s
	IdleTimeout      time.Duration // between requests while nothing is streamed; 10m
	WriteTimeout     time.Duration // one answer; 10s
	StreamTimeout    time.Duration // one record of a stream, so that a reader may pause; 10m
	AuthDelay        time.Duration // before a wrong auth key is answered; 500ms
	StopTimeout      time.Duration // for requests that run when Serve must stop; 5s
	MaxConns         int           // connections; 128
	MaxOthers        int           // of these, not yet or never authorised; half of MaxConns
	MaxStreams       int           // monitors, event streams and queries of one connection; 16
	MaxQueries       int           // queries of event streams that wait for an answer, for one connection; 256
	RequestBytes     int           // header and body; 64 KiB
}

func (l *Limits) defaults() {
	setDefault(&l.HandshakeTimeout, 5*time.Second)
	setDefault(&l.RequestTimeout, 10*time.Second)
	setDefault(&l.IdleTimeout, 10*time.Minute)
	setDefault(&l.WriteTimeout, 10*time.Second)
	setDefault(&l.StreamTimeout, 10*time.Minute)
	setDefault(&l.AuthDelay, 500*time.Millisecond)
	setDefault(&l.StopTimeout, 5*time.Second)
	setDefault(&l.MaxConns, 128)
	setDefault(&l.MaxOthers, max(l.MaxConns/2, 1))
	setDefault(&l.MaxStreams, 16)
	setDefault(&l.MaxQueries, 256)
	setDefault(&l.RequestBytes, 64<<10)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Server serves the local RPC. It is safe for concurrent use, and may serve
// several listeners.
type Server struct {
	backend Backend
	keySum  []byte // SHA-256 of the auth key, so that comparing takes the same time for every length; nil without one
	log     hclog.Logger
	limits  Limits
	noise   *rate.Limiter // bounds log lines that callers can cause
	self    uint32        // the agent's own user

	mu     sync.Mutex // guards the fields below
	conns  int
	others int
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.Backend == nil {
		return nil, errors.New("localrpc: no backend")
	}
	s := &Server{
		backend: cfg.Backend,
		log:     cfg.Log,
		limits:  cfg.Limits,
		noise:   rate.NewLimiter(1, 10),
		self:    ownUser(),
	}
	s.limits.defaults()
	if s.log == nil {
		s.log = hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	}
	if len(cfg.AuthKey) > 0 {
		sum := sha256.Sum256(cfg.AuthKey)
		s.keySum = slices.Clone(sum[:])
	}
	return s, nil
}
