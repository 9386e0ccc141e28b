package checks

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Once asks now, as Run does at each interval.
func Once(ctx context.Context, c Check) { c.(*periodic).once(ctx) }

// NewProbe is a check that asks a function.
func NewProbe(d *Definition, o Options, timeout time.Duration, p func(context.Context) (string, string)) Check {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.MaxOutput == 0 {
		o.MaxOutput = DefaultMaxOutput
	}
	return newPeriodic(d, o, timeout, p)
}
