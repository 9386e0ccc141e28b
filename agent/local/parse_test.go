package local_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"lictor/agent/local"
	"lictor/rpc/wire"
)

func parse(t testing.TB, text string) (*local.Service, error) {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return local.ParseService(raw)
}

func TestParseService(t *testing.T) {
	for _, text := range []string{
		`{"id":"w1","name":"web","tags":["a"],"address":"10.0.0.1","port":80,"tagged_addresses":{"lan":{"address":"10.0.0.2","port":81}},"meta":{"k":"v"},
			"token":"t","weights":{"passing":3},"enable_tag_override":true,"locality":{"region":"r","zone":"z"},"checks":[{"ttl":"1s"}],"check":{"ttl":"2s"},"connect":{}}`,
		`{"ID":"w1","Name":"web","Tags":["a"],"Address":"10.0.0.1","Port":80,"TaggedAddresses":{"lan":{"Address":"10.0.0.2","Port":81}},"Meta":{"k":"v"},
			"Token":"t","Weights":{"Passing":3,"Warning":1},"EnableTagOverride":true,"Locality":{"Region":"r","Zone":"z"},"Checks":[{"TTL":"1s"}],"Check":{"TTL":"2s"},"Connect":{},"Proxy":null}`,
	} {
		s, err := parse(t, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		want := wire.NodeService{ID: "w1", Service: "web", Tags: []string{"a"}, Address: "10.0.0.1", Port: 80, Meta: map[string]string{"k": "v"},
			TaggedAddresses: map[string]wire.ServiceAddress{"lan": {Address: "10.0.0.2", Port: 81}}, Weights: &wire.Weights{Passing: 3, Warning: 1},
			EnableTagOverride: true, Locality: &wire.Locality{Region: "r", Zone: "z"}}
		if !reflect.DeepEqual(s.NodeService, want) || s.Token != "t" || len(s.Checks) != 2 || s.Checks[0].TTL != time.Second ||
			s.Checks[1].TTL != 2*time.Second || !reflect.DeepEqual(s.Ignored, []string{"connect"}) {
			t.Errorf("%+v", s)
		}
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseServiceOfTheClientLibrary(t *testing.T) {
	b, err := json.Marshal(api.AgentServiceRegistration{ID: "x", Name: "y", Port: 1, Weights: &api.AgentWeights{Passing: 2, Warning: 0},
		Check: &api.AgentServiceCheck{HTTP: "http://127.0.0.1/", Interval: "5s"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(t, string(b))
	if err != nil || s.Service != "y" || len(s.Checks) != 1 || *s.Weights != (wire.Weights{Passing: 2}) || s.Validate() != nil {
		t.Errorf("%+v %v", s, err)
	}
}

func TestServiceRefused(t *testing.T) {
	big := map[string]any{}
	for i := range 65 {
		big["k"+string(rune('A'+i%26))+string(rune('A'+i/26))] = "v"
	}
	meta, _ := json.Marshal(big)
	for text, want := range map[string]string{
		`{}`:                         "Missing service name",
		`{"name":"a\nb"}`:            "Invalid service name",
		`{"name":"a","id":"\u007f"}`: "Invalid service name",
		`{"name":"a","check":{"ttl":"1s","checkid":"\t"}}`: "Invalid check: its id",
		`{"name":"consul"}`:                                 "Invalid service ID",
		`{"name":"a","address":"::"}`:                       "Invalid service address",
		`{"name":"a","address":"0.0.0.0"}`:                  "Invalid service address",
		`{"name":"a","socket_path":"/x","port":1}`:          "socket_path excludes",
		`{"name":"a","weights":{"passing":0}}`:              "Invalid Weights: Passing",
		`{"name":"a","weights":{"warning":70000}}`:          "Invalid Weights: Warning",
		`{"name":"a","meta":{"consul-x":"y"}}`:              "Invalid Service Meta: names that begin",
		`{"name":"a","meta":{"a b":"y"}}`:                   "Invalid Service Meta",
		`{"name":"a","meta":` + string(meta) + `}`:          "65 pairs",
		`{"name":"a","check":{"interval":"1s"}}`:            "Invalid check: TTL must be > 0",
		`{"name":"a","check":{"ttl":"1s","status":"fine"}}`: "Status for checks must",
		`{"name":"a","bogus":1}`:                            `unknown key "bogus"`,
		`{"name":"a","check":{"bogus":1}}`:                  `key "check" of a service: unknown key "bogus"`,
		`{"name":"a","checks":{}}`:                          "wants a list of objects",
		`{"name":"a","checks":[1]}`:                         "wants an object",
		`{"name":"a","tagged_addresses":{"lan":"x"}}`:       "wants an address",
		`{"name":1}`:              `key "name" wants a string`,
		`{"name":"a","tags":"x"}`: "wants a list of strings",
	} {
		s, err := parse(t, text)
		if err == nil {
			err = s.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
