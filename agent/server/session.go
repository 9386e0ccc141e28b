package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-uuid"

	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) sessionMethods() []method {
	return []method{
		write(e, "Session.Apply", data, e.checkSession, e.sessionApply),
		leaderOnly(e, "Session.Renew", data, true, sessionNamed, e.sessionRenew),
		read(e, "Session.Get", data, sessionNamed, e.sessionGet),
		read(e, "Session.List", data, nil, e.sessionList),
		read(e, "Session.NodeSessions", data, nodeNamed, e.nodeSessions),
	}
}

// Bounds of a session's TTL (limits-and-defaults.md, 9).
const (
	sessionTTLMin = 10 * time.Second
	sessionTTLMax = 24 * time.Hour
)

var (
	errNoSession     = errors.New("Missing session")
	errNoSessionNode = errors.New("Must provide Node")
	errNoSessionID   = errors.New("Must provide ID")
)

// sessionID is the session asked for, by either of its names.
func sessionID(req *wire.SessionSpecificRequest) string { return cmp.Or(req.SessionID, req.Session) }

func sessionNamed(req *wire.SessionSpecificRequest) error {
	if sessionID(req) == "" {
		return errNoSession
	}
	return nil
}

func (e *Endpoints) checkSession(req *wire.SessionRequest) error {
	s := &req.Session
	switch req.Op {
	case wire.SessionDestroy:
		if s.ID == "" {
			return errNoSessionID
		}
		return nil
	case wire.SessionCreate:
	default:
		return fmt.Errorf("Invalid session operation '%.32s'", req.Op)
	}
	if s.Node == "" {
		return errNoSessionNode
	}
	switch s.Behavior {
	case "", wire.SessionRelease, wire.SessionDelete:
	default:
		return fmt.Errorf("Invalid Behavior setting '%.64s'", s.Behavior)
	}
	if s.LockDelay < 0 {
		return fmt.Errorf("Invalid LockDelay '%s', must not be negative", s.LockDelay)
	}
	_, err := e.sessionTTL(s)
	return err
}

// sessionTTL is a session's TTL, 0 for none.
func (e *Endpoints) sessionTTL(s *wire.Session) (time.Duration, error) {
	if s.TTL == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(s.TTL)
	if err != nil {
		return 0, fmt.Errorf("Session TTL '%.64s' invalid: %w", s.TTL, err)
	}
	if ttl != 0 && (ttl < e.cfg.SessionTTLMin || ttl > sessionTTLMax) {
		return 0, fmt.Errorf("Invalid Session TTL '%d', must be between [%s=%s]", ttl, e.cfg.SessionTTLMin, sessionTTLMax)
	}
	return ttl, nil
}

func (e *Endpoints) sessionApply(ctx context.Context, in *wire.SessionRequest, id *string) error {
	req := *in
	s := &req.Session
	if req.Op == wire.SessionDestroy {
		if _, err := e.apply(ctx, fsm.Session, &req, "apply failed"); err != nil {
			return err
		}
		e.cfg.Duties.ClearSession(s.ID)
		return nil
	}
	ttl, err := e.sessionTTL(s)
	if err != nil {
		return err
	}
	s.Behavior = cmp.Or(s.Behavior, wire.SessionRelease)
	if len(s.NodeChecks) == 0 {
		s.NodeChecks = s.Checks
	}
	s.Checks = nil
	if s.ID, err = e.newSessionID(); err != nil {
		return err
	}
	if _, err := e.apply(ctx, fsm.Session, &req, "apply failed"); err != nil {
		return err
	}
	if ttl > 0 {
		e.cfg.Duties.ResetSession(s.ID, ttl)
	}
	*id = s.ID
	return nil
}

// newSessionID is an id that no session has.
func (e *Endpoints) newSessionID() (string, error) {
	for {
		id, err := uuid.GenerateUUID()
		if err != nil {
			return "", err
		}
		if _, s, err := e.cfg.State().SessionGet(nil, id); err != nil || s == nil {
			return id, err
		}
	}
}

// sessionRenew starts the TTL anew, in the leader's memory only: a new leader
// gives every session its whole time again.
func (e *Endpoints) sessionRenew(_ context.Context, req *wire.SessionSpecificRequest, reply *wire.IndexedSessions) error {
	idx, s, err := e.cfg.State().SessionGet(nil, sessionID(req))
	if err != nil {
		return err
	}
	e.meta(&req.QueryOptions, &reply.QueryMeta, idx)
	reply.Sessions = []*wire.Session{}
	if s == nil {
		return nil
	}
	reply.Sessions = append(reply.Sessions, s)
	ttl, err := time.ParseDuration(cmp.Or(s.TTL, "0"))
	if err != nil {
		return fmt.Errorf("session TTL: %w", err)
	}
	if ttl > 0 {
		e.cfg.Duties.ResetSession(s.ID, ttl)
	}
	return nil
}

func (e *Endpoints) sessionGet(s *state.Store, ws state.WatchSet, req *wire.SessionSpecificRequest, reply *wire.IndexedSessions) (uint64, error) {
	idx, session, err := s.SessionGet(ws, sessionID(req))
	reply.Sessions = []*wire.Session{}
	if err != nil || session == nil {
		return idx, nothing(err)
	}
	reply.Sessions = append(reply.Sessions, session)
	return idx, nil
}

func (e *Endpoints) sessionList(s *state.Store, ws state.WatchSet, _ *wire.SessionSpecificRequest, reply *wire.IndexedSessions) (uint64, error) {
	idx, sessions, err := s.SessionList(ws)
	reply.Sessions = list(sessions)
	return idx, err
}

func (e *Endpoints) nodeSessions(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedSessions) (uint64, error) {
	idx, sessions, err := s.NodeSessions(ws, req.Node)
	reply.Sessions = list(sessions)
	return idx, err
}
