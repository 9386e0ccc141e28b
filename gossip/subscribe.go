package gossip

import (
	"sync/atomic"

	"github.com/hashicorp/serf/serf"
)

// Subscription receives a pool's events. C is closed when the pool or the
// subscription ends.
type Subscription struct {
	C <-chan serf.Event

	pool    *Pool
	ch      chan serf.Event
	dropped atomic.Uint64
}

// Subscribe starts a subscription with room for n events. A subscriber that
// does not keep up loses events, which are counted; it never holds up the pool.
// The caller closes it.
func (p *Pool) Subscribe(n int) *Subscription {
	ch := make(chan serf.Event, n)
	s := &Subscription{C: ch, pool: p, ch: ch}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		close(ch)
		return s
	}
	p.subs[s] = struct{}{}
	return s
}

// Dropped is how many events this subscription has lost.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if _, ok := s.pool.subs[s]; ok {
		delete(s.pool.subs, s)
		close(s.ch)
	}
}

// deliver passes Serf's events on until the pool stops. Serf must never wait
// for a reader: it would hold up membership itself.
func (p *Pool) deliver(events <-chan serf.Event) {
	for {
		select {
		case <-p.stop:
			p.mu.Lock()
			defer p.mu.Unlock()
			for s := range p.subs {
				delete(p.subs, s)
				close(s.ch)
			}
			return
		case ev := <-events:
			p.mu.Lock()
			for s := range p.subs {
				select {
				case s.ch <- ev:
				default:
					s.dropped.Add(1)
				}
			}
			p.mu.Unlock()
		}
	}
}
