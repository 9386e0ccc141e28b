package state_test

import (
	"fmt"
	"testing"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func fifty(b *testing.B) *state.Store {
	s := newStore(b)
	idx := uint64(1)
	for i := range 50 {
		n := fmt.Sprintf("node-%02d", i)
		idx = with(b, s, idx, svc(n, "web-1", "web", "a", "b"), check(n, "serfHealth", "", "passing"), check(n, "service:web-1", "web-1", "passing"))
	}
	for i := range 1000 {
		must(b, s.KVSSet(idx, kv(fmt.Sprintf("key/%03d", i), "value")))
		idx++
	}
	return s
}

func BenchmarkCheckServiceNodes(b *testing.B) {
	s := fifty(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, n, _ := s.CheckServiceNodes(nil, "web", nil, nil); len(n) != 50 {
			b.Fatal(len(n))
		}
	}
}

// A check changes between any two reads.
func BenchmarkCheckServiceNodesChanging(b *testing.B) {
	s := fifty(b)
	b.ReportAllocs()
	c := check("node-07", "service:web-1", "web-1", "passing")
	for idx := uint64(10000); b.Loop(); idx++ {
		c.Check.Output = fmt.Sprint(idx)
		must(b, s.EnsureRegistration(idx, c))
		if _, n, _ := s.CheckServiceNodes(nil, "web", nil, nil); len(n) != 50 {
			b.Fatal(len(n))
		}
	}
}

func BenchmarkKVSGet(b *testing.B) {
	s := fifty(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, e, _ := s.KVSGet(nil, "key/500"); e == nil {
			b.Fatal("no key")
		}
	}
}

func BenchmarkKVSSet(b *testing.B) {
	s := fifty(b)
	b.ReportAllocs()
	for idx := uint64(10000); b.Loop(); idx++ {
		must(b, s.KVSSet(idx, &wire.DirEntry{Key: "key/500", Flags: idx, Value: []byte("value")}))
	}
}
