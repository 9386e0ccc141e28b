package checks_test

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/hashicorp/go-hclog"

	"lictor/rpc/wire"
)

func quiet() hclog.Logger { return hclog.NewNullLogger() }

// registry is an agent's own checks; set with nil makes the service web appear.
type registry struct {
	mu      sync.Mutex
	checks  map[string]*wire.HealthCheck
	has     bool
	changed chan struct{}
}

func newRegistry() *registry {
	return &registry{checks: map[string]*wire.HealthCheck{}, changed: make(chan struct{})}
}

func (r *registry) set(hc *wire.HealthCheck) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hc == nil {
		r.has = true
	} else {
		hc.Node = "n1"
		r.checks[hc.CheckID] = hc
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) Checks() map[string]*wire.HealthCheck {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.checks)
}

func (r *registry) HasService(string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has
}

func (r *registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// servers answer Health.NodeChecks, blocking, and know no services.
type servers struct {
	mu      sync.Mutex
	fail    bool
	index   uint64
	checks  []*wire.HealthCheck
	calls   int
	changed chan struct{}
}

func (s *servers) put(fail bool, index uint64, list ...*wire.HealthCheck) {
	s.mu.Lock()
	s.fail, s.index, s.checks = fail, index, list
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *servers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *servers) Call(ctx context.Context, method string, args, reply any) error {
	req := args.(*wire.NodeSpecificRequest)
	if method == "Catalog.NodeServices" {
		return nil
	}
	for {
		s.mu.Lock()
		if s.fail {
			s.mu.Unlock()
			return errors.New("no servers")
		}
		if s.index > req.MinQueryIndex {
			s.calls++
			r := reply.(*wire.IndexedHealthChecks)
			r.HealthChecks, r.Index = s.checks, s.index
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
		}
	}
}
