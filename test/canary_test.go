package test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lictor/test/harness"
)

// The secrets of the canary tests.
const (
	canaryAuth  = "canary-rpc-auth-6f1d0c7e"
	canaryToken = "canary-token-93b2ad51"
)

var canaryGossip = base64.StdEncoding.EncodeToString([]byte("canary-gossip-key-0123456789abcd"))

// canaries are the forms in which secrets could show: as they are written in
// files, and as a program would print what it has made of them.
type canaries map[string]string

func gossipCanaries(keys ...string) canaries {
	out := canaries{"the auth key": canaryAuth, "the token": canaryToken}
	for i, key := range keys {
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			panic(err) // a key of these tests
		}
		name := fmt.Sprintf("gossip key %d", i+1)
		out[name] = strings.TrimRight(key, "=")
		out[name+" in base64 for URLs"] = base64.RawURLEncoding.EncodeToString(raw)
		out[name+" in hexadecimal"] = hex.EncodeToString(raw)
		out[name+" as numbers"] = strings.Trim(strings.Join(strings.Fields(fmt.Sprint(raw)), " "), "[]")
		if bytes.HasPrefix(raw, []byte("canary")) {
			out[name+" itself"] = string(raw)
		}
	}
	return out
}

// addKey adds a private key.
func (c canaries) addKey(t testing.TB, name string, keyPEM []byte) {
	t.Helper()
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	must(t, err)
	for i, line := range strings.Split(strings.TrimSpace(string(keyPEM)), "\n") {
		if !strings.HasPrefix(line, "---") && len(line) > 16 {
			c[fmt.Sprintf("%s, line %d", name, i)] = line
		}
	}
	b, err := key.Bytes()
	must(t, err)
	c[name+" in hexadecimal"] = hex.EncodeToString(b)
	c[name+" as a number"] = new(big.Int).SetBytes(b).String()
}

// in looks for each of them in a text.
func (c canaries) in(t testing.TB, where, text string) {
	t.Helper()
	lower := strings.ToLower(text)
	for name, secret := range c {
		if strings.Contains(text, secret) || strings.Contains(lower, strings.ToLower(secret)) {
			t.Errorf("%s is in %s", name, where)
		}
	}
}

// Whatever an agent is asked, and however much it logs, it says none of its
// secrets, but for the keyring's own answer.
func TestSecretsDoNotEscape(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	secrets := gossipCanaries(canaryGossip, otherKey)
	c := cluster(t)
	authFile := filepath.Join(c.Dir, "auth")
	must(t, os.WriteFile(authFile, []byte(canaryAuth+"\n"), 0o600))
	common := []keys{tlsFiles, verify(true, true, true), {
		"encrypt": canaryGossip, "rpc_auth_key": canaryAuth, "log_level": "TRACE", "enable_debug": true,
		"telemetry": keys{"prometheus_retention_time": "60s"},
		"ports":     keys{"https": 8501},
		"acl":       keys{"tokens": keys{"agent": canaryToken, "default": canaryToken}},
	}}
	s, a := c.AddServer("s1"), c.AddClient("c1")
	for agent, name := range map[*harness.Agent]string{s: "server.dc1.consul", a: "client.dc1.consul"} {
		cert := issue(t, ca, name, "localhost")
		secrets.addKey(t, agent.Name+"'s TLS key", cert.KeyPEM)
		config(t, agent, common...)
		put(t, agent, cert, ca)
	}
	// One has its key on the command line, where the system shows it, and nobody else.
	must(t, s.Start("-encrypt="+canaryGossip))
	must(t, a.Start())
	must(t, c.WaitMembers())
	poll(t, "an RPC", a.RPC)

	cli := func(on *harness.Agent, args ...string) string {
		t.Helper()
		r, err := on.CLI(c.Dir, args...)
		must(t, err)
		return r.Stdout + r.Stderr
	}
	withKey := "-rpc-auth-file=" + authFile
	for _, on := range []*harness.Agent{s, a} {
		// What changes something, so that there is something to log. A client has its
		// server change the keyring, so that once is enough for both.
		commands := [][]string{
			{"event", "-name", "x"}, {"join", "127.0.0.1:1"}, {"force-leave", "nobody"}, {"reload"}, {"members", "-detailed"}, {"info"},
		}
		if on == a {
			commands = append(commands, [][]string{
				{"keyring", "-install", otherKey}, {"keyring", "-use", otherKey}, {"keyring", "-use", canaryGossip}, {"keyring", "-remove", otherKey},
				{"keyring", "-install", canaryGossip[:20]}, {"keyring", "-use", thirdKey},
			}...)
		}
		for _, args := range commands {
			secrets.in(t, fmt.Sprintf("what %q says", args[:1]), cli(on, append(args[:1:1], append([]string{withKey}, args[1:]...)...)...))
		}
		secrets.in(t, "what a wrong auth key is answered", cli(on, "info", "-rpc-auth="+canaryAuth+"x"))
		for _, row := range []struct{ method, path, body string }{
			{"PUT", "/v1/operator/keyring", `{"Key":"` + otherKey + `x"}`},
			{"PUT", "/v1/operator/keyring", `{"Key":["` + otherKey + `"]}`}, {"PUT", "/v1/operator/keyring", `{"Kay":"` + otherKey + `"}`},
			{"PUT", "/v1/operator/keyring", `"` + otherKey},
			{"GET", "/v1/agent/members?token=" + canaryToken, ""}, {"GET", "/v1/nothing?token=" + canaryToken, ""}, {"PUT", "/v1/agent/reload", ""},
			{"GET", "/v1/agent/self", ""}, {"GET", "/v1/agent/self?pretty", ""}, {"GET", "/v1/agent/host", ""}, {"GET", "/v1/agent/version", ""},
			{"GET", "/v1/agent/metrics", ""}, {"GET", "/v1/agent/metrics?format=prometheus", ""}, {"GET", "/v1/agent/members", ""}, {"GET", "/v1/event/list", ""},
			{"GET", "/v1/acl/tokens", ""}, {"GET", "/v1/agent/token/default", ""},
			{"GET", "/debug/pprof/", ""}, {"GET", "/debug/pprof/cmdline", ""}, {"GET", "/debug/pprof/goroutine?debug=2", ""}, {"GET", "/debug/pprof/heap?debug=1", ""},
			{"GET", "/debug/pprof/allocs?debug=1", ""}, {"GET", "/debug/pprof/threadcreate?debug=1", ""}, {"GET", "/debug/pprof/block?debug=1", ""}, {"GET", "/debug/pprof/mutex?debug=1", ""}, {"GET", "/debug/pprof/symbol", ""},
		} {
			req, err := http.NewRequest(row.method, "http://"+on.Addr(harness.HTTPPort)+row.path, strings.NewReader(row.body))
			must(t, err)
			req.Header.Set("X-Consul-Token", canaryToken)
			req.Header.Set("Authorization", "Bearer "+canaryToken)
			resp, err := http.DefaultTransport.RoundTrip(req)
			must(t, err)
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			must(t, err)
			secrets.in(t, row.method+" "+row.path, string(b)+fmt.Sprint(resp.Header))
		}
		// The keyring's own answer has it: what is looked for can be found.
		if list := cli(on, "keyring", withKey, "-list"); !strings.Contains(list, canaryGossip) {
			t.Errorf("keyring -list does not show the key:\n%s", list)
		}
	}
	for _, agent := range []*harness.Agent{a, s} {
		_, err := agent.Stop(sigterm)
		must(t, err)
		if !strings.Contains(agent.Log().String(), "[TRACE]") && !strings.Contains(agent.Log().String(), "[DEBUG]") {
			t.Errorf("%s has not logged much", agent.Name)
		}
		secrets.in(t, agent.Name+"'s log", agent.Log().String())
	}
}

// What is wrong with a secret is said without the secret.
func TestErrorsDoNotQuoteSecrets(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	secrets := gossipCanaries(canaryGossip)
	cert := issue(t, newCA(t, "CA"), "server.dc1.consul")
	secrets.addKey(t, "the TLS key", cert.KeyPEM)
	broken := bytes.Replace(cert.KeyPEM, []byte("\nM"), []byte("\nX"), 1) // no DER begins like that
	if bytes.Equal(broken, cert.KeyPEM) {
		t.Fatal("the key does not begin as keys do")
	}
	for i, row := range []struct {
		name, file, text string
		names            string // what the error must name
		starts           bool   // it is no error: only validate is run
	}{
		{"list", "a.json", `{"encrypt": ["` + canaryGossip + `"]}`, "encrypt", false},
		{"object", "a.json", `{"encrypt": {"key": "` + canaryGossip + `"}}`, "encrypt", false},
		{"no base64", "a.json", `{"encrypt": "` + canaryGossip + `!"}`, "encrypt", false},
		{"short", "a.json", `{"encrypt": "` + canaryGossip[:20] + `"}`, "encrypt", false},
		{"twice as long", "a.json", `{"encrypt": "` + strings.TrimRight(canaryGossip, "=") + canaryGossip + `"}`, "encrypt", false},
		{"cut off in the key", "a.json", `{"encrypt": "` + canaryGossip, "a.json", false},
		{"cut off in the key, HCL", "a.hcl", `encrypt = "` + canaryGossip, "a.hcl", false},
		{"key without quotes", "a.json", `{"encrypt": ` + canaryGossip + `}`, "a.json", false},
		{"key without quotes, HCL", "a.hcl", `encrypt = ` + canaryGossip, "a.hcl", false},
		{"after the key, HCL", "a.hcl", `encrypt = "` + canaryGossip + `" "` + canaryGossip + `"`, "a.hcl", false},
		{"list in HCL", "a.hcl", `encrypt = ["` + canaryGossip + `"]`, "encrypt", false},
		{"block in HCL", "a.hcl", `encrypt { key = "` + canaryGossip + `" }`, "encrypt", false},
		{"misspelt", "a.json", `{"encript": "` + canaryGossip + `"}`, "encript", false},
		{"misspelt auth key", "a.json", `{"rpc_auth_kye": "` + canaryAuth + `"}`, "rpc_auth_kye", false},
		{"list of auth keys", "a.json", `{"rpc_auth_key": ["` + canaryAuth + `"]}`, "rpc_auth_key", false},
		{"object of auth keys", "a.json", `{"rpc_auth_key": {"a": "` + canaryAuth + `"}}`, "rpc_auth_key", false},
		{"token as a list", "a.json", `{"acl": {"tokens": {"agent": ["` + canaryToken + `"]}}}`, "acl", false},
		{"tokens as a string", "a.json", `{"acl": {"tokens": "` + canaryToken + `"}}`, "acl.tokens", false},
		{"token of old", "a.json", `{"acl_master_token": "` + canaryToken + `"}`, "acl_master_token", true},
		{"token of telemetry", "a.json", `{"telemetry": {"circonus_api_token": "` + canaryToken + `"}}`, "circonus_api_token", true},
		{"broken TLS key", "a.json", `{"ca_file": "cert.pem", "cert_file": "cert.pem", "key_file": "key.pem"}`, "key.pem", false},
		{"keyring", "a.json", `{"encrypt": "` + canaryGossip + `", "data_dir": "DIR/bad-keyring"}`, "local.keyring", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(c.Dir, fmt.Sprint(i))
			must(t, os.MkdirAll(filepath.Join(dir, "bad-keyring", "serf"), 0o700))
			for name, b := range map[string][]byte{
				row.file: []byte(strings.ReplaceAll(row.text, "DIR", dir)), "cert.pem": cert.CertPEM, "key.pem": broken,
				"bad-keyring/serf/local.keyring": []byte(`["` + canaryGossip + `", "` + canaryAuth + `"]`),
			} {
				must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			}
			ip := c.IP(10)
			must(t, os.WriteFile(filepath.Join(dir, "z.json"), []byte(`{"data_dir": "`+dir+`/d", "bind_addr": "`+ip+`", "client_addr": "`+ip+`"}`), 0o600))
			run := func(want int, args ...string) {
				t.Helper()
				r, err := c.CLI(dir, args...)
				must(t, err)
				if r.Code != want {
					t.Errorf("%s: exit %d, want %d: %s", args[0], r.Code, want, r.Stderr)
				}
				secrets.in(t, "what "+args[0]+" says", r.Stdout+r.Stderr)
				if !strings.Contains(r.Stdout+r.Stderr, row.names) {
					t.Errorf("%s does not name %s: %s%s", args[0], row.names, r.Stdout, r.Stderr)
				}
			}
			if row.starts {
				run(0, "validate", row.file, "z.json")
				return
			}
			if row.name != "keyring" { // validate does not look at what agents have written
				run(1, "validate", row.file, "z.json")
			}
			run(1, "agent", "-data-dir="+filepath.Join(dir, map[bool]string{true: "bad-keyring", false: "d"}[row.name == "keyring"]), "-bind="+ip, "-client="+ip, "-config-file="+row.file)
		})
	}
	r, err := c.CLI(c.Dir, "agent", "-data-dir="+c.Dir, "-bind="+c.IP(10), "-encrypt="+canaryGossip+"x")
	must(t, err)
	if r.Code != 1 || !strings.Contains(r.Stderr, "encrypt") {
		t.Errorf("a bad key on the command line: exit %d, %q", r.Code, r.Stderr)
	}
	secrets.in(t, "what a bad key on the command line is answered", r.Stdout+r.Stderr)
}
