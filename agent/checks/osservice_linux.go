package checks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lictor/agent/script"
	"lictor/rpc/wire"
)

// newOSService asks systemd about a unit: active passes; on the way to it or
// reloading warns; anything else is critical.
func newOSService(d *Definition, o Options) (Check, error) {
	return newPeriodic(d, o, programTimeout, func(ctx context.Context) (string, string) {
		return unitState(ctx, []string{"systemctl", "is-active", "--", d.OSService}, d)
	}), nil
}

func unitState(ctx context.Context, ask []string, d *Definition) (string, string) {
	r, err := script.Command{Args: ask, MaxOutput: 256}.Run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return wire.HealthCritical, d.timedOut(programTimeout)
	}
	if err != nil {
		return wire.HealthCritical, fmt.Sprintf("the state of %s cannot be read: %v", d.OSService, err)
	}
	state := strings.TrimSpace(r.Output)
	text := fmt.Sprintf("%s is %s", d.OSService, state)
	switch state {
	case "active":
		return wire.HealthPassing, text
	case "activating", "reloading", "refreshing":
		return wire.HealthWarning, text
	}
	return wire.HealthCritical, text
}
