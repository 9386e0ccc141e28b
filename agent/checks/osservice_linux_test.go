package checks

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestUnitState(t *testing.T) {
	d := &Definition{OSService: "web", Timeout: 50 * time.Millisecond}
	for line, want := range map[string]string{
		"echo active":             "passing",
		"echo reloading":          "warning",
		"echo activating; exit 3": "warning",
		"echo inactive; exit 3":   "critical",
		"echo failed; exit 3":     "critical",
		"sleep 1000":              "critical",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), d.Timeout)
		if strings.HasPrefix(line, "echo") {
			ctx = t.Context()
		}
		if status, output := unitState(ctx, []string{"/bin/sh", "-c", line}, d); status != want {
			t.Errorf("%s: %s %q", line, status, output)
		}
		cancel()
	}
	if status, output := unitState(t.Context(), []string{"/nonexistent"}, d); status != "critical" || !strings.Contains(output, "cannot be read") {
		t.Errorf("%s %q", status, output)
	}
}
