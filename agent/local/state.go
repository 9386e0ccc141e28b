// Package local is what this agent registered itself: its services and checks,
// from configuration files and from the API. It runs the checks, keeps what came
// by the API in the data directory, and keeps the servers in agreement with it.
//
// The agent is the authority on its own node: what the servers have under its
// name and it has not is deregistered, but for the entries that servers make
// themselves (the service consul, the check serfHealth).
//
// Files are 0600, written under another name and renamed. One that cannot be
// read is reported, left out and kept: it may be all that is left of a
// registration.
package local

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/checks"
	"lictor/rpc/wire"
)

// Errors for callers to decide by. Their texts are the family's where clients
// match them.
var (
	// ErrUnknownService and ErrUnknownCheck: nothing of that id is registered.
	ErrUnknownService = errors.New("unknown service")
	ErrUnknownCheck   = errors.New("unknown check")
	// ErrInvalid: what was asked for makes no sense; the caller's fault.
	ErrInvalid = errors.New("invalid")
	// ErrScriptsDisabled: the check would run a program, and the agent was not
	// told that it may.
	ErrScriptsDisabled = errors.New("Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")
)

// kindOf is an error with a text of its own that is one of the above.
type kindOf struct {
	text string
	kind error
}

func (e kindOf) Error() string { return e.text }
func (e kindOf) Unwrap() error { return e.kind }

func invalid(format string, args ...any) error {
	return kindOf{fmt.Sprintf(format, args...), ErrInvalid}
}

// RPC reaches the servers.
type RPC interface {
	Call(ctx context.Context, method string, args, reply any) error
}

// Config is what State needs of the agent. A zero field takes its default.
type Config struct {
	Node    wire.Node // as it is to be in the catalog, indexes aside
	DataDir string    // "": nothing is kept
	RPC     RPC
	// Unanswered says whether an error of RPC is that no server has looked at the
	// call, so that the next one would end the same way. nil: none is.
	Unanswered func(error) bool
	Log        hclog.Logger
	// Nodes is the size of the cluster, which stretches the interval. nil: 1.
	Nodes func() int
	// TLS makes the client side of checks' connections. nil: the system's CAs.
	TLS func(serverName string, skipVerify bool) *tls.Config

	// AllowScripts and AllowLocalScripts let checks from anywhere, or from files
	// alone, run programs.
	AllowScripts, AllowLocalScripts bool

	MaxOutput     int           // check_output_max_size, bytes
	DiscardOutput bool          // discard_check_output
	UpdateDelay   time.Duration // check_update_interval: how long a change of output alone may wait; 0 is not at all

	Services []*Service           // from files
	Checks   []*checks.Definition // from files
}

// State is the registry of this agent's services and checks. All its methods may
// be called from any goroutine.
type State struct {
	cfg   Config
	log   hclog.Logger
	files *store        // nil when nothing is kept
	dirty chan struct{} // holds one: something is to be told to the servers
	full  chan struct{} // holds one: compare everything soon
	tasks sync.WaitGroup

	reg sync.Mutex // one registration at a time; held while files are written; before mu

	mu           sync.Mutex      // guards the fields below
	run          context.Context // of the checks; nil while they do not run
	node         wire.Node
	nodeInSync   bool
	discard      bool
	services     map[string]*service
	checks       map[string]*check
	goneServices map[string]string // ids the servers have yet to forget, each with its token
	goneChecks   map[string]goneCheck
	changed      chan struct{} // closed and replaced at each change
}

// service is one registration. Neither svc nor ns is changed, only replaced.
type service struct {
	svc    *Service // as it was asked for, ids filled in
	ns     *wire.NodeService
	inSync bool
}

// check is one registration and its status. Neither def nor hc is changed, only
// hc replaced.
type check struct {
	state  *State
	def    *checks.Definition
	hc     *wire.HealthCheck
	inSync bool

	run      checks.Check // nil: nothing runs, as for maintenance
	cancel   context.CancelFunc
	later    *time.Timer // nil, or waits to tell the servers of a new output
	critical time.Time   // since when; zero: it is not
}

type goneCheck struct{ token, service string }

// New makes the registry: what the configuration files say, and what was kept in
// the data directory. An error is about the files' definitions.
func New(cfg Config) (*State, error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	if cfg.Nodes == nil {
		cfg.Nodes = func() int { return 1 }
	}
	if cfg.Unanswered == nil {
		cfg.Unanswered = func(error) bool { return false }
	}
	s := &State{
		cfg: cfg, log: cfg.Log, node: cfg.Node, discard: cfg.DiscardOutput,
		dirty: make(chan struct{}, 1), full: make(chan struct{}, 1), changed: make(chan struct{}),
		services: map[string]*service{}, checks: map[string]*check{},
		goneServices: map[string]string{}, goneChecks: map[string]goneCheck{},
	}
	if cfg.DataDir != "" {
		var err error
		if s.files, err = openStore(cfg.DataDir, cfg.Log); err != nil {
			return nil, err
		}
	}
	if err := s.restore(cfg.Services, cfg.Checks); err != nil {
		return nil, err
	}
	return s, nil
}

// Services are the registered services by id. The caller owns the map and does
// not change what is in it.
func (s *State) Services() map[string]*wire.NodeService {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*wire.NodeService, len(s.services))
	for id, e := range s.services {
		out[id] = e.ns
	}
	return out
}

// Service is one of Services.
func (s *State) Service(id string) (*wire.NodeService, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.services[id]; e != nil {
		return e.ns, true
	}
	return nil, false
}

// HasService says whether a service of this id is registered.
func (s *State) HasService(id string) bool {
	_, ok := s.Service(id)
	return ok
}

// Checks are the registered checks by id. The caller owns the map and does not
// change what is in it.
func (s *State) Checks() map[string]*wire.HealthCheck {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*wire.HealthCheck, len(s.checks))
	for id, e := range s.checks {
		out[id] = e.hc
	}
	return out
}

// Changed is closed at the next change of Services or Checks.
func (s *State) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// changedLocked tells who waits for a change, and the servers soon.
func (s *State) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// tell has what is not in sync sent to the servers at once.
func (s *State) tell() { signal(s.dirty) }

// SyncNow has everything compared with the servers soon: one has joined.
func (s *State) SyncNow() { signal(s.full) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SetNodeMeta replaces the metadata of the node, as a reload does.
func (s *State) SetNodeMeta(meta map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !maps.Equal(s.node.Meta, meta) {
		s.node.Meta = maps.Clone(meta)
		s.nodeInSync = false
		s.tell()
	}
}

// SetDiscardOutput replaces discard_check_output, as a reload does.
func (s *State) SetDiscardOutput(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = on
}

// Stats are the numbers of the agent section of info.
func (s *State) Stats() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	monitors, ttls := 0, 0
	for _, e := range s.checks {
		switch {
		case e.run == nil:
		case e.def.Kind() == checks.KindTTL:
			ttls++
		default:
			monitors++
		}
	}
	return map[string]string{
		"services": strconv.Itoa(len(s.services)), "checks": strconv.Itoa(len(s.checks)),
		"check_monitors": strconv.Itoa(monitors), "check_ttls": strconv.Itoa(ttls),
	}
}
