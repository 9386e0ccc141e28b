package archive

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"lictor/agent/server/fsm"
)

// Stat counts the records of one type.
type Stat struct {
	Name  string
	Sum   int // bytes
	Count int
}

// Report is what Inspect found.
type Report struct {
	Stats     []Stat // by size, the largest first
	TotalSize int
	// StatsKV are the entries of the key-value store by the beginning of their
	// keys; nil where they were not asked for.
	StatsKV     []Stat
	TotalSizeKV int
}

// KVDetails asks Inspect for the sizes of keys: by their first Depth parts
// between slashes, of those that begin with Filter.
type KVDetails struct {
	Depth  int
	Filter string
}

// InspectState counts what is in a state. kv may be nil.
func InspectState(state io.Reader, kv *KVDetails) (*Report, error) {
	types, keys := map[string]*Stat{}, map[string]*Stat{}
	add := func(to map[string]*Stat, name string, size int) {
		s := to[name]
		if s == nil {
			s = &Stat{Name: name}
			to[name] = s
		}
		s.Sum += size
		s.Count++
	}
	rep := &Report{}
	err := fsm.Inspect(state, func(r fsm.Record) error {
		rep.TotalSize += r.Size
		add(types, r.Type, r.Size)
		if r.Type == "KVs" && kv != nil && strings.HasPrefix(r.Key, kv.Filter) {
			rep.TotalSizeKV += r.Size
			add(keys, prefix(r.Key, max(kv.Depth, 1)), r.Size)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rep.Stats = sorted(types)
	if kv != nil {
		rep.StatsKV = sorted(keys)
	}
	return rep, nil
}

// prefix is the first n parts of a key.
func prefix(key string, n int) string {
	parts := strings.SplitN(key, "/", n+1)
	return strings.Join(parts[:min(n, len(parts))], "/")
}

func sorted(m map[string]*Stat) []Stat {
	out := make([]Stat, 0, len(m))
	for _, s := range m {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(b.Sum, a.Sum), strings.Compare(a.Name, b.Name))
	})
	return out
}
