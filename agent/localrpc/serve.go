package localrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// acceptPause is waited after an accept that failed for a reason that passes,
// such as too many open files.
const acceptPause = 100 * time.Millisecond

// Serve accepts callers on ln until ctx is done, or until ln fails, which is an
// error. It closes ln, and returns when all its connections have ended: streams
// end at once, and requests that run have Limits.StopTimeout to be answered.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	hard, hardCancel := context.WithCancel(context.WithoutCancel(ctx))
	var conns sync.WaitGroup
	defer func() {
		cancel()
		timer := time.AfterFunc(s.limits.StopTimeout, hardCancel)
		conns.Wait()
		timer.Stop()
		hardCancel()
	}()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			s.warn("cannot accept a connection", "err", err)
			pause(ctx, acceptPause)
		case !s.enter():
			s.warn("connection refused: too many", "limit", s.limits.MaxConns)
			nc.Close()
		default:
			conns.Go(func() { s.handle(ctx, hard, nc) })
		}
	}
}

// enter takes a place for a connection, first among those that are not trusted.
// Every connection that enters must exit.
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

// mayStay says whether there is room for one that is not trusted.
func (s *Server) mayStay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others <= s.limits.MaxOthers
}

// promote makes a connection a trusted one.
func (s *Server) promote() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others--
}

func (s *Server) exit(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if !full {
		s.others--
	}
}

// warn logs what a caller can cause, so many lines in a time and no more.
func (s *Server) warn(msg string, args ...any) {
	if s.noise.Allow() {
		s.log.Warn(msg, args...)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
