package checks_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lictor/agent/checks"
)

func parse(t testing.TB, text string) (*checks.Definition, error) {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return checks.Parse(raw)
}

func TestParseSpellings(t *testing.T) {
	want := &checks.Definition{
		ID: "web", Name: "Web", ServiceID: "s", HTTP: "http://127.0.0.1/", Header: map[string][]string{"A": {"b", "c"}},
		Interval: 10 * time.Second, Timeout: time.Second, TLSSkipVerify: true, DeregisterCriticalAfter: time.Hour, FailuresBeforeCritical: 3,
	}
	for _, text := range []string{
		`{"id":"web","name":"Web","service_id":"s","http":"http://127.0.0.1/","header":{"A":["b","c"]},"interval":"10s","timeout":"1s","tls_skip_verify":true,"deregister_critical_service_after":"1h","failures_before_critical":3}`,
		`{"ID":"web","Name":"Web","ServiceID":"s","HTTP":"http://127.0.0.1/","Header":{"A":["b","c"]},"Interval":10000000000,"Timeout":"1000ms","TLSSkipVerify":true,"DeregisterCriticalServiceAfter":"60m","FailuresBeforeCritical":3}`,
		`{"CheckID":"web","name":"Web","serviceid":"s","http":"http://127.0.0.1/","header":{"A":["b","c"]},"interval":"10s","timeout":"1s","tlsskipverify":true,"deregistercriticalserviceafter":"1h","Failures_Before_Critical":3,"TTL":null,"Namespace":""}`,
	} {
		got, err := parse(t, text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
}

func TestParseTakesWhatTheClientLibrarySends(t *testing.T) {
	b, err := json.Marshal(api.AgentCheckRegistration{ID: "x", Name: "y", Notes: "n", ServiceID: "s", AgentServiceCheck: api.AgentServiceCheck{
		Args: []string{"true"}, Interval: "5s", Timeout: "1s", Status: "passing", H2PING: "", SuccessBeforePassing: 2,
	}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := parse(t, string(b))
	if err != nil || d.Kind() != checks.KindScript || d.Interval != 5*time.Second || d.Status != "passing" || d.SuccessBeforePassing != 2 || d.ID != "x" {
		t.Errorf("%+v %v", d, err)
	}
	if d, err := parse(t, `{"h2ping":"a:1","interval":"1s"}`); err != nil || !d.H2PingUseTLS {
		t.Errorf("h2ping is over TLS unless told otherwise: %+v %v", d, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"Bogus":1}`:                    `unknown key "Bogus"`,
		`{"script":"x"}`:                 `unknown key "script"`,
		`{"interval":"CANARY"}`:          `key "interval" wants a duration`,
		`{"interval":-1}`:                `must not be negative`,
		`{"interval":1.5}`:               `wants a duration`,
		`{"args":"CANARY"}`:              `key "args" wants a list of strings`,
		`{"args":[1]}`:                   `wants a list of strings`,
		`{"token":7}`:                    `key "token" wants a string`,
		`{"tcp_use_tls":"true"}`:         `wants true or false`,
		`{"output_max_size":4294967296}`: `wants a whole number`,
		`{"header":{"a":1}}`:             `wants a map`,
		`{"tls_skip_verify":true,"TLSSkipVerify":true}`: `are the same`,
		`{"namespace":"x"}`:                             `can only be "default"`,
	} {
		_, err := parse(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestKindAndValidate(t *testing.T) {
	for _, tc := range []struct{ text, kind, err string }{
		{`{"args":["true"],"interval":"1s"}`, "script", ""},
		{`{"args":["true"],"docker_container_id":"x","interval":"1s"}`, "docker", ""},
		{`{"http":"http://x/","interval":"1s"}`, "http", ""},
		{`{"tcp":"x:1","interval":"1s"}`, "tcp", ""},
		{`{"udp":"x:1","interval":"1s"}`, "udp", ""},
		{`{"grpc":"x:1/svc","interval":"1s"}`, "grpc", ""},
		{`{"h2ping":"x:1","interval":"1s"}`, "h2ping", ""},
		{`{"os_service":"ssh","interval":"1s"}`, "os_service", ""},
		{`{"ttl":"1s"}`, "ttl", ""},
		{`{"alias_service":"x"}`, "alias", ""},
		{`{"alias_node":"x"}`, "alias", ""},
		{`{}`, "", "TTL must be > 0 for TTL checks"},
		{`{"ttl":"0s"}`, "", "TTL must be > 0 for TTL checks"},
		{`{"interval":"1s"}`, "", "TTL must be > 0"},
		{`{"args":["true"]}`, "script", "interval must be more than zero"},
		{`{"ttl":"1s","interval":"1s"}`, "ttl", "exclude each other"},
		{`{"alias_node":"x","interval":"1s"}`, "alias", "not for alias"},
		{`{"alias_node":"x","ttl":"1s"}`, "alias", "alias and ttl"},
		{`{"http":"http://x/","ttl":"1s","interval":"1s"}`, "http", "http and ttl"},
		{`{"http":"http://x/","tcp":"x:1","interval":"1s"}`, "http", "http and tcp"},
		{`{"docker_container_id":"x","interval":"1s"}`, "docker", "name a program"},
		{`{"http":"ftp://x/","interval":"1s"}`, "http", "must be a URL"},
		{`{"http":"http://","interval":"1s"}`, "http", "must be a URL"},
		{`{"http":"http://x/","method":"A B","interval":"1s"}`, "http", "method"},
		{`{"http":"http://x/","header":{"a":["b\r\nc: d"]},"interval":"1s"}`, "http", "header"},
		{`{"tcp":"x","interval":"1s"}`, "tcp", "host:port"},
		{`{"os_service":"-x","interval":"1s"}`, "os_service", "name of a service"},
		{`{"ttl":"1s","failures_before_warning":2}`, "ttl", "not be more than"},
		{`{"ttl":"1s","output_max_size":-1}`, "ttl", "must not be negative"},
	} {
		d, err := parse(t, tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if d.Kind() != tc.kind {
			t.Errorf("%s: kind %q", tc.text, d.Kind())
		}
		err = d.Validate()
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.text, err, tc.err)
		}
	}
}

func TestStoredComesBack(t *testing.T) {
	d, err := parse(t, `{"id":"a","name":"b","notes":"c","service_id":"d","status":"warning","h2ping":"x:1","h2ping_use_tls":false,"header":{"a":["b"]},
		"method":"PUT","body":"x","disable_redirects":true,"interval":"3s","timeout":"2s","tls_server_name":"n","tls_skip_verify":true,"output_max_size":9,
		"success_before_passing":1,"failures_before_warning":2,"failures_before_critical":3,"deregister_critical_service_after":"90m"}`)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d.Stored())
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	raw["FromTheFuture"] = 1.0
	got, err := checks.ParseStored(raw)
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("%+v %v, want %+v", got, err, d)
	}
}
