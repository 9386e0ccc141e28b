package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/server"
	"lictor/gossip"
	"lictor/rpc/wire"
)

var keyA, keyB = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)

func openPool(t *testing.T, kind gossip.Kind, ip string) *gossip.Pool {
	t.Helper()
	p, err := gossip.Open(context.Background(), gossip.Config{
		Kind: kind, Node: "s1", NodeID: "id-s1", Datacenter: "dc1", Server: true,
		Tags:                map[string]string{"role": "consul", "dc": "dc1", "id": "id-s1", "port": "8300", "vsn": "2", "build": "1.0.0:x"},
		Bind:                netip.AddrPortFrom(netip.MustParseAddr(ip), 8301),
		LeavePropagateDelay: time.Millisecond,
		Keyring:             gossip.KeyringConfig{Key: keyA, VerifyIncoming: true, VerifyOutgoing: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p
}

// A key that one pool still encrypts with is removed from none: else half of
// them would have lost what the others need.
func TestKeyringRemovesEverywhereOrNowhere(t *testing.T) {
	lan, wan := openPool(t, gossip.LAN, "127.78.1.1"), openPool(t, gossip.WAN, "127.78.1.2")
	e := server.New(server.Config{Datacenter: "dc1", LAN: lan, WAN: wan, Log: hclog.NewNullLogger()})
	a, b := base64.StdEncoding.EncodeToString(keyA), base64.StdEncoding.EncodeToString(keyB)
	run := func(op, key string) *wire.KeyringResponses {
		t.Helper()
		r, err := e.Keyring(context.Background(), &wire.KeyringRequest{Operation: op, Key: key})
		if err != nil || len(r.Responses) != 2 {
			t.Fatalf("%s: %+v, %v", op, r, err)
		}
		return r
	}
	run(wire.KeyringInstall, b)
	if _, err := wan.Keyring("use", b, 0); err != nil { // one pool is ahead of the other
		t.Fatal(err)
	}
	for _, r := range run(wire.KeyringRemove, a).Responses {
		if refused := strings.Contains(r.Error, "Removing the primary key is not allowed"); refused == r.WAN {
			t.Errorf("WAN %t: %q", r.WAN, r.Error)
		}
	}
	for _, r := range run(wire.KeyringList, "").Responses {
		if r.Keys[a] != 1 || r.Keys[b] != 1 {
			t.Errorf("WAN %t: after the refusal the keys are %v", r.WAN, r.Keys)
		}
	}
	run(wire.KeyringUse, b)
	for _, r := range run(wire.KeyringRemove, a).Responses {
		if r.Error != "" {
			t.Errorf("WAN %t: %s", r.WAN, r.Error)
		}
	}
	for _, r := range run(wire.KeyringList, "").Responses {
		if r.Keys[a] != 0 || r.Keys[b] != 1 {
			t.Errorf("WAN %t: in the end the keys are %v", r.WAN, r.Keys)
		}
	}
}
