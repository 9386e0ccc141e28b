package httpapi

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"lictor/rpc/wire"
)

// What the servers have encoded is passed on as it is, and equals what this agent
// makes of the plain reply of servers that have only that. Those are asked for
// nothing else for a while.
func TestHealthServicePassesOnOrEncodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := cachedAPI(t, Data{})
		s := f.servers
		for node, status := range map[string]string{"p1": wire.HealthPassing, "p2": wire.HealthCritical} {
			if err := s.RPC(t.Context(), "Catalog.Register", &wire.RegisterRequest{Node: node, Address: "10.0.0.1",
				Service: &wire.NodeService{ID: "web", Service: "web", Tags: []string{"<a>"}},
				Check:   &wire.HealthCheck{CheckID: "c", Status: status, ServiceID: "web", ServiceName: "web"}}, &wire.Empty{}); err != nil {
				t.Fatal(err)
			}
		}
		const path = "/v1/health/service/"
		get := func(url string) string {
			t.Helper()
			resp := serveOne(t, a, url)
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %s %s %v", url, resp.Status, b, err)
			}
			return resp.Header.Get("X-Consul-Index") + resp.Header.Get("X-Consul-Effective-Consistency") + string(b)
		}
		urls := []string{path + "web", path + "web?passing", path + "web?pretty", path + "none", path + "web?dc=dc1&stale"}
		var want []string
		for _, url := range urls {
			want = append(want, get(url))
		}
		if json, plain := s.count("Health.ServiceNodesJSON"), s.count("Health.ServiceNodes"); json != len(urls) || plain != 0 {
			t.Errorf("%d encoded answers, %d plain ones", json, plain)
		}
		s.mu.Lock()
		s.old = true
		s.mu.Unlock()
		for i, url := range urls {
			if got := get(url); got != want[i] {
				t.Errorf("%s:\n%s\nencoded by servers:\n%s", url, got, want[i])
			}
		}
		if json, plain := s.count("Health.ServiceNodesJSON"), s.count("Health.ServiceNodes"); json != len(urls)+1 || plain != len(urls) {
			t.Errorf("with old servers: %d encoded answers, %d plain ones", json, plain)
		}
		time.Sleep(plainFor + time.Second)
		s.mu.Lock()
		s.old = false
		s.mu.Unlock()
		get(urls[0])
		if plain := s.count("Health.ServiceNodes"); plain != len(urls) {
			t.Error("servers that were replaced are still asked for plain replies")
		}
		get(path + "web?dc=dc2") // what another datacenter has is encoded here
		if plain := s.count("Health.ServiceNodes"); plain != len(urls)+1 {
			t.Error("another datacenter was asked for an encoded answer")
		}
	})
}
