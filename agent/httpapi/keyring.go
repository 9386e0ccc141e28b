package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lictor/rpc/wire"
)

// keyringItem is one pool in the answer of GET /v1/operator/keyring.
type keyringItem struct {
	WAN         bool
	Datacenter  string
	Segment     string
	Messages    map[string]string `json:",omitempty"`
	Keys        map[string]int
	PrimaryKeys map[string]int
	NumNodes    int
	Error       string `json:",omitempty"`
}

// maxRelayFactor bounds ?relay-factor (http-api.md, section 12).
const maxRelayFactor = 5

func (a *API) operatorKeyring(w http.ResponseWriter, r *request) error {
	req := &wire.KeyringRequest{Operation: map[string]string{
		http.MethodGet: wire.KeyringList, http.MethodPost: wire.KeyringInstall,
		http.MethodPut: wire.KeyringUse, http.MethodDelete: wire.KeyringRemove,
	}[r.Method]}
	if v := r.q.get("relay-factor"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return failure(http.StatusBadRequest, "Error parsing relay factor: %.100s", err)
		}
		if n < 0 || n > maxRelayFactor {
			return failure(http.StatusBadRequest, "Invalid relay-factor: Relay factor must be in range: [0, %d]", maxRelayFactor)
		}
		req.RelayFactor = uint8(n)
	}
	if v := r.q.get("local-only"); v != "" {
		local, err := strconv.ParseBool(v)
		if err != nil {
			return failure(http.StatusBadRequest, "Error parsing local-only: %.100s", err)
		}
		if local && r.Method != http.MethodGet {
			return failure(http.StatusBadRequest, "Invalid use of local-only: local-only can only be set for list requests")
		}
		req.LocalOnly = local
	}
	if r.Method != http.MethodGet {
		var body struct{ Key string }
		if err := decodeBody(w, r, &body); err != nil {
			return err
		}
		if req.Key = body.Key; req.Key == "" {
			return failure(http.StatusBadRequest, "Missing key")
		}
	}
	reply, err := a.cfg.Backend.Keyring(r.Context(), req)
	if err != nil {
		return rpcError(err)
	}
	if err := keyringErrors(reply.Responses); err != nil {
		return err
	}
	if r.Method != http.MethodGet {
		return empty(w, nil)
	}
	list := make([]keyringItem, 0, len(reply.Responses))
	for _, p := range reply.Responses {
		list = append(list, keyringItem{p.WAN, p.Datacenter, p.Segment, p.Messages, p.Keys, p.PrimaryKeys, p.NumNodes, p.Error})
	}
	a.writeJSON(w, r, list)
	return nil
}

// keyringErrors puts what the pools and their nodes reported into one error, in
// the family's form; nil where nothing failed.
func keyringErrors(responses []*wire.KeyringResponse) error {
	var lines []string
	for _, p := range responses {
		if p.Error == "" {
			continue
		}
		pool := p.Datacenter + " (LAN)"
		if p.WAN {
			pool = "WAN"
		}
		lines = append(lines, pool+" error: "+p.Error)
		nodes := make([]string, 0, len(p.Messages))
		for n := range p.Messages {
			nodes = append(nodes, n)
		}
		slices.Sort(nodes)
		for _, n := range nodes {
			lines = append(lines, n+": "+p.Messages[n])
		}
	}
	switch len(lines) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 error occurred:\n\t* %s\n\n", lines[0])
	}
	return fmt.Errorf("%d errors occurred:\n\t* %s\n\n", len(lines), strings.Join(lines, "\n\t* "))
}
