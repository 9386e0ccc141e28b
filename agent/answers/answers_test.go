package answers

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"reflect"
	"testing"
	"testing/quick"

	"lictor/rpc/wire"
)

// same fails unless got is what encoding/json makes of v, once the fields that
// the family's API has besides, in extra, are left out.
func same(t *testing.T, got []byte, v any, extra ...string) {
	t.Helper()
	want, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal(want, &b); err != nil {
		t.Fatal(err)
	}
	m := a.(map[string]any)
	for _, k := range extra {
		if _, ok := m[k]; !ok {
			t.Errorf("%s is not there: %s", k, got)
		}
		delete(m, k)
	}
	var lists func(v any) any // null lists and maps are as good as empty ones
	lists = func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		for k, v := range m {
			switch v := v.(type) {
			case nil:
				delete(m, k)
			case []any:
				if len(v) == 0 {
					delete(m, k)
				}
			case map[string]any:
				if lists(v); len(v) == 0 {
					delete(m, k)
				}
			}
		}
		return m
	}
	if !reflect.DeepEqual(lists(a), lists(b)) {
		t.Errorf("appended %s\nmarshalled %s", got, want)
	}
}

// What is put together by hand is what encoding/json makes of the same value.
func TestAppendedAsMarshalled(t *testing.T) {
	check := func(name string, fn any) {
		t.Helper()
		if err := quick.Check(fn, &quick.Config{MaxCount: 200, Rand: rand.New(rand.NewSource(1))}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("DirEntry", func(e wire.DirEntry) bool {
		if len(e.Value) == 0 {
			e.Value = nil
		}
		want, err := json.Marshal(e)
		return err == nil && bytes.Equal(AppendDirEntry(nil, &e), want)
	})
	check("Node", func(n wire.Node) bool {
		n.Partition, n.PeerName = "", ""
		want, err := json.Marshal(n)
		got := AppendNode(nil, &n)
		if n.Locality != nil { // in another place than encoding/json has it
			same(t, got, n)
			return true
		}
		return err == nil && bytes.Equal(got, want)
	})
	check("NodeService", func(s wire.NodeService) bool {
		s.PeerName = ""
		if s.Weights == nil {
			s.Weights = &wire.Weights{Passing: 1, Warning: 1}
		}
		same(t, AppendNodeService(nil, &s), s, "Proxy", "Connect", "PeerName")
		return !t.Failed()
	})
	check("ServiceNode", func(s wire.ServiceNode) bool {
		s.PeerName = ""
		same(t, AppendServiceNode(nil, &s), s, "ServiceProxy", "ServiceConnect")
		return !t.Failed()
	})
	check("HealthCheck", func(c wire.HealthCheck) bool {
		c.PeerName = ""
		same(t, AppendCheck(nil, &c), c)
		return !t.Failed()
	})
	check("NodeInfo", func(n wire.NodeInfo) bool {
		n.Partition, n.PeerName, n.Services, n.Checks = "", "", nil, nil
		same(t, AppendNodeInfo(nil, &n), n)
		return !t.Failed()
	})
	check("Session", func(s wire.Session) bool {
		same(t, AppendSession(nil, &s), s)
		return !t.Failed()
	})
}

// A field that was added to the definition must not make it look empty.
func TestEmptyDefinition(t *testing.T) {
	if !emptyDefinition(&wire.HealthCheckDefinition{}) {
		t.Error("the empty one is not")
	}
	typ := reflect.TypeFor[wire.HealthCheckDefinition]()
	for i := range typ.NumField() {
		d := reflect.New(typ)
		f := d.Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int, reflect.Int64:
			f.SetInt(1)
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string][]string{"a": {"b"}}))
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"a"}))
		default:
			t.Fatalf("%s: %s", typ.Field(i).Name, f.Kind())
		}
		if emptyDefinition(d.Interface().(*wire.HealthCheckDefinition)) {
			t.Errorf("%s does not count", typ.Field(i).Name)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", `"\`, "<&>", "\x00\x1f\x7f", "ü\u2028", "\xff\xfe", "a\tb"} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
