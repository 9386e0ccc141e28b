package checks

import (
	"context"
	"errors"

	"lictor/agent/script"
	"lictor/rpc/wire"
)

// newScript runs a program: status 0 passes, 1 warns, anything else is critical.
func newScript(d *Definition, o Options) (Check, error) {
	return newPeriodic(d, o, programTimeout, func(ctx context.Context) (string, string) {
		r, err := script.Command{Args: d.Args, MaxOutput: o.MaxOutput}.Run(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			text := d.timedOut(programTimeout)
			if r.Output != "" {
				text += "\n\n" + r.Output
			}
			return wire.HealthCritical, text
		case err != nil:
			return wire.HealthCritical, err.Error()
		case r.Code == 0:
			return wire.HealthPassing, r.Output
		case r.Code == 1:
			return wire.HealthWarning, r.Output
		}
		return wire.HealthCritical, r.Output
	}), nil
}
