package httpapi

import (
	"context"
	"net/http"

	"lictor/agent/answers"
	"lictor/agent/decode"
	"lictor/rpc/wire"
)

const (
	catalogServicePath      = "/v1/catalog/service/"
	catalogNodePath         = "/v1/catalog/node/"
	catalogNodeServicesPath = "/v1/catalog/node-services/"
)

func (a *API) catalogRegister(w http.ResponseWriter, r *request) error {
	req := &wire.RegisterRequest{Datacenter: r.dc()}
	err := decodeFields(w, r, decode.Fields{
		"datacenter": &req.Datacenter, "id": &req.ID, "node": &req.Node, "address": &req.Address,
		"taggedaddresses": &req.TaggedAddresses, "nodemeta": &req.NodeMeta, "locality": localityField(&req.Locality),
		"service": func(v any) error {
			req.Service = &wire.NodeService{}
			return object(serviceFields(req.Service))(v)
		},
		"check": func(v any) error {
			req.Check = &wire.HealthCheck{}
			return object(checkFields(req.Check))(v)
		},
		"checks": each(func(raw map[string]any) error {
			c := &wire.HealthCheck{}
			req.Checks = append(req.Checks, c)
			return decode.Object(raw, checkFields(c))
		}),
		"skipnodeupdate": &req.SkipNodeUpdate, "peername": &req.PeerName,
		"namespace": decode.OnlyDefault, "partition": decode.OnlyDefault,
	})
	if err != nil {
		return err
	}
	req.Token = r.token()
	if err := a.write(r, "Catalog.Register", req, &wire.Empty{}); err != nil {
		return err
	}
	a.writeBool(w, r, true)
	return nil
}

func (a *API) catalogDeregister(w http.ResponseWriter, r *request) error {
	req := &wire.DeregisterRequest{Datacenter: r.dc()}
	err := decodeFields(w, r, decode.Fields{
		"datacenter": &req.Datacenter, "node": &req.Node, "serviceid": &req.ServiceID, "checkid": &req.CheckID, "address": ignore,
		"peername": &req.PeerName, "namespace": decode.OnlyDefault, "partition": decode.OnlyDefault,
	})
	if err != nil {
		return err
	}
	req.Token = r.token()
	if err := a.write(r, "Catalog.Deregister", req, &wire.Empty{}); err != nil {
		return err
	}
	a.writeBool(w, r, true)
	return nil
}

// catalogDatacenters has no index: the list is not from the state store.
func (a *API) catalogDatacenters(w http.ResponseWriter, r *request) error {
	req := &wire.DatacentersRequest{}
	if err := a.options(r, cacheable, &req.QueryOptions); err != nil {
		return err
	}
	read := cachedRead{
		method: "Catalog.ListDatacenters", req: req,
		fetch: func(ctx context.Context, req wire.ReadRequest) ([]byte, *wire.QueryMeta, error) {
			var dcs []string
			if err := a.cfg.Backend.RPC(ctx, "Catalog.ListDatacenters", req, &dcs); err != nil {
				return nil, nil, rpcError(err)
			}
			return answers.AppendStrings(nil, dcs), &wire.QueryMeta{}, nil
		},
	}
	if !req.UseCache {
		b, _, err := read.fetch(r.Context(), req)
		if err != nil {
			return err
		}
		a.writeEncoded(w, r, http.StatusOK, b)
		return nil
	}
	got, age, hit, err := a.cached(r.Context(), read)
	if err != nil {
		return err
	}
	setCacheHeaders(w.Header(), hit, age)
	a.writeEncoded(w, r, http.StatusOK, got.body)
	return nil
}

func (a *API) catalogNodes(w http.ResponseWriter, r *request) error {
	wan := a.translates(r.dc())
	return answer(a, w, r, discovery, "Catalog.ListNodes", a.ofDatacenter(r), "", func(b []byte, reply *wire.IndexedNodes) []byte {
		return answers.AppendList(b, wanAll(wan, reply.Nodes, wanNode), answers.AppendNode)
	})
}

func (a *API) catalogServices(w http.ResponseWriter, r *request) error {
	return answer(a, w, r, cacheable, "Catalog.ListServices", a.ofDatacenter(r), "", func(b []byte, reply *wire.IndexedServices) []byte {
		return answers.AppendMap(b, reply.Services, `{}`, answers.AppendStrings)
	})
}

func (a *API) catalogService(w http.ResponseWriter, r *request) error {
	req, err := a.ofService(r, catalogServicePath)
	if err != nil {
		return err
	}
	wan := a.translates(req.Datacenter)
	return answer(a, w, r, cacheable, "Catalog.ServiceNodes", req, "", func(b []byte, reply *wire.IndexedServiceNodes) []byte {
		return answers.AppendList(b, wanAll(wan, reply.ServiceNodes, wanServiceNode), answers.AppendServiceNode)
	})
}

func (a *API) catalogNode(w http.ResponseWriter, r *request) error {
	req, err := r.ofNode(catalogNodePath)
	if err != nil {
		return err
	}
	wan := a.translates(req.Datacenter)
	return answer(a, w, r, discovery, "Catalog.NodeServices", req, "", func(b []byte, reply *wire.IndexedNodeServices) []byte {
		return answers.AppendNodeServices(b, wanNodeServices(wan, reply.NodeServices))
	})
}

func (a *API) catalogNodeServices(w http.ResponseWriter, r *request) error {
	req, err := r.ofNode(catalogNodeServicesPath)
	if err != nil {
		return err
	}
	req.MergeCentralConfig = r.q.flag("merge-central-config")
	wan := a.translates(req.Datacenter)
	return answer(a, w, r, discovery, "Catalog.NodeServiceList", req, "", func(b []byte, reply *wire.IndexedNodeServiceList) []byte {
		list := reply.NodeServices
		if wan {
			list.Node, list.Services = wanNode(list.Node), wanAll(true, list.Services, wanService)
		}
		return answers.AppendNodeServiceList(b, &list)
	})
}
