package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ServiceDefinition is a service of a definition file, as it is written there:
// values are those of encoding/json, but whole numbers are int64. It may hold a
// secret in clear.
type ServiceDefinition struct {
	Where string // file and line
	Raw   map[string]any
}

// ServiceDefinitions reads the services of files and directories that are
// written like configuration, in the order in which they stand. Other keys of
// the files are not looked at. A file without a service is an error.
func ServiceDefinitions(paths []string) ([]ServiceDefinition, error) {
	p := &problems{}
	var out []ServiceDefinition
	for _, path := range paths {
		for _, src := range p.expand(path, "") {
			parse := parseJSON
			if src.format == "hcl" {
				parse = parseHCL
			}
			top, err := parse(src.path, src.data)
			if err != nil {
				p.errs = append(p.errs, err)
				continue
			}
			found, err := servicesOf(top)
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("%s: no service is defined here", src.path)
			}
			if err != nil {
				p.errs = append(p.errs, err)
			}
			out = append(out, found...)
		}
	}
	return out, errors.Join(p.errs...)
}

func servicesOf(top *node) ([]ServiceDefinition, error) {
	var out []ServiceDefinition
	for _, key := range slices.Sorted(slices.Values(top.keys)) {
		switch strings.ToLower(key) {
		case "service", "services":
		default:
			continue
		}
		items := []*node{top.obj[key]}
		if items[0].kind == listNode {
			items = items[0].list
		}
		for _, item := range items {
			if item.kind != objectNode {
				return nil, fmt.Errorf("%s: key %q wants objects, not %s", item.at, key, item.kind)
			}
			raw, _ := item.plain().(map[string]any)
			if checks, ok := raw["checks"].(map[string]any); ok {
				raw["checks"] = []any{checks} // one block
			}
			out = append(out, ServiceDefinition{item.at.String(), raw})
		}
	}
	return out, nil
}

// plain is the value without the places it was written at.
func (n *node) plain() any {
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
			out[i] = item.plain()
		}
		return out
	case objectNode:
		out := make(map[string]any, len(n.obj))
		for key, item := range n.obj {
			out[key] = item.plain()
		}
		return out
	}
	return nil
}
