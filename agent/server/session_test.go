package server_test

import (
	"testing"
	"time"

	"lictor/rpc/wire"
)

func TestSessionApply(t *testing.T) {
	e, r := alone(t)
	register(t, e, "n1", "web")
	create := func(s wire.Session) *wire.SessionRequest {
		return &wire.SessionRequest{Op: wire.SessionCreate, Session: s}
	}
	for name, row := range map[string]struct {
		req  *wire.SessionRequest
		want string
	}{
		"no node":         {create(wire.Session{}), "Must provide Node"},
		"unknown node":    {create(wire.Session{Node: "n9"}), "apply failed: Missing node registration"},
		"unknown check":   {create(wire.Session{Node: "n1", NodeChecks: []string{"zz"}}), "apply failed: Missing check 'zz' registration"},
		"behavior":        {create(wire.Session{Node: "n1", Behavior: "x"}), "Invalid Behavior setting 'x'"},
		"TTL too short":   {create(wire.Session{Node: "n1", TTL: "5s"}), "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"},
		"TTL too long":    {create(wire.Session{Node: "n1", TTL: "25h"}), "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]"},
		"TTL negative":    {create(wire.Session{Node: "n1", TTL: "-1s"}), "Invalid Session TTL '-1000000000', must be between [10s=24h0m0s]"},
		"TTL no duration": {create(wire.Session{Node: "n1", TTL: "soon"}), `Session TTL 'soon' invalid: time: invalid duration "soon"`},
		"lock delay":      {create(wire.Session{Node: "n1", LockDelay: -1}), "Invalid LockDelay '-1ns', must not be negative"},
		"destroy nothing": {&wire.SessionRequest{Op: wire.SessionDestroy}, "Must provide ID"},
		"no operation":    {&wire.SessionRequest{Session: wire.Session{Node: "n1"}}, "Invalid session operation ''"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, e, "Session.Apply", row.req, row.want) })
	}

	id := call[string](t, e, "Session.Apply", create(wire.Session{ID: "mine", Node: "n1", TTL: "10s", Checks: []string{"c-web"}}))
	if id == "" || id == "mine" {
		t.Errorf("id %q, want one that the server made", id)
	}
	got := call[wire.IndexedSessions](t, e, "Session.Get", &wire.SessionSpecificRequest{Session: id}) // by its old name
	if len(got.Sessions) != 1 {
		t.Fatalf("got %+v", got)
	}
	s := got.Sessions[0]
	if s.Behavior != wire.SessionRelease || s.LockDelay != 0 || len(s.NodeChecks) != 1 || s.CreateIndex == 0 {
		t.Errorf("session %+v", s)
	}
	r.locked(func() {
		if r.sessions[id] != 10*time.Second {
			t.Errorf("the TTL was not started: %v", r.sessions)
		}
		delete(r.sessions, id)
	})

	renewed := call[wire.IndexedSessions](t, e, "Session.Renew", &wire.SessionSpecificRequest{SessionID: id, Session: id})
	if len(renewed.Sessions) != 1 || renewed.Sessions[0].ID != id || renewed.Index == 0 {
		t.Errorf("renewed %+v", renewed)
	}
	r.locked(func() {
		if r.sessions[id] != 10*time.Second {
			t.Errorf("the TTL was not started anew: %v", r.sessions)
		}
	})
	if got := call[wire.IndexedSessions](t, e, "Session.Renew", &wire.SessionSpecificRequest{SessionID: "nobody's"}); len(got.Sessions) != 0 {
		t.Errorf("renewed %+v", got)
	}
	forever := call[string](t, e, "Session.Apply", create(wire.Session{Node: "n1", TTL: "0s"}))
	if got := call[wire.IndexedSessions](t, e, "Session.Renew", &wire.SessionSpecificRequest{SessionID: forever}); len(got.Sessions) != 1 {
		t.Errorf("a session without a TTL: %+v", got)
	}
	if got := call[wire.IndexedSessions](t, e, "Session.NodeSessions", &wire.NodeSpecificRequest{Node: "n1"}); len(got.Sessions) != 2 {
		t.Errorf("sessions of n1: %+v", got)
	}

	call[string](t, e, "Session.Apply", &wire.SessionRequest{Op: wire.SessionDestroy, Session: wire.Session{ID: id}})
	call[string](t, e, "Session.Apply", &wire.SessionRequest{Op: wire.SessionDestroy, Session: wire.Session{ID: "nobody's"}})
	r.locked(func() {
		if len(r.sessions) != 0 {
			t.Errorf("TTLs left over: %v", r.sessions)
		}
	})
	if got := call[wire.IndexedSessions](t, e, "Session.List", &wire.SessionSpecificRequest{}); len(got.Sessions) != 1 {
		t.Errorf("sessions: %+v", got)
	}
	refused(t, e, "Session.Get", &wire.SessionSpecificRequest{}, "Missing session")
	refused(t, e, "Session.Renew", &wire.SessionSpecificRequest{}, "Missing session")
}
