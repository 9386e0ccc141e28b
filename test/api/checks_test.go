package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"lictor/test/harness"
)

// Each kind of check against a real target: it passes while the target is well,
// fails when it is not, and what the agent finds is in the catalog.
func TestCheckKinds(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	well.Store(true)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, "I am ", well.Load())
	})
	web := httptest.NewServer(handler)
	defer web.Close()
	h2 := httptest.NewUnstartedServer(handler)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()
	tcp := listen(t)
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	harness.Must(t, err)
	defer udp.Close()
	rpc := listen(t)
	grpcHealth := grpchealth.NewServer()
	grpcHealth.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, grpcHealth)
	go server.Serve(rpc)
	defer server.Stop()

	c := harness.New(t, t.TempDir())
	s, a := c.AddServer("s1"), c.AddClient("c1")
	fast(s, a)
	check := func(id string, fields map[string]any) map[string]any {
		// A check of the node itself would count for the alias of any service.
		out := map[string]any{"id": id, "name": id, "service_id": "other", "interval": "1s", "timeout": "5s"}
		for k, v := range fields {
			if v == nil {
				delete(out, k)
			} else {
				out[k] = v
			}
		}
		return out
	}
	start(t, c, map[string]any{
		"bootstrap": true, "enable_local_script_checks": true,
		"services": []any{
			map[string]any{"name": "other", "id": "other", "port": 2},
			map[string]any{"name": "target", "id": "target", "port": 1, "check": check("service-http", map[string]any{"http": web.URL, "service_id": nil})},
		},
		"checks": []any{
			check("script", map[string]any{"args": []string{"sh", "-c", "echo from a script; exit 1"}}),
			check("http", map[string]any{"http": web.URL, "method": "GET"}),
			check("flapping", map[string]any{"http": web.URL, "failures_before_critical": 3, "success_before_passing": 2}),
			check("tcp", map[string]any{"tcp": tcp.Addr().String()}),
			check("udp", map[string]any{"udp": udp.LocalAddr().String()}),
			check("grpc", map[string]any{"grpc": rpc.Addr().String()}),
			check("h2ping", map[string]any{"h2ping": h2.Listener.Addr().String(), "tls_skip_verify": true}),
			check("alias", map[string]any{"alias_service": "target", "interval": nil, "timeout": nil}),
			check("ttl", map[string]any{"ttl": "10m", "interval": nil, "timeout": nil}),
		},
	})
	e := &env{Client: connect(t, s), agent: s, node: "s1"}
	e.ready(t, 2)
	catalog := func(want map[string]string) {
		t.Helper()
		harness.Must(t, harness.Poll("the checks in the catalog", func() error {
			checks, _, err := e.Health().Node("c1", nil)
			if err != nil {
				return err
			}
			found := map[string]*api.HealthCheck{}
			for _, ch := range checks {
				found[ch.CheckID] = ch
			}
			var errs []error
			for id, status := range want {
				if ch := found[id]; ch == nil || ch.Status != status {
					errs = append(errs, fmt.Errorf("%s is %+v, want %s", id, ch, status))
				}
			}
			return errors.Join(errs...)
		}))
	}
	local := connect(t, a).Agent()
	harness.Must(t, local.UpdateTTL("ttl", "told", "pass"))
	catalog(map[string]string{
		"script": "warning", "http": "passing", "flapping": "passing", "tcp": "passing", "udp": "passing", "grpc": "passing",
		"h2ping": "passing", "alias": "passing", "ttl": "passing", "service-http": "passing",
	})
	checks, err := local.Checks()
	harness.Must(t, err)
	if out := checks["script"].Output; !strings.Contains(out, "from a script") {
		t.Errorf("the script's output is %q", out)
	}

	well.Store(false)
	tcp.Close()
	udp.Close()
	h2.Close()
	grpcHealth.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	harness.Must(t, local.UpdateTTL("ttl", "told", "fail"))
	catalog(map[string]string{
		"http": "critical", "flapping": "critical", "tcp": "critical", "udp": "critical", "grpc": "critical",
		"h2ping": "critical", "alias": "critical", "ttl": "critical", "service-http": "critical",
	})
	well.Store(true)
	grpcHealth.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	catalog(map[string]string{"http": "passing", "flapping": "passing", "grpc": "passing", "alias": "passing", "service-http": "passing"})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	harness.Must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// A semaphore of the client library lets no more in than it may while a leader
// is killed.
func TestSemaphoreThroughALeaderChange(t *testing.T) {
	t.Parallel()
	_, c := throughClient(t)
	servers := serversOf(c)
	const limit = 2
	var inside, entered atomic.Int32
	stop, done := make(chan struct{}), make(chan struct{}, 4)
	for range cap(done) {
		client := connect(t, c.Agents()[3])
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				sem, err := client.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "sem", Limit: limit, SessionTTL: "60s", MonitorRetries: 20})
				if err != nil {
					t.Error(err)
					return
				}
				if lost, err := sem.Acquire(stop); err != nil || lost == nil {
					continue
				}
				if n := inside.Add(1); n > limit {
					t.Errorf("%d are inside", n)
				}
				entered.Add(1)
				inside.Add(-1)
				sem.Release() // fails where it was lost
			}
		}()
	}
	turn := func() {
		t.Helper()
		from := entered.Load()
		harness.Must(t, harness.Poll("the semaphore to go round", func() error {
			if n := entered.Load() - from; n < 8 {
				return fmt.Errorf("%d entered", n)
			}
			return nil
		}))
	}
	turn()
	lead := leader(t, servers, nil)
	lead.Kill()
	leader(t, servers, lead)
	turn()
	harness.Must(t, lead.Start())
	close(stop)
	for range cap(done) {
		<-done
	}
}
