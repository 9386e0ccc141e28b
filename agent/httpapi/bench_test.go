//go:build unix

package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"lictor/agent/answers"
	"lictor/rpc/wire"
)

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// get asks again and again over one connection and reports the CPU time of both
// ends.
func get(b *testing.B, url string) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	one := func() {
		resp, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	one()
	start := cpuTime(b)
	for b.Loop() {
		one()
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
}

const benchMembers = 50

func BenchmarkMembers(b *testing.B) {
	_, addr := serve(b, Config{Backend: newFake(b, benchMembers)}, false)
	get(b, "http://"+addr+"/v1/agent/members")
}

// floor measures what it costs to write the same bytes from a plain handler.
func floor(b *testing.B, body []byte) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	defer srv.Close()
	get(b, srv.URL)
}

func BenchmarkMembersFloor(b *testing.B) {
	body, err := json.Marshal(shown(newFake(b, benchMembers).members))
	if err != nil {
		b.Fatal(err)
	}
	floor(b, body)
}

// loaded has a key and a service with as many instances as the benchmarks of
// whole agents.
func loaded(b *testing.B) *fake {
	f := newFake(b, 1)
	f.servers.kv["key"] = &wire.DirEntry{Key: "key", Value: make([]byte, 64)}
	for i := range 50 {
		node := fmt.Sprintf("node-%d", i)
		err := f.servers.register(&wire.RegisterRequest{
			Node: node, Address: "10.0.0.1", NodeMeta: map[string]string{"consul-network-segment": "", "consul-version": "1.21.4"},
			TaggedAddresses: map[string]string{"lan": "10.0.0.1", "wan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "wan_ipv4": "10.0.0.1"},
			Service:         &wire.NodeService{ID: "web", Service: "web", Port: 80, Tags: []string{"v1", "blue"}, Meta: map[string]string{"version": "1"}},
			Checks: []*wire.HealthCheck{
				{CheckID: wire.SerfHealth, Name: "Serf Health Status", Status: wire.HealthPassing, Output: "Agent alive and reachable"},
				{CheckID: "service:web", Name: "Service 'web' check", Status: wire.HealthPassing, ServiceID: "web", ServiceName: "web", Type: "ttl"},
			},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return f
}

const (
	benchKV      = "/v1/kv/key?stale"
	benchService = "/v1/health/service/web?stale"
)

func benchmark(b *testing.B, path string) {
	_, addr := serve(b, Config{Backend: loaded(b)}, false)
	get(b, "http://"+addr+path)
}

// benchmarkFloor writes what benchmark reads.
func benchmarkFloor(b *testing.B, path string) {
	_, addr := serve(b, Config{Backend: loaded(b)}, false)
	body, err := io.ReadAll(do(b, "GET", "http://"+addr+path, "").Body)
	if err != nil {
		b.Fatal(err)
	}
	floor(b, body)
}

func BenchmarkKV(b *testing.B)           { benchmark(b, benchKV) }
func BenchmarkKVFloor(b *testing.B)      { benchmarkFloor(b, benchKV) }
func BenchmarkService(b *testing.B)      { benchmark(b, benchService) }
func BenchmarkServiceFloor(b *testing.B) { benchmarkFloor(b, benchService) }
func BenchmarkCached(b *testing.B)       { benchmark(b, benchService+"&cached") }

// BenchmarkEncode is the share of the answer that is putting it together.
func BenchmarkEncode(b *testing.B) {
	list := loaded(b).servers.instances("web")
	buf := []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = answers.AppendInstances(buf[:0], list, false)
	}
	b.SetBytes(int64(len(buf)))
}
