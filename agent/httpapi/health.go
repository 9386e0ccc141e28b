package httpapi

import (
	"net/http"

	"lictor/rpc/wire"
)

const (
	healthNodePath    = "/v1/health/node/"
	healthChecksPath  = "/v1/health/checks/"
	healthStatePath   = "/v1/health/state/"
	healthServicePath = "/v1/health/service/"
)

func appendIndexedChecks(b []byte, reply *wire.IndexedHealthChecks) []byte {
	return appendChecks(b, reply.HealthChecks)
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
	wan := a.translates(req.Datacenter)
	return answer(a, w, r, cacheable, "Health.ServiceNodes", req, variant, func(b []byte, reply *wire.IndexedCheckServiceNodes) []byte {
		return appendInstances(b, wanAll(wan, reply.Nodes, wanInstance), passing)
	})
}
