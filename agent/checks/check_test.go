package checks_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"lictor/agent/checks"
	"lictor/rpc/wire"
)

type result struct{ id, status, output string }

// heard is a Notifier that remembers.
type heard struct {
	mu  sync.Mutex
	all []result
}

func (h *heard) UpdateCheck(id, status, output string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, result{id, status, output})
}

func (h *heard) last() result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return result{}
	}
	return h.all[len(h.all)-1]
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// ask makes the check that text defines, with an interval, and asks once.
func ask(t testing.TB, text string, o checks.Options) result {
	t.Helper()
	d, err := parse(t, text)
	if err != nil {
		t.Fatal(err)
	}
	d.ID, d.Interval = "c", time.Hour
	h := &heard{}
	o.Notify = h
	c, err := checks.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	checks.Once(t.Context(), c)
	return h.last()
}

// expect asks once and compares the status, and looks for words in the output.
func expect(t testing.TB, text string, o checks.Options, status string, words ...string) {
	t.Helper()
	got := ask(t, text, o)
	if got.status != status {
		t.Errorf("%s: %+v, want %s", text, got, status)
	}
	for _, w := range words {
		if !strings.Contains(got.output, w) {
			t.Errorf("%s: output %q, want %q", text, got.output, w)
		}
	}
}

// silent listens and never answers; closed is an address where nobody listens.
func silent(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func closed(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestHTTP(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.Header.Get("User-Agent"), r.Header.Get("X-A"), r.Header.Get("Content-Length"))
	})
	mux.HandleFunc("/201", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) })
	mux.HandleFunc("/429", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) })
	mux.HandleFunc("/500", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "broken", 500) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/home", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/201", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 100000), "END")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	at := func(path, more string) string { return `{"http":"` + srv.URL + path + `"` + more + `}` }

	expect(t, at("/ok", `,"method":"put","body":"12345","header":{"X-A":["b"],"Host":["h"]}`), checks.Options{}, "passing",
		"HTTP PUT "+srv.URL+"/ok: 200 OK Output: PUT h Consul Health Check b 5")
	expect(t, at("/201", ""), checks.Options{}, "passing")
	expect(t, at("/429", ""), checks.Options{}, "warning")
	expect(t, at("/500", ""), checks.Options{}, "critical", "500 Internal Server Error Output: broken")
	expect(t, at("/home", ""), checks.Options{}, "passing")
	expect(t, at("/home", `,"disable_redirects":true`), checks.Options{}, "critical", "302 Found")
	expect(t, at("/loop", ""), checks.Options{}, "critical", "302 Found")
	expect(t, at("/away", ""), checks.Options{}, "critical", "302 Found", "not followed", "another host or port")
	if elsewhere != 0 {
		t.Errorf("a target sent the agent elsewhere %d times", elsewhere)
	}
	expect(t, at("/hang", `,"timeout":"10ms"`), checks.Options{}, "critical", "Timed out (10ms)")
	expect(t, at("/endless", ""), checks.Options{}, "passing")
	expect(t, `{"http":"http://user:CANARY@`+closed(t)+`/"}`, checks.Options{}, "critical", "user:xxxxx@", "connection refused")
	if got := ask(t, at("/big", ""), checks.Options{}); len(got.output) > 4096+128 || !strings.HasSuffix(got.output, "END") {
		t.Errorf("%d bytes: %.100q", len(got.output), got.output)
	}
	if got := ask(t, at("/big", `,"output_max_size":10`), checks.Options{}); len(got.output) > 128 {
		t.Errorf("%d bytes: %.100q", len(got.output), got.output)
	}
	if got := ask(t, at("/big", `,"output_max_size":100000`), checks.Options{MaxOutput: 20}); len(got.output) > 128 {
		t.Errorf("a check widened the agent's bound to %d bytes", len(got.output))
	}
	if got := ask(t, `{"http":"http://user:CANARY@`+closed(t)+`/"}`, checks.Options{}); strings.Contains(got.output, "CANARY") {
		t.Errorf("leaks: %s", got.output)
	}
}

func TestHTTPS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	expect(t, `{"http":"`+srv.URL+`"}`, checks.Options{}, "critical", "certificate")
	expect(t, `{"http":"`+srv.URL+`","tls_skip_verify":true}`, checks.Options{}, "passing")
	addr := strings.TrimPrefix(srv.URL, "https://")
	expect(t, `{"tcp":"`+addr+`","tcp_use_tls":true}`, checks.Options{}, "critical", "TLS handshake")
	expect(t, `{"tcp":"`+addr+`","tcp_use_tls":true,"tls_skip_verify":true}`, checks.Options{}, "passing")
	expect(t, `{"tcp":"`+silent(t)+`","tcp_use_tls":true,"timeout":"10ms"}`, checks.Options{}, "critical", "Timed out")
}

func TestTCP(t *testing.T) {
	expect(t, `{"tcp":"`+silent(t)+`"}`, checks.Options{}, "passing", "Success")
	expect(t, `{"tcp":"`+closed(t)+`"}`, checks.Options{}, "critical", "refused")
}

func TestUDP(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expect(t, `{"udp":"`+conn.LocalAddr().String()+`","timeout":"10ms"}`, checks.Options{}, "passing", "no answer")
	go func() {
		for b := make([]byte, 9); ; {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte("x"), from)
		}
	}()
	expect(t, `{"udp":"`+conn.LocalAddr().String()+`"}`, checks.Options{}, "passing")
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	expect(t, `{"udp":"`+gone.LocalAddr().String()+`"}`, checks.Options{}, "critical", "refused")
}

func TestH2Ping(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "https://")
	expect(t, `{"h2ping":"`+addr+`","tls_skip_verify":true}`, checks.Options{}, "passing", "Success")
	expect(t, `{"h2ping":"`+addr+`"}`, checks.Options{}, "critical", "certificate")

	plain := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	defer plain.Close()
	addr = strings.TrimPrefix(plain.URL, "http://")
	expect(t, `{"h2ping":"`+addr+`","h2ping_use_tls":false}`, checks.Options{}, "passing")

	old := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer old.Close()
	addr = strings.TrimPrefix(old.URL, "http://")
	expect(t, `{"h2ping":"`+addr+`","h2ping_use_tls":false}`, checks.Options{}, "critical", "HTTP/2")
	expect(t, `{"h2ping":"`+silent(t)+`","h2ping_use_tls":false,"timeout":"10ms"}`, checks.Options{}, "critical", "Timed out")
}

// serveHealth is a gRPC health server; credentials nil is plaintext.
func serveHealth(t testing.TB, creds credentials.TransportCredentials) (string, *health.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if creds != nil {
		opts = append(opts, grpc.Creds(creds))
	}
	srv, hs := grpc.NewServer(opts...), health.NewServer()
	healthpb.RegisterHealthServer(srv, hs)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return ln.Addr().String(), hs
}

func TestGRPC(t *testing.T) {
	addr, hs := serveHealth(t, nil)
	hs.SetServingStatus("web", healthpb.HealthCheckResponse_SERVING)
	hs.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	expect(t, `{"grpc":"`+addr+`"}`, checks.Options{}, "passing", "success")
	expect(t, `{"grpc":"`+addr+`/web"}`, checks.Options{}, "passing")
	expect(t, `{"grpc":"`+addr+`/down"}`, checks.Options{}, "critical", "NOT_SERVING")
	expect(t, `{"grpc":"`+addr+`/none"}`, checks.Options{}, "critical", "gRPC status 5", "unknown service")
	expect(t, `{"grpc":"`+closed(t)+`"}`, checks.Options{}, "critical", "refused")
	expect(t, `{"grpc":"`+silent(t)+`","timeout":"10ms"}`, checks.Options{}, "critical", "Timed out")
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	expect(t, `{"grpc":"`+strings.TrimPrefix(web.URL, "http://")+`"}`, checks.Options{}, "critical")

	tlsServer := httptest.NewTLSServer(nil)
	creds := credentials.NewServerTLSFromCert(&tlsServer.TLS.Certificates[0])
	tlsServer.Close()
	secure, _ := serveHealth(t, creds)
	expect(t, `{"grpc":"`+secure+`","grpc_use_tls":true,"tls_skip_verify":true}`, checks.Options{}, "passing")
	expect(t, `{"grpc":"`+secure+`","grpc_use_tls":true}`, checks.Options{}, "critical", "certificate")
	expect(t, `{"grpc":"`+secure+`"}`, checks.Options{}, "critical")
}

func TestUnsupportedKindsSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c, err := checks.New(&checks.Definition{ID: "d", DockerContainer: "x", Args: []string{"true"}, Interval: time.Second}, checks.Options{Notify: h})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go c.Run(ctx)
		synctest.Wait()
		cancel()
		if got := h.last(); got.status != "critical" || !strings.Contains(got.output, "not supported") {
			t.Errorf("%+v", got)
		}
	})
}

func TestNewRefusesWhatIsNotValid(t *testing.T) {
	if _, err := checks.New(&checks.Definition{}, checks.Options{}); err == nil {
		t.Error("a check of no kind was made")
	}
}

func TestIntervalAndThresholds(t *testing.T) {
	const p, w, c = "passing", "warning", "critical"
	for _, tc := range []struct {
		name             string
		pass, warn, crit int
		found, want      []string // "" is no word
	}{
		{"every result counts", 0, 0, 0, []string{p, c, p, w}, []string{p, c, p, w}},
		{"passing needs three", 3, 0, 0, []string{p, p, c, p, p, p, p}, []string{"", "", c, "", "", p, p}},
		{"critical needs three", 0, 0, 3, []string{p, c, c, p, c, c, c, c, p}, []string{p, "", "", p, "", "", c, c, p}},
		{"warning before critical", 0, 2, 4, []string{c, c, c, c, c, w}, []string{"", w, w, c, c, w}},
		{"a warning is an answer", 2, 0, 0, []string{w, w, p}, []string{"", w, p}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, at := &heard{}, 0
			d := &checks.Definition{ID: "x", Interval: 10 * time.Second, SuccessBeforePassing: tc.pass, FailuresBeforeWarning: tc.warn, FailuresBeforeCritical: tc.crit}
			check := checks.NewProbe(d, checks.Options{Notify: h}, time.Second, func(context.Context) (string, string) {
				at++
				return tc.found[at-1], ""
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { check.Run(ctx); close(done) }()
			for i, want := range tc.want {
				before := h.count()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				got := ""
				if h.count() > before {
					got = h.last().status
				}
				if got != want {
					t.Errorf("%s: result %d: %q, want %q", tc.name, i, got, want)
				}
			}
			cancel()
			<-done
		})
	}
}

func TestEndedCheckSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		check := checks.NewProbe(&checks.Definition{ID: "x", Interval: time.Second}, checks.Options{Notify: h}, time.Hour,
			func(ctx context.Context) (string, string) { <-ctx.Done(); return "critical", "" })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { check.Run(ctx); close(done) }()
		time.Sleep(2 * time.Second)
		cancel()
		<-done
		if h.count() != 0 {
			t.Errorf("%+v", h.all)
		}
	})
}

func TestIntervalIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		check := checks.NewProbe(&checks.Definition{ID: "x", Interval: time.Nanosecond}, checks.Options{Notify: h, Log: quiet()}, time.Second,
			func(context.Context) (string, string) { return "passing", "" })
		ctx, cancel := context.WithCancel(t.Context())
		go check.Run(ctx)
		time.Sleep(10 * time.Second)
		cancel()
		synctest.Wait()
		if n := h.count(); n < 9 || n > 11 {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c, err := checks.New(&checks.Definition{ID: "x", TTL: 10 * time.Second}, checks.Options{Notify: h, MaxOutput: 60, FirstTTL: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Run(ctx)
		at := func(d time.Duration, n int, status string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if h.count() != n || h.last().status != status {
				t.Errorf("after %s: %+v, want %d words, the last %q", d, h.all, n, status)
			}
		}
		at(2*time.Second, 0, "")
		at(2*time.Second, 1, "critical")
		c.(checks.Reporter).Report("passing", "fine")
		at(9*time.Second, 2, "passing")
		c.(checks.Reporter).Report("warning", strings.Repeat("y", 99)+"z")
		at(9*time.Second, 3, "warning")
		if out := h.last().output; !strings.HasPrefix(out, "Captured 60 of 100") || !strings.HasSuffix(out, "z") {
			t.Errorf("%q", out)
		}
		c.(checks.Reporter).Report("passing", "fine")
		at(11*time.Second, 5, "critical")
		if out := h.last().output; !strings.Contains(out, "TTL expired") || !strings.Contains(out, "fine") {
			t.Errorf("%q", out)
		}
		at(time.Hour, 5, "critical")
	})
}

func TestAliasOfThisAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := &heard{}, newRegistry()
		c, err := checks.New(&checks.Definition{ID: "alias", AliasService: "web"}, checks.Options{Notify: h, Node: "n1", Registry: r})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Run(ctx)
		for _, tc := range []struct {
			set    *wire.HealthCheck
			status string
			word   string
		}{
			{&wire.HealthCheck{CheckID: "alias", ServiceID: "sidecar", Type: "alias", Status: "critical"}, "critical", "could not be found"},
			{&wire.HealthCheck{CheckID: "other", ServiceID: "db", Status: "critical"}, "critical", "could not be found"},
			{nil, "passing", "No checks found."}, // the service comes
			{&wire.HealthCheck{CheckID: "a", ServiceID: "web", Status: "passing"}, "passing", "All checks passing."},
			{&wire.HealthCheck{CheckID: "b", ServiceID: "web", Name: "B", Status: "warning", Output: "hm"}, "warning", `"B" failing: hm`},
			{&wire.HealthCheck{CheckID: "node", Name: "N", Status: "critical", Output: "no"}, "critical", `"N" failing: no`},
			{&wire.HealthCheck{CheckID: "node", Name: "N", Status: "passing"}, "warning", `"B"`},
			{&wire.HealthCheck{CheckID: "nodealias", Type: "alias", Status: "critical"}, "warning", `"B"`},
		} {
			r.set(tc.set)
			synctest.Wait()
			if got := h.last(); got.status != tc.status || !strings.Contains(got.output, tc.word) {
				t.Errorf("%+v: %+v, want %s %q", tc.set, got, tc.status, tc.word)
			}
		}
	})
}

func TestAliasOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := &heard{}, &servers{changed: make(chan struct{}, 1)}
		s.fail = true
		c, err := checks.New(&checks.Definition{ID: "alias", AliasNode: "n2", AliasService: "web"}, checks.Options{Notify: h, Node: "n1", Registry: newRegistry(), RPC: s})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		now := func(status, word string) {
			t.Helper()
			synctest.Wait()
			if got := h.last(); got.status != status || !strings.Contains(got.output, word) {
				t.Errorf("%+v, want %s %q", got, status, word)
			}
		}
		now("critical", "cannot be asked")
		s.put(false, 5)
		time.Sleep(10 * time.Second)
		now("critical", "could not be found on node n2")
		s.put(false, 6, &wire.HealthCheck{Node: "n2", CheckID: "x", ServiceID: "web", Status: "passing"})
		now("passing", "All checks passing")
		calls := s.count()
		time.Sleep(5 * time.Minute)
		if s.count() != calls {
			t.Errorf("asked %d times while nothing changed", s.count()-calls)
		}
		s.put(false, 7, &wire.HealthCheck{Node: "n2", CheckID: "serfHealth", Name: "Serf", Status: "critical", Output: "dead"})
		now("critical", `"Serf" failing: dead`)
		cancel()
		<-done
	})
}
