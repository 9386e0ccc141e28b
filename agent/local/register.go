package local

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"lictor/agent/checks"
)

// RegisterService adds a service with its checks, or replaces it: a check whose
// definition stays as it was goes on undisturbed, one that changes keeps its
// status. Checks of the service that the registration does not name stay, unless
// replaceChecks. Where it cannot be kept on disk nothing changes.
func (s *State) RegisterService(svc *Service, replaceChecks bool) error {
	own, err := s.checkService(svc)
	if err != nil {
		return err
	}
	s.reg.Lock()
	defer s.reg.Unlock()
	return s.register(own, own.Checks, replaceChecks)
}

// checkService is svc, complete, if it may be registered.
func (s *State) checkService(svc *Service) (*Service, error) {
	if err := svc.Validate(); err != nil {
		return nil, invalid("%s", err)
	}
	own := svc.withIDs()
	if len(own.Ignored) > 0 {
		s.log.Warn("a service was registered with keys that have no effect", "service", own.ID, "keys", strings.Join(own.Ignored, ", "))
	}
	if own.Source == "" {
		own.Source = checks.SourceRemote
	}
	seen := map[string]bool{}
	for _, d := range own.Checks {
		d.Source = own.Source
		if seen[d.ID] {
			return nil, invalid("Invalid check: two checks of the service have the id %q", d.ID)
		}
		seen[d.ID] = true
		if err := s.scriptsAllowed(d); err != nil {
			return nil, err
		}
	}
	return own, nil
}

func (s *State) scriptsAllowed(d *checks.Definition) error {
	switch {
	case !d.RunsPrograms() || s.cfg.AllowScripts:
		return nil
	case d.Source != checks.SourceLocal:
		return ErrScriptsDisabled
	case s.cfg.AllowLocalScripts:
		return nil
	}
	return kindOf{"Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true", ErrScriptsDisabled}
}

// RegisterCheck adds a check, or replaces it. A status that the definition gives
// is taken over at once.
func (s *State) RegisterCheck(def *checks.Definition) error {
	own, err := s.checkDefinition(def)
	if err != nil {
		return err
	}
	s.reg.Lock()
	defer s.reg.Unlock()
	if own.ServiceID != "" {
		svc, ok := s.serviceEntry(own.ServiceID)
		if !ok {
			return kindOf{fmt.Sprintf("ServiceID %q does not exist", own.ServiceID), ErrUnknownService}
		}
		if own.Token == "" {
			own.Token = svc.svc.Token
		}
	}
	if err := s.register(nil, []*checks.Definition{own}, false); err != nil {
		return err
	}
	if own.Status != "" {
		s.mu.Lock()
		e := s.checks[own.ID]
		output := e.hc.Output
		s.mu.Unlock()
		e.report(own.Status, output)
	}
	return nil
}

func (s *State) checkDefinition(def *checks.Definition) (*checks.Definition, error) {
	own := *def
	if err := own.ValidateAlone(); err != nil {
		return nil, invalid("%s", err)
	}
	if own.ID == "" {
		own.ID = own.Name
	}
	if own.Source == "" {
		own.Source = checks.SourceRemote
	}
	return &own, s.scriptsAllowed(&own)
}

func (s *State) serviceEntry(id string) (*service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.services[id]
	return e, ok
}

// register writes the files and then changes the registry. svc is nil for checks
// alone. It expects s.reg.
func (s *State) register(svc *Service, defs []*checks.Definition, replaceChecks bool) error {
	entries := make([]*check, len(defs)) // what can fail comes first
	for i, d := range defs {
		e, err := s.newCheck(d, nil)
		if err != nil {
			return invalid("Invalid check: %s", err)
		}
		entries[i] = e
	}
	var drop []string
	if svc != nil && replaceChecks {
		named := func(id string) bool {
			return slices.ContainsFunc(defs, func(d *checks.Definition) bool { return d.ID == id })
		}
		drop = s.checkIDs(func(e *check) bool { return e.def.ServiceID == svc.ID && !named(e.def.ID) && !isMaintenance(e.def.ID) })
	}
	if s.files != nil {
		if err := s.files.register(svc, defs, drop); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyLocked(svc, entries, drop)
	return nil
}

// checkIDs are the ids of the checks that fn picks, in order.
func (s *State) checkIDs(fn func(*check) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, e := range s.checks {
		if fn(e) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (s *State) applyLocked(svc *Service, entries []*check, drop []string) {
	for _, id := range drop {
		s.dropCheckLocked(id)
	}
	if svc != nil {
		ns := normal(&svc.NodeService)
		old := s.services[svc.ID]
		s.services[svc.ID] = &service{svc: svc, ns: ns, inSync: old != nil && old.inSync && sameService(old.ns, ns)}
		delete(s.goneServices, svc.ID)
	}
	for _, e := range entries {
		old := s.checks[e.def.ID]
		if old != nil && reflect.DeepEqual(old.def, e.def) {
			continue
		}
		if old != nil {
			if e.def.Status == "" {
				hc := *e.hc
				hc.Status, hc.Output = old.hc.Status, old.hc.Output
				e.hc, e.critical = &hc, old.critical
			}
			old.stopLocked()
		}
		s.checks[e.def.ID] = e
		delete(s.goneChecks, e.def.ID)
		e.startLocked()
	}
	for _, e := range s.checks {
		s.nameServiceLocked(e)
	}
	s.changedLocked()
	s.tell()
}

// nameServiceLocked puts what the check says of its service in agreement with
// the service.
func (s *State) nameServiceLocked(e *check) {
	svc := s.services[e.def.ServiceID]
	if svc == nil || e.hc.ServiceName == svc.ns.Service && slices.Equal(e.hc.ServiceTags, svc.ns.Tags) {
		return
	}
	hc := *e.hc
	hc.ServiceName, hc.ServiceTags = svc.ns.Service, svc.ns.Tags
	e.hc, e.inSync = &hc, false
}

// DeregisterService removes a service with its checks. The error of an unknown
// id is ErrUnknownService.
func (s *State) DeregisterService(id string) error {
	s.reg.Lock()
	defer s.reg.Unlock()
	return s.deregister(id)
}

// deregister expects s.reg.
func (s *State) deregister(id string) error {
	if _, ok := s.serviceEntry(id); !ok {
		return kindOf{fmt.Sprintf("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id), ErrUnknownService}
	}
	drop := s.checkIDs(func(e *check) bool { return e.def.ServiceID == id })
	if s.files != nil {
		if err := s.files.removeService(id, drop); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, check := range drop {
		s.dropCheckLocked(check)
	}
	s.goneServices[id] = s.services[id].svc.Token
	delete(s.services, id)
	s.changedLocked()
	s.tell()
	return nil
}

// DeregisterCheck removes a check. The error of an unknown id is
// ErrUnknownCheck.
func (s *State) DeregisterCheck(id string) error {
	s.reg.Lock()
	defer s.reg.Unlock()
	return s.deregisterCheck(id)
}

// deregisterCheck expects s.reg.
func (s *State) deregisterCheck(id string) error {
	if _, err := s.checkEntry(id); err != nil {
		return err
	}
	if s.files != nil {
		if err := s.files.removeChecks([]string{id}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropCheckLocked(id)
	s.changedLocked()
	s.tell()
	return nil
}

func (s *State) checkEntry(id string) (*check, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.checks[id]; e != nil {
		return e, nil
	}
	return nil, kindOf{fmt.Sprintf("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id), ErrUnknownCheck}
}

func (s *State) dropCheckLocked(id string) {
	e := s.checks[id]
	if e == nil {
		return
	}
	e.stopLocked()
	s.goneChecks[id] = goneCheck{token: e.def.Token, service: e.def.ServiceID}
	delete(s.checks, id)
}
