package watches_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"lictor/agent/watches"
)

func parse(t testing.TB, text string) (*watches.Definition, error) {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return watches.Parse(raw)
}

func TestParse(t *testing.T) {
	const h = `,"args":["true"]}`
	for _, text := range []string{
		`{"type":"key","key":"a","stale":true,"token":"t","datacenter":"dc2"` + h,
		`{"type":"keyprefix","prefix":"a/"` + h,
		`{"type":"services"` + h,
		`{"type":"nodes","filter":"x"` + h,
		`{"type":"service","service":"web","tag":"a","passingonly":true` + h,
		`{"type":"service","service":"web","tag":["a","b"]` + h,
		`{"type":"checks","state":"critical"` + h,
		`{"type":"checks","service":"web"` + h,
		`{"type":"event","name":"deploy"` + h,
		`{"type":"agent_service","service_id":"w1"` + h,
		`{"type":"nodes","handler":"cat"}`,
		`{"type":"nodes","handler_type":"script","args":["cat"]}`,
		`{"type":"nodes","handler_type":"http","http_handler_config":{"path":"http://127.0.0.1/","method":"PUT","header":{"A":["b"]},"timeout":"1s","tls_skip_verify":true}}`,
	} {
		if d, err := parse(t, text); err != nil || (d.HTTP == nil) == (len(d.Args) == 0) {
			t.Errorf("%s: %+v %v", text, d, err)
		}
	}
	for text, want := range map[string]string{
		`{"args":["true"]}`:                              "type must be one of",
		`{"type":"connect_roots"` + h:                    "type must be one of",
		`{"type":"key"` + h:                              "must specify a single key",
		`{"type":"keyprefix"` + h:                        "must specify a single prefix",
		`{"type":"service"` + h:                          "must specify a single service",
		`{"type":"checks","service":"a","state":"b"` + h: "cannot specify service and state",
		`{"type":"nodes","key":"a"` + h:                  "invalid parameters: [key]",
		`{"type":"nodes","bogus":"a"` + h:                `unknown key "bogus"`,
		`{"type":"nodes","stale":"CANARY"` + h:           `key "stale" wants true or false`,
		`{"type":"service","service":"a","tag":1` + h:    "wants a string or a list",
		`{"type":"nodes"}`:                               "needs a handler",
		`{"type":"nodes","args":[]}`:                     "needs a handler",
		`{"type":"nodes","args":["a"],"handler":"b"}`:    "exclude each other",
		`{"type":"nodes","handler_type":"mail"}`:         "must be script or http",
		`{"type":"nodes","handler_type":"http"}`:         "needs http_handler_config",
		`{"type":"nodes","handler_type":"http","args":["a"],"http_handler_config":{}}`:                                  "not for handler_type http",
		`{"type":"nodes","args":["a"],"http_handler_config":{}}`:                                                        "needs handler_type http",
		`{"type":"nodes","handler_type":"http","http_handler_config":{}}`:                                               "path must be a URL",
		`{"type":"nodes","handler_type":"http","http_handler_config":{"path":"file:///x"}}`:                             "path must be a URL",
		`{"type":"nodes","handler_type":"http","http_handler_config":{"path":"http://x","header":{"Authorization":7}}}`: "wants a map",
	} {
		if _, err := parse(t, text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// kv is an API with one key, answered as blocking queries are.
type kv struct {
	mu      sync.Mutex
	index   int
	value   string
	changed chan struct{}
}

func newKV() *kv { return &kv{index: 1, changed: make(chan struct{})} }

func (k *kv) put(value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index, k.value = k.index+1, value
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/kv/a" || r.Header.Get("X-Consul-Token") != "t" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	for {
		k.mu.Lock()
		index, value, changed := k.index, k.value, k.changed
		k.mu.Unlock()
		if r.URL.Query().Get("index") != fmt.Sprint(index) {
			w.Header().Set("X-Consul-Index", fmt.Sprint(index))
			if value == "" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_ = json.NewEncoder(w).Encode([]map[string]any{{"Key": "a", "Value": []byte(value), "ModifyIndex": index}})
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func start(t *testing.T, s *watches.Set) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestHTTPHandler(t *testing.T) {
	got := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.Header.Get("X-Consul-Index") + " " + r.Header.Get("X-A") + " " + strings.TrimSpace(string(b))
	}))
	defer srv.Close()
	d, err := parse(t, `{"type":"key","key":"a","token":"t","handler_type":"http","http_handler_config":{"path":"`+srv.URL+`","header":{"X-A":["b"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	k := newKV()
	s := watches.New(watches.Config{API: watches.Over(k)})
	s.Replace([]*watches.Definition{d})
	stop := start(t, s)
	defer stop()
	if view := <-got; view != "POST 1 b null" {
		t.Errorf("%q", view)
	}
	k.put("x")
	if view := <-got; !strings.HasPrefix(view, `POST 2 b {"Key":"a"`) || !strings.Contains(view, `"Value":"eA=="`) {
		t.Errorf("%q", view)
	}
	// One that stays goes on without another word, one that is new speaks at once.
	other := *d
	other.HTTP = &watches.HTTPHandler{Path: srv.URL, Method: "PUT", Timeout: d.HTTP.Timeout}
	again, _ := parse(t, `{"type":"key","key":"a","token":"t","handler_type":"http","http_handler_config":{"path":"`+srv.URL+`","header":{"X-A":["b"]}}}`)
	s.Replace([]*watches.Definition{again, &other})
	if view := <-got; !strings.HasPrefix(view, "PUT 2 ") {
		t.Errorf("%q", view)
	}
	s.Replace([]*watches.Definition{again})
	k.put("y")
	if view := <-got; !strings.HasPrefix(view, "POST 3 b") {
		t.Errorf("%q", view)
	}
}

func TestScriptHandler(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	file := filepath.Join(t.TempDir(), "out")
	d, err := parse(t, `{"type":"key","key":"a","token":"t","handler":"cat > `+file+`.tmp; echo $CONSUL_INDEX >> `+file+`.tmp; mv `+file+`.tmp `+file+`; exec sleep 1000"}`)
	if err != nil {
		t.Fatal(err)
	}
	k := newKV()
	k.put("x")
	s := watches.New(watches.Config{API: watches.Over(k)})
	stop := start(t, s)
	s.Replace([]*watches.Definition{d})
	var b []byte
	for b == nil && t.Context().Err() == nil {
		b, _ = os.ReadFile(file)
		runtime.Gosched()
	}
	if text := string(b); !strings.Contains(text, `"Value":"eA=="`) || !strings.HasSuffix(text, "\n2\n") {
		t.Errorf("%q", text)
	}
	stop() // the handler sleeps, and is ended
}

func TestOverTellsOfAPanic(t *testing.T) {
	req, _ := http.NewRequest("GET", "http://x/", nil)
	if _, err := watches.Over(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") })).RoundTrip(req); err == nil {
		t.Error("no error")
	}
}
