package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Agent is one lictor agent: an address, a folder (its working folder, with the
// configuration in consul.d and the data in data) and, between Start and Stop,
// a process. Its methods may be called from several goroutines.
type Agent struct {
	Name, IP, Dir string
	Server        bool
	Datacenter    string
	Alone         bool // it is not told to join the other servers
	Bare          bool // it gets no configuration files at all: flags only

	c     *Cluster
	log   *Log
	space string // its network namespace, "" for the test's own

	mu      sync.Mutex     // guards the fields below
	overlay map[string]any // the second configuration file
	args    []string       // further flags at every start
	env     []string       // further environment at every start
	wrap    []string       // a command that runs what follows it
	proc    *process       // nil while it does not run
	up      bool           // runs, and is not being restarted
	epoch   int            // counts changes of up
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has exited
}

// Set sets keys of the agent's second configuration file, which holds what is
// peculiar to this machine: its name, its addresses and its data folder. Keys
// set here win over those of the files given to Config.
func (a *Agent) Set(keys map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(a.overlay, keys)
	if dc, ok := keys["datacenter"].(string); ok {
		a.Datacenter = dc
	}
}

// Flags sets flags that every later start has.
func (a *Agent) Flags(args ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.args = args
}

// Env sets variables that every later start has in its environment.
func (a *Agent) Env(env ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.env = env
}

// Wrap has every later start run by a command that takes the program and its
// arguments as its last ones.
func (a *Agent) Wrap(command ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrap = command
}

// Config makes files, by name, the whole content of consul.d. The content is
// written as it is, byte for byte.
func (a *Agent) Config(files map[string][]byte) error {
	dir := filepath.Join(a.Dir, "consul.d")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeOverlay writes the second configuration file and returns its path.
func (a *Agent) writeOverlay() (string, error) {
	if err := os.MkdirAll(filepath.Join(a.Dir, "consul.d"), 0o700); err != nil {
		return "", err
	}
	overlay := map[string]any{
		"node_name":      a.Name,
		"server":         a.Server,
		"data_dir":       a.DataDir(),
		"bind_addr":      a.IP,
		"client_addr":    a.IP,
		"retry_interval": "500ms",
		"performance":    map[string]any{"leave_drain_time": "100ms"},
	}
	a.mu.Lock()
	maps.Copy(overlay, a.overlay)
	a.mu.Unlock()
	b, err := json.MarshalIndent(overlay, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(a.Dir, "local.json")
	return path, os.WriteFile(path, append(b, '\n'), 0o600)
}

// DataDir is the agent's data folder.
func (a *Agent) DataDir() string { return filepath.Join(a.Dir, "data") }

// Log is what the agent has printed.
func (a *Agent) Log() *Log { return a.log }

// Up reports whether the agent runs and is not being restarted.
func (a *Agent) Up() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up
}

// state is for the probe: whether the agent is up, and a number that changes
// whenever that does.
func (a *Agent) state() (up bool, epoch int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up, a.epoch
}

func (a *Agent) setUp(up bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up, a.epoch = up, a.epoch+1
}

// Start starts the agent, joined to the servers of its datacenter, and waits
// until its API answers. args are further flags for this start.
func (a *Agent) Start(args ...string) error {
	if err := a.Launch(args...); err != nil {
		return err
	}
	return a.Ready()
}

// Ready waits until the API of an agent that was launched answers; from then on
// the agent counts as up.
func (a *Agent) Ready() error {
	if err := a.ready(); err != nil {
		return err
	}
	a.setUp(true)
	return nil
}

// Launch starts the agent and does not wait for anything.
func (a *Agent) Launch(args ...string) error {
	full := []string{"agent"}
	if !a.Bare {
		overlay, err := a.writeOverlay()
		if err != nil {
			return err
		}
		full = append(full, "-config-dir=consul.d", "-config-file="+overlay)
	}
	for _, other := range a.c.Agents() {
		if !a.Alone && !a.Bare && other != a && other.Server && other.Datacenter == a.Datacenter {
			full = append(full, "-retry-join="+other.IP)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.proc != nil {
		return fmt.Errorf("%s runs already", a.Name)
	}
	full = append(full, a.args...)
	full = append(full, args...)
	line := append(append(slices.Clone(a.wrap), filepath.Join(a.c.bin, "lictor")), full...)
	if a.space != "" { // ip executes the program: the process is the agent's own
		line = append([]string{"ip", "netns", "exec", a.space}, line...)
	}
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.Env = a.Dir, append(cleanEnv(), a.env...)
	cmd.Stdout, cmd.Stderr = a.log, a.log
	a.c.mu.Lock()
	closed := a.c.closed
	a.c.mu.Unlock()
	if closed {
		return errors.New("the cluster is closed")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait() // the status is read from ProcessState
		close(p.done)
	}()
	a.proc = p
	return nil
}

// cleanEnv is the environment without what would steer lictor. A program with the
// race detector sleeps before it exits, by default for a second: every command
// would.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "LICTOR_") && !strings.HasPrefix(kv, "CONSUL_") {
			env = append(env, kv)
		}
	}
	return append(env, "GORACE=halt_on_error=0 atexit_sleep_ms=20")
}

func (a *Agent) process() *process {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.proc
}

// ready waits until the API answers, or the process has ended.
func (a *Agent) ready() error {
	p := a.process()
	return Poll(a.Name+"'s API to answer", func() error {
		select {
		case <-p.done:
			return stop{fmt.Errorf("%s has exited with status %d:\n%s", a.Name, p.cmd.ProcessState.ExitCode(), a.log.tail(30))}
		default:
		}
		var self struct{ Config struct{ NodeName string } }
		return a.GetJSON("/v1/agent/self", &self)
	})
}

// Signal sends a signal to the process.
func (a *Agent) Signal(sig syscall.Signal) error {
	p := a.process()
	if p == nil {
		return fmt.Errorf("%s does not run", a.Name)
	}
	return p.cmd.Process.Signal(sig)
}

// Stop sends sig, waits for the process to end and returns its exit status.
func (a *Agent) Stop(sig syscall.Signal) (int, error) {
	a.setUp(false)
	if err := a.Signal(sig); err != nil {
		return 0, err
	}
	return a.Wait()
}

// Wait waits for the process to end and returns its exit status, -1 if a signal
// ended it.
func (a *Agent) Wait() (int, error) {
	p := a.process()
	if p == nil {
		return 0, fmt.Errorf("%s does not run", a.Name)
	}
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.cmd.Process.Signal(syscall.SIGQUIT) // shows what it is doing
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			p.cmd.Process.Kill()
			<-p.done
		}
		return 0, fmt.Errorf("%s had not ended after %s", a.Name, Patience)
	}
	a.setUp(false)
	a.mu.Lock()
	a.proc = nil
	a.mu.Unlock()
	return p.cmd.ProcessState.ExitCode(), nil
}

// Kill ends the process at once, if there is one.
func (a *Agent) Kill() {
	p := a.process()
	if p == nil {
		return
	}
	a.setUp(false)
	p.cmd.Process.Kill()
	<-p.done
	a.mu.Lock()
	a.proc = nil
	a.mu.Unlock()
}

// Restart is one step of a rolling restart: SIGINT, as an operator's Ctrl-C,
// then a start, then waiting until every agent sees every other alive. Until
// then the agent counts as being restarted.
func (a *Agent) Restart() error {
	if _, err := a.Stop(syscall.SIGINT); err != nil {
		return err
	}
	if err := a.Launch(); err != nil {
		return err
	}
	if err := a.ready(); err != nil {
		return err
	}
	if err := a.settled(); err != nil {
		return err
	}
	a.setUp(true)
	return nil
}

// settled waits until the others see this agent alive and it sees them.
func (a *Agent) settled() error {
	others := a.c.Running()
	return Poll(a.Name+" and the others to see each other", func() error {
		mine, err := a.Members(false)
		if err != nil {
			return err
		}
		for _, o := range others {
			if o.Datacenter != a.Datacenter {
				continue
			}
			if mine[o.Name] != "alive" {
				return fmt.Errorf("%s sees %s as %q", a.Name, o.Name, mine[o.Name])
			}
			theirs, err := o.Members(false)
			if err != nil {
				return err
			}
			if theirs[a.Name] != "alive" {
				return fmt.Errorf("%s sees %s as %q", o.Name, a.Name, theirs[a.Name])
			}
		}
		return nil
	})
}

// Keyring is the content of the agent's keyring file ("local" or "remote"): ""
// if there is none.
func (a *Agent) Keyring(which string) (string, error) {
	b, err := os.ReadFile(filepath.Join(a.DataDir(), "serf", which+".keyring"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// RSS is the resident memory of the process in bytes, and VM its address space:
// what an allocation takes that is never touched. Linux only.
func (a *Agent) RSS() (rss, vm int64, err error) {
	p := a.process()
	if p == nil {
		return 0, 0, fmt.Errorf("%s does not run", a.Name)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			rss = kb << 10
		} else if _, err := fmt.Sscanf(line, "VmSize: %d kB", &kb); err == nil {
			vm = kb << 10
		}
	}
	return rss, vm, nil
}

// Files is how many files the process has open. Linux only.
func (a *Agent) Files() (int, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.Pid()))
	return len(files), err
}

// Pid is the process's id, 0 while it does not run.
func (a *Agent) Pid() int {
	if p := a.process(); p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}
