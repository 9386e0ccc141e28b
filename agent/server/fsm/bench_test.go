package fsm_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"lictor/agent/server/fsm"
)

func BenchmarkEncodeKVS(b *testing.B) {
	b.ReportAllocs()
	req := set("key/500", "some value of a usual length")
	for b.Loop() {
		if _, err := fsm.Encode(fsm.KVS, req); err != nil {
			b.Fatal(err)
		}
	}
}

// One operation is one entry, in batches of 1 and of 64.
func BenchmarkApplyKVS(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFSM(b)
			var log []*raft.Log
			for i := range size {
				log = append(log, entry(b, 0, fsm.KVS, set(fmt.Sprintf("key/%03d", i), "some value of a usual length")))
			}
			other := entry(b, 0, fsm.KVS, set("key/000", "another value"))
			b.ReportAllocs()
			for n := 0; n < b.N; n += size {
				for i := range log {
					log[i].Index = uint64(n + i + 1)
				}
				log[0].Data, other.Data = other.Data, log[0].Data
				f.ApplyBatch(log)
			}
		})
	}
}
