package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// NewNetwork makes a cluster whose agents have a network namespace each, joined
// by a bridge that the test itself is on too, so that agents can be cut off from
// each other (Cut, Heal). It skips t where that needs rights or tools that are
// not there: root, and the ip command of iproute2.
func NewNetwork(t testing.TB, dir string) *Cluster {
	t.Helper()
	if !CanNetwork() {
		t.Skip("network namespaces need root, and the ip command of iproute2")
	}
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	n := &network{id: fmt.Sprintf("lt%05x", rand.IntN(1<<20))}
	prefix := fmt.Sprintf("10.%d.%d.", 64+rand.IntN(128), rand.IntN(256))
	t.Cleanup(n.remove)
	if err := n.make(prefix); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Dir: dir, t: t, prefix: prefix, bin: bin, net: n}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			c.dumpLogs()
		}
	})
	return c
}

// CanNetwork says whether NewNetwork can make network namespaces here.
func CanNetwork() bool {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		return false
	}
	space := fmt.Sprintf("ltprobe%05x", rand.IntN(1<<20))
	if ip("netns", "add", space) != nil {
		return false
	}
	return ip("netns", "del", space) == nil
}

// network is a bridge and the namespaces that hang on it.
type network struct {
	id     string // of the bridge, and the start of every other name
	spaces []string
}

func (n *network) make(prefix string) error {
	return errors.Join(
		ip("link", "add", n.id, "type", "bridge"),
		ip("addr", "add", prefix+"254/24", "dev", n.id),
		ip("link", "set", n.id, "up"),
	)
}

// join makes a namespace that has an address on the bridge.
func (n *network) join(addr string) (space string, err error) {
	k := len(n.spaces) + 1
	space = fmt.Sprintf("%s-%d", n.id, k)
	outer, inner := fmt.Sprintf("%so%d", n.id, k), fmt.Sprintf("%si%d", n.id, k)
	n.spaces = append(n.spaces, space)
	return space, errors.Join(
		ip("netns", "add", space),
		ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space),
		ip("link", "set", outer, "master", n.id, "up"),
		ip("-n", space, "addr", "add", addr+"/24", "dev", inner),
		ip("-n", space, "link", "set", inner, "up"),
		ip("-n", space, "link", "set", "lo", "up"),
	)
}

// remove undoes everything; what is not there is no error.
func (n *network) remove() {
	for _, space := range n.spaces {
		ip("netns", "del", space)
	}
	ip("link", "del", n.id)
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Cut cuts an agent off from all other agents of the cluster, in both
// directions and without a reset: packets are lost. The test still reaches it.
func (c *Cluster) Cut(a *Agent) error { return c.routes("replace", a) }

// Heal undoes Cut.
func (c *Cluster) Heal(a *Agent) error { return c.routes("del", a) }

func (c *Cluster) routes(verb string, a *Agent) error {
	if c.net == nil {
		return errors.New("this cluster has no network of its own")
	}
	var errs []error
	for _, other := range c.Agents() {
		if other == a {
			continue
		}
		errs = append(errs,
			ip("-n", a.space, "route", verb, "blackhole", other.IP+"/32"),
			ip("-n", other.space, "route", verb, "blackhole", a.IP+"/32"))
	}
	return errors.Join(errs...)
}
