package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"lictor/agent/answers"
	"lictor/rpc"
	"lictor/rpc/wire"
)

const (
	healthNodePath    = "/v1/health/node/"
	healthChecksPath  = "/v1/health/checks/"
	healthStatePath   = "/v1/health/state/"
	healthServicePath = "/v1/health/service/"
)

func appendIndexedChecks(b []byte, reply *wire.IndexedHealthChecks) []byte {
	return answers.AppendChecks(b, reply.HealthChecks)
}

func (a *API) healthNode(w http.ResponseWriter, r *request) error {
	req, err := r.ofNode(healthNodePath)
	if err != nil {
		return err
	}
	return answer(a, w, r, discovery, "Health.NodeChecks", req, "", appendIndexedChecks)
}

func (a *API) healthChecks(w http.ResponseWriter, r *request) error {
	req, err := a.ofService(r, healthChecksPath)
	if err != nil {
		return err
	}
	return answer(a, w, r, discovery, "Health.ServiceChecks", req, "", appendIndexedChecks)
}

func (a *API) healthState(w http.ResponseWriter, r *request) error {
	state, err := r.name(healthStatePath, "Missing check state")
	if err != nil {
		return err
	}
	req := &wire.ChecksInStateRequest{Datacenter: r.dc(), State: state, NodeMetaFilters: r.q.pairs("node-meta"), Source: a.near(r)}
	return answer(a, w, r, discovery, "Health.ChecksInState", req, "", appendIndexedChecks)
}

func (a *API) healthService(w http.ResponseWriter, r *request) error {
	req, err := a.ofService(r, healthServicePath)
	if err != nil {
		return err
	}
	passing, err := r.q.boolean("passing")
	if err != nil {
		return err
	}
	variant := ""
	if passing {
		variant = "passing"
	}
	encode := func(b []byte, reply *wire.IndexedCheckServiceNodes) []byte {
		return answers.AppendInstances(b, reply.Nodes, passing)
	}
	if req.Datacenter != "" && req.Datacenter != a.cfg.Data.Datacenter {
		wan := a.translates(req.Datacenter)
		return answer(a, w, r, cacheable, "Health.ServiceNodes", req, variant, func(b []byte, reply *wire.IndexedCheckServiceNodes) []byte {
			reply.Nodes = wanAll(wan, reply.Nodes, wanInstance)
			return encode(b, reply)
		})
	}
	return a.answerBytes(w, r, cacheable, cachedRead{
		method: "Health.ServiceNodes", req: req, variant: variant, refresh: true,
		fetch: func(ctx context.Context, req wire.ReadRequest) ([]byte, *wire.QueryMeta, error) {
			return a.serviceNodes(ctx, req.(*wire.ServiceSpecificRequest), passing, encode)
		},
	})
}

// plainFor is how long servers are asked with the family's methods alone after one
// of them did not know another.
const plainFor = time.Minute

// serviceNodes is the answer to a request about the instances of a service: as the
// servers have encoded it, or encoded here where they cannot.
func (a *API) serviceNodes(ctx context.Context, req *wire.ServiceSpecificRequest, passing bool,
	encode func([]byte, *wire.IndexedCheckServiceNodes) []byte) ([]byte, *wire.QueryMeta, error) {
	if until := a.plainUntil.Load(); until == nil || time.Now().After(*until) {
		reply, err := call[wire.EncodedAnswer](ctx, a, "Health.ServiceNodesJSON", &wire.ServiceNodesJSONRequest{ServiceSpecificRequest: *req, Passing: passing})
		if err == nil {
			return reply.Body, reply.Meta(), nil
		}
		if !strings.Contains(err.Error(), rpc.TextNoMethod) {
			return nil, nil, err
		}
		until := time.Now().Add(plainFor)
		a.plainUntil.Store(&until)
	}
	reply, err := call[wire.IndexedCheckServiceNodes](ctx, a, "Health.ServiceNodes", req)
	if err != nil {
		return nil, nil, err
	}
	return encode(nil, reply), reply.Meta(), nil
}
