package config

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func testEnv(addrs ...string) env {
	if len(addrs) == 0 {
		addrs = []string{"127.0.0.1", "10.1.2.3"}
	}
	return env{
		hostname: func() (string, error) { return "bulldog", nil },
		addrs: func() (out []netip.Addr, err error) {
			for _, a := range addrs {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
		maxFiles: func() (uint64, bool) { return 1024, true },
	}
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadText loads one document on top of a data_dir.
func loadText(t testing.TB, name, text string, args ...string) (*Config, error) {
	t.Helper()
	return loadArgs(t, testEnv(), append([]string{"-data-dir", t.TempDir(), "-config-file", write(t, name, text)}, args...)...)
}

func loadArgs(t testing.TB, e env, args ...string) (*Config, error) {
	t.Helper()
	var f Flags
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return load(f, e)
}

func TestGuideFilesLoadWithoutAWord(t *testing.T) {
	files, err := filepath.Glob("testdata/guide/*.json")
	if err != nil || len(files) != 7 {
		t.Fatalf("guide files: %v %v", files, err)
	}
	for _, file := range files {
		c, err := loadArgs(t, testEnv(), "-config-file", file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if len(c.Warnings) != 0 {
			t.Errorf("%s: warnings %q", file, c.Warnings)
		}
		if !c.Node.Server || c.Node.Name != "bulldog" || len(c.Gossip.Encrypt.Bytes()) != 32 || c.Node.DataDir != "/opt/consul" {
			t.Errorf("%s: %+v", file, c.Node)
		}
		strict := strings.Contains(file, "5-tls") || strings.Contains(file, "7-tls")
		want := TLSStanza{MinVersion: "TLSv1_2"}
		if strings.Contains(file, "-tls-") {
			want = TLSStanza{CAFile: "consul-agent-ca.pem", CertFile: "consul-server-dc1-0.pem", KeyFile: "consul-server-dc1-0-key.pem",
				MinVersion: "TLSv1_2", VerifyIncoming: strict, VerifyOutgoing: strict, VerifyServerHostname: strict}
		}
		if got := c.TLS.InternalRPC; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: tls %+v, want %+v", file, got, want)
		}
		in, out := !strings.Contains(file, "2-") && !strings.Contains(file, "3-existing"), !strings.Contains(file, "2-")
		if c.Gossip.VerifyIncoming != in || c.Gossip.VerifyOutgoing != out {
			t.Errorf("%s: gossip verify %v %v, want %v %v", file, c.Gossip.VerifyIncoming, c.Gossip.VerifyOutgoing, in, out)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := loadText(t, "a.json", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Ports != (Ports{DNS: 8600, HTTP: 8500, HTTPS: -1, SerfLAN: 8301, SerfWAN: 8302, Server: 8300, RPC: 8400}) {
		t.Errorf("ports %+v", c.Ports)
	}
	if c.Network.AdvertiseLAN.String() != "10.1.2.3" || c.Network.TaggedAddrs["lan_ipv4"] != "10.1.2.3" {
		t.Errorf("advertise %v %v", c.Network.AdvertiseLAN, c.Network.TaggedAddrs)
	}
	if !slices.Equal(c.Listeners.HTTP, []string{"127.0.0.1:8500"}) || c.Listeners.HTTPS != nil || !slices.Equal(c.Listeners.RPC, []string{"127.0.0.1:8400"}) {
		t.Errorf("listeners %+v", c.Listeners)
	}
	if c.Node.Domain != "consul" || c.Node.PrimaryDatacenter != "dc1" || !c.Join.LeaveOnTerminate || c.Join.SkipLeaveOnInterrupt {
		t.Errorf("%+v %+v", c.Node, c.Join)
	}
	if c.Gossip.WAN != (GossipTimers{3, 500 * time.Millisecond, 5 * time.Second, 3 * time.Second, 6, 4}) {
		t.Errorf("wan timers %+v", c.Gossip.WAN)
	}
	if c.Limits.RPCRate != 0 || c.Limits.RPCHoldTimeout != 7*time.Second || c.Log.Level != "INFO" {
		t.Errorf("%+v %+v", c.Limits, c.Log)
	}
}

func TestDev(t *testing.T) {
	c, err := loadArgs(t, testEnv(), "-dev")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Node.Server || !c.Node.Dev || c.Ports.HTTPS != 8501 || c.Network.Bind.String() != "127.0.0.1" || c.Log.Level != "DEBUG" ||
		!c.Gossip.DisableKeyringFile || c.Node.DataDir != "" || c.Gossip.LAN.ProbeInterval != 100*time.Millisecond {
		t.Errorf("%+v", c)
	}
	c, err = loadArgs(t, testEnv(), "-dev", "-hcl", "server = false", "-log-level=warn")
	if err != nil || c.Node.Server || c.Log.Level != "WARN" {
		t.Errorf("%v", err)
	}
}

func TestMergeOrder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.json":   `{"node_name":"b","retry_join":["10.0.0.2"],"node_meta":{"x":"b","y":"b"},"ports":{"http":1001}}`,
		"a.hcl":    "node_name = \"a\"\nretry_join = [\"10.0.0.1\"]\nnode_meta { x = \"a\" z = \"a\" }\nports { dns = 1002 http = 1003 }",
		"c.txt":    `nonsense`,
		"d.json":   ``,
		"e.json":   `{}`,
		"sub/f.js": ``,
	} {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := loadArgs(t, testEnv(), "-config-dir", dir, "-node=flagged", "-retry-join", "10.0.0.9", "-node-meta", "y:flag",
		"-data-dir", dir, "-hcl", `retry_join = ["10.0.0.3"]`, "--server", "-hcl", `ports { http = 1004 }`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.0.0.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"}; !slices.Equal(c.Join.RetryLAN, want) {
		t.Errorf("retry_join %v, want %v", c.Join.RetryLAN, want)
	}
	if c.Node.Name != "flagged" || c.Ports.HTTP != 1004 || c.Ports.DNS != 1002 || !c.Node.Server {
		t.Errorf("%+v %+v", c.Node, c.Ports)
	}
	if fmt.Sprint(c.Node.Meta) != "map[x:b y:flag z:a]" {
		t.Errorf("meta %v", c.Node.Meta)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "c.txt") {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestAccepted(t *testing.T) {
	for _, tc := range []struct{ file, text, warning string }{
		{"a.json", `{"Node_Name":"x","SERVER":true}`, ""},
		{"a.json", `{"ports":null,"encrypt":null,"server":false,"server":true}`, ""},
		{"a.json", `{"ports":{"http":8500.5}}`, ""},
		{"a.json", `{"dns_config":{"allow_stale":true},"ports":{"grpc":8502}}`, `a.json:1: key "dns_config" is not supported yet`},
		{"a.json", `{"acl":{"enabled":true}}`, "NOT restricted"},
		{"a.json", `{"start_join":["10.0.0.1"]}`, `"start_join" is deprecated`},
		{"a.hcl", "services { name = \"a\" }\nservices { name = \"b\" }", ""},
		{"a.hcl", "enable_local_script_checks = true\nservice { name = \"a\" check { args = [\"x\"] interval = \"1s\" } }", ""},
		{"a.json", `{"enable_script_checks":true}`, "whoever reaches the API may run programs"},
		{"a.json", `{"enable_script_checks":true,"http_config":{"allow_write_http_from":["127.0.0.0/8"]}}`, ""},
		{"a.json", `{"service":{"name":"a","connect":{"native":true}}}`, "service.connect"},
		{"a.json", `{"service":{"name":"a_b"}}`, `a.json:1: service "a_b" cannot be looked up by DNS`},
		{"a.json", `{"server":true,"raft_logstore":{"backend":"boltdb"}}`, "boltdb is not supported"},
		{"a.hcl", "# c\n// c\n/* c */\nports = { http = 1 }\nserver = true\nserver = false", ""},
		{"a.json", `{"client_addr":""}`, "listen nowhere"},
		{"a.json", `{"server":true,"bootstrap_expect":1}`, "elects itself"},
		{"a.json", `{"node_name":"a_b"}`, "looked up by DNS"},
		{"a.json", `{"telemetry":{"prefix_filter":["+a","-b","c"]}}`, "neither + nor -"},
		{"a.json", `{"client_addr":"127.0.0.1 127.0.0.2","addresses":{"http":"unix:///run/x.sock 127.0.0.3"}}`, ""},
		{"a.json", `{"bind_addr":"{{ \"127.0.0.7\" }}"}`, ""},
		{"a.json", `{"addresses":{"rpc":"0.0.0.0"},"rpc_auth_key":"k"}`, ""},
		{"a.json", `{"client_addr":"0.0.0.0"}`, ""},
	} {
		c, err := loadText(t, tc.file, tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		all := strings.Join(c.Warnings, "\n")
		if tc.warning == "" && all != "" || !strings.Contains(all, tc.warning) || tc.warning != "" && len(c.Warnings) != 1 {
			t.Errorf("%s: warnings %q, want %q", tc.text, c.Warnings, tc.warning)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct{ file, text, want string }{
		{"a.json", "{\n \"encript\": \"x\"}", `a.json:2: unknown key "encript" (did you mean "encrypt"?)`},
		{"a.json", `{"ports":{"htp":1}}`, `unknown key "ports.htp" (did you mean "ports.http"?)`},
		{"a.json", `{"nodename":"x"}`, `did you mean "node_name"?`},
		{"a.json", `{"tls":{"verify_incoming":true}}`, `unknown key "tls.verify_incoming" (did you mean "`},
		{"a.json", `{"_comment":"x"}`, `unknown key "_comment"`},
		{"a.json", `{"services":[{"name":"a","check":{"bogus":1}}]}`, `unknown key "services[0].check.bogus"`},
		{"a.hcl", "\nservice \"a\" { name = \"x\" }", `a.hcl:2: unknown key "service.a"`},
		{"a.hcl", "ports { http = 1 }\nports { dns = 2 }", "more than once"},
		{"a.hcl", "node_meta { a = \"1\" }\nnode_meta { b = \"1\" }", "more than once"},
		{"a.hcl", "\nserver = yes", "a.hcl:2: not valid HCL"},
		{"a.hcl", `ports { http = 1.5 }`, "wants a whole number"},
		{"a.json", "{\n\"server\": true,\n}", "a.json:3: not valid JSON"},
		{"a.json", `{} x`, "not valid JSON"},
		{"a.json", `[]`, "must be an object"},
		{"a.json", `{"server":"true"}`, `key "server" wants true or false, not a string`},
		{"a.json", `{"ports":{"http":"8500"}}`, "wants a whole number"},
		{"a.json", `{"retry_interval":5}`, "wants a duration"},
		{"a.json", `{"retry_interval":"5"}`, "wants a duration"},
		{"a.json", `{"retry_join":"x"}`, "wants a list of strings"},
		{"a.json", `{"recursor":"x"}`, `use "recursors"`},
		{"a.json", `{"bootstrap":true}`, `"bootstrap" needs "server"`},
		{"a.json", `{"bootstrap_expect":3}`, `needs "server"`},
		{"a.json", `{"server":true,"bootstrap":true,"bootstrap_expect":3}`, "exclude each other"},
		{"a.json", `{"bootstrap_expect":-1}`, "negative"},
		{"a.json", `{"datacenter":"a b"}`, `key "datacenter"`},
		{"a.json", `{"raft_protocol":2}`, "must be 3"},
		{"a.json", `{"protocol":9}`, "2 or 3"},
		{"a.json", `{"log_level":"loud"}`, "log_level"},
		{"a.json", `{"node_id":"x"}`, "UUID"},
		{"a.json", `{"bind_addr":""}`, "exactly one IP"},
		{"a.json", `{"bind_addr":"127.0.0.1 127.0.0.2"}`, "exactly one IP"},
		{"a.json", `{"bind_addr":"unix:///x"}`, "IP address"},
		{"a.json", `{"bind_addr":"host"}`, "IP address"},
		{"a.json", `{"advertise_addr":"0.0.0.0"}`, "no one can dial"},
		{"a.json", `{"advertise_addr_wan":"::"}`, "no one can dial"},
		{"a.json", `{"advertise_addr_ipv4":"::1"}`, "other address family"},
		{"a.json", `{"client_addr":"unix:///x"}`, "client_addr"},
		{"a.json", `{"addresses":{"dns":"unix:///x"}}`, "unix socket"},
		{"a.json", `{"addresses":{"rpc":"0.0.0.0"}}`, "rpc_auth_key"},
		{"a.json", `{"alt_domain":"service.x"}`, "alt_domain"},
		{"a.json", `{"ports":{"http":8600}}`, `keys "ports.dns" and "ports.http" are both to listen`},
		{"a.json", `{"ports":{"rpc":8301},"client_addr":"127.0.0.1"}`, "both to listen"},
		{"a.json", `{"ports":{"server":0}}`, "ports.server"},
		{"a.json", `{"ports":{"serf_lan":-1}}`, "ports.serf_lan"},
		{"a.json", `{"ports":{"http":70000}}`, "65535"},
		{"a.json", `{"performance":{"raft_multiplier":11}}`, "1 to 10"},
		{"a.json", `{"raft_logstore":{"wal":{"segment_size_mb":0}}}`, "1 to 1024"},
		{"a.json", `{"server":true,"raft_logstore":{"backend":"x"}}`, "must be one of"},
		{"a.json", `{"raft_snapshot_interval":"0s"}`, "more than zero"},
		{"a.json", `{"max_query_time":"0s"}`, "more than zero"},
		{"a.json", `{"autopilot":{"max_trailing_logs":-1}}`, "0 or more"},
		{"a.json", `{"limits":{"kv_max_value_size":0}}`, "1 or more"},
		{"a.json", `{"serf_lan_allowed_cidrs":["x"]}`, "CIDR"},
		{"a.json", `{"tls_min_version":"tls9"}`, "TLSv1_2"},
		{"a.json", `{"tls_cipher_suites":"TLS_RSA_WITH_AES_128_CBC_SHA"}`, "cipher suite"},
		{"a.json", `{"tls":{"defaults":{"tls_min_version":"TLSv1_3","tls_cipher_suites":"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}}`, "no effect"},
		{"a.json", `{"limits":{"request_limits":{"mode":"x"}}}`, "must be one of"},
		{"a.json", `{"encrypt":"!!!"}`, "not valid base64"},
		{"a.json", `{"encrypt":"aGVsbG8="}`, "16, 24 or 32 bytes"},
		{"a.json", `{"tls":{"https":{"verify_server_hostname":true}}}`, "not allowed there"},
		{"a.json", `{"cert_file":"x"}`, `key "cert_file" is set and "key_file" is not`},
		{"a.json", `{"verify_outgoing":true}`, `key "verify_outgoing" is on and no "ca_file"`},
		{"a.json", `{"verify_server_hostname":true}`, "ca_file"},
		{"a.json", `{"verify_incoming":true,"ca_file":"x"}`, "cert_file"},
		{"a.json", `{"ports":{"https":8501}}`, "cert_file"},
		{"a.json", `{"auto_encrypt":{"tls":true}}`, "asks for TLS"},
		{"a.json", `{"server":true,"advertise_reconnect_timeout":"1h"}`, "client agents only"},
		{"a.json", `{"server_rejoin_age_max":"1h"}`, "6h"},
		{"a.json", `{"node_meta":{"consul-x":"y"}}`, "reserved"},
		{"a.json", `{"node_meta":{"a b":"y"}}`, "node_meta"},
		{"a.json", `{"segment":"x"}`, "segments are not supported"},
		{"a.json", `{"limits":{"http_max_conns_per_client":5000}}`, "may open 1024 files"},
		{"a.json", `{"check_output_max_size":0}`, "1 or more"},
		{"a.json", `{"unix_sockets":{"mode":"999"}}`, "octal"},
		{"a.json", `{"gossip_lan":{"probe_interval":"0s"}}`, "more than zero"},
		{"a.json", `{"http_config":{"response_headers":{"a":"b\r\nc: d"}}}`, "cannot be sent"},
		{"a.txt", `{}`, ".json or .hcl"},
	} {
		_, err := loadText(t, tc.file, tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.text, err, tc.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := loadText(t, "a.json", "{\n\"serber\":1,\n\"ports\":{\"http\":\"x\"},\n\"datacenter\":\"?\"}")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
	// What an unreadable file may have set is not missed.
	for file, text := range map[string]string{"a.json": "{,}", "a.hcl": "x = \"", "a.txt": "{}"} {
		if _, err := LoadPaths([]string{write(t, file, text)}, ""); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := LoadPaths([]string{"/nonexistent"}, ""); err == nil || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

func TestDetectAdvertise(t *testing.T) {
	for addrs, want := range map[string]string{
		"127.0.0.1 8.8.8.8":           "no private IPv4",
		"10.0.0.1 192.168.0.1":        "several private IPv4",
		"127.0.0.1 100.64.0.1 fe80::": "",
	} {
		_, err := loadArgs(t, testEnv(strings.Fields(addrs)...), "-data-dir", t.TempDir())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", addrs, err)
		}
	}
}

func TestNoErrorHoldsASecret(t *testing.T) {
	const canary = "CANARY-7f3a"
	quoted, _ := json.Marshal(canary)
	bad := []string{string(quoted), `[` + string(quoted) + `]`, `{"a":` + string(quoted) + `}`, `{` + string(quoted) + `:1}`, `[[` + string(quoted) + `]]`,
		string(quoted) + ` ` + string(quoted), string(quoted[:len(quoted)-1]), `71337133713371337133`}
	secrets := 0
	schema().walk(func(f *field) {
		if f.kind != kindSecret || strings.HasPrefix(f.path, "service") || strings.HasPrefix(f.path, "check") || strings.HasPrefix(f.path, "watches") {
			return
		}
		secrets++
		for _, v := range bad {
			text := v
			parts := strings.Split(f.path, ".")
			for i := len(parts) - 1; i >= 0; i-- {
				text = `{"` + parts[i] + `":` + text + `}`
			}
			c, err := loadText(t, "a.json", text)
			said := fmt.Sprint(err)
			if c != nil {
				said += fmt.Sprint(c.Warnings, c.DebugMap()) + fmt.Sprintf("%v %+v %#v", c.Gossip, c.HTTP, c.settings)
			}
			if strings.Contains(said, canary) || strings.Contains(said, "7133") {
				t.Errorf("%s: leaks: %s", text, said)
			}
			hcl := strings.ReplaceAll(f.path, ".", " { ") + " = " + v + strings.Repeat(" }", strings.Count(f.path, "."))
			if _, err := loadText(t, "a.hcl", hcl); err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("%s: leaks: %v", hcl, err)
			}
		}
	})
	if secrets < 10 {
		t.Errorf("only %d secret keys", secrets)
	}
}

func TestSecret(t *testing.T) {
	s := NewSecret([]byte("CANARY"))
	type holder struct {
		Secret Secret
		inner  Secret
	}
	h := holder{s, s}
	marshalled, _ := json.Marshal(h)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "s", s, "inner", fmt.Sprint(h.inner))
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", h, h, h), string(marshalled), logged.String()} {
		if strings.Contains(text, "CANARY") || strings.Contains(text, "43414e415259") {
			t.Errorf("leaks: %s", text)
		}
	}
	if !s.Equal(NewSecret([]byte("CANARY"))) || s.Equal(Secret{}) || (Secret{}).Equal(Secret{}) || !(Secret{}).Empty() || s.Empty() {
		t.Error("Equal or Empty is wrong")
	}
	s.Bytes()[0] = 'x'
	if string(s.Bytes()) != "CANARY" {
		t.Error("Bytes hands out its own memory")
	}
}

func TestLegacyTLS(t *testing.T) {
	c, err := loadText(t, "a.json", `{"verify_incoming":true,"verify_incoming_rpc":false,"ca_file":"a","cert_file":"b","key_file":"c",
		"verify_server_hostname":true,"tls_min_version":"tls13","tls":{"https":{"verify_incoming":false,"ca_file":"d"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.TLS.InternalRPC; !r.VerifyIncoming || !r.VerifyOutgoing || r.MinVersion != "TLSv1_3" || r.CAFile != "a" {
		t.Errorf("%+v", r)
	}
	if h := c.TLS.HTTPS; h.VerifyIncoming || h.CAFile != "d" || h.CertFile != "b" {
		t.Errorf("%+v", h)
	}
	if u := c.TLSUtil(); u.Domain != "consul" || u.InternalRPC.CertFile != "b" || !u.InternalRPC.VerifyServerHostname {
		t.Errorf("%+v", u)
	}
}

func TestDiff(t *testing.T) {
	key := func(b byte) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(b), 32))) }
	dir := t.TempDir()
	read := func(text string) *Config {
		c, err := loadArgs(t, testEnv(), "-data-dir", dir, "-config-file", write(t, "a.json", text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := read(`{"encrypt":"` + key('a') + `","log_level":"info","node_meta":{"a":"1"}}`)
	b := read(`{"encrypt":"` + key('b') + `","log_level":"warn","node_meta":{"a":"2"},"ports":{"http":9},"limits":{"rpc_rate":3},"dns_config":{"only_passing":true},"ca_file":"x"}`)
	reload, restart := Diff(a, b)
	if want := []string{"limits.rpc_rate", "log_level", "node_meta", "tls.defaults.ca_file"}; !slices.Equal(reload, want) {
		t.Errorf("reloadable %v, want %v", reload, want)
	}
	if want := []string{"encrypt", "ports.http"}; !slices.Equal(restart, want) {
		t.Errorf("restart %v, want %v", restart, want)
	}
	if r, s := Diff(b, b); r != nil || s != nil {
		t.Errorf("same: %v %v", r, s)
	}
	if b.DebugMap()["encrypt"] != "hidden" {
		t.Errorf("%v", b.DebugMap()["encrypt"])
	}
}

func TestDeep(t *testing.T) {
	c, err := loadText(t, "a.json", `{"bind_addr":"10.9.9.9","pid_file":"/nonexistent/x.pid"}`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = deep(c, testEnv(), time.Now())
	for _, want := range []string{"10.9.9.9 is not an address of this machine", "pid_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c, err = loadText(t, "a.json", `{"bind_addr":"127.0.0.5"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deep(c, testEnv(), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	if _, err := LoadPaths([]string{"/nonexistent/a.json"}, ""); err == nil || !strings.Contains(err.Error(), "open failed on /nonexistent/a.json") {
		t.Error(err)
	}
	if _, err := LoadPaths(nil, "toml"); err == nil || !strings.Contains(err.Error(), "config-format") {
		t.Error(err)
	}
	path := write(t, "plain", `data_dir = "/tmp" bind_addr = "127.0.0.1"`)
	if _, err := LoadPaths([]string{path}, "hcl"); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "a.json")); err != nil {
		t.Skip(err)
	}
	if _, err := LoadPaths([]string{dir}, ""); err == nil || !strings.Contains(err.Error(), "open failed") {
		t.Error(err)
	}
}

func FuzzLoadJSON(f *testing.F) {
	for _, s := range []string{`}`, `,"server":1}`, `:{}}`, `[[[`, `,"ports":{"http":8500.5},"acl":{"tokens":[1]}}`, "\n,,", `{"a":null}`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzz(t, "json", `{"encrypt":"CANARY-7f3a"`, data) })
}

func FuzzLoadHCL(f *testing.F) {
	for _, s := range []string{"", "\nserver = 1", "= 3", "\n}", "\nports {", "\nx = <<A\nA", "\nservice \"a\" {}", "\"${", "\n/*", "\nx = 09", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzz(t, "hcl", `encrypt = "CANARY-7f3a"`, data) })
}

func fuzz(t *testing.T, format, head string, data []byte) {
	if strings.Contains(string(data), "CANARY") {
		return
	}
	for _, text := range []string{head + string(data), string(data)} {
		p := &problems{}
		root := newObject(place{})
		p.foldText(root, "a."+format, format, []byte(text))
		p.fillLegacyTLS(root)
		for _, err := range p.errs {
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("leaks: %v", err)
			}
		}
		if said := strings.Join(p.warnings, "\n"); strings.Contains(said, "CANARY") {
			t.Errorf("leaks: %s", said)
		}
	}
}
