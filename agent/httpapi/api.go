// Package httpapi is the HTTP and HTTPS API: one file a family of endpoints, a
// table of routes, and the bounds that stand before any of them.
//
// Every answer has a Content-Type and X-Content-Type-Options: nosniff. A body is
// bounded before it is read, a header before it is complete, connections per
// client address before they cost anything. There is no access control on the
// plain listener beyond its address and allow_write_http_from: that is what
// HTTPS with verify_incoming is for.
package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
	"github.com/prometheus/client_golang/prometheus"

	"lictor/agent/logs"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

// Backend is what the API asks of the agent. Its methods may be called from any
// goroutine.
type Backend interface {
	Members(wan bool) []serf.Member
	LocalMember() serf.Member
	Join(ctx context.Context, addrs []string, wan bool) (int, error)
	Leave(ctx context.Context) error
	ForceLeave(node string, prune, wan bool) error
	Reload(ctx context.Context) error
	Stats() map[string]map[string]string
	Keyring(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error)
	FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) error
	Events() []wire.UserEvent
	EventsChanged() <-chan struct{}
	Monitor(level string, json bool) (*logs.Stream, error)
	StatusLeader(ctx context.Context, dc string) (string, error)
	StatusPeers(ctx context.Context, dc string) ([]string, error)
	Self() Self

	// RPC calls a method of the servers of this agent's datacenter, which pass it
	// on where it names another; reply is a pointer. What a reply refers to may be
	// shared, and is not changed.
	RPC(ctx context.Context, method string, args, reply any) error
	// Snapshot saves or restores the state of a datacenter, as req says. For a
	// restore, in is the archive, read to its end. For a save, the archive follows
	// until EOF; the caller closes it.
	Snapshot(ctx context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.QueryMeta, io.ReadCloser, error)
	// Registry is what this agent registered itself.
	Registry() Registry
}

// Self is the answer of /v1/agent/self, less what Backend has elsewhere.
type Self struct {
	Config      SelfConfig
	DebugConfig map[string]any // secrets replaced
	Coord       *coordinate.Coordinate
	Meta        map[string]string
}

// SelfConfig is the part of the configuration that is shown by itself.
type SelfConfig struct {
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	NodeID            string
	Revision          string
	Server            bool
	Version           string
	BuildDate         string
}

// Config is what an API is made of.
type Config struct {
	Backend Backend
	Log     hclog.Logger
	TLS     *tlsutil.Configurator // for secure listeners

	MaxConnsPerClient  int // limits.http_max_conns_per_client
	HandshakeTimeout   time.Duration
	StallTimeout       time.Duration // for a body to arrive, and for a client to take what is written; 0: 30s
	DrainTimeout       time.Duration // for answers on a connection that Recheck refuses; 0: 5s
	MaxHeaderBytes     int           // 0: 64 KiB
	BlockEndpoints     []string
	ResponseHeaders    map[string]string
	AllowWriteHTTPFrom []netip.Prefix // empty: everyone
	DisablePathFilter  bool           // let control bytes in paths through
	EnableDebug        bool           // /debug/pprof
	Pretty             bool           // indent every JSON answer

	Metrics    *metrics.InmemSink
	Prometheus prometheus.Gatherer // nil: off

	Data Data
}

// Data is what the endpoints need that read and write what the servers hold. A
// zero number or time takes its default.
type Data struct {
	Datacenter string // this agent's
	Node       string // this agent's name

	DefaultQueryTime  time.Duration // default_query_time
	MaxQueryTime      time.Duration // max_query_time
	HoldTimeout       time.Duration // performance.rpc_hold_timeout
	DiscoveryMaxStale time.Duration // discovery_max_stale; 0: default reads are of the leader
	KVMaxValueSize    int64         // limits.kv_max_value_size, bytes
	TxnMaxReqLen      int64         // limits.txn_max_req_len, bytes; never below KVMaxValueSize
	NoCache           bool          // http_config.use_cache is false: ?cached is ignored, nothing is kept
	NoCoordinates     bool          // disable_coordinates
	TranslateWAN      bool          // translate_wan_addrs
}

func (d Data) withDefaults() Data {
	d.DefaultQueryTime = orDefault(d.DefaultQueryTime, 5*time.Minute)
	d.MaxQueryTime = orDefault(d.MaxQueryTime, 10*time.Minute)
	d.HoldTimeout = orDefault(d.HoldTimeout, 7*time.Second)
	d.KVMaxValueSize = orDefault(d.KVMaxValueSize, 512<<10)
	d.TxnMaxReqLen = max(d.TxnMaxReqLen, d.KVMaxValueSize)
	return d
}

// Bounds that are not settings (threats.md's starting values).
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 64 << 10
	maxBodyBytes    = 512 << 10
	stallTimeout    = 30 * time.Second
	drainTimeout    = 5 * time.Second
	maxConns        = 16384
	shutdownGrace   = 2 * time.Second
	defaultHandsake = 5 * time.Second
)

// API serves the routes on any number of listeners.
type API struct {
	cfg     Config
	log     hclog.Logger
	handler http.Handler
	conns   *connLimit
	members memberCache
	cache   cache
	// plainUntil is until when the servers are taken to know the family's methods
	// alone; nil while they know ours.
	plainUntil atomic.Pointer[time.Time]

	mu     sync.Mutex // guards secure
	secure map[*tls.Conn]*secureConn
}

// New checks cfg and builds the routes; nothing listens yet.
func New(cfg Config) (*API, error) {
	if cfg.Backend == nil {
		return nil, errors.New("httpapi: no backend")
	}
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	cfg.StallTimeout = orDefault(cfg.StallTimeout, stallTimeout)
	cfg.DrainTimeout = orDefault(cfg.DrainTimeout, drainTimeout)
	cfg.Data = cfg.Data.withDefaults()
	a := &API{cfg: cfg, log: cfg.Log, conns: newConnLimit(cfg.MaxConnsPerClient, maxConns), secure: map[*tls.Conn]*secureConn{}}
	a.handler = a.routes()
	return a, nil
}

// Handler answers requests as a listener does, for callers in this process.
func (a *API) Handler() http.Handler { return a.handler }

// SetMaxConnsPerClient replaces the limit for connections that come from now on.
func (a *API) SetMaxConnsPerClient(n int) { a.conns.setPerClient(n) }

// Serve answers on ln until ctx ends. It closes ln, lets answers that are being
// written finish for a short while, and returns only once every handler has
// returned. secure says that ln is the HTTPS listener.
func (a *API) Serve(ctx context.Context, ln net.Listener, secure bool) error {
	if secure {
		if _, err := a.cfg.TLS.IncomingHTTPS(); err != nil {
			ln.Close()
			return fmt.Errorf("ports.https: %w", err)
		}
	}
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.cache.use()()
	var handlers sync.WaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			a.handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    orDefault(a.cfg.MaxHeaderBytes, maxHeaderBytes),
		// A stream's own deadline (see bound) does not end a connection that is not
		// read at all.
		HTTP2:       &http.HTTP2Config{WriteByteTimeout: a.cfg.StallTimeout},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    a.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		ConnState:   a.connState,
	}
	limited := &limitListener{Listener: ln, api: a}
	if secure {
		srv.ConnContext = connContext
		limited.secure = true
		limited.wrap = a.startTLS
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer done()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(limited)
	limited.stop()
	if stop() {
		srv.Close() // ctx had not ended: the listener failed
	} else {
		<-stopped
		err = nil
	}
	cancel()
	handlers.Wait()
	return err
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// statusError is an error with the status that it is answered with.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

func failure(code int, format string, args ...any) error {
	return statusError{code, fmt.Sprintf(format, args...)}
}

// writeError answers with an error: a bare text, as the family does.
func writeError(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var status statusError
	if errors.As(err, &status) {
		code = status.code
	}
	writeText(w, code, err.Error())
}
