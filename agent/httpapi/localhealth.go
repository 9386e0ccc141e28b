package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"lictor/agent/answers"
	"lictor/rpc/wire"
)

const (
	localHealthIDPath   = "/v1/agent/health/service/id/"
	localHealthNamePath = "/v1/agent/health/service/name/"
)

// localHealth is a service of this agent with its checks and those of the node.
type localHealth struct {
	AggregatedStatus string
	Service          *agentService
	Checks           []*wire.HealthCheck
}

// worse orders the states: the later one counts.
var worse = []string{wire.HealthPassing, wire.HealthWarning, wire.HealthCritical, wire.HealthMaint}

var healthCode = map[string]int{
	wire.HealthPassing: http.StatusOK, wire.HealthWarning: http.StatusTooManyRequests,
	wire.HealthCritical: http.StatusServiceUnavailable, wire.HealthMaint: http.StatusServiceUnavailable,
}

// state is what a check counts as.
func state(c *wire.HealthCheck) string {
	switch {
	case c.CheckID == wire.NodeMaint, strings.HasPrefix(c.CheckID, wire.ServiceMaintPrefix):
		return wire.HealthMaint
	case c.Status == wire.HealthPassing, c.Status == wire.HealthWarning:
		return c.Status
	}
	return wire.HealthCritical
}

func worst(a, b string) string {
	if slices.Index(worse, b) > slices.Index(worse, a) {
		return b
	}
	return a
}

// healthOf puts a service together with the checks that count for it.
func (a *API) healthOf(s *wire.NodeService, all map[string]*wire.HealthCheck) localHealth {
	shown := a.shownService(s)
	h := localHealth{AggregatedStatus: wire.HealthPassing, Service: &shown, Checks: []*wire.HealthCheck{}}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if c := all[id]; c.ServiceID == "" || c.ServiceID == s.ID {
			h.Checks = append(h.Checks, c)
			h.AggregatedStatus = worst(h.AggregatedStatus, state(c))
		}
	}
	return h
}

func appendLocalHealth(b []byte, h localHealth) []byte {
	b = answers.AppendField(b, `{"AggregatedStatus":`, h.AggregatedStatus)
	b = append(b, `,"Service":`...)
	if h.Service == nil {
		return append(b, `null,"Checks":null}`...)
	}
	service, err := json.Marshal(h.Service)
	if err != nil {
		panic(err) // texts and numbers always have a JSON form
	}
	b = append(b, service...)
	b = answers.AppendChecks(append(b, `,"Checks":`...), h.Checks)
	return append(b, '}')
}

// wantsText says whether the answer is a word instead of JSON.
func wantsText(r *request) bool {
	switch r.q.get("format") {
	case "text":
		return true
	case "":
		return strings.HasPrefix(r.Header.Get("Accept"), "text/plain")
	}
	return false
}

// reason answers with a state: its word in a header and, where that was asked
// for, as the whole answer. done is whether it was.
func reason(w http.ResponseWriter, r *request, code int, word string) (done bool) {
	w.Header().Set("X-Consul-Reason", word)
	if wantsText(r) {
		writeText(w, code, word)
		return true
	}
	return false
}

func (a *API) localHealthByID(w http.ResponseWriter, r *request) error {
	id, err := r.name(localHealthIDPath, "Missing service ID")
	if err != nil {
		return err
	}
	reg := a.cfg.Backend.Registry()
	s, ok := reg.Service(id)
	h := localHealth{AggregatedStatus: wire.HealthCritical}
	code, word := http.StatusNotFound, "ServiceId "+id[:min(len(id), 200)]+" not found"
	if ok {
		h = a.healthOf(s, reg.Checks())
		code, word = healthCode[h.AggregatedStatus], h.AggregatedStatus
	}
	if !reason(w, r, code, word) {
		a.writeEncoded(w, r, code, appendLocalHealth(nil, h))
	}
	return nil
}

// localHealthByName answers for all services of a name: the worst one counts.
func (a *API) localHealthByName(w http.ResponseWriter, r *request) error {
	name, err := r.name(localHealthNamePath, "Missing service name")
	if err != nil {
		return err
	}
	reg := a.cfg.Backend.Registry()
	all, services := reg.Checks(), reg.Services()
	code, word := http.StatusNotFound, "ServiceName "+name[:min(len(name), 200)]+" Not Found"
	list := []localHealth{}
	total := wire.HealthPassing
	for _, id := range slices.Sorted(maps.Keys(services)) {
		if services[id].Service != name {
			continue
		}
		h := a.healthOf(services[id], all)
		list = append(list, h)
		total = worst(total, h.AggregatedStatus)
		code, word = healthCode[total], total
	}
	if !reason(w, r, code, word) {
		a.writeEncoded(w, r, code, answers.AppendList(nil, list, appendLocalHealth))
	}
	return nil
}
