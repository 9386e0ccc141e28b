package consensus_test

import (
	"runtime"
	"strings"
	"testing"
)

// This one is not parallel: no other node runs beside it.
func TestAStoppedNodeLeavesNothingRunning(t *testing.T) {
	nw := newNetwork(t)
	all := nw.trio(t.TempDir(), t.TempDir(), t.TempDir())
	leader(t, all...).put(t, "x")
	for _, s := range all {
		nw.stop(s)
	}
	running := func() string {
		buf := make([]byte, 1<<20)
		var out []string
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			// Raft never answers what it had in hand when it stopped.
			forgotten := strings.Contains(g, "raft.(*deferError).Error")
			if !forgotten && (strings.Contains(g, "hashicorp/raft") || strings.Contains(g, "server/consensus.")) && !strings.Contains(g, "consensus_test.Test") {
				out = append(out, g)
			}
		}
		return strings.Join(out, "\n\n")
	}
	defer func() {
		if t.Failed() {
			t.Log(running())
		}
	}()
	eventually(t, "nothing is left running", func() bool { return running() == "" })
}
