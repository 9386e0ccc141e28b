package local_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/checks"
	"lictor/agent/local"
)

func hashed(dir, sub, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(dir, sub, hex.EncodeToString(sum[:]))
}

func TestRegistrationsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := newState(t, local.Config{DataDir: dir, AllowScripts: true})
	svc := service("w1", &checks.Definition{HTTP: "http://127.0.0.1:1/", Interval: time.Hour, Header: map[string][]string{"A": {"b"}}, Token: "t2"})
	svc.Token = "t1"
	must(t, s.RegisterService(svc, false))
	must(t, s.RegisterService(service("w2"), false))
	must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: time.Hour}))
	must(t, s.RegisterCheck(&checks.Definition{Name: "run", Args: []string{"true"}, Interval: time.Hour}))
	must(t, s.UpdateTTL("n", "warning", "hm"))
	must(t, s.NodeMaintenance(true, "why", ""))
	must(t, s.ServiceMaintenance("w1", true, "", ""))
	must(t, s.DeregisterService("w2"))

	for _, sub := range []string{"services", "checks", "checks/state"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil || len(entries) == 0 {
			t.Fatal(sub, err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || !e.IsDir() && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
			}
		}
	}
	var kept struct {
		Token   string
		Service struct{ ID, Service string }
		Source  string
	}
	b, err := os.ReadFile(hashed(dir, "services", "w1"))
	if err != nil || json.Unmarshal(b, &kept) != nil || kept.Token != "t1" || kept.Service.ID != "w1" || kept.Source != "remote" {
		t.Errorf("%s %v", b, err)
	}

	again := newState(t, local.Config{DataDir: dir, AllowScripts: true})
	if got := again.Services(); len(got) != 1 || got["w1"].Port != 80 || got["w1"].Tags[0] != "a" {
		t.Errorf("%v", got)
	}
	all := again.Checks()
	if len(all) != 5 || all["n"].Status != "warning" || all["n"].Output != "hm" || all["service:w1"].Type != "http" || all["service:w1"].ServiceName != "web" ||
		all["_node_maintenance"].Notes != "why" || all["_service_maintenance:w1"].Type != "maintenance" || all["run"].Type != "script" {
		t.Errorf("%v", all)
	}
	// Where scripts are not allowed any more, a kept one does not run.
	if all := newState(t, local.Config{DataDir: dir}).Checks(); all["run"] != nil || len(all) != 4 {
		t.Errorf("%v", all)
	}
	must(t, again.DeregisterService("w1"))
	must(t, again.DeregisterCheck("n"))
	must(t, again.NodeMaintenance(false, "", ""))
	if last := newState(t, local.Config{DataDir: dir}); len(last.Services())+len(last.Checks()) != 0 {
		t.Errorf("%v %v", last.Services(), last.Checks())
	}
}

func TestFilesOfTheFamilyAreRead(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "checks", "state"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "services"), 0o700))
	must(t, os.WriteFile(hashed(dir, "services", "r"), []byte(`{"Token":"","Service":{"Kind":"","ID":"r","Service":"redis","Tags":null,"Address":"","TaggedAddresses":null,
		"Meta":null,"Port":6379,"SocketPath":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{}},"Source":"remote"}`), 0o600))
	must(t, os.WriteFile(hashed(dir, "checks", "c"), []byte(`{"Check":{"Node":"n1","CheckID":"c","Name":"C","Status":"critical","ServiceID":"r","Definition":{"Interval":"0s"}},
		"ChkType":{"CheckID":"c","Name":"C","ScriptArgs":null,"TCP":"127.0.0.1:6379","Interval":10000000000,"Timeout":0,"TTL":0,"Header":null,"ProxyHTTP":"","OutputMaxSize":4096},"Token":"","Source":"remote"}`), 0o600))
	s := newState(t, local.Config{DataDir: dir})
	if hc := s.Checks()["c"]; hc == nil || hc.Type != "tcp" || hc.Interval != "10s" || hc.ServiceName != "redis" {
		t.Errorf("%+v %v", hc, s.Services())
	}
}

// A report counts for one TTL at the most, whatever the clock or the definition
// was when it came.
func TestTTLStateCountsForOneTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		with := func(ttl time.Duration) *local.State {
			return newState(t, local.Config{DataDir: dir, Checks: []*checks.Definition{{Name: "n", TTL: ttl}}})
		}
		must(t, with(time.Hour).UpdateTTL("n", "passing", "ok"))
		s := with(20 * time.Second)
		stop := start(t, s)
		defer stop()
		time.Sleep(19 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["n"]; hc.Status != "passing" {
			t.Errorf("%+v", hc)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["n"]; hc.Status != "critical" {
			t.Errorf("%+v", hc)
		}
	})
}

func TestTTLStateCountsUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		def := &checks.Definition{Name: "n", TTL: 20 * time.Second}
		s := newState(t, local.Config{DataDir: dir})
		must(t, s.RegisterCheck(def))
		must(t, s.UpdateTTL("n", "passing", "ok"))
		time.Sleep(15 * time.Second)
		s = newState(t, local.Config{DataDir: dir})
		stop := start(t, s)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["n"]; hc.Status != "passing" || hc.Output != "ok" {
			t.Errorf("%+v", hc)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["n"]; hc.Status != "critical" {
			t.Errorf("a restart made the report last longer: %+v", hc)
		}
		stop()
		s = newState(t, local.Config{DataDir: dir})
		if hc := s.Checks()["n"]; hc.Status != "critical" || hc.Output != "" {
			t.Errorf("%+v", hc)
		}
	})
}

func TestDamagedFilesAreReportedAndKept(t *testing.T) {
	dir := t.TempDir()
	s := newState(t, local.Config{DataDir: dir})
	must(t, s.RegisterService(service("good"), false))
	must(t, s.RegisterService(service("bad", &checks.Definition{TTL: time.Hour, Token: "CANARY"}), false))
	must(t, s.RegisterCheck(&checks.Definition{Name: "n", TTL: time.Hour}))
	must(t, s.UpdateTTL("n", "passing", ""))
	damaged := map[string]string{
		hashed(dir, "services", "bad"):                     `{"Service":{"ID":"bad","Ser`,
		hashed(dir, "services", "other"):                   `{"Service":{"ID":"bad","Service":"web"}}`,
		hashed(dir, "services", "null"):                    `null`,
		hashed(dir, "services", "unnamed"):                 `{"Service":{"ID":"unnamed"}}`,
		hashed(dir, "checks", "x"):                         "\x00\x00",
		hashed(dir, "checks", "y"):                         `{"Check":{"CheckID":"y","Name":"y"},"ChkType":{"Interval":"CANARY"}}`,
		hashed(dir, "checks", "z"):                         `{"Check":{"CheckID":"z","Name":"z"},"ChkType":{}}`,
		hashed(dir, filepath.Join("checks", "state"), "n"): ``,
	}
	for path, text := range damaged {
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "services", ".abc-123"), []byte(`half`), 0o600))
	var said bytes.Buffer
	s = newState(t, local.Config{DataDir: dir, Log: hclog.New(&hclog.LoggerOptions{Output: &said})})
	if got := s.Services(); len(got) != 1 || got["good"] == nil {
		t.Errorf("%v", got)
	}
	if got := s.Checks(); len(got) != 1 || got["n"].Status != "critical" {
		t.Errorf("%v", got)
	}
	damaged[hashed(dir, "checks", "service:bad")] = "" // its service is not there
	for path, text := range damaged {
		if !strings.Contains(said.String(), path) {
			t.Errorf("%s is not reported", path)
		}
		if b, err := os.ReadFile(path); err != nil || text != "" && string(b) != text {
			t.Errorf("%s was changed: %q %v", path, b, err)
		}
	}
	if strings.Contains(said.String(), "CANARY") || strings.Contains(said.String(), ".abc-123") {
		t.Errorf("%s", said.String())
	}
}

func TestConfigurationCountsOverWhatWasKept(t *testing.T) {
	dir := t.TempDir()
	s := newState(t, local.Config{DataDir: dir})
	must(t, s.RegisterService(service("w1", &checks.Definition{ID: "c", TTL: time.Hour}), false))
	file := service("w1")
	file.Port = 9
	s = newState(t, local.Config{DataDir: dir, Services: []*local.Service{file}})
	if got := s.Services(); got["w1"].Port != 9 || s.Checks()["c"] == nil {
		t.Errorf("%v", got)
	}
	s = newState(t, local.Config{DataDir: dir})
	if got := s.Services(); len(got) != 0 {
		t.Errorf("what the configuration took over came back: %v", got)
	}
}

func TestWhatCannotBeKeptIsNotRegistered(t *testing.T) {
	dir := t.TempDir()
	s := newState(t, local.Config{DataDir: dir})
	must(t, s.RegisterService(service("w0"), false))
	// A directory where the file of the check should be.
	must(t, os.Mkdir(hashed(dir, "checks", "service:w1"), 0o700))
	if err := s.RegisterService(service("w1", &checks.Definition{TTL: time.Hour}), false); err == nil {
		t.Error("registered, although it cannot be kept")
	}
	if len(s.Services()) != 1 || len(s.Checks()) != 0 {
		t.Errorf("%v", s.Services())
	}
	if _, err := os.Stat(hashed(dir, "services", "w1")); err == nil {
		t.Error("half of it was kept")
	}
}
