package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"lictor/agent/answers"
	"lictor/agent/decode"
	"lictor/rpc/wire"
)

const (
	sessionDestroyPath = "/v1/session/destroy/"
	sessionRenewPath   = "/v1/session/renew/"
	sessionInfoPath    = "/v1/session/info/"
	sessionNodePath    = "/v1/session/node/"
)

const (
	missingSession   = "Missing session"
	defaultLockDelay = 15 * time.Second
	// lockDelaySeconds is the number below which a lock delay is in seconds, and
	// not in nanoseconds.
	lockDelaySeconds = 1000
)

var errLockDelay = errors.New(`wants a duration, such as "15s"`)

// parseLockDelay reads a text with a unit, or a number.
func parseLockDelay(to *time.Duration) func(any) error {
	return func(v any) error {
		switch v := v.(type) {
		case string:
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 {
				return errLockDelay
			}
			*to = d
			return nil
		case json.Number:
			n, err := v.Float64()
			if err != nil || n < 0 || n >= 1<<62 {
				return errLockDelay
			}
			*to = time.Duration(n)
			if n < lockDelaySeconds {
				*to = time.Duration(n * float64(time.Second))
			}
			return nil
		}
		return errLockDelay
	}
}

func parseServiceChecks(to *[]wire.ServiceCheckID) func(any) error {
	return each(func(raw map[string]any) error {
		var c wire.ServiceCheckID
		if err := decode.Object(raw, decode.Fields{"id": &c.ID, "namespace": decode.OnlyDefault}); err != nil {
			return err
		}
		*to = append(*to, c)
		return nil
	})
}

func (a *API) sessionCreate(w http.ResponseWriter, r *request) error {
	req := &wire.SessionRequest{Datacenter: r.dc(), Op: wire.SessionCreate, WriteRequest: wire.WriteRequest{Token: r.token()}}
	s := &req.Session
	s.Node, s.LockDelay, s.Behavior = a.cfg.Data.Node, defaultLockDelay, wire.SessionRelease
	if r.Body != http.NoBody && r.ContentLength != 0 {
		var checks []string
		err := decodeFields(w, r, decode.Fields{
			"name": &s.Name, "node": &s.Node, "lockdelay": parseLockDelay(&s.LockDelay), "behavior": &s.Behavior, "ttl": &s.TTL,
			"nodechecks": &s.NodeChecks, "servicechecks": parseServiceChecks(&s.ServiceChecks), "checks": &checks,
			"namespace": decode.OnlyDefault, "partition": decode.OnlyDefault, "id": ignore, "createindex": ignore, "modifyindex": ignore,
		})
		if err != nil {
			return err
		}
		if s.NodeChecks == nil {
			s.NodeChecks = checks
		}
	}
	if s.NodeChecks == nil {
		s.NodeChecks = []string{wire.SerfHealth}
	}
	var id string
	if err := a.write(r, "Session.Apply", req, &id); err != nil {
		return err
	}
	a.writeJSON(w, r, struct{ ID string }{id})
	return nil
}

func (a *API) sessionDestroy(w http.ResponseWriter, r *request) error {
	id, err := r.name(sessionDestroyPath, missingSession)
	if err != nil {
		return err
	}
	req := &wire.SessionRequest{
		Datacenter: r.dc(), Op: wire.SessionDestroy, Session: wire.Session{ID: id}, WriteRequest: wire.WriteRequest{Token: r.token()},
	}
	var reply string
	if err := a.write(r, "Session.Apply", req, &reply); err != nil {
		return err
	}
	a.writeBool(w, r, true)
	return nil
}

func (r *request) ofSession(prefix string) (*wire.SessionSpecificRequest, error) {
	id, err := r.name(prefix, missingSession)
	if err != nil {
		return nil, err
	}
	return &wire.SessionSpecificRequest{Datacenter: r.dc(), SessionID: id, Session: id}, nil
}

func (a *API) sessionRenew(w http.ResponseWriter, r *request) error {
	req, err := r.ofSession(sessionRenewPath)
	if err != nil {
		return err
	}
	req.Token = r.token()
	reply := &wire.IndexedSessions{}
	if err := a.write(r, "Session.Renew", req, reply); err != nil {
		return err
	}
	if len(reply.Sessions) == 0 {
		return failure(http.StatusNotFound, "Session id '%.200s' not found", req.SessionID)
	}
	a.writeAppended(w, r, func(b []byte) []byte { return appendSessions(b, reply) })
	return nil
}

func appendSessions(b []byte, reply *wire.IndexedSessions) []byte {
	return answers.AppendList(b, reply.Sessions, answers.AppendSession)
}

func (a *API) sessionInfo(w http.ResponseWriter, r *request) error {
	req, err := r.ofSession(sessionInfoPath)
	if err != nil {
		return err
	}
	return answer(a, w, r, plain, "Session.Get", req, "", appendSessions)
}

func (a *API) sessionList(w http.ResponseWriter, r *request) error {
	return answer(a, w, r, plain, "Session.List", &wire.SessionSpecificRequest{Datacenter: r.dc()}, "", appendSessions)
}

func (a *API) sessionNode(w http.ResponseWriter, r *request) error {
	req, err := r.ofNode(sessionNodePath)
	if err != nil {
		return err
	}
	return answer(a, w, r, plain, "Session.NodeSessions", req, "", appendSessions)
}
