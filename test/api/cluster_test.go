package api

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lictor/test/harness"
)

// leader waits until every server that is up names the same leader, which is not
// the one given, and returns it.
func leader(t *testing.T, servers []*harness.Agent, not *harness.Agent) *harness.Agent {
	t.Helper()
	var found *harness.Agent
	harness.Must(t, harness.Poll("a leader", func() error {
		who := ""
		for _, a := range servers {
			if a == not || !a.Up() {
				continue
			}
			var addr string
			if err := a.GetJSON("/v1/status/leader", &addr); err != nil {
				return err
			}
			host, _, _ := net.SplitHostPort(addr)
			if host == "" || who != "" && who != host {
				return fmt.Errorf("%s says %q", a.Name, addr)
			}
			who = host
		}
		for _, a := range servers {
			if a.IP == who && a != not {
				found = a
				return nil
			}
		}
		return fmt.Errorf("%q leads", who)
	}))
	return found
}

func serversOf(c *harness.Cluster) (list []*harness.Agent) {
	for _, a := range c.Agents() {
		if a.Server {
			list = append(list, a)
		}
	}
	return list
}

// A follower that was away for longer than the leader keeps its log gets a
// snapshot; it rejoins with its old data directory.
func TestFollowerFarBehindCatchesUpBySnapshot(t *testing.T) {
	t.Parallel()
	c := harness.New(t, t.TempDir())
	for i := range 3 {
		fast(c.AddServer(fmt.Sprintf("s%d", i+1)))
	}
	start(t, c, map[string]any{
		"bootstrap_expect": 3, "raft_snapshot_threshold": 20, "raft_snapshot_interval": "1s", "raft_trailing_logs": 10,
		// Entries that were given up can be read until the file they are in is deleted.
		"raft_logstore": map[string]any{"wal": map[string]any{"segment_size_mb": 1}},
	})
	servers := c.Agents()
	lead := leader(t, servers, nil)
	client := connect(t, lead)
	filler := strings.Repeat("x", 32<<10)
	put := func(key string) {
		t.Helper()
		_, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte(key + filler)}, nil)
		harness.Must(t, err)
	}
	put("before")
	away := servers[0]
	if away == lead {
		away = servers[1]
	}
	away.Kill()
	info := func(a *harness.Agent, key string) int {
		var self struct{ Stats map[string]map[string]string }
		if err := a.GetJSON("/v1/agent/self", &self); err != nil {
			return 0
		}
		n, _ := strconv.Atoi(self.Stats["raft"][key])
		return n
	}
	behind := info(lead, "last_log_index")
	for i := range 200 {
		put(fmt.Sprintf("while-away/%d", i))
	}
	harness.Must(t, harness.Poll("the leader to have taken a snapshot", func() error {
		if n := info(lead, "last_snapshot_index"); n <= behind+50 {
			return fmt.Errorf("the last one is of index %d, the follower went at %d", n, behind)
		}
		return nil
	}))
	mark := away.Log().Mark()
	harness.Must(t, away.Start())
	harness.Must(t, harness.Poll("the follower to have everything", func() error {
		b, err := away.Get("/v1/kv/while-away/199?stale&raw")
		if err == nil && string(b) != "while-away/199"+filler {
			err = fmt.Errorf("it has %d bytes", len(b))
		}
		return err
	}))
	if _, err := away.Log().Wait(mark, `(?i)install.*snapshot|snapshot.*(install|restor)`); err != nil {
		t.Error(err)
	}
	if b, err := away.Get("/v1/kv/before?stale&raw"); err != nil || string(b) != "before"+filler {
		t.Errorf("what was there before: %d bytes, %v", len(b), err)
	}
}

// A client agent that is killed has its services back when it starts again:
// those from its files, those from the API, and the state of TTL checks.
func TestClientAgentRestarts(t *testing.T) {
	t.Parallel()
	e, _ := throughClient(t)
	harness.Must(t, e.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "kept", Name: "kept", Port: 1, Check: &api.AgentServiceCheck{CheckID: "kept-ttl", TTL: "10m"},
	}))
	harness.Must(t, e.Agent().UpdateTTL("kept-ttl", "all is well", "pass"))
	inCatalog := func() error {
		list, _, err := e.Health().Service("kept", "", true, nil)
		if err == nil && (len(list) != 1 || list[0].Node.Node != e.agent.Name) {
			err = fmt.Errorf("%d instances pass", len(list))
		}
		return err
	}
	harness.Must(t, harness.Poll("the service to pass", inCatalog))
	e.agent.Kill()
	harness.Must(t, e.agent.Start())
	e.Client = connect(t, e.agent)
	checks, err := e.Agent().Checks()
	if err != nil || checks["kept-ttl"] == nil || checks["kept-ttl"].Status != "passing" || checks["kept-ttl"].Output != "all is well" {
		t.Errorf("after the restart: %+v, %v", checks["kept-ttl"], err)
	}
	harness.Must(t, harness.Poll("the service to pass again", inCatalog))
}

// A node that dies goes critical in the catalog and comes back; one whose entry
// was removed meanwhile registers its services again.
func TestNodeDiesAndComesBack(t *testing.T) {
	t.Parallel()
	e, c := throughClient(t)
	client := e.agent
	harness.Must(t, e.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "w", Name: "w", Port: 1}))
	server := &env{Client: connect(t, serversOf(c)[0]), node: client.Name}
	serf := func(want string) {
		t.Helper()
		harness.Must(t, harness.Poll("serfHealth of the client to be "+want, func() error {
			checks, _, err := server.Health().Node(client.Name, nil)
			if err != nil {
				return err
			}
			for _, ch := range checks {
				if ch.CheckID == "serfHealth" && ch.Status == want {
					return nil
				}
			}
			return fmt.Errorf("%+v", checks)
		}))
	}
	serf("passing")
	client.Kill()
	serf("critical")
	if list, _, err := server.Health().Service("w", "", true, nil); err != nil || len(list) != 0 {
		t.Errorf("a service on a dead node passes: %d, %v", len(list), err)
	}
	_, err := server.Catalog().Deregister(&api.CatalogDeregistration{Node: client.Name}, nil)
	harness.Must(t, err)
	harness.Must(t, client.Start())
	serf("passing")
	harness.Must(t, harness.Poll("the service to be registered again", func() error {
		list, _, err := server.Health().Service("w", "", true, nil)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d instances", len(list))
		}
		return err
	}))
}

// A client agent that leaves is gone from the catalog with all it had.
func TestNodeLeaves(t *testing.T) {
	t.Parallel()
	e, c := throughClient(t)
	harness.Must(t, e.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "w", Name: "w", Port: 1}))
	server := &env{Client: connect(t, serversOf(c)[0])}
	harness.Must(t, harness.Poll("the service", func() error {
		list, _, err := server.Catalog().Service("w", "", nil)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d instances", len(list))
		}
		return err
	}))
	if status, err := e.agent.Stop(syscall.SIGTERM); err != nil || status != 0 {
		t.Fatalf("stop: %d, %v", status, err)
	}
	harness.Must(t, harness.Poll("the node to be gone", func() error {
		n, _, err := server.Catalog().Node("c1", nil)
		if err == nil && n != nil {
			err = errors.New("it is still there")
		}
		return err
	}))
}

// A server that leaves gracefully never costs the cluster its quorum, and the
// leader hands over before it goes.
func TestServersLeaveOneAfterTheOther(t *testing.T) {
	t.Parallel()
	_, c := throughClient(t)
	servers := serversOf(c)
	left := servers
	for len(left) > 1 {
		lead := leader(t, left, nil)
		r, err := lead.CLI(c.Dir, "leave")
		harness.Must(t, err)
		if r.Code != 0 {
			t.Fatalf("leave of %s: %d %s", lead.Name, r.Code, r.Stderr)
		}
		if status, err := lead.Wait(); err != nil || status != 0 {
			t.Fatalf("%s ended with %d, %v", lead.Name, status, err)
		}
		var rest []*harness.Agent
		for _, a := range left {
			if a != lead {
				rest = append(rest, a)
			}
		}
		left = rest
		next := connect(t, leader(t, left, nil))
		_, err = next.KV().Put(&api.KVPair{Key: "left", Value: []byte(lead.Name)}, nil)
		harness.Must(t, err)
		harness.Must(t, harness.Poll(lead.Name+" to be out of the Raft configuration", func() error {
			conf, err := next.Operator().RaftGetConfiguration(nil)
			if err == nil && len(conf.Servers) != len(left) {
				err = fmt.Errorf("%d servers", len(conf.Servers))
			}
			return err
		}))
	}
}

// The client library's lock is held by one at a time while leaders are killed.
func TestLockThroughLeaderChanges(t *testing.T) {
	t.Parallel()
	_, c := throughClient(t)
	servers := serversOf(c)
	var inside, entered atomic.Int32
	var holders sync.WaitGroup
	stop := make(chan struct{})
	stopping := sync.OnceFunc(func() { close(stop); holders.Wait() })
	defer stopping()
	for i := range 3 {
		client := connect(t, c.Agents()[3])
		holders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := client.LockOpts(&api.LockOptions{Key: "mutex", SessionName: fmt.Sprint(i), SessionTTL: "60s", LockDelay: time.Millisecond, MonitorRetries: 20})
				if err != nil {
					t.Error(err)
					return
				}
				lost, err := l.Lock(stop)
				if err != nil || lost == nil {
					continue // no leader just now, or we stop
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				entered.Add(1)
				for range 20 { // some work under the lock, unless it is lost
					select {
					case <-lost:
					case <-time.After(time.Millisecond):
						continue
					}
					break
				}
				inside.Add(-1)
				l.Unlock() // fails where it was lost
			}
		})
	}
	for range 3 {
		from := entered.Load()
		harness.Must(t, harness.Poll("the lock to go round", func() error {
			if entered.Load() < from+5 {
				return fmt.Errorf("%d times", entered.Load()-from)
			}
			return nil
		}))
		lead := leader(t, servers, nil)
		lead.Kill()
		leader(t, servers, lead)
		harness.Must(t, lead.Start())
	}
	stopping()
}

// After its session was invalidated, a key cannot be locked for the lock-delay.
func TestLockDelay(t *testing.T) {
	t.Parallel()
	e := oneServer(t, nil)
	session := func(delay time.Duration) string {
		id, _, err := e.Session().CreateNoChecks(&api.SessionEntry{Node: "s1", LockDelay: delay}, nil)
		harness.Must(t, err)
		return id
	}
	acquire := func(id string) bool {
		ok, _, err := e.KV().Acquire(&api.KVPair{Key: "delayed", Session: id}, nil)
		harness.Must(t, err)
		return ok
	}
	first, second := session(2*time.Second), session(2*time.Second)
	if !acquire(first) {
		t.Fatal("a free key could not be locked")
	}
	_, err := e.Session().Destroy(first, nil)
	harness.Must(t, err)
	if acquire(second) {
		t.Error("it was locked at once after its session had been invalidated")
	}
	harness.Must(t, harness.Poll("the lock-delay to pass", func() error {
		if !acquire(second) {
			return errors.New("refused")
		}
		return nil
	}))
	// A clean release has no delay.
	if ok, _, err := e.KV().Release(&api.KVPair{Key: "delayed", Session: second}, nil); err != nil || !ok {
		t.Fatalf("release: %t, %v", ok, err)
	}
	if !acquire(session(0)) {
		t.Error("a released key could not be locked at once")
	}
}

// A session with a TTL that nobody renews ends and gives back what it held.
func TestSessionTTL(t *testing.T) {
	t.Parallel()
	e := oneServer(t, map[string]any{"session_ttl_min": "1s"})
	id, _, err := e.Session().CreateNoChecks(&api.SessionEntry{Node: "s1", TTL: "1s", LockDelay: time.Millisecond}, nil)
	harness.Must(t, err)
	if ok, _, err := e.KV().Acquire(&api.KVPair{Key: "ttl", Session: id}, nil); err != nil || !ok {
		t.Fatalf("acquire: %t, %v", ok, err)
	}
	harness.Must(t, harness.Poll("the session to end", func() error {
		s, _, err := e.Session().Info(id, nil)
		if err == nil && s != nil {
			err = errors.New("it is still there")
		}
		return err
	}))
	if p, _, err := e.KV().Get("ttl", nil); err != nil || p == nil || p.Session != "" {
		t.Errorf("the key: %+v, %v", p, err)
	}
}

// Two servers whose first leader is lost have no quorum: writes and default
// reads say that there is no leader, stale reads go on.
func TestWithoutAQuorum(t *testing.T) {
	t.Parallel()
	e, c := throughClient(t)
	servers := serversOf(c)
	_, err := e.KV().Put(&api.KVPair{Key: "q", Value: []byte("v")}, nil)
	harness.Must(t, err)
	for _, s := range servers[1:] {
		harness.Must(t, harness.Poll("every server to have it", func() error {
			_, err := s.Get("/v1/kv/q?stale")
			return err
		}))
	}
	servers[1].Kill()
	servers[2].Kill()
	harness.Must(t, harness.Poll("the loss of the leader to show", func() error {
		_, err := e.KV().Put(&api.KVPair{Key: "q", Value: []byte("w")}, nil)
		if err == nil {
			return errors.New("a write was taken")
		}
		if code(err) != 500 || !strings.Contains(err.Error(), "No cluster leader") {
			return err
		}
		return nil
	}))
	p, meta, err := e.KV().Get("q", &api.QueryOptions{AllowStale: true})
	if err != nil || p == nil || string(p.Value) != "v" || meta.KnownLeader {
		t.Errorf("a stale read: %+v, %+v, %v", p, meta, err)
	}
	harness.Must(t, servers[1].Start())
	harness.Must(t, harness.Poll("writes to go on", func() error {
		_, err := e.KV().Put(&api.KVPair{Key: "q", Value: []byte("x")}, nil)
		return err
	}))
}
