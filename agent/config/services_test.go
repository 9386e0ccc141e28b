package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefinitions(t *testing.T) {
	c, err := loadText(t, "a.hcl", `
enable_local_script_checks = true
services {
  id = "w1"
  name = "web"
  tags = ["a"]
  port = 80
  meta { k = "v" }
  weights { passing = 3 }
  tagged_addresses { lan { address = "10.0.0.1" port = 81 } }
  token = "t"
  checks = [{ http = "http://127.0.0.1/", interval = "10s", header { A = ["b"] } }, { args = ["true"], interval = "5s" }]
  check { ttl = "30s" }
}
service { name = "db" check { TCP = "127.0.0.1:5432" Interval = "1m" tlsskipverify = true } }
checks { id = "n" name = "N" ttl = "1m" }
check { name = "M" service_id = "w1" alias_node = "x" }
watches { type = "key" key = "a" args = ["cat"] }
watches { type = "service" service = "web" tag = ["a", "b"] handler_type = "http" http_handler_config { path = "http://127.0.0.1/x" timeout = "3s" header { A = ["b"] } } }
check_update_interval = "0s"
discard_check_output = true
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("%q", c.Warnings)
	}
	if len(c.Services) != 2 || len(c.Checks) != 2 || len(c.Watches) != 2 {
		t.Fatalf("%d services, %d checks, %d watches", len(c.Services), len(c.Checks), len(c.Watches))
	}
	w := c.Services[0]
	if w.ID != "w1" || w.Meta["k"] != "v" || w.Weights.Passing != 3 || w.TaggedAddresses["lan"].Port != 81 || w.Token != "t" || w.Source != "local" ||
		len(w.Checks) != 3 || w.Checks[0].Header["A"][0] != "b" || w.Checks[1].Args[0] != "true" || w.Checks[2].TTL != 30*time.Second {
		t.Errorf("%+v", w)
	}
	if db := c.Services[1]; db.Service != "db" || len(db.Checks) != 1 || !db.Checks[0].TLSSkipVerify || db.Checks[0].Interval != time.Minute {
		t.Errorf("%+v", db)
	}
	if c.Checks[0].ID != "n" || c.Checks[1].ServiceID != "w1" || c.Checks[1].Source != "local" {
		t.Errorf("%+v %+v", c.Checks[0], c.Checks[1])
	}
	if c.Watches[0].Args[0] != "cat" || c.Watches[1].HTTP.Timeout != 3*time.Second || c.Watches[1].HTTP.Header["A"][0] != "b" {
		t.Errorf("%+v %+v", c.Watches[0], c.Watches[1])
	}
	if h := c.Health; h.EnableScripts || !h.EnableLocalScripts || h.UpdateInterval != 0 || h.OutputMaxSize != 4096 || !h.DiscardOutput || h.AgentTLS {
		t.Errorf("%+v", h)
	}
}

func TestServerSettings(t *testing.T) {
	c, err := loadText(t, "a.json", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	want := ServerOptions{Protocol: 2, RaftProtocol: 3, SessionTTLMin: 10 * time.Second,
		Raft:      Raft{Multiplier: 5, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 10240, SegmentSizeMB: 64},
		Autopilot: Autopilot{CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond, MaxTrailingLogs: 250, ServerStabilizationTime: 10 * time.Second}}
	if c.Server != want {
		t.Errorf("%+v", c.Server)
	}
	if l := c.Limits; l.KVMaxValueSize != 512<<10 || l.TxnMaxReqLen != 512<<10 || l.DefaultQueryTime != 5*time.Minute || l.MaxQueryTime != 10*time.Minute || !c.HTTP.UseCache {
		t.Errorf("%+v", l)
	}
	if c.Health.UpdateInterval != 5*time.Minute {
		t.Errorf("%+v", c.Health)
	}
	c, err = loadText(t, "a.json", `{"server":true,"performance":{"raft_multiplier":2},"raft_snapshot_threshold":1,"raft_trailing_logs":2,"raft_prevote_disabled":true,
		"raft_logstore":{"backend":"wal","disable_log_cache":true,"wal":{"segment_size_mb":8}},"autopilot":{"cleanup_dead_servers":false,"min_quorum":3},
		"session_ttl_min":"0s","limits":{"kv_max_value_size":1000000,"txn_max_req_len":5},"http_config":{"use_cache":false},"disable_coordinates":true,"translate_wan_addrs":true,"discovery_max_stale":"5s"}`)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Server
	if s.Raft.Multiplier != 2 || s.Raft.SnapshotThreshold != 1 || !s.Raft.PrevoteDisabled || !s.Raft.DisableLogCache || s.Raft.SegmentSizeMB != 8 ||
		s.Autopilot.CleanupDeadServers || s.Autopilot.MinQuorum != 3 || s.SessionTTLMin != 10*time.Second ||
		c.Limits.TxnMaxReqLen != 1000000 || c.HTTP.UseCache || !c.HTTP.DisableCoordinates || !c.HTTP.TranslateWAN || c.HTTP.DiscoveryMaxStale != 5*time.Second {
		t.Errorf("%+v %+v", s, c.Limits)
	}
}

func TestDefinitionsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"service":{}}`: `a.json:1: key "services": Missing service name`,
		`{"services":[{"name":"a"},{"name":"b","port":"x"}]}`:             `key "services[1].port" wants a whole number`,
		`{"service":{"name":"a","socket_path":"/x","port":1}}`:            "socket_path excludes",
		`{"service":{"name":"a","check":{"interval":"1s"}}}`:              `service "a": Invalid check: TTL must be > 0`,
		`{"service":{"name":"a","check":{"args":["x"],"interval":"1s"}}}`: `service "a": a check that runs a program needs "enable_local_script_checks"`,
		`{"check":{"name":"a","args":["x"],"interval":"1s"}}`:             `check "a": a check that runs a program needs "enable_local_script_checks"`,
		`{"check":{"ttl":"1s"}}`:                                          "Missing check name",
		`{"check":{"name":"a","ttl":"1s","status":"ok"}}`:                 "Bad check status",
		`{"check":{"name":"a","script":"x"}}`:                             `unknown key "check.script"`,
		`{"check":{"name":"a","ttl":"1s","interval":"1s"}}`:               "exclude each other",
		`{"watches":[{"type":"nodes"}]}`:                                  `key "watches": a watch needs a handler`,
		`{"watches":[{"type":"connect_roots","args":["a"]}]}`:             "type must be one of",
		`{"services":[null,3,"x"]}`:                                       "wants an object",
	} {
		_, err := loadText(t, "a.json", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestDiffOfDefinitions(t *testing.T) {
	dir := t.TempDir()
	read := func(text string) *Config {
		c, err := loadArgs(t, testEnv(), "-data-dir", dir, "-config-file", write(t, "a.json", text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := read(`{"services":[{"name":"a","token":"CANARY1"}],"check":{"name":"c","ttl":"1s"},"watches":[{"type":"nodes","args":["a"]}],"raft_trailing_logs":1,"check_update_interval":"1m"}`)
	b := read(`{"services":[{"name":"a","token":"CANARY2"}],"check":{"name":"c","ttl":"2s"},"watches":[{"type":"nodes","args":["b"]}],"raft_trailing_logs":2,"check_update_interval":"2m","discard_check_output":true}`)
	reload, restart := Diff(a, b)
	if want := []string{"checks", "discard_check_output", "raft_trailing_logs", "services", "watches"}; !slices.Equal(reload, want) {
		t.Errorf("%q", reload)
	}
	if want := []string{"check_update_interval"}; !slices.Equal(restart, want) {
		t.Errorf("%q", restart)
	}
	if reload, restart = Diff(a, a); reload != nil || restart != nil {
		t.Errorf("%q %q", reload, restart)
	}
	if reload, _ = Diff(a, read(`{}`)); !slices.Contains(reload, "services") {
		t.Errorf("%q", reload)
	}
	shown, err := json.Marshal(a.DebugMap())
	if err != nil || strings.Contains(string(shown), "CANARY") || !strings.Contains(string(shown), `"services":["a"]`) {
		t.Errorf("%s %v", shown, err)
	}
	if said := fmt.Sprintf("%v %+v", a.settings, a.Warnings); strings.Contains(said, "CANARY") {
		t.Errorf("leaks: %s", said)
	}
}

func TestNoErrorOfADefinitionHoldsASecret(t *testing.T) {
	for _, text := range []string{
		`{"service":{"token":"CANARY"}}`, `{"service":{"name":"a","token":["CANARY"]}}`, `{"check":{"token":"CANARY"}}`,
		`{"check":{"name":"a","http":"CANARY","interval":"1s"}}`, `{"check":{"name":"a","http":"http://x","interval":"1s","header":{"A":"CANARY\n"}}}`,
		`{"watches":[{"type":"CANARY","token":"CANARY"}]}`, `{"watches":[{"type":"nodes","handler_type":"http","http_handler_config":{"path":"CANARY","header":{"A":["CANARY"]}}}]}`,
	} {
		if _, err := loadText(t, "a.json", text); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
