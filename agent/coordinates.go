package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"lictor/rpc/wire"
)

// How often an agent tells the servers its network coordinate: often enough to
// be of use, and seldom enough that all agents together send no more than the
// rate (limits-and-defaults.md, section 8). The first time comes sooner.
const (
	coordinateMin   = 15 * time.Second
	coordinateFirst = time.Second
	coordinateRate  = 64 // a second, of the whole cluster
)

// sendCoordinates does so until ctx ends. It is no failure where there is no
// leader to tell: the next time comes soon.
func (a *Agent) sendCoordinates(ctx context.Context) error {
	for least := coordinateFirst; ; least = coordinateMin {
		every := max(least, time.Duration(a.nodes())*time.Second/coordinateRate)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every + rand.N(every)):
		}
		cfg := a.cfg.Load()
		c, ok := a.lan.Coordinate(cfg.Node.Name)
		if !ok {
			continue
		}
		req := &wire.CoordinateUpdateRequest{Datacenter: cfg.Node.Datacenter, Node: cfg.Node.Name, Coord: c}
		if err := a.RPC(ctx, "Coordinate.Update", req, &wire.Empty{}); err != nil && ctx.Err() == nil {
			a.log.Debug("the servers could not be told this node's coordinate", "error", err)
		}
	}
}
