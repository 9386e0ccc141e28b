//go:build race

package harness

// raceEnabled: the test runs under the race detector, so the agents do too.
const raceEnabled = true
