package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lictor/agent/local"
)

// ServiceFiles reads the services of files and directories that are written like
// configuration, in the order in which they stand, and does not validate them.
// Other keys of the files are not looked at. A file without a service is an
// error. No error holds a value.
func ServiceFiles(paths []string) ([]*local.Service, error) {
	p := &problems{}
	var out []*local.Service
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

func servicesOf(top *node) ([]*local.Service, error) {
	var out []*local.Service
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
			raw, _ := item.raw(nil).(map[string]any)
			if checks, ok := raw["checks"].(map[string]any); ok {
				raw["checks"] = []any{checks} // one block
			}
			s, err := local.ParseService(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: key %q: %w", item.at, key, err)
			}
			out = append(out, s)
		}
	}
	return out, nil
}
