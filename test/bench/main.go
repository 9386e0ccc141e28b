// Command bench measures what docs/benchmarks.md holds and prints it as a table:
// each figure beside the floor that was measured in the same run. Run it with
// make bench, on Linux.
//
// The costs of calls come from the Go benchmarks beside the code, as CPU time
// of the process per operation; the costs of requests, memory, size and start are
// those of the stripped binary, run as whole agents.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	run := run
	if len(os.Args) == 2 && os.Args[1] == "floor" {
		run = serveFloor
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one line of the table.
type row struct {
	what, unit   string
	value, floor float64
	ratio        float64 // 0: an aim that stands for itself
	aim          float64 // a ratio where there is a floor, else a bound
}

func run() error {
	rows, err := calls()
	if err != nil {
		return err
	}
	more, err := agents()
	if err != nil {
		return err
	}
	fmt.Println("| what | measured | floor | ratio | aim |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, r := range append(rows, more...) {
		floor, ratio, aim := "-", "-", fmt.Sprintf("at most %.4g %s", r.aim, r.unit)
		if r.ratio > 0 {
			floor = fmt.Sprintf("%.4g %s", r.floor, r.unit)
			ratio = fmt.Sprintf("%.2f", r.ratio)
			aim = fmt.Sprintf("at most %.4g x", r.aim)
		}
		fmt.Printf("| %s | %.4g %s | %s | %s | %s |\n", r.what, r.value, r.unit, floor, ratio, aim)
	}
	return nil
}

// pairs are the benchmarks and their floors.
var pairs = []struct {
	pkg, bench, floor, what string
	aim                     float64
}{
	{"./rpc", "BenchmarkCall100", "BenchmarkRawTLS", "RPC of 100 bytes, pooled TLS and yamux; floor: the bytes over one crypto/tls connection (CPU)", 2.5},
	{"./rpc", "BenchmarkHandshake", "BenchmarkRawHandshake", "new RPC connection with its first call; floor: a crypto/tls handshake (CPU)", 1.2},
	{"./agent/httpapi", "BenchmarkMembers", "BenchmarkMembersFloor", "GET /v1/agent/members; floor: a net/http handler that writes the same bytes (CPU)", 2},
}

var benchLine = regexp.MustCompile(`^(Benchmark\w+?)(?:-\d+)?\s.*?([\d.e+]+) cpu-ns/op`)

// rounds is how often each benchmark runs.
const rounds = 5

// calls runs the benchmarks. In each round a benchmark and its floor run one
// after the other, and the median of the rounds' ratios counts: what else the
// machine does changes from minute to minute and disturbs single runs.
func calls() ([]row, error) {
	found := map[string][]float64{}
	for range rounds {
		for _, pkg := range []string{"./rpc", "./agent/httpapi"} {
			out, err := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", "1s", pkg).CombinedOutput()
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", pkg, err, out)
			}
			for line := range strings.Lines(string(out)) {
				if m := benchLine.FindStringSubmatch(line); m != nil {
					v, err := strconv.ParseFloat(m[2], 64)
					if err != nil {
						return nil, err
					}
					found[m[1]] = append(found[m[1]], v)
				}
			}
		}
	}
	var rows []row
	for _, p := range pairs {
		value, floor := found[p.bench], found[p.floor]
		if len(value) != rounds || len(floor) != rounds {
			return nil, fmt.Errorf("%s: no cpu-ns/op for %s and %s", p.pkg, p.bench, p.floor)
		}
		ratios := make([]float64, rounds)
		for i := range ratios {
			ratios[i] = value[i] / floor[i]
		}
		const micro = 1e3
		rows = append(rows, row{p.what, "µs", median(value) / micro, median(floor) / micro, median(ratios), p.aim})
	}
	return rows, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// Addresses of the two agents; the ports are the defaults.
const (
	serverIP = "127.91.7.1"
	clientIP = "127.91.7.2"
)

// agents measures whole agents, strict in everything.
func agents() (rows []row, err error) {
	dir, err := os.MkdirTemp("", "lictor-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "lictor")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	st, err := os.Stat(bin)
	if err != nil {
		return nil, err
	}
	key, err := prepare(dir, bin)
	if err != nil {
		return nil, err
	}
	if rows, err = requests(dir, bin); err != nil {
		return nil, err
	}
	const mega = 1e6
	rows = append(rows, row{"size of the stripped binary", "MB", float64(st.Size()) / mega, 0, 0, 25})
	more, err := starts(dir, bin, key)
	return append(rows, more...), err
}

// starts measures how fast agents are there, and what they hold when idle.
func starts(dir, bin, key string) ([]row, error) {
	const times, mebi = 7, 1 << 20
	var ready, answers []float64
	var serverRSS, clientRSS float64
	for i := range times {
		server, ms, err := start(dir, bin, "server", serverIP, key)
		if err != nil {
			return nil, err
		}
		ready = append(ready, ms)
		if i < times-1 {
			stop(server)
			os.RemoveAll(filepath.Join(dir, "server"))
			continue
		}
		defer stop(server)
		if serverRSS, err = settled(server.Process.Pid); err != nil {
			return nil, err
		}
	}
	for i := range times {
		client, ms, err := start(dir, bin, "client", clientIP, key)
		if err != nil {
			return nil, err
		}
		answers = append(answers, ms)
		if i == 0 {
			clientRSS, err = settled(client.Process.Pid)
		}
		stop(client)
		if err != nil {
			return nil, err
		}
	}
	return []row{
		{"resident memory of an idle server", "MiB", serverRSS / mebi, 0, 0, 45},
		{"resident memory of an idle client agent", "MiB", clientRSS / mebi, 0, 0, 30},
		{"start of a single new server until it has taken a write (median of 7)", "ms", median(ready), 0, 0, 300},
		{"start of a client agent until its API answers (median of 7)", "ms", median(answers), 0, 0, 100},
	}, nil
}

func prepare(dir, bin string) (key string, err error) {
	for _, args := range [][]string{
		{"tls", "ca", "create"}, {"tls", "cert", "create", "-server"}, {"tls", "cert", "create", "-client"},
	} {
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	out, err := exec.Command(bin, "keygen").Output()
	return strings.TrimSpace(string(out)), err
}

// start starts an agent and returns it with the milliseconds until its API
// answered; a server's, until it has taken a write.
func start(dir, bin, kind, ip, key string) (*exec.Cmd, float64, error) {
	file := filepath.Join(dir, kind+".json")
	conf := fmt.Sprintf(`{"node_name": %q, "server": %t, "data_dir": %q, "bind_addr": %q, "client_addr": %q,
		"retry_join": [%q], "encrypt": %q, "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
		"bootstrap": %t,
		"ca_file": "consul-agent-ca.pem", "cert_file": "consul-%s-dc1-0.pem", "key_file": "consul-%s-dc1-0-key.pem"}`,
		kind, kind == "server", filepath.Join(dir, kind), ip, ip, serverIP, key, kind == "server", kind, kind)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, 0, err
	}
	cmd := exec.Command(bin, "agent", "-config-file", file)
	cmd.Dir = dir
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	const patience = 10 * time.Second
	for time.Since(begin) < patience {
		method, path := "GET", "/v1/agent/version"
		if kind == "server" {
			method, path = "PUT", "/v1/kv/ready"
		}
		if _, err := ask(method, "http://"+ip+":8500"+path, ""); err == nil {
			return cmd, float64(time.Since(begin).Microseconds()) / 1e3, nil
		}
		time.Sleep(time.Millisecond)
	}
	stop(cmd)
	return nil, 0, fmt.Errorf("the %s's API did not answer:\n%s", kind, log.String())
}

func stop(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// settled is the resident memory once it has stopped growing: the same within
// one percent for five seconds.
func settled(pid int) (float64, error) {
	const window, attempts = 5, 60
	var last []float64
	for range attempts {
		time.Sleep(time.Second)
		v, err := resident(pid)
		if err != nil {
			return 0, err
		}
		last = append(last, v)
		if n := len(last); n >= window && slices.Max(last[n-window:]) < 1.01*slices.Min(last[n-window:]) {
			return v, nil
		}
	}
	return last[len(last)-1], nil
}

func resident(pid int) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb * 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc")
}
