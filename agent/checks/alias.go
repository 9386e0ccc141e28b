package checks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"lictor/agent/script"
	"lictor/rpc/wire"
)

const (
	aliasWait     = 10 * time.Minute // of a blocking query
	aliasRetry    = time.Second      // after the first failure; doubled up to
	aliasRetryMax = time.Minute
)

// alias has the worst status among the checks of a service or a node: those of
// this agent as it knows them itself, those of other nodes as the servers do.
type alias struct {
	id, node, service string
	token             string
	o                 Options
}

func newAlias(d *Definition, o Options) (Check, error) {
	return &alias{id: d.ID, node: d.AliasNode, service: d.AliasService, token: d.Token, o: o}, nil
}

func (c *alias) Run(ctx context.Context) {
	if c.node == "" || strings.EqualFold(c.node, c.o.Node) {
		c.runLocal(ctx)
	} else {
		c.runRemote(ctx)
	}
}

func (c *alias) runLocal(ctx context.Context) {
	var before [2]string
	for {
		changed := c.o.Registry.Changed() // before the look, so that no change is missed
		var list []*wire.HealthCheck
		for _, hc := range c.o.Registry.Checks() {
			list = append(list, hc)
		}
		status, output := c.judge(list, c.o.Registry.HasService)
		if now := [2]string{status, output}; now != before { // our own notification is a change, too
			before = now
			c.o.Notify.UpdateCheck(c.id, status, output)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (c *alias) runRemote(ctx context.Context) {
	index, wait := uint64(0), aliasRetry
	for {
		list, next, err := c.ask(ctx, index)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			status, output := c.judge(list, func(id string) bool { return c.remoteHas(ctx, id) })
			if ctx.Err() != nil {
				return
			}
			c.o.Notify.UpdateCheck(c.id, status, output)
			if next < index {
				next = 0
			}
			if next > 0 {
				index, wait = next, aliasRetry
				continue
			}
		} else {
			c.o.Notify.UpdateCheck(c.id, wire.HealthCritical, script.Clip("the servers cannot be asked: "+err.Error(), c.o.MaxOutput))
		}
		index = 0
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, aliasRetryMax)
	}
}

func (c *alias) ask(ctx context.Context, index uint64) ([]*wire.HealthCheck, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, aliasWait+aliasWait/8)
	defer cancel()
	req := wire.NodeSpecificRequest{Datacenter: c.o.Datacenter, Node: c.node}
	req.AllowStale, req.MinQueryIndex, req.MaxQueryTime, req.Token = true, index, aliasWait, c.token
	var reply wire.IndexedHealthChecks
	err := c.o.RPC.Call(ctx, "Health.NodeChecks", &req, &reply)
	return reply.HealthChecks, reply.Index, err
}

// remoteHas asks whether the other node has the service. Where that cannot be
// known it has not.
func (c *alias) remoteHas(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, networkTimeout)
	defer cancel()
	req := wire.NodeSpecificRequest{Datacenter: c.o.Datacenter, Node: c.node}
	req.AllowStale, req.Token = true, c.token
	var reply wire.IndexedNodeServices
	if err := c.o.RPC.Call(ctx, "Catalog.NodeServices", &req, &reply); err != nil || reply.NodeServices == nil {
		return false
	}
	_, ok := reply.NodeServices.Services[id]
	return ok
}

// judge is the worst status among the checks of the node and of the service, or
// of everything on the node where no service is named. Of other aliases it looks
// only at those of the very service, never at itself: two that looked at each
// other would stay critical for ever.
func (c *alias) judge(list []*wire.HealthCheck, has func(id string) bool) (status, output string) {
	status, own := wire.HealthPassing, false
	list = slices.SortedFunc(slices.Values(list), func(a, b *wire.HealthCheck) int { return strings.Compare(a.CheckID, b.CheckID) })
	for _, hc := range list {
		ofService := c.service != "" && hc.ServiceID == c.service
		switch {
		case strings.EqualFold(hc.Node, c.o.Node) && hc.CheckID == c.id,
			c.service != "" && hc.ServiceID != "" && !ofService,
			hc.Type == KindAlias && !ofService:
			continue
		}
		own = own || ofService || c.service == ""
		why := fmt.Sprintf("Aliased check %q failing", hc.Name)
		if hc.Type != KindAlias {
			why += ": " + hc.Output
		}
		switch {
		case hc.Status == wire.HealthCritical:
			return hc.Status, script.Clip(why, c.o.MaxOutput)
		case hc.Status == wire.HealthWarning:
			status, output = hc.Status, script.Clip(why, c.o.MaxOutput)
		}
	}
	switch {
	case c.service != "" && !own && !has(c.service):
		return wire.HealthCritical, fmt.Sprintf("Service %s could not be found on node %s", c.service, c.nodeName())
	case status != wire.HealthPassing:
		return status, output
	case !own:
		return status, "No checks found."
	}
	return status, "All checks passing."
}

func (c *alias) nodeName() string {
	if c.node == "" {
		return c.o.Node
	}
	return c.node
}
