package server

import (
	"cmp"
	"math"
	"slices"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// list is l, and an empty list where there is none: readers tell the two apart.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// nothing is the error of a query that has found nothing.
func nothing(err error) error {
	if err != nil {
		return err
	}
	return errNothing
}

// distance is the round trip between two coordinates in seconds; infinite where
// either is missing or they do not go together.
func distance(a, b *coordinate.Coordinate) float64 {
	if a == nil || b == nil || !a.IsCompatibleWith(b) {
		return math.Inf(1)
	}
	return a.DistanceTo(b).Seconds()
}

// near sorts by the distance of each element's node from the source: those at
// the same distance keep their order, those at no known distance come last. It
// sorts a copy. Without a source, or one without a coordinate here, it returns l.
func near[T any](s *state.Store, dc string, src wire.QuerySource, l []T, node func(T) string) []T {
	if src.Node == "" || len(l) < 2 || (src.Datacenter != "" && src.Datacenter != dc) {
		return l
	}
	from := coordinateOf(s, src.Node)
	if from == nil {
		return l
	}
	type placed struct {
		at   float64
		what T
	}
	known := map[string]float64{}
	all := make([]placed, len(l))
	for i, what := range l {
		name := node(what)
		at, ok := known[name]
		if !ok {
			at = distance(from, coordinateOf(s, name))
			known[name] = at
		}
		all[i] = placed{at, what}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	out := make([]T, len(all))
	for i, p := range all {
		out[i] = p.what
	}
	return out
}

// coordinateOf is a node's coordinate, nil if it has none.
func coordinateOf(s *state.Store, node string) *coordinate.Coordinate {
	_, all, err := s.NodeCoordinates(nil, node)
	if err != nil {
		return nil // as good as unknown: only the order depends on it
	}
	for _, c := range all {
		if c.Segment == "" {
			return c.Coord
		}
	}
	return nil
}
