package test

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// A key that is given as a flag works, and is not in the process list.
func TestSecretFlagsAreHidden(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s := c.AddServer("s1")
	s.Flags("-encrypt", guideKey, `-hcl=log_json = false # `+otherKey, "--node-meta=k:v")
	must(t, s.Start())
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.Pid()))
	must(t, err)
	if bytes.Contains(b, []byte(guideKey)) || bytes.Contains(b, []byte(otherKey)) || bytes.Contains(b, []byte("log_json")) {
		t.Errorf("the command line shows a secret: %q", b)
	}
	if !bytes.Contains(b, []byte("--node-meta=k:v")) {
		t.Errorf("what is no secret is gone too: %q", b)
	}
	wantLog(t, s, 0, "Gossip encrypt: true")
}
