package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// pairs is a flag of key=value that may be given several times.
type pairs map[string]string

// String is the flag's default.
func (p *pairs) String() string { return "" }

// Set takes one key=value.
func (p *pairs) Set(text string) error {
	k, v, ok := strings.Cut(text, "=")
	if !ok || k == "" {
		return fmt.Errorf("%q is not key=value", text)
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[k] = v
	return nil
}

// joinPairs is a map on one line, in the order of its keys.
func joinPairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}
