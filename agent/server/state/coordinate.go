package state

import (
	"slices"

	"github.com/hashicorp/serf/coordinate"

	"lictor/rpc/wire"
)

// dimensions of every coordinate of the family.
const dimensions = 8

// CoordinateBatchUpdate writes coordinates of nodes. Those of unknown nodes, and
// those that are none, are skipped.
func (s *Store) CoordinateBatchUpdate(idx uint64, updates []*wire.Coordinate) error {
	return s.write(func(w *Write) error { return w.CoordinateBatchUpdate(idx, updates) })
}

// CoordinateBatchUpdate is Store.CoordinateBatchUpdate as part of w.
func (w *Write) CoordinateBatchUpdate(idx uint64, updates []*wire.Coordinate) error {
	for _, u := range updates {
		if u == nil || u.Coord == nil || len(u.Coord.Vec) != dimensions || !u.Coord.IsValid() {
			continue
		}
		node := w.node(u.Node)
		if node == nil {
			continue
		}
		cur := get[nodeCoordinate](w.Txn, tableCoordinates, byID, fold(u.Node), u.Segment)
		if cur != nil && cur.Node == node.Node && cur.Partition == u.Partition && sameCoordinate(cur.Coord, u.Coord) {
			continue
		}
		n := *u
		n.Node = node.Node
		w.insert(tableCoordinates, &nodeCoordinate{&n, idx})
		w.touch(idx, scopeCoordinates)
	}
	return nil
}

func sameCoordinate(a, b *coordinate.Coordinate) bool {
	return a.Error == b.Error && a.Adjustment == b.Adjustment && a.Height == b.Height && slices.Equal(a.Vec, b.Vec)
}

// Coordinates returns the coordinates of all nodes, by node and segment.
func (s *Store) Coordinates(ws WatchSet) (uint64, []*wire.Coordinate, error) {
	tx := s.read(ws)
	idx := last(tx, ws, scopeCoordinates)
	out := []*wire.Coordinate{}
	for c := range list[nodeCoordinate](tx, tableCoordinates, byID) {
		out = append(out, c.Coordinate)
	}
	return idx, out, nil
}

// NodeCoordinates returns the coordinates of a node, one a segment.
func (s *Store) NodeCoordinates(ws WatchSet, node string) (uint64, []*wire.Coordinate, error) {
	tx := s.read(ws)
	ch, seq := each[nodeCoordinate](tx, tableCoordinates, byPrefix, fold(node))
	ws.Add(ch)
	var idx uint64
	out := []*wire.Coordinate{}
	for c := range seq {
		idx = max(idx, c.modified)
		out = append(out, c.Coordinate)
	}
	if idx == 0 {
		idx = last(tx, nil, scopeNodesGone)
	}
	return idx, out, nil
}
