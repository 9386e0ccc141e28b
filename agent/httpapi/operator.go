package httpapi

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lictor/rpc"
	"lictor/rpc/wire"
)

func datacenter(q url.Values) string {
	if dc := q.Get("datacenter"); dc != "" {
		return dc
	}
	return q.Get("dc")
}

// tooBusy gives the agent's own rate limit its status.
func tooBusy(err error) error {
	if errors.Is(err, rpc.ErrRateLimited) {
		return failure(http.StatusTooManyRequests, "%s", err)
	}
	return err
}

func (a *API) statusLeader(w http.ResponseWriter, r *http.Request) error {
	leader, err := a.cfg.Backend.StatusLeader(r.Context(), datacenter(r.URL.Query()))
	if err != nil {
		return tooBusy(err)
	}
	a.writeJSON(w, r, leader)
	return nil
}

func (a *API) statusPeers(w http.ResponseWriter, r *http.Request) error {
	peers, err := a.cfg.Backend.StatusPeers(r.Context(), datacenter(r.URL.Query()))
	if err != nil {
		return tooBusy(err)
	}
	a.writeJSON(w, r, peers)
	return nil
}

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

func (a *API) operatorKeyring(w http.ResponseWriter, r *http.Request) error {
	req := &wire.KeyringRequest{Operation: map[string]string{
		http.MethodGet: wire.KeyringList, http.MethodPost: wire.KeyringInstall,
		http.MethodPut: wire.KeyringUse, http.MethodDelete: wire.KeyringRemove,
	}[r.Method]}
	q := r.URL.Query()
	if v := q.Get("relay-factor"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return failure(http.StatusBadRequest, "Error parsing relay factor: %.100s", err)
		}
		if n < 0 || n > maxRelayFactor {
			return failure(http.StatusBadRequest, "Invalid relay-factor: Relay factor must be in range: [0, %d]", maxRelayFactor)
		}
		req.RelayFactor = uint8(n)
	}
	if v := q.Get("local-only"); v != "" {
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
		return tooBusy(err)
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

// event is a user event as the API shows it.
type event struct {
	ID            string
	Name          string
	Payload       []byte
	NodeFilter    string
	ServiceFilter string
	TagFilter     string
	Version       int
	LTime         uint64
}

func (a *API) eventFire(w http.ResponseWriter, r *http.Request) error {
	n, err := name(r, "/v1/event/fire/", "Missing name")
	if err != nil {
		return err
	}
	payload, err := readBody(w, r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	ev := &wire.UserEvent{Name: n, NodeFilter: q.Get("node"), ServiceFilter: q.Get("service"), TagFilter: q.Get("tag")}
	if len(payload) > 0 {
		ev.Payload = payload
	}
	if err := a.cfg.Backend.FireEvent(r.Context(), datacenter(q), ev); err != nil {
		return tooBusy(err)
	}
	a.writeJSON(w, r, event(*ev))
	return nil
}

// Waiting for events (http-api.md, section 4).
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

func (a *API) eventList(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var index uint64
	if v := q.Get("index"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return failure(http.StatusBadRequest, "Invalid index")
		}
		index = n
	}
	wait := defaultWait
	if v := q.Get("wait"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return failure(http.StatusBadRequest, "Invalid wait time")
		}
		wait = min(d, maxWait)
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		changed := a.cfg.Backend.EventsChanged()
		list := filterEvents(a.cfg.Backend.Events(), q.Get("name"))
		now := eventIndex(list)
		if index > 0 && now == index {
			select {
			case <-changed:
				continue
			case <-timeout.C:
			case <-r.Context().Done():
				return nil
			}
		}
		w.Header().Set("X-Consul-Index", strconv.FormatUint(now, 10))
		a.writeJSON(w, r, list)
		return nil
	}
}

func filterEvents(events []wire.UserEvent, name string) []event {
	list := []event{}
	for _, e := range events {
		if name == "" || e.Name == name {
			list = append(list, event(e))
		}
	}
	return list
}

// eventIndex is the XOR of the two halves of the last event's id, 1 without one
// (http-api.md, section 11).
func eventIndex(list []event) uint64 {
	if len(list) == 0 {
		return 1
	}
	id, err := hex.DecodeString(strings.ReplaceAll(list[len(list)-1].ID, "-", ""))
	if err != nil || len(id) != 16 {
		return 1
	}
	return max(binary.BigEndian.Uint64(id[:8])^binary.BigEndian.Uint64(id[8:]), 1)
}
