package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"lictor/agent/server/fsm"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// sessionTimers ends sessions that were not renewed for twice their TTL. Only the
// leader keeps time: a new one starts with the whole time for each.
type sessionTimers struct {
	l     *Leader
	slots chan struct{} // writes at the same time

	mu     sync.Mutex             // guards the fields below
	ctx    context.Context        // of the duties; nil while there are none
	timers map[string]*time.Timer // by session
	tasks  *sync.WaitGroup        // ending sessions
}

// sessionWriters is how many sessions are ended at the same time.
const sessionWriters = 16

// sessionTries is how often ending a session is tried, with a pause that doubles.
const sessionTries = 6

func newSessionTimers(l *Leader) *sessionTimers {
	return &sessionTimers{l: l, slots: make(chan struct{}, sessionWriters)}
}

// run keeps time until ctx ends.
func (s *sessionTimers) run(ctx context.Context) {
	var tasks sync.WaitGroup
	s.mu.Lock()
	s.ctx, s.timers, s.tasks = ctx, map[string]*time.Timer{}, &tasks
	s.mu.Unlock()
	// A session that is made from here on is reset by who made it.
	if _, sessions, err := s.l.cfg.State().SessionList(nil); err != nil {
		s.l.log.Error("could not read the sessions", "error", err)
	} else {
		for _, sess := range sessions {
			if ttl, err := time.ParseDuration(sess.TTL); err == nil {
				s.reset(sess.ID, ttl)
			}
		}
	}
	<-ctx.Done()
	s.mu.Lock()
	for _, t := range s.timers {
		t.Stop()
	}
	s.ctx, s.timers = nil, nil
	s.mu.Unlock()
	tasks.Wait()
}

// ResetSession starts the time of a session anew: it was made or renewed. A ttl
// of 0 is none.
func (l *Leader) ResetSession(id string, ttl time.Duration) { l.sessions.reset(id, ttl) }

// ClearSession forgets the time of a session: it has ended.
func (l *Leader) ClearSession(id string) { l.sessions.reset(id, 0) }

func (s *sessionTimers) reset(id string, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return
	}
	if t := s.timers[id]; t != nil {
		t.Stop()
		delete(s.timers, id)
	}
	if ttl <= 0 {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(2*ttl, func() { s.expire(id, &t) })
	s.timers[id] = t
}

// expire ends a session unless its time was started anew meanwhile. It reads *t
// under the lock under which reset has set it.
func (s *sessionTimers) expire(id string, t **time.Timer) {
	s.mu.Lock()
	ctx, tasks := s.ctx, s.tasks
	if ctx == nil || s.timers[id] != *t {
		s.mu.Unlock()
		return
	}
	delete(s.timers, id)
	tasks.Add(1)
	s.mu.Unlock()
	defer tasks.Done()

	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	err := s.end(ctx, id)
	<-s.slots
	for pause, try := s.l.cfg.Times.SessionRetry, 1; err != nil && try < sessionTries; pause, try = 2*pause, try+1 {
		if errors.Is(err, rpc.ErrNoLeader) || ctx.Err() != nil {
			return // the next leader's business
		}
		s.l.log.Warn("could not end a session whose time is over", "session", id, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		err = s.end(ctx, id)
	}
	if err != nil {
		s.l.log.Error("a session whose time is over was not ended", "session", id, "error", err)
	}
}

func (s *sessionTimers) end(ctx context.Context, id string) error {
	_, sess, err := s.l.cfg.State().SessionGet(nil, id)
	if err != nil || sess == nil {
		return err // it ended with its node, say
	}
	s.l.log.Debug("the time of a session is over", "session", id, "node", sess.Node)
	return s.l.apply(ctx, fsm.Session, &wire.SessionRequest{
		Datacenter: s.l.cfg.Datacenter, Op: wire.SessionDestroy, Session: wire.Session{ID: id},
	})
}
