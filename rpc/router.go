package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-metrics"
	"golang.org/x/time/rate"

	"lictor/rpc/wire"
)

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
	// Nodes gives the cluster's size, which stretches Rebalance and, as it is when
	// the servers are set, says whether calls may go to the leader first. nil: 0.
	Nodes func() int
	// FollowLeader keeps asking the servers of the local datacenter which of them
	// leads, for CallLeader.
	FollowLeader bool
}

// readOnly are the methods that may run twice, besides Status.*: they read, or,
// like a keyring operation and the renewal of a session, do again what has been
// done.
var readOnly = map[string]bool{
	"Catalog.ListDatacenters": true, "Catalog.ListNodes": true, "Catalog.ListServices": true, "Catalog.ServiceList": true,
	"Catalog.ServiceNodes": true, "Catalog.NodeServices": true, "Catalog.NodeServiceList": true,
	"Health.ChecksInState": true, "Health.NodeChecks": true, "Health.ServiceChecks": true, "Health.ServiceNodes": true,
	"Health.ServiceNodesJSON": true,
	"KVS.Get":                 true, "KVS.List": true, "KVS.ListKeys": true,
	"Session.Get": true, "Session.List": true, "Session.NodeSessions": true, "Session.Renew": true,
	"Txn.Read":          true,
	"Coordinate.Update": true, "Coordinate.ListDatacenters": true, "Coordinate.ListNodes": true, "Coordinate.Node": true,
	"Internal.NodeInfo": true, "Internal.NodeDump": true, "Internal.ServiceDump": true, "Internal.CatalogOverview": true,
	"Internal.AgentInfo": true, "Internal.KeyringOperation": true,
	"Operator.RaftGetConfiguration": true, "Operator.AutopilotGetConfiguration": true, "Operator.ServerHealth": true,
	"Operator.AutopilotState": true, "Operator.Usage": true,
}

// DefaultReadOnly says whether a method may run twice: those of this family that
// do no harm by it. A method that it does not know may not.
func DefaultReadOnly(method string) bool {
	return readOnly[method] || strings.HasPrefix(method, "Status.")
}

// Router knows the servers of every datacenter and picks one for each call. Its
// methods may be called from any goroutine.
type Router struct {
	local string
	pool  *Pool
	opts  RouterOptions
	log   hclog.Logger
	hold  atomic.Int64
	limit *rate.Limiter
	ask   chan struct{} // the leader is to be asked for

	mu      sync.Mutex // guards the fields below
	servers map[string][]Target
	// leader is the name of the server that is said to lead the local datacenter,
	// "" for none. It is a hint: it may be wrong, or not be in the list.
	leader string
	many   bool // more than leaderNodes, when the servers were last set
	// known are the datacenters that had servers and have none now: asked for,
	// they are unreachable and not unknown.
	known map[string]bool
}

// NewRouter returns a router for an agent of localDC. Run should run beside it.
func NewRouter(localDC string, pool *Pool, o RouterOptions) *Router {
	setDefault(&o.HoldTimeout, 7*time.Second)
	setDefault(&o.Burst, 1000)
	setDefault(&o.Rebalance, 2*time.Minute)
	if o.ReadOnly == nil {
		o.ReadOnly = DefaultReadOnly
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	r := &Router{
		local: localDC, pool: pool, opts: o, log: o.Log,
		limit: rate.NewLimiter(limitOf(o.Rate), o.Burst), ask: make(chan struct{}, 1), servers: map[string][]Target{}, known: map[string]bool{},
	}
	r.hold.Store(int64(o.HoldTimeout))
	return r
}

func limitOf(perSecond float64) rate.Limit {
	if perSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// SetRate replaces the rate limit; rate 0 means none.
func (r *Router) SetRate(perSecond float64, burst int) {
	setDefault(&burst, 1000)
	r.limit.SetLimit(limitOf(perSecond))
	r.limit.SetBurst(burst)
}

// SetHoldTimeout replaces the hold timeout.
func (r *Router) SetHoldTimeout(d time.Duration) {
	setDefault(&d, 7*time.Second)
	r.hold.Store(int64(d))
}

// SetServers replaces the list of dc; servers known before keep their place,
// new ones are put at random places, so that clients spread over them.
func (r *Router) SetServers(dc string, servers []Target) {
	many := dc == r.local && r.opts.Nodes != nil && r.opts.Nodes() > leaderNodes
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Target
	for _, old := range r.servers[dc] {
		if slices.Contains(servers, old) {
			list = append(list, old)
		}
	}
	for _, t := range servers {
		if !slices.Contains(list, t) {
			list = slices.Insert(list, rand.IntN(len(list)+1), t)
		}
	}
	if dc == r.local {
		r.many = many
		if len(list) > len(r.servers[dc]) {
			r.askLeader()
		}
	}
	if len(list) > 0 {
		r.servers[dc] = list
		delete(r.known, dc)
		return
	}
	if _, had := r.servers[dc]; had {
		delete(r.servers, dc)
		r.known[dc] = true
	}
}

// Forget drops a datacenter altogether: calls to it are answered with ErrNoPath
// from now on.
func (r *Router) Forget(dc string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.servers, dc)
	delete(r.known, dc)
}

// HoldTimeout is for how long a call may be held back and tried again while
// there is no server, or no leader, to answer it.
func (r *Router) HoldTimeout() time.Duration { return time.Duration(r.hold.Load()) }

// Servers returns the list of dc, the one in use first.
func (r *Router) Servers(dc string) []Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.servers[dc])
}

// Datacenters returns the names of all datacenters that have servers, sorted.
func (r *Router) Datacenters() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var dcs []string
	for dc := range r.servers {
		dcs = append(dcs, dc)
	}
	slices.Sort(dcs)
	return dcs
}

// leaderNodes is the size of the cluster up to which CallLeader goes to the
// leader first. Each agent that does so keeps a connection to it, and the leader
// pays for their TLS state and keep-alives, and after an election for all their
// handshakes at once: half a second of a core, and more in bigger clusters,
// whose connections therefore stay spread over all servers.
const leaderNodes = 512

// SetLeader says which server leads the local datacenter, by its name; "" that
// nobody knows. It may be wrong: the server that gets a call passes it on.
func (r *Router) SetLeader(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leader = name
}

// askLeader has Run ask who leads.
func (r *Router) askLeader() {
	select {
	case r.ask <- struct{}{}:
	default:
	}
}

// led returns the server that is said to lead and how many there are; false
// where none is to be preferred.
func (r *Router) led() (Target, int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.many || r.leader == "" {
		return Target{}, 0, false
	}
	list := r.servers[r.local]
	for _, t := range list {
		if t.Name == r.leader {
			return t, len(list), true
		}
	}
	return Target{}, 0, false
}

// pick returns the server in use and how many there are.
func (r *Router) pick(dc string) (Target, int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.servers[dc]
	switch {
	case len(list) > 0:
		return list[0], len(list), nil
	case dc == r.local:
		return Target{}, 0, ErrNoServers
	case r.known[dc]:
		return Target{}, 0, ErrRemoteDCUnreachable
	}
	return Target{}, 0, ErrNoPath
}

// failed moves a server that did not answer to the end of its list. One that was
// said to lead is not preferred again before somebody says so anew.
func (r *Router) failed(dc string, t Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.servers[dc]
	if i := slices.Index(list, t); i >= 0 && len(list) > 1 {
		r.servers[dc] = append(slices.Delete(slices.Clone(list), i, i+1), t)
	}
	if dc == r.local && t.Name == r.leader {
		r.leader = ""
		r.askLeader()
	}
}

// retryable are errors of a server that another one, or the same one a little
// later, may not have (wire.md, section 3).
var retryable = []string{
	ErrNoLeader.Error(),
	"Raft leader not found in server lookup mapping",
	"Not ready to serve consistent reads",
	"rate limit exceeded, try again later or against a different server",
}

func mayRetry(e RemoteError) bool {
	for _, text := range retryable {
		if strings.Contains(string(e), text) {
			return true
		}
	}
	return false
}

// Call calls method on a server of dc ("" = the local one). Until the hold
// timeout it tries again: on another server when a call was not sent or may run
// twice, and after a pause when servers say that there is no leader yet. Each
// known server is tried once, whatever the hold timeout.
func (r *Router) Call(ctx context.Context, dc, method string, args, reply any) error {
	return r.try(ctx, dc, method, false, func(ctx context.Context, t Target) error {
		return r.pool.Call(ctx, t, method, args, reply)
	})
}

// CallLeader is Call for what the leader of the local datacenter must answer. It
// goes to the leader first, where one is known and the cluster is not too big;
// every other server would pass it on to there.
func (r *Router) CallLeader(ctx context.Context, method string, args, reply any) error {
	return r.try(ctx, r.local, method, true, func(ctx context.Context, t Target) error {
		return r.pool.Call(ctx, t, method, args, reply)
	})
}

// CallServer calls method on the one server of dc at addr, once: whether a call
// that failed may be sent again is for the caller to say (see NotSent). The rate
// limit is not for it: what a server passes on has been let in already.
func (r *Router) CallServer(ctx context.Context, dc, addr, method string, args, reply any) error {
	return r.pool.Call(ctx, r.target(dc, addr), method, args, reply)
}

// target is the known server of dc at addr; one without a name if there is none.
func (r *Router) target(dc, addr string) Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.servers[dc] {
		if t.Addr == addr {
			return t
		}
	}
	return Target{Addr: addr, Datacenter: dc, Name: addr}
}

// Stream is Call for a streaming method. Only the opening is tried again.
func (r *Router) Stream(ctx context.Context, dc, method string, args any) (st *Stream, err error) {
	err = r.try(ctx, dc, method, false, func(ctx context.Context, t Target) (err error) {
		st, err = r.pool.Stream(ctx, t, method, args)
		return err
	})
	return st, err
}

func (r *Router) try(ctx context.Context, dc, method string, leader bool, call func(context.Context, Target) error) error {
	if dc == "" {
		dc = r.local
	}
	if !r.limit.Allow() {
		metrics.IncrCounter([]string{"client", "rpc", "exceeded"}, 1)
		return ErrRateLimited
	}
	hold := time.Duration(r.hold.Load())
	end := time.Now().Add(hold)
	pause := hold / 16
	for tried := 1; ; tried++ {
		var t Target
		var n int
		var err error
		if leader {
			t, n, leader = r.led()
		}
		if !leader {
			t, n, err = r.pick(dc)
		}
		leader = false // once: one that fails is a server like the others
		if errors.Is(err, ErrNoPath) {
			return err
		}
		if err == nil {
			err = call(ctx, t)
			if err == nil {
				return nil
			}
			var remote RemoteError
			isRemote := errors.As(err, &remote)
			switch {
			case ctx.Err() != nil:
				return err
			case isRemote && !mayRetry(remote):
				return err
			case !isRemote && !NotSent(err) && !r.opts.ReadOnly(method):
				r.failed(dc, t)
				return err
			}
			r.failed(dc, t)
			metrics.IncrCounter([]string{"client", "rpc", "failed"}, 1)
			if !isRemote && tried < n {
				continue // a server that is gone: the next one, at once
			}
		}
		left := time.Until(end)
		if left <= 0 {
			return r.gaveUp(dc, err)
		}
		// Jittered and doubling: many clients that lost the same server do not
		// come back together.
		wait := min(pause/2+rand.N(pause/2+1), left)
		pause *= 2
		select {
		case <-ctx.Done():
			return r.gaveUp(dc, err)
		case <-time.After(wait):
		}
	}
}

// gaveUp makes the error of a call that no server answered.
func (r *Router) gaveUp(dc string, err error) error {
	var remote RemoteError
	if dc == r.local || errors.As(err, &remote) || errors.Is(err, ErrRemoteDCUnreachable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRemoteDCUnreachable, err)
}

// perNode stretches the time between changes of server in big clusters
// (limits-and-defaults.md, section 4).
const perNode = 15625 * time.Microsecond

// askPause keeps a router whose leader does not answer from asking in a loop.
const askPause = time.Second

// Run moves to another, answering server from time to time, so that clients
// spread over servers that came later, and follows the leader; until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	var move <-chan time.Time
	for {
		if move == nil {
			move = time.After(r.untilRebalance())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-move:
			move = nil
			r.rebalance(ctx)
			r.findLeader(ctx)
		case <-r.ask:
			r.findLeader(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(askPause):
			}
		}
	}
}

// untilRebalance is how long the server in use stays.
func (r *Router) untilRebalance() time.Duration {
	every := r.opts.Rebalance
	if n := len(r.Servers(r.local)); n > 0 && r.opts.Nodes != nil {
		every = max(every, time.Duration(r.opts.Nodes())*perNode/time.Duration(n))
	}
	return every + rand.N(every/2+1)
}

// findLeader asks the server in use who leads. An answer that knows nobody
// changes nothing: there is an election, whose end the members hear of.
func (r *Router) findLeader(ctx context.Context) {
	list := r.Servers(r.local)
	if !r.opts.FollowLeader || len(list) < 2 {
		return
	}
	var addr string
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := r.pool.Call(ctx, list[0], "Status.Leader", wire.DCSpecificRequest{Datacenter: r.local}, &addr)
	if i := slices.IndexFunc(list, func(t Target) bool { return t.Addr == addr }); err == nil && i >= 0 {
		r.SetLeader(list[i].Name)
	}
}

// pingTimeout bounds the question whether a server answers.
const pingTimeout = 5 * time.Second

func (r *Router) rebalance(ctx context.Context) {
	list := r.Servers(r.local)
	if len(list) < 2 {
		return
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, t := range list {
		ping, cancel := context.WithTimeout(ctx, pingTimeout)
		err := r.pool.Call(ping, t, "Status.Ping", struct{}{}, nil)
		cancel()
		if err != nil {
			continue
		}
		r.mu.Lock()
		now := r.servers[r.local]
		if i := slices.Index(now, t); i > 0 {
			next := slices.Delete(slices.Clone(now), i, i+1)
			r.servers[r.local] = slices.Insert(next, 0, t)
		}
		r.mu.Unlock()
		return
	}
}
