package server

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) coordinateMethods() []method {
	return []method{
		leaderOnly(e, "Coordinate.Update", data, true, checkCoordinate, e.updateCoordinate),
		unary("Coordinate.ListDatacenters", data, e.listDatacenterCoordinates),
		read(e, "Coordinate.ListNodes", data, nil, e.coordinates),
		read(e, "Coordinate.Node", data, nodeNamed, e.nodeCoordinates),
	}
}

var (
	errNoCoordinate  = errors.New("Must provide coordinate (Coord)")
	errLongNames     = errors.New("Node, Segment and Partition of a coordinate are too long")
	errBadCoordinate = errors.New("invalid coordinate (Coord): it must have 8 dimensions, and no value that is NaN or infinite")
)

// maxCoordinateNames bounds the names in one coordinate: many of them are written
// as one log entry.
const maxCoordinateNames = 4 << 10 // bytes

func checkCoordinate(req *wire.CoordinateUpdateRequest) error {
	switch {
	case req.Node == "":
		return errNoNode
	case len(req.Node)+len(req.Segment)+len(req.Partition) > maxCoordinateNames:
		return errLongNames
	case req.Coord == nil:
		return errNoCoordinate
	case !req.Coord.IsValid() || len(req.Coord.Vec) != int(coordinate.DefaultConfig().Dimensionality):
		return errBadCoordinate
	}
	return plain("Node", req.Node)
}

// updateCoordinate hands a coordinate to the leader's batch; it is written later.
func (e *Endpoints) updateCoordinate(_ context.Context, req *wire.CoordinateUpdateRequest, _ *wire.Empty) error {
	return e.cfg.Duties.UpdateCoordinate(req)
}

func (e *Endpoints) coordinates(s *state.Store, ws state.WatchSet, req *wire.DCSpecificRequest, reply *wire.IndexedCoordinates) (uint64, error) {
	idx, all, err := s.Coordinates(ws)
	if err == nil {
		all, err = filter(req.Filter, all)
	}
	reply.Coordinates = list(all)
	return idx, err
}

func (e *Endpoints) nodeCoordinates(s *state.Store, ws state.WatchSet, req *wire.NodeSpecificRequest, reply *wire.IndexedCoordinates) (uint64, error) {
	idx, all, err := s.NodeCoordinates(ws, req.Node)
	reply.Coordinates = list(all)
	if err != nil || len(all) == 0 {
		return idx, nothing(err)
	}
	return idx, nil
}

// listDatacenterCoordinates are the coordinates of the WAN pool's servers.
func (e *Endpoints) listDatacenterCoordinates(_ context.Context, _ *wire.Empty, reply *[]wire.DatacenterMap) error {
	byDC := e.wanCoordinates()
	*reply = []wire.DatacenterMap{}
	for _, dc := range e.datacenters() {
		m := wire.DatacenterMap{Datacenter: dc, AreaID: "wan", Coordinates: list(byDC[dc])}
		*reply = append(*reply, m)
	}
	return nil
}

// wanCoordinates are the coordinates of the servers in the WAN pool, as far as
// they are known, by datacenter.
func (e *Endpoints) wanCoordinates() map[string][]*wire.Coordinate {
	out := map[string][]*wire.Coordinate{}
	if e.cfg.WAN == nil {
		return out
	}
	for _, s := range Servers(e.cfg.WAN.Members()) {
		if c, ok := e.cfg.WAN.Coordinate(s.Name); ok && s.Alive() {
			out[s.Datacenter] = append(out[s.Datacenter], &wire.Coordinate{Node: s.Name, Coord: c})
		}
	}
	return out
}

// datacenters are the names of the known datacenters, this one among them.
func (e *Endpoints) datacenters() []string {
	dcs := append(e.cfg.Router.Datacenters(), e.cfg.Datacenter)
	slices.Sort(dcs)
	return slices.Compact(dcs)
}

// listDatacenters are the datacenters by their distance from this server.
func (e *Endpoints) listDatacenters(_ context.Context, _ *wire.DatacentersRequest, reply *[]string) error {
	*reply = e.datacenters()
	if e.cfg.WAN == nil {
		return nil
	}
	from, _ := e.cfg.WAN.Coordinate(e.cfg.WAN.LocalMember().Name)
	sortByDistance(*reply, e.cfg.Datacenter, from, e.wanCoordinates())
	return nil
}

// sortByDistance sorts datacenters: own first, then by the median distance of
// their servers; those at no known distance come last, in the order they had.
func sortByDistance(dcs []string, own string, from *coordinate.Coordinate, servers map[string][]*wire.Coordinate) {
	at := map[string]float64{}
	for _, dc := range dcs {
		all := []float64{}
		for _, s := range servers[dc] {
			all = append(all, distance(from, s.Coord))
		}
		slices.Sort(all)
		switch {
		case dc == own:
			at[dc] = -1
		case len(all) == 0:
			at[dc] = math.Inf(1)
		default:
			at[dc] = all[len(all)/2]
		}
	}
	slices.SortStableFunc(dcs, func(a, b string) int { return cmp.Compare(at[a], at[b]) })
}
