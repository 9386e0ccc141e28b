package httpapi

import (
	"net/http"

	"lictor/rpc/wire"
)

func (a *API) raftConfiguration(w http.ResponseWriter, r *request) error {
	req := a.ofDatacenter(r)
	if err := a.options(r, plain, &req.QueryOptions); err != nil {
		return err
	}
	var reply wire.RaftConfiguration
	if err := a.write(r, "Operator.RaftGetConfiguration", req, &reply); err != nil {
		return err
	}
	if reply.Servers == nil {
		reply.Servers = []*wire.RaftServer{}
	}
	a.writeJSON(w, r, reply)
	return nil
}

func (a *API) raftRemovePeer(w http.ResponseWriter, r *request) error {
	req := &wire.RaftRemovePeerRequest{
		Datacenter: r.dc(), ID: r.q.get("id"), Address: r.q.get("address"), WriteRequest: wire.WriteRequest{Token: r.token()},
	}
	method := "Operator.RaftRemovePeerByID"
	switch {
	case req.ID != "" && req.Address != "":
		return failure(http.StatusBadRequest, "Must specify only one of ?id and ?address")
	case req.ID == "" && req.Address == "":
		return failure(http.StatusBadRequest, "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
	case req.Address != "":
		method = "Operator.RaftRemovePeerByAddress"
	}
	return empty(w, a.write(r, method, req, &wire.Empty{}))
}

func (a *API) raftTransferLeader(w http.ResponseWriter, r *request) error {
	req := &wire.TransferLeaderRequest{Datacenter: r.dc(), ID: r.q.get("id"), WriteRequest: wire.WriteRequest{Token: r.token()}}
	var reply wire.TransferLeaderResponse
	if err := a.write(r, "Operator.TransferLeader", req, &reply); err != nil {
		return err
	}
	a.writeJSON(w, r, reply)
	return nil
}

// operatorUsage counts what is registered, in one datacenter or in all.
func (a *API) operatorUsage(w http.ResponseWriter, r *request) error {
	req := &wire.UsageRequest{Datacenter: r.dc(), Global: r.q.flag("global")}
	reply, err := ask[wire.UsageResponse](a, w, r, discovery, "Operator.Usage", req)
	if err != nil {
		return err
	}
	type usage struct {
		Services                 int
		ServiceInstances         int
		ConnectServiceInstances  map[string]int
		BillableServiceInstances int
		Nodes                    int
	}
	out := make(map[string]usage, len(reply.Usage))
	for dc, u := range reply.Usage {
		if u.ConnectServiceInstances == nil {
			u.ConnectServiceInstances = map[string]int{}
		}
		out[dc] = usage{u.Services, u.ServiceInstances, u.ConnectServiceInstances, u.BillableServiceInstances, u.Nodes}
	}
	a.writeJSON(w, r, struct {
		Usage map[string]usage
		wire.QueryMeta
	}{out, reply.QueryMeta})
	return nil
}
