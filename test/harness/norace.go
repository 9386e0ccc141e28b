//go:build !race

package harness

// Race: the test runs under the race detector, so the agents do too.
const Race = false
