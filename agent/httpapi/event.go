package httpapi

import (
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lictor/rpc/wire"
)

const eventFirePath = "/v1/event/fire/"

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

func (a *API) eventFire(w http.ResponseWriter, r *request) error {
	n, err := r.name(eventFirePath, "Missing name")
	if err != nil {
		return err
	}
	payload, err := readBody(w, r)
	if err != nil {
		return err
	}
	ev := &wire.UserEvent{Name: n, NodeFilter: r.q.get("node"), ServiceFilter: r.q.get("service"), TagFilter: r.q.get("tag")}
	if len(payload) > 0 {
		ev.Payload = payload
	}
	if err := a.cfg.Backend.FireEvent(r.Context(), r.dc(), ev); err != nil {
		return rpcError(err)
	}
	a.writeJSON(w, r, event(*ev))
	return nil
}

func (a *API) eventList(w http.ResponseWriter, r *request) error {
	index, err := r.index()
	if err != nil {
		return err
	}
	wait, err := a.waitTime(r)
	if err != nil {
		return err
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		changed := a.cfg.Backend.EventsChanged()
		list := filterEvents(a.cfg.Backend.Events(), r.q.get("name"))
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
