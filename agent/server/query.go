package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-metrics"

	"lictor/agent/server/state"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// readRequest and readReply are a request with options and a reply with their
// answers.
type readRequest[Req any] interface {
	*Req
	wire.ReadRequest
}

type readReply[Reply any] interface {
	*Reply
	Meta() *wire.QueryMeta
}

// errNothing is what a query returns, with its index, for something that is not
// there. The caller sees an empty reply and no error; who waits for it to come
// is not woken by other things that do.
var errNothing = errors.New("nothing there")

// read is a method that reads the state store. query fills reply from s, adds to
// ws what it has looked at, and returns the index that a blocking query
// compares; it runs anew for every wake-up and so sets all that it ever sets.
// check, which may be nil, looks at the request first.
//
// Where the answer comes from: with AllowStale from here, else from the leader;
// with RequireConsistent from a leader that has just asked a majority whether it
// is one.
func read[Req, Reply any, P readRequest[Req], R readReply[Reply]](e *Endpoints, name string, access rpc.Access,
	check func(*Req) error, query func(s *state.Store, ws state.WatchSet, req *Req, reply *Reply) (uint64, error)) method {
	return unary(name, access, func(ctx context.Context, req *Req, reply *Reply) error {
		o := P(req).Options()
		if dc := P(req).RequestDatacenter(); !e.here(dc) {
			ctx, cancel := e.patience(ctx, o)
			defer cancel()
			_, err := e.forward(ctx, name, dc, req, reply)
			return err
		}
		if check != nil {
			if err := check(req); err != nil {
				return err
			}
		}
		if o.MinQueryIndex == 0 && (e.mayAnswer(o) || e.leadsFor(o)) { // the usual case, and the cheapest
			idx, err := query(e.cfg.State(), nil, req, reply)
			if err != nil && err != errNothing {
				return err
			}
			e.meta(o, R(reply).Meta(), idx)
			return nil
		}
		answer := func(ctx context.Context) error {
			return e.query(ctx, o, R(reply).Meta(), func(s *state.Store, ws state.WatchSet) (uint64, error) {
				return query(s, ws, req, reply)
			})
		}
		if e.mayAnswer(o) {
			return answer(ctx)
		}
		return e.atLeader(ctx, leaderCall{method: name, args: req, reply: reply, again: true, read: o}, answer)
	})
}

// blocks says whether a request is a blocking query.
func blocks(req any) bool {
	r, ok := req.(interface{ Options() *wire.QueryOptions })
	return ok && r.Options().MinQueryIndex > 0
}

// mayAnswer says whether this server, leader or not, may answer a read from what
// it has.
func (e *Endpoints) mayAnswer(o *wire.QueryOptions) bool {
	if !o.AllowStale || o.RequireConsistent {
		return false
	}
	return o.MaxStaleDuration <= 0 || e.cfg.Consensus.IsLeader() || e.cfg.Consensus.LastContact() <= o.MaxStaleDuration
}

// leadsFor says whether this server is the leader and may answer a read without
// asking anybody.
func (e *Endpoints) leadsFor(o *wire.QueryOptions) bool {
	return !o.RequireConsistent && e.cfg.Consensus.IsLeader() && e.cfg.Consensus.ReadyForConsistentReads()
}

// Bounds of a blocking query, where Config has none (limits-and-defaults.md, 5).
const (
	defaultQueryTime = 300 * time.Second
	maxQueryTime     = 600 * time.Second
	// waitJitter is the part of the wait that chance may add to it.
	waitJitter = 16
)

// wait is how long a blocking query waits, before chance adds to it.
func (e *Endpoints) wait(o *wire.QueryOptions) time.Duration {
	wait := o.MaxQueryTime
	if wait <= 0 {
		wait = e.cfg.DefaultQueryTime
	}
	return min(wait, e.cfg.MaxQueryTime)
}

// patience bounds a call to a server that may block there: as long as it may wait
// and as long as it may be held back.
func (e *Endpoints) patience(ctx context.Context, o *wire.QueryOptions) (context.Context, context.CancelFunc) {
	if o.MinQueryIndex == 0 {
		return ctx, func() {}
	}
	wait := e.wait(o)
	return context.WithTimeout(ctx, wait+wait/waitJitter+e.cfg.Router.HoldTimeout())
}

// query runs a query once, or, for a blocking one, until its index has passed
// o.MinQueryIndex or the time is over; then the last result is the answer. It
// waits for nothing but what the query has watched and for a snapshot that
// replaces the whole store, after which it answers whatever the index is. The
// error of a ctx that ended is returned.
func (e *Endpoints) query(ctx context.Context, o *wire.QueryOptions, m *wire.QueryMeta, run func(*state.Store, state.WatchSet) (uint64, error)) error {
	if o.MinQueryIndex == 0 {
		idx, err := run(e.cfg.State(), nil)
		if err != nil && err != errNothing {
			return err
		}
		e.meta(o, m, idx)
		return nil
	}
	e.blocking(1)
	defer e.blocking(-1)
	wait := e.wait(o)
	timed, cancel := context.WithTimeout(ctx, wait+rand.N(wait/waitJitter+1))
	defer cancel()

	nothing := false  // the run before found nothing
	restored := false // the store of the run before was replaced
	for {
		s := e.cfg.State()
		ws := state.NewWatchSet()
		ws.Add(s.AbandonCh())
		idx, err := run(s, ws)
		if err != nil && err != errNothing {
			return err
		}
		e.meta(o, m, idx)
		if restored || idx > o.MinQueryIndex && !(nothing && err == errNothing) {
			return nil
		}
		nothing = err == errNothing
		if ws.WatchCtx(timed) != nil {
			e.meta(o, m, idx) // as of now
			return ctx.Err()
		}
		select {
		case <-s.AbandonCh():
			restored = true
		default:
		}
	}
}

func (e *Endpoints) blocking(n int64) {
	metrics.SetGauge([]string{"rpc", "queries_blocking"}, float32(e.blocked.Add(n)))
}

// meta says how fresh an answer is. Its index is never 0: a client that waited
// for more than 0 would not wait at all.
func (e *Endpoints) meta(o *wire.QueryOptions, m *wire.QueryMeta, idx uint64) {
	m.Index = max(idx, 1)
	switch {
	case o.RequireConsistent:
		m.ConsistencyLevel = "consistent"
	case o.AllowStale:
		m.ConsistencyLevel = "stale"
	default:
		m.ConsistencyLevel = "leader"
	}
	if e.cfg.Consensus.IsLeader() {
		m.KnownLeader, m.LastContact = true, 0
		return
	}
	addr, _ := e.cfg.Consensus.Leader()
	m.KnownLeader, m.LastContact = addr != "", e.cfg.Consensus.LastContact()
}
