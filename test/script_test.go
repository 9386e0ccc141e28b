package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lictor/test/harness"
)

// TestScripts runs every script of testdata, a folder of scripts a subtest.
// Beside testscript's own commands (exec, stdout, cp, cmp ...) they have:
//
//	server NAME FILE...       a server agent with these configuration files in its consul.d;
//	client NAME FILE...       its folder is $WORK/NAME and its address $NAME
//	set NAME KEY JSON         a key in the agent's second file, which has its addresses
//	config NAME FILE...       replaces the files in its consul.d
//	start NAME...             starts agents, one after the other
//	refuses NAME REGEXP       the agent must not start, and must say why
//	stop NAME [INT|TERM|KILL] [STATUS]
//	                          stops it, INT without a word, and checks the exit status
//	restart NAME...           a rolling restart: stop, start, wait till all see all, next
//	members                   waits until all running agents see each other alive
//	probe start | stop        watches members and RPCs ten times a second; stop fails on what it saw
//	on NAME COMMAND...        runs a command with the agent's local RPC as its default
//	until REGEXP NAME COMMAND...
//	                          repeats that until its output matches
//	get NAME PATH             asks the agent's HTTP or HTTPS API
//	put NAME PATH [BODY]
//	log NAME REGEXP           waits for a line in its log; negated, there must be none now
//	apicert CERT KEY          what get, put and the probe present to an HTTPS API
func TestScripts(t *testing.T) {
	folders, err := filepath.Glob("testdata/*")
	if err != nil || len(folders) == 0 {
		t.Fatal("no scripts:", err)
	}
	for _, dir := range folders {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			testscript.Run(t, testscript.Params{Dir: dir, Setup: setupScript, Cmds: scriptCmds})
		})
	}
}

// script is what the commands of one script share.
type script struct {
	c     *harness.Cluster
	probe *harness.Probe

	negated bool // the command that runs has ! before it
}

type scriptKey struct{}

func setupScript(env *testscript.Env) error {
	c := harness.New(env.T().(testing.TB), env.WorkDir)
	s := &script{c: c}
	env.Values[scriptKey{}] = s
	env.Defer(func() {
		c.Close()
		if err := c.Healthy(); err != nil {
			env.T().(testing.TB).Error(err)
		}
	})
	env.Setenv("PATH", c.BinDir()+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("net", strings.TrimSuffix(c.IP(0), "0"))
	return nil
}

type scriptFunc func(s *script, ts *testscript.TestScript, args []string) error

var scriptCmds = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server":  command(1, (*script).server),
	"client":  command(1, (*script).client),
	"config":  command(1, (*script).config),
	"set":     command(3, (*script).set),
	"start":   command(1, (*script).start),
	"refuses": command(2, (*script).refuses),
	"stop":    command(1, (*script).stop),
	"restart": command(1, (*script).restart),
	"members": command(0, (*script).members),
	"probe":   command(1, (*script).probing),
	"apicert": command(2, (*script).apiCert),
	"until":   command(3, (*script).until),
	"on":      mayFail(2, (*script).on),
	"get":     mayFail(2, (*script).get),
	"put":     mayFail(2, (*script).put),
	"log":     mayFail(2, (*script).log),
}

// command is a script command that must succeed.
func command(least int, f scriptFunc) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("! is not for this command")
		}
		if len(args) < least {
			ts.Fatalf("it takes at least %d arguments", least)
		}
		ts.Check(f(ts.Value(scriptKey{}).(*script), ts, args))
	}
}

// mayFail is a script command that ! can stand before.
func mayFail(least int, f scriptFunc) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) < least {
			ts.Fatalf("it takes at least %d arguments", least)
		}
		s := ts.Value(scriptKey{}).(*script)
		s.negated = neg
		err := f(s, ts, args)
		switch {
		case neg && err == nil:
			ts.Fatalf("it succeeded")
		case neg:
			ts.Logf("[failed] %v", err)
		default:
			ts.Check(err)
		}
	}
}

func (s *script) server(ts *testscript.TestScript, args []string) error {
	return s.add(ts, s.c.AddServer(args[0]), args)
}

func (s *script) client(ts *testscript.TestScript, args []string) error {
	return s.add(ts, s.c.AddClient(args[0]), args)
}

func (s *script) add(ts *testscript.TestScript, a *harness.Agent, args []string) error {
	ts.Setenv(a.Name, a.IP)
	return s.config(ts, args)
}

func (s *script) config(ts *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, name := range args[1:] {
		b, err := os.ReadFile(ts.MkAbs(name))
		if err != nil {
			return err
		}
		files[filepath.Base(name)] = b
	}
	return a.Config(files)
}

func (s *script) set(_ *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal([]byte(args[2]), &v); err != nil {
		return fmt.Errorf("value of %s: %w", args[1], err)
	}
	a.Set(map[string]any{args[1]: v})
	return nil
}

// each calls f with each of the agents named, in turn.
func (s *script) each(names []string, f func(a *harness.Agent) error) error {
	for _, name := range names {
		a, err := s.c.Agent(name)
		if err == nil {
			err = f(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *script) start(_ *testscript.TestScript, args []string) error {
	return s.each(args, func(a *harness.Agent) error { return a.Start() })
}

func (s *script) restart(_ *testscript.TestScript, args []string) error {
	return s.each(args, (*harness.Agent).Restart)
}

func (s *script) refuses(ts *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		return err
	}
	re, err := regexp.Compile(args[1])
	if err != nil {
		return err
	}
	mark := a.Log().Mark()
	if err := a.Launch(); err != nil {
		return err
	}
	status, err := a.Wait()
	if err != nil {
		return err
	}
	said := a.Log().Since(mark)
	ts.Logf("[exit %d]\n%s", status, said)
	if status != 1 {
		return fmt.Errorf("exit status %d, not 1", status)
	}
	if !re.MatchString(said) {
		return fmt.Errorf("it did not say %q", args[1])
	}
	return nil
}

var signals = map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}

func (s *script) stop(_ *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		return err
	}
	sig, want := syscall.SIGINT, ""
	for _, arg := range args[1:] {
		if n, ok := signals[arg]; ok {
			sig = n
		} else {
			want = arg
		}
	}
	status, err := a.Stop(sig)
	if err == nil && want != "" && strconv.Itoa(status) != want {
		err = fmt.Errorf("%s: exit status %d, not %s", a.Name, status, want)
	}
	return err
}

func (s *script) members(*testscript.TestScript, []string) error { return s.c.WaitMembers() }

func (s *script) probing(ts *testscript.TestScript, args []string) error {
	switch {
	case args[0] == "start" && s.probe == nil:
		s.probe = s.c.StartProbe()
		ts.Defer(func() {
			if s.probe != nil {
				s.probe.Stop()
			}
		})
		return nil
	case args[0] == "stop" && s.probe != nil:
		p := s.probe
		s.probe = nil
		err := p.Stop()
		samples, rpcs := p.Counts()
		ts.Logf("%d samples of members, %d RPCs", samples, rpcs)
		return err
	}
	return fmt.Errorf("probe start, then probe stop")
}

func (s *script) apiCert(ts *testscript.TestScript, args []string) error {
	s.c.APICert(ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	return nil
}

func (s *script) on(ts *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		ts.Check(err)
	}
	ts.Setenv("LICTOR_RPC_ADDR", a.Addr(harness.LocalPort))
	defer ts.Setenv("LICTOR_RPC_ADDR", "")
	return ts.Exec(args[1], args[2:]...)
}

func (s *script) until(ts *testscript.TestScript, args []string) error {
	re, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	return harness.Poll(strings.Join(args, " "), func() error {
		if err := s.on(ts, args[1:]); err != nil {
			return err
		}
		if !re.MatchString(ts.ReadFile("stdout")) {
			return fmt.Errorf("it printed %q", ts.ReadFile("stdout"))
		}
		return nil
	})
}

func (s *script) get(ts *testscript.TestScript, args []string) error {
	return s.do(ts, http.MethodGet, args)
}

func (s *script) put(ts *testscript.TestScript, args []string) error {
	return s.do(ts, http.MethodPut, args)
}

func (s *script) do(ts *testscript.TestScript, method string, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		ts.Check(err)
	}
	b, err := a.Do(method, args[1], []byte(strings.Join(args[2:], " ")))
	ts.Stdout().Write(b)
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	return err
}

func (s *script) log(ts *testscript.TestScript, args []string) error {
	a, err := s.c.Agent(args[0])
	if err != nil {
		ts.Check(err)
	}
	if s.negated {
		if re := regexp.MustCompile(args[1]); !re.MatchString(a.Log().String()) {
			return fmt.Errorf("no such line")
		}
		return nil
	}
	_, err = a.Log().Wait(0, args[1])
	return err
}
