package httpapi

import "net/http"

func (a *API) statusLeader(w http.ResponseWriter, r *request) error {
	leader, err := a.cfg.Backend.StatusLeader(r.Context(), r.dc())
	if err != nil {
		return rpcError(err)
	}
	a.writeJSON(w, r, leader)
	return nil
}

func (a *API) statusPeers(w http.ResponseWriter, r *request) error {
	peers, err := a.cfg.Backend.StatusPeers(r.Context(), r.dc())
	if err != nil {
		return rpcError(err)
	}
	a.writeJSON(w, r, peers)
	return nil
}
