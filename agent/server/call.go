package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"lictor/rpc"
	"lictor/rpc/wire"
)

// A method is a typed function with its row: the same function answers calls
// over the network and calls of this process to itself (Endpoints.Call), so
// that both are forwarded, checked and held back in the same way.
type method struct {
	name   string
	access rpc.Access
	stream bool
	handle rpc.Handler
	// call is nil for a method that this process cannot call itself.
	call func(ctx context.Context, args, reply any) error
}

// unary is a method with one reply.
func unary[Req, Reply any](name string, access rpc.Access, run func(ctx context.Context, req *Req, reply *Reply) error) method {
	return method{
		name:   name,
		access: access,
		handle: func(ctx context.Context, c *rpc.Call) error {
			req, reply := new(Req), new(Reply)
			if err := c.Decode(req); err != nil {
				return err
			}
			if !blocks(req) {
				if err := run(ctx, req, reply); err != nil {
					return err
				}
				return c.Reply(reply)
			}
			ctx, stop := c.UntilGone(ctx)
			defer stop()
			err := run(ctx, req, reply)
			switch {
			case err == nil:
				return c.Reply(reply)
			case ctx.Err() != nil:
				return errStopping
			}
			return err
		},
		call: func(ctx context.Context, args, reply any) error {
			req, ok := args.(*Req)
			if !ok {
				v, ok := args.(Req)
				if !ok {
					return fmt.Errorf("server: %s takes %T, not %T", name, req, args)
				}
				req = &v
			}
			out, ok := reply.(*Reply)
			if !ok {
				if reply != nil {
					return fmt.Errorf("server: %s gives %T, not %T", name, out, reply)
				}
				out = new(Reply)
			}
			return run(ctx, req, out)
		},
	}
}

// errStopping ends a read that still waited: its caller has gone and does not see
// it, or this server stops, and the caller's router asks another one.
var errStopping = fmt.Errorf("%w: this server is stopping", rpc.ErrNoLeader)

// datacenter is a request that names the datacenter that must answer it.
type datacenter[Req any] interface {
	*Req
	RequestDatacenter() string
}

// anyServer is a method that every server of the datacenter asked for answers.
func anyServer[Req, Reply any, P datacenter[Req]](e *Endpoints, name string, access rpc.Access, run func(ctx context.Context, req *Req, reply *Reply) error) method {
	return unary(name, access, func(ctx context.Context, req *Req, reply *Reply) error {
		if done, err := e.forward(ctx, name, P(req).RequestDatacenter(), req, reply); done {
			return err
		}
		return run(ctx, req, reply)
	})
}

// leaderOnly is a method that the leader of the datacenter asked for answers.
// check, which may be nil, looks at the request before it is sent anywhere in
// this datacenter. again says whether it may run twice.
func leaderOnly[Req, Reply any, P datacenter[Req]](e *Endpoints, name string, access rpc.Access, again bool,
	check func(*Req) error, run func(ctx context.Context, req *Req, reply *Reply) error) method {
	return unary(name, access, func(ctx context.Context, req *Req, reply *Reply) error {
		if done, err := e.forward(ctx, name, P(req).RequestDatacenter(), req, reply); done {
			return err
		}
		if check != nil {
			if err := check(req); err != nil {
				return err
			}
		}
		c := leaderCall{method: name, args: req, reply: reply, again: again}
		return e.atLeader(ctx, c, func(ctx context.Context) error { return run(ctx, req, reply) })
	})
}

// write is a method that changes something: it runs on the leader, and is never
// sent a second time where the first may have arrived.
func write[Req, Reply any, P datacenter[Req]](e *Endpoints, name string, access rpc.Access,
	check func(*Req) error, run func(ctx context.Context, req *Req, reply *Reply) error) method {
	return leaderOnly[Req, Reply, P](e, name, access, false, check, run)
}

// Call calls a method of this server from within its process: no encoding and,
// where this server itself can answer, no network. args is the method's request
// or a pointer to it, which Call does not change; reply a pointer to its reply,
// or nil. What a reply points at may be shared with the state store and must not
// be changed.
func (e *Endpoints) Call(ctx context.Context, method string, args, reply any) error {
	m, ok := e.methods[method]
	if !ok || m.call == nil {
		return fmt.Errorf("rpc: %s %s", rpc.TextNoMethod, method)
	}
	return m.call(ctx, args, reply)
}

// Table is the method table: every method and who may call it.
func (e *Endpoints) Table() rpc.Table {
	t := make(rpc.Table, len(e.methods))
	for name, m := range e.methods {
		t[name] = rpc.Row{Access: m.access, Handle: m.handle, Stream: m.stream}
	}
	return t
}

// here says whether a request is for this server's datacenter.
func (e *Endpoints) here(dc string) bool { return dc == "" || dc == e.cfg.Datacenter }

// forward passes a request on to the datacenter it names and reports whether it
// did. The reply is decoded into reply.
func (e *Endpoints) forward(ctx context.Context, method, dc string, args, reply any) (bool, error) {
	if e.here(dc) {
		return false, nil
	}
	return true, hop(e.cfg.Router.Call(ctx, dc, method, args, reply))
}

// hop puts one prefix before the error of a call that went to another server
// (wire.md, section 3); where this server had nobody to send it to, it made no
// hop.
func hop(err error) error {
	for _, own := range []error{rpc.ErrNoPath, rpc.ErrNoServers, rpc.ErrRemoteDCUnreachable, rpc.ErrRateLimited} {
		if errors.Is(err, own) {
			return err
		}
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("rpc error making call: %w", err)
}

// errNotReady: this leader may not have applied yet what the one before it
// acknowledged. Routers retry it.
var errNotReady = errors.New("Not ready to serve consistent reads")

// leaderCall is a call for the leader to answer.
type leaderCall struct {
	method      string
	args, reply any
	again       bool               // it may run twice
	read        *wire.QueryOptions // nil: not a read with options
}

// atLeader runs here if this server is the leader, and else sends the call to
// the server that is. Until the hold timeout it waits for a leader, and tries
// again what surely has not run, or may run twice. A write that was sent and
// whose answer was lost is neither: its error says so.
//
// Forwarding ends: a server calls another the leader for a later term than any
// in which it led itself, so no chain of forwards comes back.
func (e *Endpoints) atLeader(ctx context.Context, c leaderCall, here func(context.Context) error) error {
	var h hold
	for {
		again, err := e.tryLeader(ctx, c, here)
		if err == nil || !again || !h.wait(ctx, e.cfg.Router.HoldTimeout) {
			return err
		}
	}
}

// tryLeader is one try of atLeader; again says that another may follow.
func (e *Endpoints) tryLeader(ctx context.Context, c leaderCall, here func(context.Context) error) (again bool, err error) {
	if e.cfg.Consensus.IsLeader() {
		// Before its barrier a new leader does not know all that was acknowledged.
		// Writes wait too: what they check first, a lock-delay say, is such a read.
		if !e.cfg.Consensus.ReadyForConsistentReads() {
			return true, errNotReady
		}
		if c.read != nil && c.read.RequireConsistent {
			if err := e.cfg.Consensus.VerifyLeader(ctx); err != nil {
				return ctx.Err() == nil, err
			}
		}
		err := here(ctx)
		return errors.Is(err, rpc.ErrNoLeader), err
	}
	addr, id := e.cfg.Consensus.Leader()
	if addr == "" || id == e.cfg.NodeID { // nobody, or this server in a moment
		return true, rpc.ErrNoLeader
	}
	if c.read != nil {
		var cancel context.CancelFunc
		ctx, cancel = e.patience(ctx, c.read)
		defer cancel()
	}
	err = e.cfg.Router.CallServer(ctx, e.cfg.Datacenter, addr, c.method, c.args, c.reply)
	var remote rpc.RemoteError
	switch {
	case err == nil:
		return false, nil
	case ctx.Err() != nil:
		again = false
	case errors.As(err, &remote):
		again = noLeaderThere(remote)
	default:
		again = c.again || rpc.NotSent(err)
	}
	return again, hop(err)
}

// noLeaderThere says whether a server answered that it did not run a call, for
// want of a leader.
func noLeaderThere(e rpc.RemoteError) bool {
	return strings.Contains(string(e), rpc.ErrNoLeader.Error()) || strings.Contains(string(e), errNotReady.Error())
}

// hold is a time during which something is tried again and again. The zero value
// is ready: it starts with the first wait.
type hold struct {
	end   time.Time
	max   time.Duration // of one pause
	pause time.Duration
}

// firstPause is short: elections of a cluster whose servers all answer are over
// in some tens of milliseconds.
const firstPause = 16 * time.Millisecond

// wait pauses before the next try, twice as long each time up to a 16th of the
// whole; false once the time is over or ctx has ended.
func (h *hold) wait(ctx context.Context, total func() time.Duration) bool {
	if h.end.IsZero() {
		t := total()
		h.end, h.max, h.pause = time.Now().Add(t), t/16, firstPause
	}
	left := time.Until(h.end)
	if left <= 0 || ctx.Err() != nil {
		return false
	}
	pause := min(h.pause/2+rand.N(h.pause/2+1), left)
	h.pause = min(2*h.pause, max(h.max, firstPause))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
