package config

import (
	"strings"
	"sync"
)

type valueKind string

const (
	kindString   valueKind = "s"
	kindSecret   valueKind = "x"
	kindBool     valueKind = "b"
	kindInt      valueKind = "i"
	kindFloat    valueKind = "f"
	kindDuration valueKind = "d"
	kindList     valueKind = "l"
	kindMap      valueKind = "m"
	kindObject   valueKind = "o"
	kindObjects  valueKind = "os"
	kindAny      valueKind = "any"
)

// wants is how an error names the kind.
func (k valueKind) wants() string {
	switch k {
	case kindString, kindSecret:
		return "a string"
	case kindBool:
		return "true or false"
	case kindInt:
		return "a whole number"
	case kindFloat:
		return "a number"
	case kindDuration:
		return `a duration with a unit, such as "10s"`
	case kindList:
		return "a list of strings"
	case kindMap:
		return "a map of strings"
	case kindObjects:
		return "a list of objects"
	default:
		return "an object"
	}
}

// field is one key of the schema.
type field struct {
	path     string
	kind     valueKind
	reload   bool   // a reload applies a change
	later    bool   // known to the family, not acted upon here
	quiet    bool   // not acted upon, without a warning
	gone     string // the warning of a key that has no effect any more
	children map[string]*field
}

// schema is the tree of every known key. It is never written to.
var schema = sync.OnceValue(func() *field {
	root := &field{kind: kindObject, children: map[string]*field{}}
	root.load(schemaTable)
	for _, name := range []string{"service", "services"} {
		f := root.children[name]
		f.load(serviceTable)
		for _, check := range []string{"check", "checks"} {
			f.children[check].load(checkTable)
		}
	}
	root.children["check"].load(checkTable)
	root.children["checks"].load(checkTable)
	root.children["watches"].load(watchTable)
	root.children["segments"].load(segmentTable)
	return root
})

// load adds a table's keys below f.
func (f *field) load(table string) {
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		parent := f
		parts := strings.Split(words[0], ".")
		for _, part := range parts[:len(parts)-1] {
			parent = parent.children[part]
		}
		child := &field{path: words[0], kind: valueKind(words[1])}
		if f.path != "" {
			child.path = f.path + "." + words[0]
		}
		for i, flag := range words[2:] {
			switch {
			case flag == "R":
				child.reload = true
			case flag == "later":
				child.later = true
			case flag == "quiet":
				child.quiet = true
			case strings.HasPrefix(flag, "gone="):
				child.gone = strings.TrimPrefix(strings.Join(words[2+i:], " "), "gone=")
			}
		}
		if parent.children == nil {
			parent.children = map[string]*field{}
		}
		parent.children[parts[len(parts)-1]] = child
	}
}

// lookup finds the field of a dotted path; nil when nobody has it.
func (f *field) lookup(path string) *field {
	for part := range strings.SplitSeq(path, ".") {
		if f == nil {
			return nil
		}
		f = f.children[part]
	}
	return f
}

// walk calls fn for every field below f.
func (f *field) walk(fn func(*field)) {
	for _, child := range f.children {
		fn(child)
		child.walk(fn)
	}
}

// nearest is the known key that a mistyped one probably meant: first among its
// siblings, then a key of that name elsewhere, then any path. "" when nothing is near.
func nearest(parent *field, prefix, key string) string {
	low := strings.ToLower(key)
	limit := max(1, len(low)/3)
	best, bestAt := "", limit+1
	consider := func(path string, d int) {
		if d < bestAt || d == bestAt && best != "" && path < best {
			best, bestAt = path, d
		}
	}
	for name := range parent.children {
		consider(prefix+name, distance(low, name))
	}
	if best != "" {
		return best
	}
	schema().walk(func(f *field) {
		if !strings.HasPrefix(f.path, "service") && !strings.HasPrefix(f.path, "check") && !strings.HasPrefix(f.path, "watches") {
			consider(f.path, distance(low, f.path[strings.LastIndexByte(f.path, '.')+1:]))
		}
	})
	if best != "" {
		return best
	}
	full := strings.ToLower(prefix) + low
	bestAt = max(1, len(full)/3) + 1
	schema().walk(func(f *field) { consider(f.path, distance(full, f.path)) })
	return best
}

// distance is the number of single-letter edits between a and b. Names that
// are too long to be a slip count as far away.
func distance(a, b string) int {
	const most = 128
	if len(a) > most || len(b) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
