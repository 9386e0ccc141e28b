package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"
)

// The ports that agents have for their API.
const (
	HTTPPort  = "8500"
	HTTPSPort = "8501"
	LocalPort = "8400"
	RPCPort   = "8300"
	LANPort   = "8301"
	WANPort   = "8302"
)

// Addr is the agent's address with a port.
func (a *Agent) Addr(port string) string { return net.JoinHostPort(a.IP, port) }

// apiTimeout bounds one request of a test to an API. It is longer than an agent
// holds a request while it looks for a server.
const apiTimeout = 30 * time.Second

// Get asks the agent's API, over HTTP, or over HTTPS where HTTP is off. It
// returns the body, and an error if the status is not 200.
func (a *Agent) Get(path string) ([]byte, error) {
	return a.Do(http.MethodGet, path, nil)
}

// GetJSON decodes the answer of Get into v.
func (a *Agent) GetJSON(path string, v any) error {
	b, err := a.Get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// StatusError is an answer of the API that is not 200.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Code, e.Body) }

// Do is Get for any method, with a body.
func (a *Agent) Do(method, path string, body []byte) ([]byte, error) {
	b, err := a.do(method, "http://"+a.Addr(HTTPPort)+path, body)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return a.do(method, "https://"+a.Addr(HTTPSPort)+path, body)
	}
	return b, err
}

func (a *Agent) do(method, url string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// This is no test of the API's certificate: scripts do that with the CLI.
	tc := &tls.Config{InsecureSkipVerify: true}
	a.c.mu.Lock()
	files := a.c.apiCert
	a.c.mu.Unlock()
	if files[0] != "" {
		cert, err := tls.LoadX509KeyPair(files[0], files[1])
		if err != nil {
			return nil, err
		}
		tc.Certificates = []tls.Certificate{cert}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return b, &StatusError{resp.StatusCode, string(b)}
	}
	return b, nil
}

// memberStatus is serf's numbering, as the API gives it.
var memberStatus = map[int]string{0: "none", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}

// Member is what the API says of one.
type Member struct {
	Name, Addr string
	Port       int
	Tags       map[string]string
	Status     int
}

// Members are the members the agent sees, name to status, of the LAN pool or
// the WAN pool.
func (a *Agent) Members(wan bool) (map[string]string, error) {
	list, err := a.MemberList(wan)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, m := range list {
		out[m.Name] = memberStatus[m.Status]
	}
	return out, nil
}

// MemberList is Members with everything.
func (a *Agent) MemberList(wan bool) ([]Member, error) {
	path := "/v1/agent/members"
	if wan {
		path += "?wan=1"
	}
	var list []Member
	return list, a.GetJSON(path, &list)
}

// RPC has the agent make a call to a server: a client agent knows the answer to
// this question only from one. It needs no leader.
func (a *Agent) RPC() error {
	var dcs []string
	if err := a.GetJSON("/v1/catalog/datacenters", &dcs); err != nil {
		return err
	}
	if len(dcs) == 0 {
		return errors.New("no datacenters")
	}
	return nil
}

// HeapBytes is the agent's own figure for what it has allocated and holds.
func (a *Agent) HeapBytes() (int64, error) {
	var m struct {
		Gauges []struct {
			Name  string
			Value float64
		}
	}
	if err := a.GetJSON("/v1/agent/metrics", &m); err != nil {
		return 0, err
	}
	for _, g := range m.Gauges {
		if len(g.Name) >= 19 && g.Name[len(g.Name)-19:] == "runtime.alloc_bytes" {
			return int64(g.Value), nil
		}
	}
	return 0, errors.New("no gauge runtime.alloc_bytes")
}

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// CLI runs the program in dir against this agent's local RPC.
func (a *Agent) CLI(dir string, args ...string) (Result, error) {
	return a.c.run(dir, []string{"LICTOR_RPC_ADDR=" + a.Addr(LocalPort)}, args...)
}

// CLI runs the program in dir, against no agent in particular.
func (c *Cluster) CLI(dir string, args ...string) (Result, error) {
	return c.run(dir, nil, args...)
}

func (c *Cluster) run(dir string, env []string, args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "lictor"), args...)
	cmd.Dir, cmd.Env = dir, append(cleanEnv(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errs.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		r.Code, err = exit.ExitCode(), nil
	}
	return r, err
}

// OK runs the program in dir and makes an exit status that is not 0 an error.
func (c *Cluster) OK(dir string, args ...string) (Result, error) {
	r, err := c.CLI(dir, args...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("lictor %v: exit %d: %s", args, r.Code, r.Stderr)
	}
	return r, err
}
