package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a request costs a whole cluster: three servers and a client agent, strict
// in everything and durable, each a process of its own. The cost is the CPU time
// of all of them together while clients of this process ask; the floor is the
// CPU time of one more process, whose net/http handler writes the same bytes to
// the same clients.

// Addresses of the cluster; the ports are the defaults.
var serverIPs = []string{"127.91.8.1", "127.91.8.2", "127.91.8.3"}

const (
	agentIP   = "127.91.8.4"
	floorAddr = "127.91.8.9:8500"
)

// concurrent is how many clients ask at the same time, and span for how long.
const (
	concurrent = 64
	span       = 2 * time.Second
)

// work is one kind of request.
type work struct {
	what   string
	at     func(c *cluster) string // host of the URL
	method string
	path   string
	body   string
	aim    float64
}

func leaderOf(c *cluster) string   { return c.leader }
func followerOf(c *cluster) string { return c.follower }
func clientOf(*cluster) string     { return agentIP }

var works = []work{
	{"KV get at the leader", leaderOf, "GET", "/v1/kv/bench", "", 1.6},
	{"KV get, stale, at a follower", followerOf, "GET", "/v1/kv/bench?stale", "", 1.8},
	{"KV get through a client agent", clientOf, "GET", "/v1/kv/bench", "", 5},
	{"KV get, consistent, at the leader", leaderOf, "GET", "/v1/kv/bench?consistent", "", 3.5},
	{"KV put at the leader", leaderOf, "PUT", "/v1/kv/bench-put", strings.Repeat("v", 100), 8},
	{"KV put through a client agent", clientOf, "PUT", "/v1/kv/bench-put", strings.Repeat("v", 100), 11},
	{"health of 50 instances, stale, at a server", followerOf, "GET", "/v1/health/service/bench?stale", "", 15},
	{"health of 50 instances through a client agent", clientOf, "GET", "/v1/health/service/bench?stale", "", 30},
}

// cluster is the processes of a run.
type cluster struct {
	agents           []*exec.Cmd
	leader, follower string // addresses
}

// requests measures every kind of work.
func requests(dir, bin string) (rows []row, err error) {
	c, err := startCluster(dir, bin)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if err := c.fill(); err != nil {
		return nil, err
	}
	for _, w := range works {
		body, err := ask(w.method, "http://"+w.at(c)+":8500"+w.path, w.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.what, err)
		}
		floor, err := startFloor(body)
		if err != nil {
			return nil, err
		}
		var values, floors, ratios []float64
		for range rounds {
			v, err := cost(w, w.at(c)+":8500", c.agents)
			if err == nil {
				var f float64
				if f, err = cost(w, floorAddr, []*exec.Cmd{floor}); err == nil {
					values, floors, ratios = append(values, v), append(floors, f), append(ratios, v/f)
				}
			}
			if err != nil {
				stop(floor)
				return nil, fmt.Errorf("%s: %w", w.what, err)
			}
		}
		stop(floor)
		rows = append(rows, row{w.what + "; floor: a net/http handler that writes the same bytes (CPU of all agents)", "µs",
			median(values), median(floors), median(ratios), w.aim})
	}
	return rows, nil
}

// startCluster starts the servers and the client and waits for a leader.
func startCluster(dir, bin string) (*cluster, error) {
	key, err := exec.Command(bin, "keygen").Output()
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	begin := func(name, ip string, server bool) error {
		kind := "client"
		conf := map[string]any{
			"node_name": name, "server": server, "data_dir": filepath.Join(dir, name), "bind_addr": ip, "client_addr": ip,
			"retry_join": serverIPs, "retry_interval": "500ms", "encrypt": strings.TrimSpace(string(key)), "log_level": "WARN",
			"verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true, "ca_file": "consul-agent-ca.pem",
		}
		if server {
			kind, conf["bootstrap_expect"] = "server", len(serverIPs)
		}
		conf["cert_file"], conf["key_file"] = "consul-"+kind+"-dc1-0.pem", "consul-"+kind+"-dc1-0-key.pem"
		b, err := json.Marshal(conf)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name+".json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
		cmd := exec.Command(bin, "agent", "-config-file", file)
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			return err
		}
		c.agents = append(c.agents, cmd)
		return nil
	}
	for i, ip := range serverIPs {
		if err := begin(fmt.Sprintf("server%d", i+1), ip, true); err != nil {
			c.stop()
			return nil, err
		}
	}
	err = begin("agent1", agentIP, false)
	for deadline := time.Now().Add(time.Minute); err == nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			err = errors.New("the cluster has no leader")
			break
		}
		var addr string
		b, askErr := ask("GET", "http://"+agentIP+":8500/v1/status/leader", "")
		if askErr == nil && json.Unmarshal(b, &addr) == nil && addr != "" {
			c.leader, _, err = net.SplitHostPort(addr)
			break
		}
	}
	for _, ip := range serverIPs {
		if ip != c.leader {
			c.follower = ip
		}
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) stop() {
	for _, a := range c.agents {
		stop(a)
	}
}

// fill registers what is asked for and waits until the follower has it.
func (c *cluster) fill() error {
	if _, err := ask("PUT", "http://"+c.leader+":8500/v1/kv/bench", strings.Repeat("v", 100)); err != nil {
		return err
	}
	for i := range 50 {
		node := fmt.Sprintf("bench-%d", i)
		b, err := json.Marshal(map[string]any{
			"Node": node, "Address": fmt.Sprintf("10.0.0.%d", i+1),
			"Service": map[string]any{"ID": "bench", "Service": "bench", "Port": 80, "Tags": []string{"v1"}},
			"Checks": []any{
				map[string]any{"Node": node, "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"},
				map[string]any{"Node": node, "CheckID": "bench", "Name": "bench", "Status": "passing", "ServiceID": "bench"},
			},
		})
		if err != nil {
			return err
		}
		if _, err := ask("PUT", "http://"+c.leader+":8500/v1/catalog/register", string(b)); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		b, err := ask("GET", "http://"+c.follower+":8500/v1/health/service/bench?stale", "")
		if err == nil && bytes.Count(b, []byte(`"ServiceID":"bench"`)) == 50 {
			return nil
		}
	}
	return errors.New("the follower did not get the services")
}

func ask(method, url, body string) ([]byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, b)
	}
	return b, err
}

// startFloor starts this program again as a server that answers with body.
func startFloor(body []byte) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "floor")
	cmd.Stdin = bytes.NewReader(body)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := ask("GET", "http://"+floorAddr, ""); err == nil {
			return cmd, nil
		}
	}
	stop(cmd)
	return nil, errors.New("the floor's server does not answer")
}

// serveFloor is what startFloor starts.
func serveFloor() error {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	return http.ListenAndServe(floorAddr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
}

// cost is the CPU time in µs that the processes take for one request.
func cost(w work, addr string, processes []*exec.Cmd) (float64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrent}}
	defer client.CloseIdleConnections()
	var n atomic.Int64
	var failed atomic.Pointer[error]
	run := func(d time.Duration) {
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		for range concurrent {
			wg.Go(func() {
				for time.Now().Before(end) && failed.Load() == nil {
					if err := once(client, w, addr); err != nil {
						failed.CompareAndSwap(nil, &err)
					}
					n.Add(1)
				}
			})
		}
		wg.Wait()
	}
	run(span / 4) // connections are open, caches warm
	n.Store(0)
	before, err := cpu(processes)
	if err != nil {
		return 0, err
	}
	run(span)
	after, err := cpu(processes)
	if e := failed.Load(); e != nil {
		err = *e
	}
	if err != nil {
		return 0, err
	}
	return float64((after - before).Microseconds()) / float64(n.Load()), nil
}

func once(client *http.Client, w work, addr string) error {
	req, err := http.NewRequest(w.method, "http://"+addr+w.path, strings.NewReader(w.body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// cpu is the time that processes have used, user and system, to the kernel's
// tick of 10 ms.
func cpu(processes []*exec.Cmd) (time.Duration, error) {
	const tick = 10 * time.Millisecond
	var sum time.Duration
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil {
			return 0, err
		}
		// The fields after the name, which is in brackets: the state is the first,
		// utime and stime are the 12th and 13th.
		_, rest, ok := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 13 {
			return 0, errors.New("no times in /proc/PID/stat")
		}
		for _, f := range fields[11:13] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}
