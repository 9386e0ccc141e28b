package harness

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// probeEvery is how often the probe looks.
const probeEvery = 100 * time.Millisecond

// Probe watches a cluster: ten times a second it writes down which members each
// agent sees and whether an RPC from each client to a server works. What it may
// never see is a member as failed that was not being restarted, or an RPC that
// failed.
type Probe struct {
	c    *Cluster
	stop chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	samples int
	rpcs    int
	faults  []string
	journal []string
}

// journalLines bounds what a probe keeps of its samples.
const journalLines = 20_000

// StartProbe starts watching the agents that are in the cluster now. Stop must
// be called.
func (c *Cluster) StartProbe() *Probe {
	p := &Probe{c: c, stop: make(chan struct{})}
	for _, a := range c.Agents() {
		p.wg.Go(func() { p.every(a, p.members) })
		if !a.Server {
			p.wg.Go(func() { p.every(a, p.rpc) })
		}
	}
	return p
}

// Stop ends the probe. The error lists every fault it saw, and is not nil
// either if it saw nothing at all.
func (p *Probe) Stop() error {
	close(p.stop)
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.faults) > 0 {
		tail := p.journal[max(0, len(p.journal)-200):]
		return fmt.Errorf("the probe saw %d faults in %d samples and %d RPCs:\n%s\nlast samples:\n%s",
			len(p.faults), p.samples, p.rpcs, strings.Join(p.faults[:min(len(p.faults), 20)], "\n"), strings.Join(tail, "\n"))
	}
	if p.samples == 0 || p.rpcs == 0 {
		return errors.New("the probe saw nothing")
	}
	return nil
}

// Counts are how many samples of members and how many RPCs there were.
func (p *Probe) Counts() (samples, rpcs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.samples, p.rpcs
}

func (p *Probe) every(a *Agent, look func(*Agent)) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			look(a)
		}
	}
}

// members takes one sample of what a sees.
func (p *Probe) members(a *Agent) {
	before := p.epochs()
	if !before[a.Name].up {
		return
	}
	seen, err := a.Members(false)
	after := p.epochs()
	if after[a.Name] != before[a.Name] {
		return // it was stopped meanwhile
	}
	var faults []string
	if err != nil {
		faults = append(faults, fmt.Sprintf("%s does not answer: %v", a.Name, err))
	}
	for name, status := range seen {
		if status == "failed" && before[name].up && after[name] == before[name] {
			faults = append(faults, fmt.Sprintf("%s sees %s as failed", a.Name, name))
		}
	}
	p.note(a.Name, fmt.Sprint(seen), faults, 1, 0)
}

// rpc makes one call from a to a server.
func (p *Probe) rpc(a *Agent) {
	before := p.epochs()[a.Name]
	if !before.up {
		return
	}
	start := time.Now()
	err := a.RPC()
	if p.epochs()[a.Name] != before {
		return
	}
	var faults []string
	if err != nil {
		faults = append(faults, fmt.Sprintf("RPC from %s failed: %v", a.Name, err))
	}
	p.note(a.Name, "rpc "+time.Since(start).Round(time.Millisecond).String(), faults, 0, 1)
}

type epoch struct {
	up bool
	n  int
}

func (p *Probe) epochs() map[string]epoch {
	out := map[string]epoch{}
	for _, a := range p.c.Agents() {
		up, n := a.state()
		out[a.Name] = epoch{up, n}
	}
	return out
}

func (p *Probe) note(who, what string, faults []string, samples, rpcs int) {
	now := time.Now().Format("15:04:05.000 ")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples, p.rpcs = p.samples+samples, p.rpcs+rpcs
	for _, f := range faults {
		p.faults = append(p.faults, now+f)
	}
	if len(p.journal) < journalLines {
		p.journal = append(p.journal, now+who+" "+what)
	}
}
