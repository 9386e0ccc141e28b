package server_test

import (
	"testing"

	"lictor/rpc/wire"
)

func TestTxnHasABoundForItsOperations(t *testing.T) {
	e, r := alone(t)
	ops := make([]*wire.TxnOp, 129)
	for i := range ops {
		ops[i] = &wire.TxnOp{KV: &wire.TxnKVOp{Verb: wire.KVGetTree}}
	}
	const want = "Transaction contains too many operations (129 > 128)"
	refused(t, e, "Txn.Apply", &wire.TxnRequest{Ops: ops}, want)
	refused(t, e, "Txn.Read", &wire.TxnReadRequest{Ops: ops}, want)
	if r.applies != 0 {
		t.Error("it is in the log")
	}
	call[wire.TxnResponse](t, e, "Txn.Apply", &wire.TxnRequest{Ops: ops[:128]})
}

func TestTxn(t *testing.T) {
	e, r := alone(t)
	kv := func(verb wire.KVOp, key, value string) *wire.TxnOp {
		return &wire.TxnOp{KV: &wire.TxnKVOp{Verb: verb, DirEnt: wire.DirEntry{Key: key, Value: []byte(value)}}}
	}
	got := call[wire.TxnResponse](t, e, "Txn.Apply", &wire.TxnRequest{Ops: []*wire.TxnOp{
		{Node: &wire.TxnNodeOp{Verb: wire.VerbSet, Node: wire.Node{Node: "n1", Address: "10.0.0.1"}}},
		{Service: &wire.TxnServiceOp{Verb: wire.VerbSet, Node: "n1", Service: wire.NodeService{Service: "web"}}},
		{Check: &wire.TxnCheckOp{Verb: wire.VerbSet, Check: wire.HealthCheck{Node: "n1", Name: "alive", ServiceID: "web"}}},
		kv(wire.KVSet, "a", "1"),
	}})
	if got.Errors != nil || len(got.Results) != 4 {
		t.Fatalf("got %+v", got)
	}
	in := call[wire.IndexedCheckServiceNodes](t, e, "Health.ServiceNodes", &wire.ServiceSpecificRequest{ServiceName: "web"}).Nodes
	if len(in) != 1 || in[0].Node.Datacenter != "dc1" || in[0].Service.ID != "web" || len(in[0].Checks) != 1 || in[0].Checks[0].Status != wire.HealthCritical {
		t.Errorf("got %+v", in)
	}
	read := call[wire.TxnReadResponse](t, e, "Txn.Read", &wire.TxnReadRequest{Ops: []*wire.TxnOp{kv(wire.KVGet, "a", "")}})
	if read.Errors != nil || len(read.Results) != 1 || string(read.Results[0].KV.Value) != "1" || read.Index == 0 || read.ConsistencyLevel != "leader" {
		t.Errorf("got %+v", read)
	}
	r.locked(func() { r.applies = 0 })

	// What may not be registered may not be in a transaction either, and then
	// nothing of it is done.
	for name, row := range map[string]struct {
		op   *wire.TxnOp
		want string
	}{
		"nothing":        {nil, "operation is empty"},
		"empty":          {&wire.TxnOp{}, "operation is empty"},
		"no key":         {kv(wire.KVSet, "", ""), "Must provide key"},
		"no node":        {&wire.TxnOp{Node: &wire.TxnNodeOp{Verb: wire.VerbSet}}, "Must provide node"},
		"no address":     {&wire.TxnOp{Node: &wire.TxnNodeOp{Verb: wire.VerbCAS, Node: wire.Node{Node: "x"}}}, "Must provide address if SkipNodeUpdate is not set"},
		"node ID":        {&wire.TxnOp{Node: &wire.TxnNodeOp{Verb: wire.VerbSet, Node: wire.Node{Node: "x", Address: "x", ID: "1"}}}, "Bad node ID: uuid string is wrong length"},
		"NUL":            {&wire.TxnOp{Node: &wire.TxnNodeOp{Verb: wire.VerbSet, Node: wire.Node{Node: "x\x00", Address: "x"}}}, "Invalid Node: it must not contain control characters"},
		"service name":   {&wire.TxnOp{Service: &wire.TxnServiceOp{Verb: wire.VerbSet, Node: "n1", Service: wire.NodeService{ID: "x"}}}, "Must provide service name (Service.Service) when service ID is provided"},
		"service's node": {&wire.TxnOp{Service: &wire.TxnServiceOp{Verb: wire.VerbSet, Service: wire.NodeService{Service: "x"}}}, "Must provide node"},
		"check":          {&wire.TxnOp{Check: &wire.TxnCheckOp{Verb: wire.VerbSet, Check: wire.HealthCheck{Node: "n1"}}}, "Must provide check name or ID (Check.CheckID)"},
		"check's node":   {&wire.TxnOp{Check: &wire.TxnCheckOp{Verb: wire.VerbSet, Check: wire.HealthCheck{CheckID: "x"}}}, "Must provide node"},
	} {
		t.Run(name, func(t *testing.T) {
			req := &wire.TxnRequest{Ops: []*wire.TxnOp{kv(wire.KVSet, "b", "1"), row.op}}
			got := call[wire.TxnResponse](t, e, "Txn.Apply", req)
			if got.Results != nil || len(got.Errors) != 1 || got.Errors[0].OpIndex != 1 || got.Errors[0].What != row.want {
				t.Errorf("got %+v, want %q", got.Errors, row.want)
			}
		})
	}
	r.locked(func() {
		if r.applies != 0 {
			t.Errorf("%d entries were written", r.applies)
		}
	})
	if got := get(t, e, wire.KeyRequest{Key: "b"}); len(got.Entries) != 0 {
		t.Error("half of a transaction was done")
	}

	// An unknown verb is for the state machine to refuse.
	unknown := call[wire.TxnResponse](t, e, "Txn.Apply", &wire.TxnRequest{Ops: []*wire.TxnOp{kv("steal", "a", "")}})
	if len(unknown.Errors) != 1 {
		t.Errorf("got %+v", unknown)
	}
	for name, op := range map[string]*wire.TxnOp{
		"set": kv(wire.KVSet, "a", ""), "delete a node": {Node: &wire.TxnNodeOp{Verb: wire.VerbDelete, Node: wire.Node{Node: "n1"}}},
		"end a session": {Session: &wire.TxnSessionOp{Verb: wire.VerbDelete}}, "empty": {}, "nothing": nil, "unknown": kv("steal", "a", ""),
	} {
		got := call[wire.TxnReadResponse](t, e, "Txn.Read", &wire.TxnReadRequest{Ops: []*wire.TxnOp{op}})
		if len(got.Errors) != 1 || got.Results != nil {
			t.Errorf("read that would %s: %+v", name, got)
		}
	}
}
