package command

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lictor/rpc/wire"

	"github.com/hashicorp/cli"
	"github.com/hashicorp/consul/api"
)

// fakeAgent is an agentClient that answers what the test put into it.
type fakeAgent struct {
	members   []*api.AgentMember
	stats     map[string]map[string]string
	keys      []*wire.KeyringResponse
	lines     []string
	err       error
	badJoin   string // an address that cannot be joined
	calls     []string
	keyring   *wire.KeyringRequest
	event     *wire.UserEvent
	eventDC   string
	isClosed  bool
	onMonitor func()
}

func (f *fakeAgent) call(name string) error { f.calls = append(f.calls, name); return f.err }

func (f *fakeAgent) Members(_ context.Context, wan bool) ([]*api.AgentMember, error) {
	if wan {
		return f.members, f.call("members wan")
	}
	return f.members, f.call("members")
}

func (f *fakeAgent) Join(_ context.Context, addr string, wan bool) error {
	if addr == f.badJoin {
		return errors.New("no such host")
	}
	if wan {
		addr += " wan"
	}
	return f.call("join " + addr)
}

func (f *fakeAgent) Leave(context.Context) error { return f.call("leave") }

func (f *fakeAgent) ForceLeave(_ context.Context, node string, prune, wan bool) error {
	name := "force-leave " + node
	if prune {
		name += " prune"
	}
	if wan {
		name += " wan"
	}
	return f.call(name)
}

func (f *fakeAgent) Reload(context.Context) error { return f.call("reload") }

func (f *fakeAgent) Stats(context.Context) (map[string]map[string]string, error) {
	return f.stats, f.call("stats")
}

func (f *fakeAgent) Keyring(_ context.Context, req *wire.KeyringRequest) ([]*wire.KeyringResponse, error) {
	f.keyring = req
	return f.keys, f.call("keyring")
}

func (f *fakeAgent) FireEvent(_ context.Context, dc string, ev *wire.UserEvent) (string, error) {
	f.event, f.eventDC = ev, dc
	return "e4a5f1b6-0000-4000-8000-000000000000", f.call("event")
}

func (f *fakeAgent) Monitor(_ context.Context, level string, _ bool, line func(string)) error {
	for _, l := range f.lines {
		line(l)
	}
	if f.onMonitor != nil {
		f.onMonitor()
	}
	return f.call("monitor " + level)
}

func (f *fakeAgent) Close() error { f.isClosed = true; return nil }

// outcome is what a command line did.
type outcome struct {
	status      int
	out, errOut string
}

// lictor runs a command line against f. vars are environment variables.
func lictor(t testing.TB, f *fakeAgent, vars map[string]string, args ...string) outcome {
	t.Helper()
	return lictorCtx(t.Context(), f, "", vars, args...)
}

func lictorCtx(ctx context.Context, f *fakeAgent, stdin string, vars map[string]string, args ...string) outcome {
	ui := cli.NewMockUi()
	var out, errOut bytes.Buffer
	env := &environment{
		ctx: ctx, ui: ui, stdin: strings.NewReader(stdin), stdout: &out, stderr: &errOut,
		getenv: func(k string) string { return vars[k] },
		dial: func(context.Context, target) (agentClient, error) {
			if f == nil {
				return nil, errors.New("nobody there")
			}
			return f, nil
		},
	}
	status := run(env, args, &out, &errOut)
	return outcome{status, ui.OutputWriter.String() + out.String(), ui.ErrorWriter.String() + errOut.String()}
}

func threeMembers() []*api.AgentMember {
	return []*api.AgentMember{
		{Name: "web", Addr: "10.0.0.3", Port: 8301, Status: 4, Tags: map[string]string{"role": "node", "build": "0.1.0:abc", "vsn": "2", "dc": "dc1", "segment": ""}},
		{Name: "b-server", Addr: "10.0.0.2", Port: 8301, Status: 1, Tags: map[string]string{"role": "consul", "build": "0.1.0:abc", "vsn": "2", "dc": "dc1", "segment": ""}},
		{Name: "a-client", Addr: "::1", Port: 8301, Status: 1, Tags: map[string]string{"role": "node", "build": "0.1.0", "vsn": "2", "dc": "dc1"}},
	}
}

const keyA, keyB = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="

func poolKeys() []*wire.KeyringResponse {
	return []*wire.KeyringResponse{
		{WAN: true, Datacenter: "dc1", Keys: map[string]int{keyA: 1}, PrimaryKeys: map[string]int{keyA: 1}, NumNodes: 1},
		{Datacenter: "dc1", Keys: map[string]int{keyB: 2, keyA: 3}, PrimaryKeys: map[string]int{keyA: 3}, NumNodes: 3},
	}
}

// TestOutputs has a row for each row of the reference's tables.
func TestOutputs(t *testing.T) {
	boom := errors.New("Unexpected response code: 500 (boom)")
	tests := []struct {
		name   string
		args   string
		agent  *fakeAgent
		status int
		out    string // the whole standard output; "*" for any
		errOut string // part of the standard error; "" for none
		call   string // the call that must have been made
	}{
		{"members", "members", &fakeAgent{members: threeMembers()}, 0,
			"Node      Address        Status  Type    Build  Protocol  DC   Partition  Segment\n" +
				"b-server  10.0.0.2:8301  alive   server  0.1.0  2         dc1  default    <all>\n" +
				"a-client  [::1]:8301     alive   client  0.1.0  2         dc1  default    <default>\n" +
				"web       10.0.0.3:8301  failed  client  0.1.0  2         dc1  default    <default>\n", "", "members"},
		{"members detailed", "members -detailed -status ^failed$", &fakeAgent{members: threeMembers()}, 0,
			"Node  Address        Status  Tags\n" +
				"web   10.0.0.3:8301  failed  ap=default,build=0.1.0:abc,dc=dc1,role=node,segment=<default>,vsn=2\n", "", "members"},
		{"members wan, extra arguments", "members -wan x y", &fakeAgent{members: threeMembers()[1:2]}, 0, "*", "", "members wan"},
		{"members filter", "members -filter Name==web", &fakeAgent{members: threeMembers()}, 0, "*", "", "members"},
		{"members filter by tag that one lacks", "members -filter Tags.segment==x", &fakeAgent{members: threeMembers()}, 2, "", "", "members"},
		{"members no match", "members -status left", &fakeAgent{members: threeMembers()}, 2, "", "", "members"},
		{"members bad regexp", "members -status [", &fakeAgent{}, 1, "", "Failed to compile status regexp", ""},
		{"members bad filter", "members -filter ==", &fakeAgent{}, 1, "", "Failed to create boolean expression", ""},
		{"members error", "members", &fakeAgent{err: boom}, 1, "", "Error retrieving members: Unexpected response code: 500 (boom)", "members"},
		{"members, nobody there", "members", nil, 1, "", "Error connecting to the agent: nobody there", ""},

		{"join", "join a b", &fakeAgent{}, 0, "Successfully joined cluster by contacting 2 nodes.\n", "", "join b"},
		{"join wan", "join -wan a", &fakeAgent{}, 0, "Successfully joined cluster by contacting 1 nodes.\n", "", "join a wan"},
		{"join one of two", "join a x", &fakeAgent{badJoin: "x"}, 0, "Successfully joined cluster by contacting 1 nodes.\n", "Error joining address 'x': no such host", "join a"},
		{"join none", "join x", &fakeAgent{badJoin: "x"}, 1, "", "Error joining address 'x': no such host\nFailed to join any nodes.\n", ""},
		{"join nothing", "join", &fakeAgent{}, 1, "", "At least one address", ""},
		{"leave", "leave", &fakeAgent{}, 0, "Graceful leave complete\n", "", "leave"},
		{"leave error", "leave", &fakeAgent{err: boom}, 1, "", "Error leaving: Unexpected", "leave"},
		{"leave with an argument", "leave x", &fakeAgent{}, 1, "", "Too many arguments", ""},
		{"force-leave", "force-leave n", &fakeAgent{}, 0, "", "", "force-leave n"},
		{"force-leave prune wan", "force-leave -prune -wan n", &fakeAgent{}, 0, "", "", "force-leave n prune wan"},
		{"force-leave unknown", "force-leave n", &fakeAgent{err: errors.New("Unexpected response code: 500 (agent: No node found with name 'n')")}, 1, "", "500 (agent: No node found with name 'n')", "force-leave n"},
		{"force-leave nobody", "force-leave", &fakeAgent{}, 1, "", "single node name", ""},
		{"reload", "reload", &fakeAgent{}, 0, "Configuration reload triggered\n", "", "reload"},
		{"reload error", "reload", &fakeAgent{err: boom}, 1, "", "Error reloading: Unexpected", "reload"},
		{"info", "info", &fakeAgent{stats: map[string]map[string]string{"serf_lan": {"members": "3", "failed": "1"}, "agent": {"checks": "0"}}}, 0,
			"agent:\n\tchecks = 0\nserf_lan:\n\tfailed = 1\n\tmembers = 3\n", "", "stats"},
		{"info error", "info", &fakeAgent{err: boom}, 1, "", "Error querying agent: Unexpected", "stats"},

		{"monitor, the agent ends it", "monitor", &fakeAgent{lines: []string{"one", "two"}, err: errStreamEnded}, 1, "\nThe agent ended the log stream: it has probably stopped.\none\ntwo\n", "", "monitor INFO"},
		{"monitor bad level", "monitor -log-level zz", &fakeAgent{err: errors.New("Unexpected response code: 400 (Unknown log level: zz)")}, 1, "", "400 (Unknown log level: zz)", "monitor zz"},

		{"event", "event -name deploy", &fakeAgent{}, 0, "Event ID: e4a5f1b6-0000-4000-8000-000000000000\n", "", "event"},
		{"event without a name", "event", &fakeAgent{}, 1, "", "Event name must be specified", ""},
		{"event, two payloads", "event -name d a b", &fakeAgent{}, 1, "", "Too many command line arguments", ""},
		{"event bad filter", "event -name d -node [", &fakeAgent{}, 1, "", "Failed to compile node filter regexp", ""},
		{"event tag alone", "event -name d -tag x", &fakeAgent{}, 1, "", "tag filter without service", ""},
		{"event error", "event -name d", &fakeAgent{err: boom}, 1, "", "Error firing event: Unexpected", "event"},

		{"keyring", "keyring", &fakeAgent{}, 1, "", "Usage: lictor keyring", ""},
		{"keyring two actions", "keyring -list -use x", &fakeAgent{}, 1, "", "Only a single action is allowed", ""},
		{"keyring relay factor", "keyring -list -relay-factor 6", &fakeAgent{}, 1, "", "Error parsing relay factor", ""},
		{"keyring relay factor below", "keyring -list -relay-factor -1", &fakeAgent{}, 1, "", "Error parsing relay factor", ""},
		{"keyring local-only", "keyring -use x -local-only", &fakeAgent{}, 1, "", "local-only can only be set for list requests", ""},
		{"keyring argument", "keyring -list x", &fakeAgent{}, 1, "", "Too many arguments", ""},
		{"keyring empty key", "keyring -install=", &fakeAgent{}, 1, "", "it is empty", ""},
		{"keyring list", "keyring -list", &fakeAgent{keys: poolKeys()}, 0,
			"==> Gathering installed encryption keys...\n\nWAN:\n  " + keyA + " [1/1]\n\ndc1 (LAN):\n  " + keyA + " [3/3]\n  " + keyB + " [2/3]\n", "", "keyring"},
		{"keyring list primary", "keyring -list-primary", &fakeAgent{keys: poolKeys()}, 0,
			"==> Gathering installed primary encryption keys...\n\nWAN:\n  " + keyA + " [1/1]\n\ndc1 (LAN):\n  " + keyA + " [3/3]\n", "", "keyring"},
		{"keyring install", "keyring -install k", &fakeAgent{}, 0, "==> Installing new gossip encryption key...\n", "", "keyring"},
		{"keyring use", "keyring -use k", &fakeAgent{}, 0, "==> Changing primary gossip encryption key...\n", "", "keyring"},
		{"keyring remove", "keyring -remove k", &fakeAgent{}, 0, "==> Removing gossip encryption key...\n", "", "keyring"},
		{"keyring failure", "keyring -use k", &fakeAgent{err: boom}, 1, "==> Changing primary gossip encryption key...\n", "error: Unexpected response code: 500 (boom)", "keyring"},

		{"version format", "version -format=zz", nil, 1, "", "Unknown format: zz", ""},
		{"keygen argument", "keygen x", nil, 1, "", "keygen takes no arguments", ""},
		{"validate nothing", "validate", nil, 1, "", "Must specify at least one config file or directory", ""},
		{"validate bad format", "validate -config-format toml x", nil, 1, "", "-config-format must be", ""},
		{"agent argument", "agent x", nil, 1, "", "Unexpected extra arguments", ""},
		{"completion unknown", "completion tcsh", nil, 1, "", "Unknown shell", ""},
		{"completion nothing", "completion", nil, 1, "", "Name one shell", ""},

		{"no command", "", nil, 127, "", "Available commands", ""},
		{"unknown command", "nope", nil, 127, "", "Unknown command: \"nope\"\n\nUsage: lictor", ""},
		{"a command of the family", "acl token list", nil, 127, "", "Unknown command: \"acl\" (the family has it, lictor does not)\n\nUsage: lictor", ""},
		{"unknown subcommand", "tls nope", nil, 1, "", "Unknown subcommand of tls: \"nope\"\n\nUsage: lictor tls <subcommand>", ""},
		{"group", "tls", nil, 1, "", "Usage: lictor tls <subcommand>", ""},
		{"group in a group", "tls cert", nil, 1, "", "Usage: lictor tls cert <subcommand>", ""},
		{"unknown flag", "members -x", nil, 1, "", "flag provided but not defined: -x\n\nUsage: lictor members", ""},
		{"an HTTP address for the local RPC", "members -rpc-addr http://a:1", &fakeAgent{}, 1, "", "use -http-addr", ""},
		{"flags of both kinds", "members -rpc-addr a:1 -http-addr b:1", &fakeAgent{}, 1, "", "give flags of one kind", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := lictor(t, tt.agent, nil, strings.Fields(tt.args)...)
			if got.status != tt.status {
				t.Errorf("exit status %d, want %d", got.status, tt.status)
			}
			if tt.out != "*" && got.out != tt.out {
				t.Errorf("output is\n%q\nwant\n%q", got.out, tt.out)
			}
			if tt.errOut == "" && got.errOut != "" || !strings.Contains(got.errOut, tt.errOut) {
				t.Errorf("standard error is\n%q\nwant\n%q", got.errOut, tt.errOut)
			}
			if tt.agent == nil {
				return
			}
			last := ""
			if n := len(tt.agent.calls); n > 0 {
				last = tt.agent.calls[n-1]
			}
			if last != tt.call {
				t.Errorf("the agent was asked %q, want %q", last, tt.call)
			}
			if tt.call != "" && !tt.agent.isClosed {
				t.Error("the connection was not closed")
			}
		})
	}
}

// inspect *.pem is what the guide says, and a folder of certificates has keys in it.
func TestInspectSkipsKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range []string{"tls ca create", "tls cert create -server"} {
		if got := lictor(t, nil, nil, strings.Fields(args)...); got.status != 0 {
			t.Fatalf("%s: %+v", args, got)
		}
	}
	all, err := filepath.Glob("*.pem")
	if err != nil || len(all) != 4 {
		t.Fatalf("%q, %v", all, err)
	}
	got := lictor(t, nil, nil, append([]string{"tls", "cert", "inspect", "-days", "30"}, all...)...)
	if got.status != 0 || got.errOut != "" || strings.Count(got.out, "a private key: skipped") != 2 || strings.Count(got.out, "Serial:") != 2 {
		t.Errorf("%+v", got)
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for name := range commands(&environment{ui: cli.NewMockUi()}) {
		for _, h := range []string{"-h", "-help", "--help"} {
			got := lictor(t, nil, nil, append(strings.Fields(name), h)...)
			if got.status != 0 || got.out == "" || got.errOut != "" {
				t.Errorf("%s %s: status %d, output %q, errors %q", name, h, got.status, got.out, got.errOut)
			}
			if _, ok := groups[name]; !ok && !strings.Contains(got.out, "Example\n\n  $ lictor "+name) {
				t.Errorf("%s %s shows no example", name, h)
			}
		}
	}
	for args, part := range map[string]string{
		"tls cert create -h": "(default 365)",
		"agent -h":           "-grpc-port=<port>\n     Any port; accepted, without effect",
		"members -h":         "Any other flag for the HTTP API",
	} {
		if got := lictor(t, nil, nil, strings.Fields(args)...); !strings.Contains(got.out, part) {
			t.Errorf("%s does not say %q:\n%s", args, part, got.out)
		}
	}
	got := lictor(t, nil, nil, "kv", "get", "-nope")
	if strings.Contains(got.errOut, "-client-cert") || !strings.HasSuffix(got.errOut, "\n\nThe flags for reaching the agent: lictor kv get -help\n") {
		t.Errorf("below an error the usage is\n%s", got.errOut)
	}
	if got := lictor(t, nil, nil, "-h"); got.status != 0 || !strings.Contains(got.out, "members") {
		t.Errorf("-h: %+v", got)
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"-v"}, {"-version"}, {"--version"}} {
		got := lictor(t, nil, nil, args...)
		lines := strings.Split(got.out, "\n")
		if got.status != 0 || len(lines) != 5 || !strings.HasPrefix(lines[0], "Lictor v") ||
			!strings.HasPrefix(lines[1], "Build Date ") || !strings.HasPrefix(lines[2], "Protocol 2 spoken by default, understands 2 to 3 (") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	got := lictor(t, nil, nil, "version", "-format=json")
	if got.status != 0 || !strings.HasPrefix(got.out, "{\n   \"Version\": ") || !strings.Contains(got.out, "\"RPC\": {\n      \"Default\": 2,") {
		t.Errorf("json: %+v", got)
	}
}

func TestKeygen(t *testing.T) {
	a, b := lictor(t, nil, nil, "keygen"), lictor(t, nil, nil, "keygen")
	key, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(a.out, "\n"))
	if err != nil || len(key) != 32 || a.status != 0 {
		t.Errorf("keygen: %+v, %d bytes, %v", a, len(key), err)
	}
	if a.out == b.out {
		t.Error("keygen made the same key twice")
	}
}

func TestKeyIsReadFromFileAndStdin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(keyA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"@" + file, "-"} {
		f := &fakeAgent{}
		got := lictorCtx(t.Context(), f, keyA+"\n", nil, "keyring", "-install", value)
		if got.status != 0 || f.keyring.Key != keyA || f.keyring.Operation != wire.KeyringInstall {
			t.Errorf("-install %s: %+v", value, got)
		}
		if strings.Contains(got.out+got.errOut, keyA) {
			t.Errorf("-install %s printed the key", value)
		}
	}
	if got := lictor(t, &fakeAgent{}, nil, "keyring", "-use", "@"+file+"x"); got.status != 1 || !strings.Contains(got.errOut, "no such file") {
		t.Errorf("missing file: %+v", got)
	}
	big := strings.Repeat("A", maxSecretFile+1)
	if got := lictorCtx(t.Context(), &fakeAgent{}, big, nil, "keyring", "-use", "-"); got.status != 1 || !strings.Contains(got.errOut, "larger than") {
		t.Errorf("endless input: status %d", got.status)
	}
}

func TestEventCarriesItsFilters(t *testing.T) {
	f := &fakeAgent{}
	got := lictor(t, f, nil, "event", "-name=d", "-node=^web", "-service=s", "-tag=v1", "-datacenter=dc2", "the payload")
	if got.status != 0 || f.eventDC != "dc2" || f.event.Name != "d" || f.event.NodeFilter != "^web" ||
		f.event.ServiceFilter != "s" || f.event.TagFilter != "v1" || string(f.event.Payload) != "the payload" {
		t.Errorf("%+v: %+v", got, f.event)
	}
}

func TestMonitorUntilInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fakeAgent{lines: []string{"a line"}, onMonitor: cancel}
	got := lictorCtx(ctx, f, "", nil, "monitor")
	if got.status != 0 || got.out != "a line\n" || got.errOut != "" {
		t.Errorf("%+v", got)
	}
}

func TestKeyringFailureText(t *testing.T) {
	if err := keyringFailure(poolKeys()); err != nil {
		t.Errorf("no failure, but %v", err)
	}
	err := keyringFailure([]*wire.KeyringResponse{
		{WAN: true, Error: "2/2 nodes reported failure", Messages: map[string]string{"b": "no\x1b", "a": "no"}},
		{Datacenter: "dc1"},
	})
	want := "3 errors occurred:\n\t* WAN error: 2/2 nodes reported failure\n\t* a: no\n\t* b: no\\x1b"
	if err == nil || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
}

func TestTerminalIsNotSteeredByNames(t *testing.T) {
	for in, want := range map[string]string{
		"web-1": "web-1", "mün": "mün", "a\x1b[2Jb": `a\x1b[2Jb`, "a\nb": `a\nb`, "\xff": `\xff`, "\u202e": `\u202e`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTarget(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(" from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args string
		vars map[string]string
		want string // "rpc ADDR AUTH", "http ADDR TOKEN", or part of an error
	}{
		"default":                     {"", nil, "rpc 127.0.0.1:8400 "},
		"flag":                        {"-rpc-addr h:1", map[string]string{"LICTOR_RPC_ADDR": "no:1", "CONSUL_HTTP_ADDR": "no:2"}, "rpc h:1 "},
		"no port":                     {"-rpc-addr h", nil, "rpc h:8400 "},
		"no port, v6":                 {"-rpc-addr ::1", nil, "rpc [::1]:8400 "},
		"socket":                      {"-rpc-addr unix:///s", nil, "rpc unix:///s "},
		"ours wins":                   {"", map[string]string{"CONSUL_RPC_ADDR": "no:1", "LICTOR_RPC_ADDR": "h:1", "LICTOR_RPC_AUTH": "k"}, "rpc h:1 k"},
		"ours wins over their http":   {"", map[string]string{"CONSUL_HTTP_ADDR": "no:1", "LICTOR_RPC_ADDR": "h:1"}, "rpc h:1 "},
		"their http over their rpc":   {"", map[string]string{"CONSUL_HTTP_ADDR": "h:1", "CONSUL_RPC_ADDR": "no:1"}, "http h:1 "},
		"http by environment":         {"", map[string]string{"CONSUL_HTTP_ADDR": "h:1", "CONSUL_HTTP_TOKEN": "t"}, "http h:1 t"},
		"http by flag":                {"-http-addr https://h:1", map[string]string{"LICTOR_HTTP_ADDR": "no:1"}, "http https://h:1 "},
		"http by another flag":        {"-ca-file x", nil, "http 127.0.0.1:8500 "},
		"token flag over environment": {"-token t", map[string]string{"LICTOR_HTTP_TOKEN_FILE": "/none", "LICTOR_HTTP_TOKEN": "no"}, "http 127.0.0.1:8500 t"},
		"token file over token":       {"-token no -token-file " + secret, nil, "http 127.0.0.1:8500 from the file"},
		"token file of environment":   {"-http-addr h:1", map[string]string{"CONSUL_HTTP_TOKEN": "no", "CONSUL_HTTP_TOKEN_FILE": secret}, "http h:1 from the file"},
		"auth file":                   {"-rpc-auth-file " + secret, nil, "rpc 127.0.0.1:8400 from the file"},
		"auth twice":                  {"-rpc-auth k -rpc-auth-file " + secret, nil, "give one of"},
		"auth file missing":           {"-rpc-auth-file " + secret + "x", nil, "-rpc-auth-file: open"},
		"bad boolean":                 {"-http-addr h:1", map[string]string{"CONSUL_HTTP_SSL": "maybe"}, "neither true nor false"},
	} {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		f := &targetFlags{}
		f.registerAgent(fs)
		if err := fs.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		got, err := f.resolve(fs, func(k string) string { return c.vars[k] })
		text := "rpc " + got.RPCAddr + " " + got.RPCAuth
		if got.HTTP != nil {
			text = "http " + got.HTTP.Addr + " " + got.HTTP.Token
		}
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || strings.HasPrefix(c.want, "rpc ") || strings.HasPrefix(c.want, "http ") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}
