package checks

import (
	"context"

	"lictor/rpc/wire"
)

// unsupported is a check that this agent cannot run. It is registered all the
// same, so that a configuration loads everywhere, and is critical: nobody knows
// how its target does.
type unsupported struct {
	id, why string
	notify  Notifier
}

func (c unsupported) Run(ctx context.Context) {
	c.notify.UpdateCheck(c.id, wire.HealthCritical, c.why)
	<-ctx.Done()
}

func newDocker(d *Definition, o Options) (Check, error) {
	const why = "docker checks are not supported by this agent; use a script check that calls docker exec"
	o.Log.Error(why)
	return unsupported{d.ID, why, o.Notify}, nil
}
