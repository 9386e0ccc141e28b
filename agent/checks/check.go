// Package checks runs health checks: each asks its target now and then, and
// tells a Notifier what it found. Every kind is one file and one row of kinds.
//
// A check talks to whatever its author named, with the rights of the agent: who
// may register checks decides what the agent can be made to reach. What a target
// answers is bounded in time and in bytes and reaches nobody but as the output of
// the check. An HTTP check stays with the host and port that it was given: a
// target that redirects elsewhere is critical, so that it cannot make the agent
// ask others (CVE-2022-29153).
package checks

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/rpc/wire"
)

// Notifier hears of every result. Its method is called from the check's own
// goroutine, and from that of whoever reports to a TTL check.
type Notifier interface {
	UpdateCheck(checkID, status, output string)
}

// Check is one running check.
type Check interface {
	// Run asks until ctx ends, and returns when nothing of the check is left.
	Run(ctx context.Context)
}

// Reporter is a check that is told its status: one of kind ttl.
type Reporter interface {
	Check
	// Report notifies before it returns, and puts the expiry off.
	Report(status, output string)
}

// Registry is what alias checks ask of the agent that runs them. What it returns
// is not changed.
type Registry interface {
	Checks() map[string]*wire.HealthCheck
	HasService(id string) bool
	Changed() <-chan struct{} // closed at the next change
}

// RPC reaches the servers.
type RPC interface {
	Call(ctx context.Context, method string, args, reply any) error
}

// Options are what a check needs of its agent.
type Options struct {
	Notify Notifier
	Log    hclog.Logger
	// MaxOutput is check_output_max_size in bytes; 0 is DefaultMaxOutput.
	MaxOutput int
	// TLS makes the client side of a connection to a target. nil: the system's CAs.
	TLS func(serverName string, skipVerify bool) *tls.Config

	// For alias checks: this agent's own node, registrations and servers.
	Node, Datacenter string
	Registry         Registry
	RPC              RPC

	// FirstTTL is how long a TTL check waits for its first report; 0: its TTL.
	FirstTTL time.Duration
}

// Bounds and defaults (limits-and-defaults.md, 7).
const (
	DefaultMaxOutput = 4096 // bytes
	MinInterval      = time.Second
	MinDeregister    = time.Minute

	programTimeout = 30 * time.Second
	networkTimeout = 10 * time.Second
)

// kinds are the kinds of checks. Each makes a check of a valid definition.
var kinds = map[string]func(d *Definition, o Options) (Check, error){
	KindScript:    newScript,
	KindDocker:    newDocker,
	KindHTTP:      newHTTP,
	KindTCP:       newTCP,
	KindUDP:       newUDP,
	KindGRPC:      newGRPC,
	KindH2Ping:    newH2Ping,
	KindOSService: newOSService,
	KindTTL:       newTTL,
	KindAlias:     newAlias,
}

// New makes the check that d defines. It starts nothing.
func New(d *Definition, o Options) (Check, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	o.Log = o.Log.With("check", d.ID)
	if o.MaxOutput <= 0 {
		o.MaxOutput = DefaultMaxOutput
	}
	if d.OutputMaxSize > 0 {
		o.MaxOutput = min(d.OutputMaxSize, o.MaxOutput)
	}
	if o.TLS == nil {
		o.TLS = systemTLS
	}
	return kinds[d.Kind()](d, o)
}

// probe asks the target once. ctx ends at the check's timeout. The output is
// bounded already, for only the kind knows which part of it to leave out.
type probe func(ctx context.Context) (status, output string)

// periodic is a check that asks at an interval.
type periodic struct {
	id                string
	probe             probe
	interval, timeout time.Duration
	tally             tally
	notify            Notifier
	log               hclog.Logger
}

func newPeriodic(d *Definition, o Options, timeout time.Duration, p probe) *periodic {
	c := &periodic{
		id: d.ID, probe: p, interval: d.Interval, timeout: timeout, notify: o.Notify, log: o.Log,
		tally: tally{needPassing: d.SuccessBeforePassing, needWarning: d.FailuresBeforeWarning, needCritical: d.FailuresBeforeCritical},
	}
	if c.tally.needWarning == 0 {
		c.tally.needWarning = c.tally.needCritical
	}
	if d.Timeout > 0 {
		c.timeout = d.Timeout
	}
	if c.interval < MinInterval {
		o.Log.Warn("the interval of a check was raised to the shortest allowed", "interval", c.interval, "shortest", MinInterval)
		c.interval = MinInterval
	}
	return c
}

// Run asks for the first time at random within the interval, so that the checks
// of many agents do not all ask at once.
func (c *periodic) Run(ctx context.Context) {
	timer := time.NewTimer(rand.N(c.interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c.once(ctx)
		timer.Reset(c.interval)
	}
}

func (c *periodic) once(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, output := c.probe(limited)
	if ctx.Err() != nil {
		return // the check was ended, nothing was found out
	}
	status, ok := c.tally.add(found)
	if !ok {
		c.log.Debug("the check gave another result than before, not often enough to count", "status", found)
		return
	}
	c.notify.UpdateCheck(c.id, status, output)
}

// timedOut is the output of a probe that ran into its timeout.
func (d *Definition) timedOut(unset time.Duration) string {
	if d.Timeout > 0 {
		unset = d.Timeout
	}
	return fmt.Sprintf("Timed out (%s) running check", unset)
}

// tally counts results in a row. The zero value lets every result count.
type tally struct {
	needPassing, needWarning, needCritical int

	good, bad int
}

// add says which status the check has after one more result, or that this one
// does not count yet. A warning is an answer: it counts with the passing ones.
func (t *tally) add(found string) (status string, ok bool) {
	if found != wire.HealthCritical {
		t.good, t.bad = t.good+1, 0
		return found, t.good >= t.needPassing
	}
	t.good, t.bad = 0, t.bad+1
	switch {
	case t.bad >= t.needCritical:
		return wire.HealthCritical, true
	case t.bad >= t.needWarning:
		return wire.HealthWarning, true
	}
	return "", false
}
