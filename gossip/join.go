package gossip

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/serf/serf"
)

// AddrError is an address that could not be joined through, and why.
type AddrError struct {
	Addr string
	Err  error
}

func (e AddrError) Error() string { return e.Addr + ": " + e.Err.Error() }
func (e AddrError) Unwrap() error { return e.Err }

// Join joins the pool through each address ("host", "host:port" or
// "name/host:port"; the pool's own port is the default) and returns how many
// answered. A failure for reasons of encryption says so. It blocks for the
// library's stream timeout (10 s, WAN 30 s) per address at most, or until ctx
// ends.
func (p *Pool) Join(ctx context.Context, addrs []string) (n int, failed []AddrError) {
	for i, addr := range addrs {
		type result struct {
			n   int
			err error
		}
		done := make(chan result, 1)
		go func() {
			n, err := p.serf.Join([]string{addr}, true)
			done <- result{n, err}
		}()
		select {
		case r := <-done:
			n += r.n
			if r.err != nil {
				failed = append(failed, AddrError{addr, p.explainJoin(r.err)})
			}
		case <-ctx.Done():
			for _, rest := range addrs[i:] {
				failed = append(failed, AddrError{rest, ctx.Err()})
			}
			return n, failed
		}
	}
	return n, failed
}

// RetryOptions say how RetryJoin goes on.
type RetryOptions struct {
	Addrs    []string
	Interval time.Duration // between rounds
	Max      int           // rounds that may fail; 0: no end
}

// RetryJoin joins through the addresses, again and again until one answers. Its
// error says that Max rounds have failed; it is nil once joined, and when ctx
// ends.
func (p *Pool) RetryJoin(ctx context.Context, o RetryOptions) error {
	p.log.Info("joining", "pool", p.cfg.Kind.String(), "addrs", o.Addrs)
	for round := 1; ; round++ {
		n, failed := p.Join(ctx, o.Addrs)
		if ctx.Err() != nil {
			return nil
		}
		if n > 0 {
			p.log.Info("joined", "pool", p.cfg.Kind.String(), "contacted", n)
			return nil
		}
		for _, f := range failed {
			p.log.Warn("join failed", "pool", p.cfg.Kind.String(), "addr", f.Addr, "error", f.Err)
		}
		if o.Max > 0 && round >= o.Max {
			return fmt.Errorf("no address could be joined in %d rounds", round)
		}
		p.log.Warn("no address could be joined, will try again", "pool", p.cfg.Kind.String(), "in", o.Interval)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.Interval):
		}
	}
}

// floodInterval is how often servers are looked for that are missing in the WAN
// pool (limits-and-defaults.md, section 2).
const floodInterval = time.Minute

// Flood keeps the servers of the LAN pool in the WAN pool: it joins those that
// are missing there, at once when they join the LAN and every minute. It
// returns when ctx ends.
func Flood(ctx context.Context, lan, wan *Pool) error {
	sub := lan.Subscribe(eventBuffer)
	defer sub.Close()
	tick := time.NewTicker(floodInterval)
	defer tick.Stop()
	for {
		flood(ctx, lan, wan)
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				again = true
			case ev, ok := <-sub.C:
				if !ok {
					return nil
				}
				again = ev.EventType() == serf.EventMemberJoin
			}
		}
	}
}

func flood(ctx context.Context, lan, wan *Pool) {
	known := map[string]bool{}
	for _, m := range wan.Members() {
		known[m.Name] = m.Status == serf.StatusAlive
	}
	for _, m := range lan.Members() {
		name := m.Name + "." + lan.cfg.Datacenter
		if m.Tags["role"] != "consul" || m.Status != serf.StatusAlive || known[name] || m.Name == lan.cfg.Node {
			continue
		}
		port := wan.LocalMember().Port
		if v, err := strconv.ParseUint(m.Tags["wan_join_port"], 10, 16); err == nil && v > 0 {
			port = uint16(v)
		}
		addr := name + "/" + net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(port)))
		if _, failed := wan.Join(ctx, []string{addr}); len(failed) > 0 && ctx.Err() == nil {
			wan.log.Warn("could not bring a server of this datacenter into the WAN pool", "server", m.Name, "error", failed[0].Err)
		}
	}
}
