package local

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"lictor/agent/checks"
)

// Reload takes over what the configuration files say now, valid definitions all:
// what they do not say any more goes, what they say anew comes, and the rest goes
// on undisturbed. What came by the API stays, but where a file has the same id.
func (s *State) Reload(services []*Service, defs []*checks.Definition) {
	s.reg.Lock()
	defer s.reg.Unlock()
	own, alone, errs := s.fromFiles(services, defs)
	s.mu.Lock()
	var gone []string
	for id, e := range s.services {
		if _, ok := own[id]; !ok && e.svc.Source == checks.SourceLocal {
			gone = append(gone, id)
		}
	}
	s.mu.Unlock()
	for _, id := range gone {
		errs = append(errs, s.deregister(id))
	}
	for _, id := range s.checkIDs(func(e *check) bool {
		return e.def.Source == checks.SourceLocal && alone[e.def.ID] == nil && !own.hasCheck(e.def.ID)
	}) {
		errs = append(errs, s.deregisterCheck(id))
	}
	errs = append(errs, s.registerFiles(own, alone)...)
	if err := errors.Join(errs...); err != nil {
		s.log.Error("a part of the services and checks in the configuration files was not taken over", "error", err)
	}
}

// fileServices are the services of configuration files by id.
type fileServices map[string]*Service

func (f fileServices) hasCheck(id string) bool {
	for _, svc := range f {
		if slices.ContainsFunc(svc.Checks, func(d *checks.Definition) bool { return d.ID == id }) {
			return true
		}
	}
	return false
}

// fromFiles is what the files say, by id: of several the last one counts.
func (s *State) fromFiles(services []*Service, defs []*checks.Definition) (fileServices, map[string]*checks.Definition, []error) {
	own, alone := fileServices{}, map[string]*checks.Definition{}
	var errs []error
	for _, svc := range services {
		c := *svc
		c.Source = checks.SourceLocal
		ready, err := s.checkService(&c)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", svc.Service, err))
			continue
		}
		own[ready.ID] = ready
	}
	for _, d := range defs {
		c := *d
		c.Source = checks.SourceLocal
		ready, err := s.checkDefinition(&c)
		if err != nil {
			errs = append(errs, fmt.Errorf("check %q: %w", d.Name, err))
			continue
		}
		alone[ready.ID] = ready
	}
	return own, alone, errs
}

func (s *State) registerFiles(own fileServices, alone map[string]*checks.Definition) (errs []error) {
	for _, id := range slices.Sorted(maps.Keys(own)) {
		errs = append(errs, s.register(own[id], own[id].Checks, false))
	}
	for _, id := range slices.Sorted(maps.Keys(alone)) {
		d := alone[id]
		if _, ok := s.serviceEntry(d.ServiceID); d.ServiceID != "" && !ok {
			errs = append(errs, fmt.Errorf("check %q: service %q does not exist", id, d.ServiceID))
			continue
		}
		errs = append(errs, s.register(nil, []*checks.Definition{d}, false))
	}
	return errs
}
