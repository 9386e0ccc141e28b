package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

func rttCommand() *command {
	return &command{
		name:     "rtt",
		args:     "NODE1 [NODE2]",
		synopsis: "Estimates network round trip time between nodes",
		about: "Estimates the round-trip time between two nodes from their network coordinates, without sending anything between them. The second is the agent's own node where it is not given. " +
			"With -wan the nodes are servers of any datacenter, each named as NODE.DATACENTER.",
		example: "rtt web-1 web-2\nrtt -wan s1.dc1 s1.dc2",
		usesAPI: true,
		define: func(fs *flag.FlagSet) action {
			wan := fs.Bool("wan", false, "Use the coordinates of the WAN pool.")
			return func(ctx context.Context, in *invocation) int {
				if n := len(in.args); n < 1 || n > 2 {
					return in.misuse("One or two node names must be specified")
				}
				for _, name := range in.args {
					if *wan && !isWANName(name) {
						return in.fail("Node name %q must have the form NODE.DATACENTER for -wan", name)
					}
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				nodes := in.args
				if len(nodes) == 1 {
					self, err := ownName(c, *wan)
					if err != nil {
						return in.fail("Unable to look up the agent's own node: %s", c.explain(err))
					}
					nodes = append(nodes, self)
				}
				find, pool := lanCoordinates, "LAN"
				if *wan {
					find, pool = wanCoordinates, "WAN"
				}
				all, err := find(c)
				if err != nil {
					return in.fail("Error getting coordinates: %s", c.explain(err))
				}
				rtt, err := estimate(all, nodes[0], nodes[1])
				if err != nil {
					return in.fail("%s", err)
				}
				in.ui.Output(fmt.Sprintf("Estimated %s <-> %s rtt: %.3f ms (using %s coordinates)",
					nodes[0], nodes[1], float64(rtt)/float64(time.Millisecond), pool))
				return 0
			}
		},
	}
}

func isWANName(name string) bool {
	i := strings.LastIndexByte(name, '.')
	return i > 0 && i < len(name)-1
}

// ownName is the name of the agent's node, in the WAN pool where that is asked.
func ownName(c *httpClient, wan bool) (string, error) {
	self, err := c.c.Agent().Self()
	if err != nil {
		return "", err
	}
	name, _ := self["Config"]["NodeName"].(string)
	dc, _ := self["Config"]["Datacenter"].(string)
	switch {
	case name == "" || wan && dc == "":
		return "", errors.New("the agent does not say")
	case wan:
		return name + "." + dc, nil
	}
	return name, nil
}

// placed is a coordinate and the set of those that it can be compared with: a
// network segment, or an area of the WAN.
type placed struct {
	set   string
	coord *coordinate.Coordinate
}

// Both of these are the coordinates of each node, by its name in the pool.

func lanCoordinates(c *httpClient) (map[string][]placed, error) {
	entries, _, err := c.c.Coordinate().Nodes(nil)
	all := map[string][]placed{}
	for _, e := range entries {
		all[e.Node] = append(all[e.Node], placed{e.Segment, e.Coord})
	}
	return all, err
}

func wanCoordinates(c *httpClient) (map[string][]placed, error) {
	dcs, err := c.c.Coordinate().Datacenters()
	all := map[string][]placed{}
	for _, dc := range dcs {
		for _, e := range dc.Coordinates {
			name := e.Node
			if !strings.HasSuffix(name, "."+dc.Datacenter) {
				name += "." + dc.Datacenter
			}
			all[name] = append(all[name], placed{dc.AreaID, e.Coord})
		}
	}
	return all, err
}

// estimate is the round-trip time between two nodes.
func estimate(all map[string][]placed, a, b string) (time.Duration, error) {
	for _, node := range []string{a, b} {
		if len(all[node]) == 0 {
			return 0, fmt.Errorf("Could not find a coordinate for node %q", node)
		}
	}
	for _, pa := range all[a] {
		for _, pb := range all[b] {
			if pa.set == pb.set && pa.coord != nil && pb.coord != nil && pa.coord.IsCompatibleWith(pb.coord) {
				return pa.coord.DistanceTo(pb.coord), nil
			}
		}
	}
	return 0, fmt.Errorf("The coordinates of %q and %q cannot be compared", a, b)
}
