package localrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Serve accepts on ln until ctx ends. It then lets requests that run finish for
// Limits.StopTimeout, so that a leave is still answered, closes ln and every
// connection, and returns only once everything it started has returned. The
// error is nil if ctx ended it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Requests outlive ctx by the time that they are given to finish.
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	var conns sync.WaitGroup
	defer kill()
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		t := time.AfterFunc(s.limits.StopTimeout, kill)
		context.AfterFunc(hard, func() { t.Stop() })
	})
	defer stop()
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			kill()
			return fmt.Errorf("localrpc: listener %s closed under us: %w", ln.Addr(), err)
		case err != nil: // out of descriptors, say: a caller must not be able to stop us for good
			s.warn("accept failed, will retry", "addr", ln.Addr(), "err", err)
			pause(ctx, 100*time.Millisecond)
		case !s.enter():
			s.warn("connection refused: too many are open", "limit", s.limits.MaxConns, "limit_untrusted", s.limits.MaxOthers)
			nc.Close()
		default:
			conns.Go(func() { s.handle(ctx, hard, nc) })
		}
	}
}

// warn logs something that callers can cause as often as they like.
func (s *Server) warn(msg string, args ...any) {
	if s.noise.Allow() {
		s.log.Warn(msg, args...)
	}
}

// enter counts a new connection, or refuses it. It counts among the others
// until promote. One place is always left for who may do everything, so that
// others cannot lock the operator out.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.limits.MaxConns {
		return false
	}
	s.conns++
	s.others++
	return true
}

// mayStay says whether a connection that is not trusted may stay.
func (s *Server) mayStay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others <= s.limits.MaxOthers
}

func (s *Server) promote() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others--
}

func (s *Server) exit(promoted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if !promoted {
		s.others--
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
