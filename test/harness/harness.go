// Package harness runs whole agents for tests: the program that main builds, as
// real processes on addresses of their own.
//
// Every Cluster takes a free /24 of 127.0.0.0/8 and gives each agent one
// address of it, so all agents of all clusters can use the standard ports
// (8300, 8301, 8302, 8400, 8500), tests can run side by side, and the guides'
// configuration files can be used as they are. Addresses like these exist
// without any setup on Linux; where they do not, tests are skipped.
//
// Nothing here waits for a length of time: Poll waits for a condition and gives
// up after Patience. Close stops every agent and frees everything; the log of
// each agent is printed if the test failed. It is no sandbox: a process that a
// test starts is an ordinary process of the user who runs the test.
package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long Poll waits for something that ought to happen. It is
// long because a machine under load, with the race detector on, is slow; a
// test that passes never waits that long.
const Patience = 60 * time.Second

// pollEvery is the pause between two looks at a condition.
const pollEvery = 50 * time.Millisecond

// Poll calls ok until it returns nil. After Patience it returns ok's last
// error, with what in front of it.
func Poll(what string, ok func() error) error {
	deadline := time.Now().Add(Patience)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if s := (stop{}); errors.As(err, &s) {
			return fmt.Errorf("%s: %w", what, s.error)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s: %w", Patience, what, err)
		}
		time.Sleep(pollEvery)
	}
}

// stop is an error that makes waiting on pointless.
type stop struct{ error }

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

// Binary builds the program, once in a test run and under the race detector
// if the test is, and returns the folder that holds it. Main removes it. Where
// LICTOR_TEST_BIN names a folder, the program in it is tested instead: one that
// is going to be shipped, say.
func Binary() (string, error) {
	if dir := os.Getenv("LICTOR_TEST_BIN"); dir != "" {
		return dir, nil
	}
	buildOnce.Do(func() {
		if buildDir, buildErr = os.MkdirTemp("", "lictor-bin-"); buildErr != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(buildDir, "lictor")}
		if Race {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "lictor")...).CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("build lictor: %w\n%s", err, out)
		}
	})
	return buildDir, buildErr
}

// Main is for TestMain: it runs the tests and removes the program.
func Main(m *testing.M) int {
	defer func() {
		if buildDir != "" {
			os.RemoveAll(buildDir)
		}
	}()
	return m.Run()
}

// Cluster is a set of agents in one /24. Its methods may be called from several
// goroutines.
type Cluster struct {
	Dir string // everything the agents write is below it

	t      testing.TB
	prefix string // "127.x.y.", or that of its network
	bin    string
	net    *network // nil: the agents share the loopback interface

	mu      sync.Mutex // guards the fields below
	agents  []*Agent
	apiCert [2]string
	closed  bool
}

// New makes an empty cluster below dir and closes it when t is done. It skips t
// where addresses like 127.1.2.3 cannot be used.
func New(t testing.TB, dir string) *Cluster {
	t.Helper()
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	prefix, err := freePrefix()
	if err != nil {
		t.Skip(err)
	}
	c := &Cluster{Dir: dir, t: t, prefix: prefix, bin: bin}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			c.dumpLogs()
		}
	})
	return c
}

// freePrefix finds a /24 in which nothing listens on the ports that agents use.
func freePrefix() (string, error) {
	var last error
	for range 20 {
		prefix := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
		if last = free(prefix + "1"); last == nil {
			return prefix, nil
		}
	}
	return "", fmt.Errorf("no loopback addresses for agents: %w", last)
}

func free(ip string) error {
	for _, port := range []string{"8300", "8301", "8302", "8400", "8500"} {
		ln, err := net.Listen("tcp", net.JoinHostPort(ip, port))
		if err != nil {
			return err
		}
		ln.Close()
	}
	return nil
}

// IP is the nth address of the cluster's network. Agents take them from 1
// upwards; from 100 on they are for what a test runs beside its agents.
func (c *Cluster) IP(n int) string { return fmt.Sprintf("%s%d", c.prefix, n) }

// BinDir is the folder of the program, for a PATH.
func (c *Cluster) BinDir() string { return c.bin }

// AddServer adds a server agent; it is not started.
func (c *Cluster) AddServer(name string) *Agent { return c.add(name, true) }

// AddClient adds a client agent; it is not started.
func (c *Cluster) AddClient(name string) *Agent { return c.add(name, false) }

func (c *Cluster) add(name string, server bool) *Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &Agent{
		Name: name, Server: server, Dir: filepath.Join(c.Dir, name),
		IP: c.IP(len(c.agents) + 1), Datacenter: "dc1",
		c: c, log: &Log{}, overlay: map[string]any{},
	}
	if c.net != nil {
		var err error
		if a.space, err = c.net.join(a.IP); err != nil {
			c.t.Fatal(err)
		}
	}
	c.agents = append(c.agents, a)
	return a
}

// Agents are all agents in the order they were added.
func (c *Cluster) Agents() []*Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.agents)
}

// Running are the agents that run and are not being restarted.
func (c *Cluster) Running() []*Agent {
	return slices.DeleteFunc(c.Agents(), func(a *Agent) bool { return !a.Up() })
}

// Agent finds one by name.
func (c *Cluster) Agent(name string) (*Agent, error) {
	for _, a := range c.Agents() {
		if a.Name == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("no agent %q", name)
}

// APICert sets the certificate and key that Get and the probes present to the
// HTTPS API.
func (c *Cluster) APICert(certFile, keyFile string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apiCert = [2]string{certFile, keyFile}
}

// WaitMembers waits until every running agent of each datacenter sees exactly
// the running agents of its datacenter as alive.
func (c *Cluster) WaitMembers() error {
	running := c.Running()
	for _, a := range running {
		err := Poll(a.Name+" to see the cluster", func() error {
			members, err := a.Members(false)
			if err != nil {
				return err
			}
			for _, other := range running {
				if other.Datacenter == a.Datacenter && members[other.Name] != "alive" {
					return fmt.Errorf("%s sees %s as %q", a.Name, other.Name, members[other.Name])
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// StartAll starts every agent that does not run, servers first as they were
// added, and waits until all see each other.
func (c *Cluster) StartAll() error {
	for _, a := range c.Agents() {
		if !a.Up() {
			if err := a.Start(); err != nil {
				return err
			}
		}
	}
	return c.WaitMembers()
}

// Close kills what still runs and waits for it. It may be called again.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, a := range c.Agents() {
		a.Kill()
	}
}

// raceMark is how a data race shows in a log.
const raceMark = "WARNING: DATA RACE"

// Healthy reports what no agent may ever have written: a data race or a panic.
func (c *Cluster) Healthy() error {
	var errs []error
	for _, a := range c.Agents() {
		for _, bad := range []string{raceMark, "\npanic: ", "\nfatal error: "} {
			if log := a.log.String(); strings.Contains("\n"+log, bad) {
				errs = append(errs, fmt.Errorf("%s logged %q:\n%s", a.Name, strings.TrimSpace(bad), after(log, strings.TrimSpace(bad))))
			}
		}
	}
	return errors.Join(errs...)
}

func after(log, mark string) string {
	i := strings.Index(log, mark)
	return log[i:min(len(log), i+4000)]
}

// dumpLogs prints the end of every agent's log.
func (c *Cluster) dumpLogs() {
	for _, a := range c.Agents() {
		c.t.Logf("---- log of %s (%s) ----\n%s", a.Name, a.IP, a.log.tail(80))
	}
}

// Must ends the test if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
