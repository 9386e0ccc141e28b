package config

import (
	"fmt"

	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/agent/watches"
)

// raw is n as the parsers of definitions want it, without the keys that are not
// acted upon. f is n's field, nil below what is of free form.
func (n *node) raw(f *field) any {
	switch n.kind {
	case stringNode:
		return n.str
	case boolNode:
		return n.b
	case intNode:
		return n.i
	case floatNode:
		return n.f
	case listNode:
		out := make([]any, len(n.list))
		for i, item := range n.list {
			out[i] = item.raw(f)
		}
		return out
	case objectNode:
		out := make(map[string]any, len(n.obj))
		for key, item := range n.obj {
			var child *field
			if f != nil {
				child = f.children[key]
			}
			if child == nil || !child.later {
				out[key] = item.raw(child)
			}
		}
		return out
	}
	return nil
}

// each gives fn the objects of a list and where they were written.
func (b *builder) each(key string, fn func(at place, raw map[string]any) error) {
	list := b.tree.get(key)
	if list == nil {
		return
	}
	f := schema().lookup(key)
	for _, item := range list.list {
		raw, ok := item.raw(f).(map[string]any)
		if !ok {
			continue // said already
		}
		if err := fn(item.at, raw); err != nil {
			b.errorf("%s: key %q: %w", item.at, key, err)
		}
	}
}

func (b *builder) health() Health {
	h := Health{
		EnableScripts:  b.flag("enable_script_checks", false),
		AgentTLS:       b.flag("enable_agent_tls_for_checks", false),
		UpdateInterval: b.duration("check_update_interval"),
		OutputMaxSize:  b.atLeast("check_output_max_size", 1),
		DiscardOutput:  b.flag("discard_check_output", false),
	}
	h.EnableLocalScripts = h.EnableScripts || b.flag("enable_local_script_checks", false)
	return h
}

// errScripts refuses at once what would be refused at the start.
type errScripts struct{}

func (errScripts) Error() string {
	return `a check that runs a program needs "enable_local_script_checks" or "enable_script_checks"`
}

// named says which definition of a file err is about, where it has a name.
func named(kind, name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("%s %q: %w", kind, cut(name), err)
}

func (b *builder) services(h Health) []*local.Service {
	var out []*local.Service
	b.each("services", func(at place, raw map[string]any) error {
		s, err := local.ParseService(raw)
		if err != nil {
			return err
		}
		if err := s.Validate(); err != nil {
			return named("service", s.Service, err)
		}
		for _, d := range s.Checks {
			if d.RunsPrograms() && !h.EnableLocalScripts {
				return named("service", s.Service, errScripts{})
			}
		}
		if !dnsLabel.MatchString(s.Service) {
			b.warnf("%s: service %q cannot be looked up by DNS", at, cut(s.Service))
		}
		for _, tag := range s.Tags {
			if !dnsLabel.MatchString(tag) {
				b.warnf("%s: tag %q of service %q cannot be looked up by DNS", at, cut(tag), cut(s.Service))
			}
		}
		s.Source = checks.SourceLocal
		out = append(out, s)
		return nil
	})
	return out
}

func (b *builder) checks(h Health) []*checks.Definition {
	var out []*checks.Definition
	b.each("checks", func(_ place, raw map[string]any) error {
		d, err := checks.Parse(raw)
		if err != nil {
			return err
		}
		if err := d.ValidateAlone(); err != nil {
			return named("check", d.Name, err)
		}
		if d.RunsPrograms() && !h.EnableLocalScripts {
			return named("check", d.Name, errScripts{})
		}
		d.Source = checks.SourceLocal
		out = append(out, d)
		return nil
	})
	return out
}

func (b *builder) watches() []*watches.Definition {
	var out []*watches.Definition
	b.each("watches", func(_ place, raw map[string]any) error {
		d, err := watches.Parse(raw)
		if err != nil {
			return err
		}
		out = append(out, d)
		return nil
	})
	return out
}
