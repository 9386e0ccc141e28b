package test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lictor/test/harness"
)

// A key is rotated on ten agents under load while one of them is down. The one
// that was down is told what is wrong with it, and one step brings it back; an
// agent started with another key in its configuration keeps the ring's and says
// so.
func TestKeyRotationUnderLoad(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	for i := range 10 {
		a := c.AddClient(fmt.Sprintf("c%d", i))
		if i < 3 {
			a.Server = true
		}
		config(t, a, keys{"encrypt": guideKey})
	}
	must(t, c.StartAll())
	all := c.Agents()
	first, away := all[0], all[9]

	// One goes down, and the others notice.
	away.Kill()
	for _, a := range c.Running() {
		poll(t, "the dead agent to be noticed", func() error {
			members, err := a.Members(false)
			if err == nil && members[away.Name] != "failed" {
				err = fmt.Errorf("%s sees it as %q", a.Name, members[away.Name])
			}
			return err
		})
	}

	probe := c.StartProbe()
	stopLoad, events := load(all[1:9])
	keyring := func(flag, key string) {
		t.Helper()
		r, err := all[5].CLI(c.Dir, "keyring", flag, key)
		must(t, err)
		if r.Code != 0 {
			t.Errorf("keyring %s: exit %d: %s", flag, r.Code, r.Stderr)
		}
	}
	list := func(want ...string) {
		t.Helper()
		r, err := all[7].CLI(c.Dir, "keyring", "-list")
		must(t, err)
		for _, w := range want {
			if !strings.Contains(r.Stdout, w) {
				t.Errorf("keyring -list has no %q:\n%s%s", w, r.Stdout, r.Stderr)
			}
		}
	}
	keyring("-install", otherKey)
	list(guideKey+" [9/9]", otherKey+" [9/9]")
	keyring("-use", otherKey)
	keyring("-remove", guideKey)
	keyring("-remove", guideKey) // removing what is not there is a success
	list(otherKey + " [9/9]")
	r, err := all[5].CLI(c.Dir, "keyring", "-list")
	must(t, err)
	if strings.Contains(r.Stdout, guideKey) {
		t.Errorf("the old key is still there:\n%s", r.Stdout)
	}
	for _, bad := range [][]string{{"-remove", otherKey}, {"-use", thirdKey}, {"-install", "not base64"}, {"-install", "c2hvcnQ="}} {
		r, err := all[5].CLI(c.Dir, append([]string{"keyring"}, bad...)...)
		must(t, err)
		if r.Code != 1 || r.Stderr == "" {
			t.Errorf("keyring %v: exit %d, %q", bad, r.Code, r.Stderr)
		}
	}
	list(otherKey + " [9/9]") // and nothing has changed
	stopLoad()
	if err := probe.Stop(); err != nil {
		t.Error(err)
	}
	if events.Load() == 0 {
		t.Error("there was no load")
	}

	t.Run("the agent that was down", func(t *testing.T) {
		mark, serverMark := away.Log().Mark(), first.Log().Mark()
		must(t, away.Start())
		wantLog(t, away, mark, `(?i)(no installed keys|decrypt|key)`)
		r, err := away.CLI(c.Dir, "join", first.IP)
		must(t, err)
		if r.Code == 0 {
			t.Error("it joined with the old key")
		}
		wantMatch(t, "what it is told", r.Stderr, `(?i)key`)
		wantLog(t, first, serverMark, `(?i)(no installed keys|decrypt|key)`)

		// The one step: remove its ring and give it the new key.
		_, err = away.Stop(sigterm)
		must(t, err)
		must(t, removeKeyrings(away))
		config(t, away, keys{"encrypt": otherKey})
		must(t, away.Start())
		must(t, c.WaitMembers())
	})

	t.Run("a wrong encrypt afterwards", func(t *testing.T) {
		a := all[8]
		_, err := a.Stop(sigterm)
		must(t, err)
		config(t, a, keys{"encrypt": thirdKey})
		mark := a.Log().Mark()
		must(t, a.Start())
		must(t, c.WaitMembers())
		line, err := a.Log().Wait(mark, `\[WARN\].*(?i)keyring.*`)
		must(t, err)
		for _, key := range []string{thirdKey, otherKey, guideKey} {
			if strings.Contains(a.Log().String(), key) {
				t.Error("a key is in the log")
			}
		}
		if n := len(fingerprints(line)); n < 2 {
			t.Errorf("the warning names %d fingerprints, want both: %s", n, line)
		}
		list(otherKey + " [10/10]")
	})
}

// load has agents fire events until it is stopped.
func load(agents []*harness.Agent) (stop func(), fired *atomic.Int64) {
	fired = &atomic.Int64{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, a := range agents[:2] {
		wg.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					if _, err := a.Do("PUT", "/v1/event/fire/load", []byte("x")); err == nil {
						fired.Add(1)
					}
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }, fired
}
