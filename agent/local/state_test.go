package local_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

func TestRegisterService(t *testing.T) {
	s := newState(t, local.Config{})
	before := s.Changed()
	must(t, s.RegisterService(service("w1", &checks.Definition{TTL: time.Minute}, &checks.Definition{TTL: time.Hour, Status: "passing", Name: "two"}), false))
	select {
	case <-before:
	default:
		t.Error("a registration is no change")
	}
	ns, ok := s.Service("w1")
	if !ok || ns.Port != 80 || *ns.Weights != (wire.Weights{Passing: 1, Warning: 1}) || ns.Meta == nil {
		t.Errorf("%+v", ns)
	}
	all := s.Checks()
	one, two := all["service:w1:1"], all["service:w1:2"]
	if len(all) != 2 || one.Status != "critical" || one.Type != "ttl" || one.Node != "n1" || one.ServiceName != "web" || !slices.Equal(one.ServiceTags, []string{"a"}) ||
		one.Name != "Service 'web' check" || two.Status != "passing" || two.Name != "two" {
		t.Errorf("%+v %+v", one, two)
	}
	// Registered again, a check that stays as it was goes on; others stay unless told otherwise.
	must(t, s.UpdateTTL("service:w1:1", "passing", "fine"))
	must(t, s.RegisterService(service("w1", &checks.Definition{ID: "service:w1:1", TTL: time.Minute}), false))
	if all = s.Checks(); len(all) != 2 || all["service:w1:1"].Status != "passing" || all["service:w1:1"].Output != "fine" {
		t.Errorf("%+v", all["service:w1:1"])
	}
	// One that changes keeps its status.
	again := service("w1", &checks.Definition{ID: "service:w1:1", TTL: 2 * time.Minute})
	again.Tags = []string{"b"}
	must(t, s.RegisterService(again, true))
	if all = s.Checks(); len(all) != 1 || all["service:w1:1"].Status != "passing" || !slices.Equal(all["service:w1:1"].ServiceTags, []string{"b"}) {
		t.Errorf("%+v", all)
	}
	must(t, s.DeregisterService("w1"))
	if len(s.Services()) != 0 || len(s.Checks()) != 0 {
		t.Error("something is left")
	}
	if got := s.Stats(); got["services"] != "0" || got["checks"] != "0" || got["check_ttls"] != "0" {
		t.Errorf("%v", got)
	}
}

func TestRefusals(t *testing.T) {
	s := newState(t, local.Config{AllowLocalScripts: true})
	must(t, s.RegisterService(service("w1"), false))
	must(t, s.RegisterCheck(&checks.Definition{Name: "h", TCP: "127.0.0.1:1", Interval: time.Hour}))
	script := &checks.Definition{Name: "s", Args: []string{"true"}, Interval: time.Hour}
	same := &checks.Definition{ID: "x", TTL: time.Minute}
	for _, tc := range []struct {
		err  error
		want error
		text string
	}{
		{s.RegisterService(&local.Service{}, false), local.ErrInvalid, "Missing service name"},
		{s.RegisterService(service("a", script), false), local.ErrScriptsDisabled, "Scripts are disabled on this agent from remote calls"},
		{s.RegisterService(service("a", same, same), false), local.ErrInvalid, "two checks"},
		{s.RegisterCheck(script), local.ErrScriptsDisabled, "enable_script_checks"},
		{s.RegisterCheck(&checks.Definition{Name: "d", DockerContainer: "c", Args: []string{"true"}, Interval: time.Hour}), local.ErrScriptsDisabled, ""},
		{s.RegisterCheck(&checks.Definition{TTL: 1}), local.ErrInvalid, "Missing check name"},
		{s.RegisterCheck(&checks.Definition{Name: "a", TTL: 1, Status: "ok"}), local.ErrInvalid, "Bad check status"},
		{s.RegisterCheck(&checks.Definition{Name: "a\n", TTL: 1}), local.ErrInvalid, "Invalid check: its id holds a control character"},
		{s.RegisterCheck(&checks.Definition{Name: "a"}), local.ErrInvalid, "Invalid check: TTL must be > 0"},
		{s.RegisterCheck(&checks.Definition{Name: "a", TTL: 1, ServiceID: "zz"}), local.ErrUnknownService, `ServiceID "zz" does not exist`},
		{s.DeregisterService("web"), local.ErrUnknownService, `Unknown service ID "web". Ensure that the service ID is passed, not the service name.`},
		{s.DeregisterCheck("x"), local.ErrUnknownCheck, `Unknown check ID "x"`},
		{s.UpdateTTL("x", "passing", ""), local.ErrUnknownCheck, ""},
		{s.UpdateTTL("h", "passing", ""), local.ErrInvalid, "does not have associated TTL"},
		{s.ServiceMaintenance("zz", true, "", ""), local.ErrUnknownService, "zz"},
	} {
		if !errors.Is(tc.err, tc.want) || !strings.Contains(tc.err.Error(), tc.text) {
			t.Errorf("%v, want %v %q", tc.err, tc.want, tc.text)
		}
	}
	must(t, s.RegisterCheck(&checks.Definition{Name: "t", TTL: time.Hour}))
	if err := s.UpdateTTL("t", "fine", ""); !errors.Is(err, local.ErrInvalid) || err.Error() != "Invalid check status: 'fine'" {
		t.Error(err)
	}
	// Files may where they were allowed to.
	file := *script
	file.Source = checks.SourceLocal
	must(t, s.RegisterCheck(&file))
	if _, err := local.New(local.Config{Checks: []*checks.Definition{script}}); !errors.Is(err, local.ErrScriptsDisabled) || !strings.Contains(err.Error(), "enable_local_script_checks") {
		t.Error(err)
	}
}

func TestMaintenance(t *testing.T) {
	s := newState(t, local.Config{})
	must(t, s.RegisterService(service("w1"), false))
	must(t, s.ServiceMaintenance("w1", true, "", ""))
	must(t, s.NodeMaintenance(true, "disk", ""))
	all := s.Checks()
	if m := all["_service_maintenance:w1"]; m == nil || m.Status != "critical" || m.Type != "maintenance" || m.ServiceID != "w1" || !strings.Contains(m.Notes, "no reason") {
		t.Errorf("%+v", m)
	}
	if m := all["_node_maintenance"]; m == nil || m.Status != "critical" || m.Notes != "disk" || m.ServiceID != "" {
		t.Errorf("%+v", m)
	}
	must(t, s.NodeMaintenance(true, "cpu", ""))
	if m := s.Checks()["_node_maintenance"]; m.Notes != "cpu" {
		t.Errorf("%+v", m)
	}
	must(t, s.RegisterService(service("w1"), true)) // maintenance is not of the registration
	if s.Checks()["_service_maintenance:w1"] == nil {
		t.Error("a new registration ends maintenance")
	}
	must(t, s.ServiceMaintenance("w1", false, "", ""))
	must(t, s.NodeMaintenance(false, "", ""))
	must(t, s.NodeMaintenance(false, "", ""))
	if len(s.Checks()) != 0 {
		t.Errorf("%v", s.Checks())
	}
}

func TestReload(t *testing.T) {
	file := func(id string, port int, defs ...*checks.Definition) *local.Service {
		svc := service(id, defs...)
		svc.Port = port
		return svc
	}
	ttl := func(id string) *checks.Definition { return &checks.Definition{ID: id, Name: id, TTL: time.Hour} }
	s := newState(t, local.Config{
		Services: []*local.Service{file("a", 1, ttl("a1"), ttl("a2")), file("b", 1)},
		Checks:   []*checks.Definition{ttl("n1"), ttl("n2")},
	})
	must(t, s.RegisterService(file("api", 1), false))
	must(t, s.RegisterCheck(&checks.Definition{ID: "extra", Name: "x", TTL: time.Hour, ServiceID: "a"}))
	for _, id := range []string{"a1", "a2", "n1", "extra"} {
		must(t, s.UpdateTTL(id, "passing", "ok"))
	}
	withService := ttl("n3")
	withService.ServiceID = "c"
	s.Reload([]*local.Service{file("a", 2, ttl("a1")), file("c", 1)}, []*checks.Definition{ttl("n1"), withService})
	services, all := s.Services(), s.Checks()
	if len(services) != 3 || services["a"].Port != 2 || services["c"] == nil || services["api"] == nil {
		t.Errorf("%v", services)
	}
	if len(all) != 4 || all["a1"].Status != "passing" || all["n1"].Status != "passing" || all["extra"] == nil || all["n3"].ServiceName != "web" {
		t.Errorf("%v", all)
	}
	s.Reload(nil, nil)
	if services = s.Services(); len(services) != 1 || len(s.Checks()) != 0 {
		t.Errorf("%v %v", services, s.Checks())
	}
}

func TestChecksRunAndDeregister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(t, local.Config{})
		must(t, s.RegisterService(service("w1", &checks.Definition{TTL: 10 * time.Second, DeregisterCriticalAfter: time.Second}), false))
		must(t, s.RegisterService(service("w2", &checks.Definition{TTL: 10 * time.Second}), false))
		must(t, s.UpdateTTL("service:w1", "passing", ""))
		must(t, s.UpdateTTL("service:w2", "passing", ""))
		stop := start(t, s)
		defer stop()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["service:w1"]; hc.Status != "critical" || !strings.Contains(hc.Output, "TTL expired") {
			t.Errorf("%+v", hc)
		}
		must(t, s.UpdateTTL("service:w1", "warning", "late"))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if hc := s.Checks()["service:w1"]; hc.Status != "warning" {
			t.Errorf("%+v", hc)
		}
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if !s.HasService("w1") {
			t.Error("removed before it was critical for the shortest allowed time")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.HasService("w1") || !s.HasService("w2") {
			t.Errorf("%v", s.Services())
		}
	})
}

func TestAliasFollowsTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(t, local.Config{})
		must(t, s.RegisterService(service("w1", &checks.Definition{TTL: time.Hour}), false))
		must(t, s.RegisterService(service("side", &checks.Definition{AliasService: "w1"}), false))
		stop := start(t, s)
		defer stop()
		for _, status := range []string{"passing", "warning", "critical", "passing"} {
			must(t, s.UpdateTTL("service:w1", status, "x"))
			synctest.Wait()
			if hc := s.Checks()["service:side"]; hc.Status != status {
				t.Errorf("%s: %+v", status, hc)
			}
		}
		must(t, s.DeregisterService("w1"))
		synctest.Wait()
		if hc := s.Checks()["service:side"]; hc.Status != "critical" {
			t.Errorf("%+v", hc)
		}
	})
}

func TestDiscardOutput(t *testing.T) {
	s := newState(t, local.Config{DiscardOutput: true})
	must(t, s.RegisterCheck(&checks.Definition{Name: "t", TTL: time.Hour}))
	must(t, s.UpdateTTL("t", "passing", "secret"))
	if hc := s.Checks()["t"]; hc.Output != "" || hc.Status != "passing" {
		t.Errorf("%+v", hc)
	}
	s.SetDiscardOutput(false)
	must(t, s.UpdateTTL("t", "passing", "now"))
	if hc := s.Checks()["t"]; hc.Output != "now" {
		t.Errorf("%+v", hc)
	}
}

func TestStatusOfARegistration(t *testing.T) {
	s := newState(t, local.Config{})
	def := &checks.Definition{Name: "t", TTL: time.Hour, Status: "warning"}
	must(t, s.RegisterCheck(def))
	must(t, s.UpdateTTL("t", "critical", "x"))
	must(t, s.RegisterCheck(def))
	if hc := s.Checks()["t"]; hc.Status != "warning" {
		t.Errorf("%+v", hc)
	}
}
