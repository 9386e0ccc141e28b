package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"

	"lictor/agent/answers"
	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

// Registry is what the agent registered itself. Its errors are those of package
// local, in the words that the API answers with.
type Registry interface {
	Services() map[string]*wire.NodeService
	Service(id string) (*wire.NodeService, bool)
	Checks() map[string]*wire.HealthCheck
	Changed() <-chan struct{}
	RegisterService(svc *local.Service, replaceChecks bool) error
	DeregisterService(id string) error
	RegisterCheck(def *checks.Definition) error
	DeregisterCheck(id string) error
	UpdateTTL(checkID, status, output string) error
	ServiceMaintenance(id string, enable bool, reason, token string) error
	NodeMaintenance(enable bool, reason, token string) error
}

const (
	servicePath            = "/v1/agent/service/"
	serviceDeregisterPath  = "/v1/agent/service/deregister/"
	serviceMaintenancePath = "/v1/agent/service/maintenance/"
)

// agentService is a service of this agent as the API shows it.
type agentService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                         `json:",omitempty"`
	TaggedAddresses   map[string]wire.ServiceAddress `json:",omitempty"`
	Weights           wire.Weights
	EnableTagOverride bool
	CreateIndex       uint64 `json:",omitempty" bexpr:"-"`
	ModifyIndex       uint64 `json:",omitempty" bexpr:"-"`
	ContentHash       string `json:",omitempty" bexpr:"-"`
	Datacenter        string
	Locality          *wire.Locality `json:",omitempty" bexpr:"-"`
}

func (a *API) shownService(s *wire.NodeService) agentService {
	out := agentService{
		Kind: s.Kind, ID: s.ID, Service: s.Service, Tags: s.Tags, Meta: s.Meta, Port: s.Port, Address: s.Address, SocketPath: s.SocketPath,
		TaggedAddresses: s.TaggedAddresses, Weights: answers.WeightsOf(s), EnableTagOverride: s.EnableTagOverride,
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex, Datacenter: a.cfg.Data.Datacenter, Locality: s.Locality,
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	if out.Meta == nil {
		out.Meta = map[string]string{}
	}
	return out
}

// hash sets ContentHash: it changes with what the service says of itself, and
// not with the indexes under which the servers keep it.
func (s *agentService) hash() error {
	c := *s
	c.CreateIndex, c.ModifyIndex, c.ContentHash = 0, 0, ""
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	s.ContentHash = hex.EncodeToString(sum[:8])
	return nil
}

func (a *API) agentServices(w http.ResponseWriter, r *request) error {
	filter, err := filterOf[agentService](r)
	if err != nil {
		return err
	}
	out := map[string]agentService{}
	for id, s := range a.cfg.Backend.Registry().Services() {
		shown := a.shownService(s)
		ok, err := filter.match(&shown)
		if err != nil {
			return err
		}
		if ok {
			out[id] = shown
		}
	}
	a.writeJSON(w, r, out)
	return nil
}

// agentService answers once the service's hash is another than the one in the
// request, or its time is up.
func (a *API) agentService(w http.ResponseWriter, r *request) error {
	id, err := r.name(servicePath, "Missing service ID")
	if err != nil {
		return err
	}
	wait, err := a.waitTime(r)
	if err != nil {
		return err
	}
	known := r.q.get("hash")
	ctx, cancel := context.WithTimeout(r.Context(), wait+rand.N(wait/16+1))
	defer cancel()
	reg := a.cfg.Backend.Registry()
	for {
		changed := reg.Changed() // before it is looked up: a change in between counts
		s, ok := reg.Service(id)
		if !ok {
			return failure(http.StatusNotFound, "unknown service ID: %.200s", id)
		}
		shown := a.shownService(s)
		if err := shown.hash(); err != nil {
			return err
		}
		if known != "" && known == shown.ContentHash {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
		}
		w.Header().Set("X-Consul-ContentHash", shown.ContentHash)
		a.writeJSON(w, r, shown)
		return nil
	}
}

// localError gives an error of the registry its status.
func localError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, local.ErrInvalid):
		return statusError{http.StatusBadRequest, err.Error()}
	case errors.Is(err, local.ErrUnknownService), errors.Is(err, local.ErrUnknownCheck):
		return statusError{http.StatusNotFound, err.Error()}
	}
	return err
}

func (a *API) serviceRegister(w http.ResponseWriter, r *request) error {
	raw, err := readObject(w, r)
	if err != nil {
		return err
	}
	svc, err := local.ParseService(raw)
	if err != nil {
		return decodeFailed(err)
	}
	svc.Source = checks.SourceRemote
	if svc.Token == "" {
		svc.Token = r.token()
	}
	return empty(w, localError(a.cfg.Backend.Registry().RegisterService(svc, r.q.flag("replace-existing-checks"))))
}

func (a *API) serviceDeregister(w http.ResponseWriter, r *request) error {
	id, err := r.name(serviceDeregisterPath, "Missing service ID")
	if err != nil {
		return err
	}
	return empty(w, localError(a.cfg.Backend.Registry().DeregisterService(id)))
}

// enable reads ?enable of a maintenance request.
func (r *request) enable() (bool, error) {
	v := r.q.get("enable")
	if v == "" {
		return false, failure(http.StatusBadRequest, "Missing value for enable")
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, failure(http.StatusBadRequest, "Invalid value for enable: %.100q", v)
	}
	return on, nil
}

func (a *API) serviceMaintenance(w http.ResponseWriter, r *request) error {
	id, err := r.name(serviceMaintenancePath, "Missing service ID")
	if err != nil {
		return err
	}
	on, err := r.enable()
	if err != nil {
		return err
	}
	return empty(w, localError(a.cfg.Backend.Registry().ServiceMaintenance(id, on, r.q.get("reason"), r.token())))
}

func (a *API) agentMaintenance(w http.ResponseWriter, r *request) error {
	on, err := r.enable()
	if err != nil {
		return err
	}
	return empty(w, localError(a.cfg.Backend.Registry().NodeMaintenance(on, r.q.get("reason"), r.token())))
}
