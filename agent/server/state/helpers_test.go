package state_test

import (
	"testing"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func newStore(t testing.TB) *state.Store {
	t.Helper()
	s, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fired says whether someone who watches ws would be woken now.
func fired(ws state.WatchSet) bool {
	for ch := range ws {
		select {
		case <-ch:
			return true
		default:
		}
	}
	return false
}

func reg(node string) *wire.RegisterRequest {
	return &wire.RegisterRequest{Datacenter: "dc1", Node: node, Address: "10.0.0.1"}
}

func svc(node, id, name string, tags ...string) *wire.RegisterRequest {
	r := reg(node)
	r.Service = &wire.NodeService{ID: id, Service: name, Tags: tags, Port: 80}
	return r
}

func check(node, id, service, status string) *wire.RegisterRequest {
	r := reg(node)
	r.SkipNodeUpdate = true
	r.Check = &wire.HealthCheck{CheckID: id, Name: id, ServiceID: service, Status: status}
	return r
}

// with registers all, with indexes from idx on, and returns the next index.
func with(t testing.TB, s *state.Store, idx uint64, all ...*wire.RegisterRequest) uint64 {
	t.Helper()
	for _, r := range all {
		must(t, s.EnsureRegistration(idx, r))
		idx++
	}
	return idx
}

func kv(key, value string) *wire.DirEntry { return &wire.DirEntry{Key: key, Value: []byte(value)} }

func held(key, value, session string) *wire.DirEntry {
	return &wire.DirEntry{Key: key, Value: []byte(value), Session: session}
}

func keysOf[T any](list []T, key func(T) string) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, key(v))
	}
	return out
}
