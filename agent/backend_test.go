package agent

import (
	"testing"

	"lictor/rpc/wire"
)

func TestWantsLeader(t *testing.T) {
	stale, consistent := wire.QueryOptions{AllowStale: true}, wire.QueryOptions{RequireConsistent: true}
	for _, c := range []struct {
		method string
		args   any
		want   bool
	}{
		{"KVS.Get", &wire.KeyRequest{Key: "a"}, true},
		{"KVS.Get", &wire.KeyRequest{Datacenter: "dc1", Key: "a", QueryOptions: consistent}, true},
		{"KVS.Get", &wire.KeyRequest{Key: "a", QueryOptions: stale}, false},
		{"KVS.Get", &wire.KeyRequest{Datacenter: "dc2", Key: "a"}, false},
		{"KVS.Apply", &wire.KVSRequest{}, true},
		{"KVS.Apply", &wire.KVSRequest{Datacenter: "dc2"}, false},
		{"Catalog.Register", &wire.RegisterRequest{Datacenter: "dc1"}, true},
		{"Health.ServiceNodes", &wire.ServiceSpecificRequest{QueryOptions: stale}, false},
		{"Catalog.ListDatacenters", &wire.DatacentersRequest{}, false},
		{"Coordinate.ListDatacenters", wire.Empty{}, false},
		{"Status.Leader", &wire.DCSpecificRequest{}, false},
		{"Internal.KeyringOperation", &wire.KeyringRequest{}, false},
	} {
		if got := wantsLeader("dc1", c.method, c.args); got != c.want {
			t.Errorf("%s %+v: %v", c.method, c.args, got)
		}
	}
}
