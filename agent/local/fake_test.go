package local_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

// catalog is servers, as much of them as anti-entropy needs: it keeps what is
// registered and answers what is asked, in the way of old or new ones.
type catalog struct {
	mu       sync.Mutex
	node     *wire.Node
	services map[string]*wire.NodeService
	checks   map[string]*wire.HealthCheck
	calls    map[string]int
	log      []string // writes, in words
	old      bool     // knows no NodeServiceList
	fail     error
	requests []*wire.RegisterRequest
}

func newCatalog() *catalog {
	return &catalog{services: map[string]*wire.NodeService{}, checks: map[string]*wire.HealthCheck{}, calls: map[string]int{}}
}

func (c *catalog) Call(ctx context.Context, method string, args, reply any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[method]++
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.fail != nil {
		return c.fail
	}
	switch method {
	case "Catalog.NodeServiceList":
		if c.old {
			return errors.New("rpc: can't find method Catalog.NodeServiceList")
		}
		if req := args.(*wire.NodeSpecificRequest); !req.AllowStale || req.MaxStaleDuration == 0 {
			return errors.New("a read that is not bounded in its staleness")
		}
		if c.node != nil {
			reply.(*wire.IndexedNodeServiceList).NodeServices = wire.NodeServiceList{Node: c.node, Services: slices.Collect(maps.Values(c.services))}
		}
	case "Catalog.NodeServices":
		if c.node != nil {
			reply.(*wire.IndexedNodeServices).NodeServices = &wire.NodeServices{Node: c.node, Services: maps.Clone(c.services)}
		}
	case "Health.NodeChecks":
		reply.(*wire.IndexedHealthChecks).HealthChecks = slices.Collect(maps.Values(c.checks))
	case "Catalog.Register":
		return c.register(args.(*wire.RegisterRequest))
	case "Catalog.Deregister":
		req := args.(*wire.DeregisterRequest)
		switch {
		case req.ServiceID != "":
			c.log = append(c.log, "-service "+req.ServiceID)
			delete(c.services, req.ServiceID)
			maps.DeleteFunc(c.checks, func(_ string, hc *wire.HealthCheck) bool { return hc.ServiceID == req.ServiceID })
		case req.CheckID != "":
			c.log = append(c.log, "-check "+req.CheckID)
			delete(c.checks, req.CheckID)
		}
	default:
		return errors.New("rpc: can't find method " + method)
	}
	return nil
}

func (c *catalog) register(req *wire.RegisterRequest) error {
	c.requests = append(c.requests, req)
	if !req.SkipNodeUpdate || c.node == nil {
		c.log = append(c.log, "+node")
		c.node = &wire.Node{ID: req.ID, Node: req.Node, Address: req.Address, Datacenter: req.Datacenter, TaggedAddresses: req.TaggedAddresses, Meta: req.NodeMeta}
	}
	if req.Service != nil {
		c.log = append(c.log, "+service "+req.Service.ID)
		ns := *req.Service
		ns.CreateIndex, ns.ModifyIndex = 7, 8
		c.services[ns.ID] = &ns
	}
	list := req.Checks
	if req.Check != nil {
		list = append(list, req.Check)
	}
	for _, hc := range list {
		if hc.ServiceID != "" && c.services[hc.ServiceID] == nil {
			return errors.New("Missing service registration")
		}
		c.log = append(c.log, "+check "+hc.CheckID)
		own := *hc
		own.ModifyIndex = 9
		c.checks[hc.CheckID] = &own
	}
	return nil
}

// with runs fn on the catalog.
func (c *catalog) with(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// writes are the words since the last call.
func (c *catalog) writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.log
	c.log = nil
	return out
}

func nodeOne() wire.Node {
	return wire.Node{ID: "11111111-1111-1111-1111-111111111111", Node: "n1", Address: "10.0.0.1", Datacenter: "dc1",
		TaggedAddresses: map[string]string{"lan": "10.0.0.1"}, Meta: map[string]string{"m": "1"}}
}

func newState(t testing.TB, cfg local.Config) *local.State {
	t.Helper()
	cfg.Node = nodeOne()
	if cfg.RPC == nil {
		cfg.RPC = newCatalog()
	}
	s, err := local.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs s until the returned function is called.
func start(t testing.TB, s *local.State) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func service(id string, defs ...*checks.Definition) *local.Service {
	return &local.Service{NodeService: wire.NodeService{ID: id, Service: "web", Port: 80, Tags: []string{"a"}}, Checks: defs}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusing takes no registration.
type refusing struct{ *catalog }

func (c *refusing) Call(ctx context.Context, method string, args, reply any) error {
	if method == "Catalog.Register" {
		c.with(func() { c.calls[method]++ })
		return errors.New("rpc error making call: Permission denied")
	}
	return c.catalog.Call(ctx, method, args, reply)
}

// picky does not take one service.
type picky struct {
	*catalog
	bad string
	err error
}

func (c *picky) Call(ctx context.Context, method string, args, reply any) error {
	var bad string
	c.with(func() { bad = c.bad })
	if req, ok := args.(*wire.RegisterRequest); ok && req.Service != nil && req.Service.ID == bad {
		return c.err
	}
	return c.catalog.Call(ctx, method, args, reply)
}
