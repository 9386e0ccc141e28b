package checks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lictor/agent/script"
	"lictor/rpc/wire"
)

// ttl is a check that others report to. It turns critical when they have not
// for the length of its TTL.
type ttl struct {
	id        string
	every     time.Duration
	maxOutput int
	notify    Notifier
	reported  chan struct{} // holds one: a report came

	mu      sync.Mutex // guards what follows, and orders notifications
	expires time.Time
	last    string
}

func newTTL(d *Definition, o Options) (Check, error) {
	first := o.FirstTTL
	if first <= 0 {
		first = d.TTL
	}
	return &ttl{
		id: d.ID, every: d.TTL, maxOutput: o.MaxOutput, notify: o.Notify,
		reported: make(chan struct{}, 1), expires: time.Now().Add(first),
	}, nil
}

// Report implements Reporter.
func (c *ttl) Report(status, output string) {
	output = script.Clip(output, c.maxOutput)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires, c.last = time.Now().Add(c.every), output
	c.notify.UpdateCheck(c.id, status, output)
	select {
	case c.reported <- struct{}{}:
	default:
	}
}

// Run watches the expiry.
func (c *ttl) Run(ctx context.Context) {
	for {
		c.mu.Lock()
		timer := time.NewTimer(time.Until(c.expires))
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.reported:
			timer.Stop()
			continue
		case <-timer.C:
		}
		if !c.expire() {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.reported:
		}
	}
}

// expire notifies, unless a report came just now.
func (c *ttl) expire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.expires) {
		return false
	}
	output := fmt.Sprintf("TTL expired: no report for %s", c.every)
	if c.last != "" {
		output += " (last output before: " + c.last + ")"
	}
	c.notify.UpdateCheck(c.id, wire.HealthCritical, script.Clip(output, c.maxOutput))
	return true
}
