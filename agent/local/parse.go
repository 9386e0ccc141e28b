package local

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"lictor/agent/checks"
	"lictor/agent/decode"
	"lictor/rpc/wire"
)

// ParseService reads a registration, its keys in any spelling of the family. It
// checks keys and types only: Validate says whether what they say can be
// registered. No error holds a value.
func ParseService(raw map[string]any) (*Service, error) {
	s := &Service{}
	var many, one []*checks.Definition
	check := func(v any) (err error) {
		one, err = parseChecks([]any{v})
		return err
	}
	list := func(v any) (err error) {
		many, err = parseChecks(v)
		return err
	}
	ignored := func(key string) func(any) error {
		return func(any) error {
			s.Ignored = append(s.Ignored, key)
			return nil
		}
	}
	err := decode.Object(raw, decode.Fields{
		"id": &s.ID, "name": &s.Service, "kind": &s.Kind, "tags": &s.Tags, "address": &s.Address, "port": &s.Port,
		"socketpath": &s.SocketPath, "meta": &s.Meta, "token": &s.Token, "enabletagoverride": &s.EnableTagOverride,
		"taggedaddresses": s.parseTagged, "weights": s.parseWeights, "locality": s.parseLocality,
		"check": check, "checks": list,
		"namespace": decode.OnlyDefault, "partition": decode.OnlyDefault,
		"proxy": ignored("proxy"), "connect": ignored("connect"), "ports": ignored("ports"), "ai": ignored("ai"),
	})
	if err != nil {
		return nil, err
	}
	s.Checks = append(many, one...)
	slices.Sort(s.Ignored)
	return s, nil
}

func parseChecks(v any) ([]*checks.Definition, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("wants a list of objects")
	}
	var out []*checks.Definition
	for _, item := range list {
		if item == nil {
			continue
		}
		raw, ok := item.(map[string]any)
		if !ok {
			return nil, errors.New("wants an object")
		}
		d, err := checks.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("of a service: %w", err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (s *Service) parseTagged(v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("wants an object")
	}
	s.TaggedAddresses = make(map[string]wire.ServiceAddress, len(m))
	for name, item := range m {
		var a wire.ServiceAddress
		raw, ok := item.(map[string]any)
		if !ok {
			return errors.New("wants an address and a port for each name")
		}
		if err := decode.Object(raw, decode.Fields{"address": &a.Address, "port": &a.Port}); err != nil {
			return fmt.Errorf("of a service: %w", err)
		}
		s.TaggedAddresses[name] = a
	}
	return nil
}

func (s *Service) parseWeights(v any) error {
	raw, ok := v.(map[string]any)
	if !ok {
		return errors.New("wants an object")
	}
	w := wire.Weights{Passing: 1, Warning: 1}
	if err := decode.Object(raw, decode.Fields{"passing": &w.Passing, "warning": &w.Warning}); err != nil {
		return fmt.Errorf("of a service: %w", err)
	}
	s.Weights = &w
	return nil
}

func (s *Service) parseLocality(v any) error {
	raw, ok := v.(map[string]any)
	if !ok {
		return errors.New("wants an object")
	}
	s.Locality = &wire.Locality{}
	if err := decode.Object(raw, decode.Fields{"region": &s.Locality.Region, "zone": &s.Locality.Zone}); err != nil {
		return fmt.Errorf("of a service: %w", err)
	}
	return nil
}

const (
	maxMeta      = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

var metaKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Validate says why s cannot be registered, in the words of the family's API.
func (s *Service) Validate() error {
	if s.Service == "" {
		return errors.New("Missing service name")
	}
	if s.ID == wire.ConsulService || s.ID == "" && s.Service == wire.ConsulService {
		return fmt.Errorf("Invalid service ID: %q is the one by which servers are registered", wire.ConsulService)
	}
	for _, text := range []string{s.ID, s.Service} {
		if !wire.PlainName(text) {
			return errors.New("Invalid service name: it holds a control character")
		}
	}
	if ip := net.ParseIP(s.Address); ip != nil && ip.IsUnspecified() {
		return errors.New("Invalid service address")
	}
	if s.SocketPath != "" && (s.Address != "" || s.Port != 0) {
		return errors.New("Invalid service address: socket_path excludes address and port")
	}
	if w := s.Weights; w != nil {
		if w.Passing < 1 || w.Passing > 65535 {
			return errors.New("Invalid Weights: Passing must be 1 to 65535")
		}
		if w.Warning < 0 || w.Warning > 65535 {
			return errors.New("Invalid Weights: Warning must be 0 to 65535")
		}
	}
	if err := validMeta(s.Meta); err != nil {
		return fmt.Errorf("Invalid Service Meta: %w", err)
	}
	for _, d := range s.Checks {
		if d.Status != "" && !checks.ValidStatus(d.Status) {
			return errors.New("Status for checks must 'passing', 'warning', 'critical'")
		}
		if !wire.PlainName(d.ID) {
			return errors.New("Invalid check: its id holds a control character")
		}
		if err := d.Validate(); err != nil {
			return fmt.Errorf("Invalid check: %w", err)
		}
	}
	return nil
}

func validMeta(meta map[string]string) error {
	if len(meta) > maxMeta {
		return fmt.Errorf("%d pairs, at most %d are allowed", len(meta), maxMeta)
	}
	for k, v := range meta {
		switch {
		case len(k) > maxMetaKey || !metaKey.MatchString(k):
			return fmt.Errorf("names must be 1 to %d of A-Z, a-z, 0-9, - and _", maxMetaKey)
		case strings.HasPrefix(k, "consul-"):
			return errors.New(`names that begin with "consul-" are reserved`)
		case len(v) > maxMetaValue:
			return fmt.Errorf("the value of %q is longer than %d bytes", k, maxMetaValue)
		}
	}
	return nil
}

// withIDs is s with the ids that it does not say: its own is its name, those of
// its checks are made from its own. Neither s nor its checks are changed.
func (s *Service) withIDs() *Service {
	c := *s
	if c.ID == "" {
		c.ID = c.Service
	}
	c.Checks = make([]*checks.Definition, len(s.Checks))
	for i, d := range s.Checks {
		own := *d
		if own.ID == "" {
			own.ID = "service:" + c.ID
			if len(s.Checks) > 1 {
				own.ID = fmt.Sprintf("service:%s:%d", c.ID, i+1)
			}
		}
		if own.Name == "" {
			own.Name = fmt.Sprintf("Service '%s' check", c.Service)
		}
		if own.Token == "" {
			own.Token = c.Token
		}
		own.ServiceID, own.Source = c.ID, c.Source
		c.Checks[i] = &own
	}
	return &c
}
