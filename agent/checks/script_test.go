//go:build unix

package checks_test

import (
	"strings"
	"testing"

	"lictor/agent/checks"
)

func TestScript(t *testing.T) {
	for line, want := range map[string]string{"exit 0": "passing", "exit 1": "warning", "exit 2": "critical", "kill -9 $$": "critical"} {
		expect(t, `{"args":["/bin/sh","-c","echo said; `+line+`"]}`, checks.Options{}, want, "said")
	}
	expect(t, `{"args":["/nonexistent"]}`, checks.Options{}, "critical", "no such file")
	expect(t, `{"args":["/bin/sh","-c","echo before; sleep 1000"],"timeout":"50ms"}`, checks.Options{}, "critical", "Timed out (50ms)")
	got := ask(t, `{"args":["/bin/sh","-c","head -c 9000 /dev/zero | tr '\\0' x; echo END"]}`, checks.Options{})
	if got.status != "passing" || !strings.HasPrefix(got.output, "Captured 4096 of 9004 bytes") || !strings.HasSuffix(got.output, "END\n") {
		t.Errorf("%d %.100q", len(got.output), got.output)
	}
}
