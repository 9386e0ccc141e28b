package local

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"lictor/agent/checks"
	"lictor/rpc/wire"
)

// reapInterval is how often to look for services that were critical for longer
// than they may be.
const reapInterval = 30 * time.Second

const kindMaintenance = "maintenance"

// Run runs the checks and keeps the servers in agreement until ctx ends, and
// returns when all of it has stopped. It is called once.
func (s *State) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.run = ctx
	for _, e := range s.checks {
		e.startLocked()
	}
	s.mu.Unlock()
	s.tasks.Go(func() { s.reap(ctx) })
	s.sync(ctx)

	s.mu.Lock()
	s.run = nil
	for _, e := range s.checks {
		e.stopLocked()
	}
	s.mu.Unlock()
	s.tasks.Wait()
	return nil
}

// newCheck makes an entry. It runs when it is started.
func (s *State) newCheck(d *checks.Definition, kept *keptState) (*check, error) {
	e := &check{state: s, def: d}
	hc := &wire.HealthCheck{
		Node: s.cfg.Node.Node, CheckID: d.ID, Name: d.Name, Status: d.Status, Notes: d.Notes, ServiceID: d.ServiceID,
		ServiceTags: []string{}, Type: d.Kind(), Interval: text(d.Interval), Timeout: text(d.Timeout),
	}
	e.hc = hc
	if hc.Status == "" {
		hc.Status = wire.HealthCritical
	}
	o := checks.Options{
		Notify: e, Log: s.log, MaxOutput: s.cfg.MaxOutput, TLS: s.cfg.TLS,
		Node: s.cfg.Node.Node, Datacenter: s.cfg.Node.Datacenter, Registry: s, RPC: s.cfg.RPC,
	}
	if kept != nil {
		hc.Status, hc.Output, o.FirstTTL = kept.Status, kept.Output, min(time.Until(time.Unix(kept.Expires, 0)), d.TTL)
	}
	if hc.Status == wire.HealthCritical {
		e.critical = time.Now()
	}
	if isMaintenance(d.ID) && d.Kind() == "" {
		hc.Type = kindMaintenance
		return e, nil
	}
	if a := d.DeregisterCriticalAfter; a > 0 && a < checks.MinDeregister {
		s.log.Warn("deregister_critical_service_after was raised to the shortest allowed", "check", d.ID, "shortest", checks.MinDeregister)
	}
	var err error
	e.run, err = checks.New(d, o)
	return e, err
}

func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// startLocked runs the check, if checks run now.
func (e *check) startLocked() {
	s := e.state
	if s.run == nil || e.run == nil || e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.run)
	e.cancel = cancel
	s.tasks.Go(func() { e.run.Run(ctx) })
}

// stopLocked ends it, without waiting.
func (e *check) stopLocked() {
	if e.cancel != nil {
		e.cancel()
	}
	if e.later != nil {
		e.later.Stop()
		e.later = nil
	}
}

// UpdateCheck implements checks.Notifier. What a check says that was replaced or
// removed is not heard.
func (e *check) UpdateCheck(_, status, output string) {
	s := e.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checks[e.def.ID] != e {
		return
	}
	if s.discard {
		output = ""
	}
	if e.hc.Status == status && e.hc.Output == output {
		return
	}
	hc := *e.hc
	before := hc.Status
	hc.Status, hc.Output = status, output
	e.hc = &hc
	switch {
	case status != wire.HealthCritical:
		e.critical = time.Time{}
	case e.critical.IsZero():
		e.critical = time.Now()
	}
	s.changedLocked()
	if before == status && e.inSync && s.cfg.UpdateDelay > 0 {
		e.tellLaterLocked()
		return
	}
	if before != status {
		s.log.Info("a check has another status", "check", e.def.ID, "status", status, "was", before)
	}
	e.inSync = false
	s.tell()
}

// tellLaterLocked has the servers told of a new output after half to one and a
// half of check_update_interval, so that outputs that change all the time, such
// as the time of day, do not keep the servers busy.
func (e *check) tellLaterLocked() {
	s := e.state
	if e.later != nil || s.run == nil {
		return
	}
	d := s.cfg.UpdateDelay
	e.later = time.AfterFunc(d/2+rand.N(d), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.checks[e.def.ID] == e && e.later != nil {
			e.later, e.inSync = nil, false
			s.tell()
		}
	})
}

// report gives a check a status from outside.
func (e *check) report(status, output string) {
	if r, ok := e.run.(checks.Reporter); ok {
		r.Report(status, output)
		return
	}
	e.UpdateCheck(e.def.ID, status, output)
}

// UpdateTTL reports to a check of kind ttl. The status is passing, warning or
// critical. It survives a restart of the agent for as long as the TTL lasts.
func (s *State) UpdateTTL(checkID, status, output string) error {
	e, err := s.checkEntry(checkID)
	if err != nil {
		return err
	}
	r, ok := e.run.(checks.Reporter)
	if !ok {
		return invalid("CheckID %q does not have associated TTL", checkID)
	}
	if !checks.ValidStatus(status) {
		return invalid("Invalid check status: '%s'", status)
	}
	r.Report(status, output)
	if s.files == nil {
		return nil
	}
	s.reg.Lock()
	defer s.reg.Unlock()
	s.mu.Lock()
	now, kept := s.checks[checkID], keptState{CheckID: checkID, Status: status, Expires: time.Now().Add(e.def.TTL).Unix()}
	kept.Output = e.hc.Output
	s.mu.Unlock()
	if now != e {
		return nil // it was removed in between, with its file
	}
	if err := s.files.keepState(kept); err != nil {
		s.log.Warn("the status of a TTL check would not survive a restart", "check", checkID, "error", err)
	}
	return nil
}

// reap removes services that were critical for too long.
func (s *State) reap(ctx context.Context) {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for id, check := range s.overdue() {
			if err := s.DeregisterService(id); err != nil {
				s.log.Error("a service that is critical for too long was not removed", "service", id, "error", err)
				continue
			}
			s.log.Info("removed a service that is critical for longer than deregister_critical_service_after", "service", id, "check", check)
		}
	}
}

// overdue are the services to remove, each with a check that says so.
func (s *State) overdue() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for id, e := range s.checks {
		after := e.def.DeregisterCriticalAfter
		if after > 0 && e.def.ServiceID != "" && !e.critical.IsZero() && time.Since(e.critical) > max(after, checks.MinDeregister) {
			out[e.def.ServiceID] = id
		}
	}
	return out
}

func isMaintenance(checkID string) bool {
	return checkID == wire.NodeMaint || strings.HasPrefix(checkID, wire.ServiceMaintPrefix)
}

// ServiceMaintenance marks a service critical on purpose, or ends that. The
// error of an unknown id is ErrUnknownService.
func (s *State) ServiceMaintenance(id string, enable bool, reason, token string) error {
	s.reg.Lock()
	defer s.reg.Unlock()
	e, ok := s.serviceEntry(id)
	if !ok {
		return kindOf{"Unknown service ID \"" + id + "\". Ensure that the service ID is passed, not the service name.", ErrUnknownService}
	}
	if token == "" {
		token = e.svc.Token
	}
	return s.maintenance(&checks.Definition{
		ID: wire.ServiceMaintPrefix + id, Name: "Service Maintenance Mode", Notes: reason, ServiceID: id, Token: token,
	}, enable, "service")
}

// NodeMaintenance marks the whole node critical on purpose, or ends that.
func (s *State) NodeMaintenance(enable bool, reason, token string) error {
	s.reg.Lock()
	defer s.reg.Unlock()
	return s.maintenance(&checks.Definition{ID: wire.NodeMaint, Name: "Node Maintenance Mode", Notes: reason, Token: token}, enable, "node")
}

// maintenance expects s.reg.
func (s *State) maintenance(d *checks.Definition, enable bool, what string) error {
	if !enable {
		if _, err := s.checkEntry(d.ID); err != nil {
			return nil // it is as asked for
		}
		s.log.Info("left maintenance mode", "what", what, "service", d.ServiceID)
		return s.deregisterCheck(d.ID)
	}
	if d.Notes == "" {
		d.Notes = "Maintenance mode is enabled for this " + what + ", but no reason was provided. This is a default message."
	}
	d.Status, d.Source = wire.HealthCritical, checks.SourceRemote
	s.log.Info("entered maintenance mode", "what", what, "service", d.ServiceID)
	return s.register(nil, []*checks.Definition{d}, false)
}
