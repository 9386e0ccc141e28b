// Package test shows whole agents, as real processes: the guides as scripts
// that can be read and run one at a time (testdata), and what hostile peers,
// refusals, reloads and rotations do to them. Package harness does the work.
//
//	go test -race ./test -run Scripts/guide/gossip-upshift
package test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	// The tests run a program that is built from it: without this import go test
	// would not know that their results are void once it has changed.
	_ "lictor/command"
	"lictor/test/harness"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for agents much more than they compute: run more of
	// them at once than there are processors, unless told otherwise.
	if !given("test.parallel") {
		flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+2))
	}
	os.Exit(harness.Main(m))
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
