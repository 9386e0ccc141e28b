// Package chaos shows that what a cluster acknowledges is kept, and that reads
// are as consistent as they say, while its servers are killed, paused, cut off
// and killed all together. The history that its clients record is checked for
// linearizability.
//
//	go test -race ./test/chaos                 a short run, part of make test
//	go test ./test/chaos -faults 300 -v        a long one (make chaos)
package chaos

import (
	"flag"
	"os"
	"testing"

	"lictor/test/harness"
)

// faults is how many faults a run has; 20 are the least that the tests must
// stand.
var faults = flag.Int("faults", 20, "how many faults a run has")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m))
}
