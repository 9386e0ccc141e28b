package server_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/serf/coordinate"

	"lictor/agent/server"
	"lictor/rpc/wire"
)

func TestCoordinates(t *testing.T) {
	e, r := alone(t)
	register(t, e, "n1", "")
	good := func() *coordinate.Coordinate { return coordinate.NewCoordinate(coordinate.DefaultConfig()) }
	nan, short := good(), good()
	nan.Vec[3] = math.NaN()
	short.Vec = short.Vec[:3]
	const invalid = "invalid coordinate (Coord): it must have 8 dimensions, and no value that is NaN or infinite"
	for want, req := range map[string]*wire.CoordinateUpdateRequest{
		"Must provide node":                                        {Coord: good()},
		"Must provide coordinate (Coord)":                          {Node: "n1"},
		"Node, Segment and Partition of a coordinate are too long": {Node: "n1", Segment: strings.Repeat("x", 4<<10), Coord: good()},
		invalid: {Node: "n1", Coord: nan},
		"Invalid Node: it must not contain control characters": {Node: "\x00", Coord: good()},
	} {
		refused(t, e, "Coordinate.Update", req, want)
	}
	refused(t, e, "Coordinate.Update", &wire.CoordinateUpdateRequest{Node: "n1", Coord: short}, invalid)
	call[wire.Empty](t, e, "Coordinate.Update", &wire.CoordinateUpdateRequest{Node: "n1", Coord: good()})
	r.locked(func() {
		if len(r.coordinates) != 1 || r.coordinates[0].Node != "n1" {
			t.Errorf("queued: %+v", r.coordinates)
		}
	})
	place(t, r, map[string]float64{"n1": 1})
	if got := call[wire.IndexedCoordinates](t, e, "Coordinate.ListNodes", &wire.DCSpecificRequest{}); len(got.Coordinates) != 1 {
		t.Errorf("nodes: %+v", got)
	}
	if got := call[wire.IndexedCoordinates](t, e, "Coordinate.Node", &wire.NodeSpecificRequest{Node: "n1"}); len(got.Coordinates) != 1 {
		t.Errorf("n1: %+v", got)
	}
	if got := call[wire.IndexedCoordinates](t, e, "Coordinate.Node", &wire.NodeSpecificRequest{Node: "n9"}); len(got.Coordinates) != 0 || got.Index == 0 {
		t.Errorf("n9: %+v", got)
	}
	dcs := call[[]wire.DatacenterMap](t, e, "Coordinate.ListDatacenters", wire.Empty{})
	if len(dcs) != 1 || dcs[0].Datacenter != "dc1" || dcs[0].AreaID != "wan" || dcs[0].Coordinates == nil {
		t.Errorf("datacenters: %+v", dcs)
	}
}

func TestDatacentersByDistance(t *testing.T) {
	at := func(seconds float64) *coordinate.Coordinate {
		c := coordinate.NewCoordinate(coordinate.DefaultConfig())
		c.Vec[0] = seconds
		return c
	}
	servers := map[string][]*wire.Coordinate{
		"far":    {{Coord: at(0.3)}, {Coord: at(0.001)}, {Coord: at(0.3)}}, // the median counts
		"near":   {{Coord: at(0.1)}},
		"broken": {{Coord: &coordinate.Coordinate{Vec: []float64{1}}}},
		"own":    {{Coord: at(0.2)}},
	}
	dcs := []string{"broken", "far", "near", "none", "own"}
	server.SortByDistance(dcs, "own", at(0), servers)
	if want := []string{"own", "near", "far", "broken", "none"}; !slices.Equal(dcs, want) {
		t.Errorf("got %v, want %v", dcs, want)
	}
	server.SortByDistance(dcs, "own", nil, servers) // nothing is known: the order stays
	if want := []string{"own", "near", "far", "broken", "none"}; !slices.Equal(dcs, want) {
		t.Errorf("got %v, want %v", dcs, want)
	}
}
