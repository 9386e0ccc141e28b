package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/serf/serf"

	"lictor/agent/logs"
	"lictor/rpc/wire"
	"lictor/tlsutil"
)

const patience = 20 * time.Second

// fake is an agent with a few members.
type fake struct {
	members []serf.Member
	err     error
	keyring []*wire.KeyringResponse
	log     *logs.Log
	changed chan struct{}
	events  []wire.UserEvent
	*servers
	reg *registry
}

// Registry is Backend.Registry.
func (f *fake) Registry() Registry { return f.reg }

func newFake(t testing.TB, n int) *fake {
	t.Helper()
	l, err := logs.New(logs.Options{Level: "ERROR", Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{log: l, changed: make(chan struct{}), servers: newServers(), reg: newRegistry()}
	for i := range n {
		f.members = append(f.members, serf.Member{
			Name: fmt.Sprintf("node-%d", i), Addr: net.IPv4(10, 0, 0, byte(i)), Port: 8301, Status: serf.StatusAlive,
			Tags: map[string]string{"role": "node", "dc": "dc1", "build": "1.0.0:abc", "id": fmt.Sprint(i)},
		})
	}
	return f
}

func (f *fake) Members(wan bool) []serf.Member {
	if wan {
		return nil
	}
	return f.members
}
func (f *fake) LocalMember() serf.Member                          { return f.members[0] }
func (f *fake) Join(context.Context, []string, bool) (int, error) { return 1, f.err }
func (f *fake) Leave(context.Context) error                       { return f.err }
func (f *fake) ForceLeave(string, bool, bool) error               { return f.err }
func (f *fake) Reload(context.Context) error                      { return f.err }
func (f *fake) Stats() map[string]map[string]string {
	return map[string]map[string]string{"agent": {"checks": "0"}}
}
func (f *fake) FireEvent(_ context.Context, _ string, ev *wire.UserEvent) error {
	ev.ID = "ae34ca96-4fc0-aa13-0061-d0408e7e0bd7"
	return f.err
}
func (f *fake) Events() []wire.UserEvent       { return f.events }
func (f *fake) EventsChanged() <-chan struct{} { return f.changed }
func (f *fake) Monitor(level string, json bool) (*logs.Stream, error) {
	return f.log.Monitor(level, json)
}
func (f *fake) StatusLeader(context.Context, string) (string, error) { return "", f.err }
func (f *fake) StatusPeers(context.Context, string) ([]string, error) {
	return []string{"10.0.0.1:8300"}, f.err
}
func (f *fake) Self() Self { return Self{Config: SelfConfig{NodeName: "node-0"}} }
func (f *fake) Keyring(context.Context, *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	return &wire.KeyringResponses{Responses: f.keyring}, f.err
}

// serve runs an API until the test ends and returns its address.
func serve(t testing.TB, cfg Config, secure bool) (*API, string) {
	t.Helper()
	if cfg.Backend == nil {
		cfg.Backend = newFake(t, 3)
	}
	cfg.Data.Datacenter, cfg.Data.Node = "dc1", "node-0"
	cfg.Metrics = metrics.NewInmemSink(time.Second, time.Minute)
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, ln, secure) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve did not return")
		}
	})
	return a, ln.Addr().String()
}

func do(t testing.TB, method, url, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestEveryRoute(t *testing.T) {
	a, addr := serve(t, Config{}, false)
	for _, row := range a.table() {
		url := "http://" + addr + row.path
		resp := do(t, "PATCH", url, "")
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != allow(row) {
			t.Errorf("PATCH %s: %d, Allow %q", row.path, resp.StatusCode, resp.Header.Get("Allow"))
		}
		if resp := do(t, "OPTIONS", url, ""); resp.StatusCode != http.StatusOK || resp.Header.Get("Allow") != allow(row) {
			t.Errorf("OPTIONS %s: %d", row.path, resp.StatusCode)
		}
		for _, m := range row.methods {
			if slices.Contains(endless, row.path) {
				continue
			}
			resp := do(t, m, url, "")
			if resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusInternalServerError && row.path != "/v1/agent/host" {
				t.Errorf("%s %s: %d", m, row.path, resp.StatusCode)
			}
			if resp.Header.Get("Content-Type") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: headers %v", m, row.path, resp.Header)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	_, addr := serve(t, Config{
		BlockEndpoints:     []string{"/v1/agent/host"},
		AllowWriteHTTPFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, false)
	big := strings.Repeat("x", maxBodyBytes+1)
	for _, row := range []struct {
		method, path, body string
		header             []string
		code               int
		text               string
	}{
		{"GET", "/v1/nothing", "", nil, 404, unknownEndpoint},
		{"GET", "/nothing", "", nil, 404, unknownPath},
		{"GET", "/v1//agent/self", "", nil, 404, ""},
		{"GET", "/v1/agent/self/..", "", nil, 404, ""},
		{"GET", "/v1/agent/self;x", "", nil, 404, ""},
		{"GET", "/v1/agent%2fself%00", "", nil, 400, ""},
		{"GET", "/v1/agent/host", "", nil, 403, "Endpoint is blocked by agent configuration"},
		{"GET", "/v1/acl/tokens", "", nil, 401, "ACL support disabled"},
		{"PUT", "/v1/agent/join/", "", nil, 400, "Missing address"},
		{"PUT", "/v1/agent/reload", "", []string{"Origin", "https://evil.example"}, 403, ""},
		{"PUT", "/v1/agent/leave", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"PUT", "/v1/operator/keyring", big, nil, 413, ""},
		{"PUT", "/v1/operator/keyring", `{"Kay":"x"}`, nil, 400, `Request decode failed: json: unknown field "Kay"`},
		{"PUT", "/v1/operator/keyring?relay-factor=9", `{"Key":"x"}`, nil, 400, "Invalid relay-factor: Relay factor must be in range: [0, 5]"},
		{"PUT", "/v1/operator/keyring?local-only=true", `{"Key":"x"}`, nil, 400, "Invalid use of local-only: local-only can only be set for list requests"},
		{"GET", "/v1/agent/monitor?loglevel=zz", "", nil, 400, "Unknown log level: zz"},
		{"GET", "/v1/agent/metrics?format=prometheus", "", nil, 415, ""},
		{"GET", "/v1/event/list?index=x", "", nil, 400, "Invalid index"},
		{"GET", "/v1/event/list?wait=x", "", nil, 400, "Invalid wait time"},
		{"GET", "/v1/agent/members?segment=x", "", nil, 500, ""},
		{"GET", "/v1/agent/members?wan=1&segment=x", "", nil, 400, "Cannot provide a segment with wan=true"},
		{"GET", "/v1/agent/members?filter=%3D%3D", "", nil, 500, ""},
		{"GET", "/debug/pprof/heap", "", nil, 404, ""},
		{"GET", "/v1/%3Cscript%3E", "", nil, 404, unknownEndpoint},
	} {
		resp := do(t, row.method, "http://"+addr+row.path, row.body, row.header...)
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != row.code || row.text != "" && string(b) != row.text {
			t.Errorf("%s %s: %d %q, want %d %q", row.method, row.path, resp.StatusCode, b, row.code, row.text)
		}
		if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: Content-Type %q", row.method, row.path, ct)
		}
	}
}

func TestClientLibrary(t *testing.T) {
	f := newFake(t, 3)
	f.keyring = []*wire.KeyringResponse{{WAN: true, Datacenter: "dc1", Keys: map[string]int{"k": 1}, PrimaryKeys: map[string]int{"k": 1}, NumNodes: 1}}
	_, addr := serve(t, Config{Backend: f}, false)
	c, err := api.NewClient(&api.Config{Address: addr})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.Agent().Members(false); err != nil || len(m) != 3 || m[1].Name != "node-1" {
		t.Errorf("members: %v, %v", m, err)
	}
	if m, err := c.Agent().Members(true); err != nil || m != nil {
		t.Errorf("WAN members: %v, %v", m, err)
	}
	// As the members command asks, the family's and ours.
	for _, wan := range []bool{false, true} {
		if _, err := c.Agent().MembersOpts(api.MembersOpts{WAN: wan, Segment: api.AllSegments}); err != nil {
			t.Errorf("members of all segments, WAN %t: %v", wan, err)
		}
	}
	if self, err := c.Agent().Self(); err != nil || self["Config"]["NodeName"] != "node-0" {
		t.Errorf("self: %v, %v", self, err)
	}
	if p, err := c.Status().Peers(); err != nil || len(p) != 1 {
		t.Errorf("peers: %v, %v", p, err)
	}
	if k, err := c.Operator().KeyringList(nil); err != nil || len(k) != 1 || k[0].Keys["k"] != 1 || !k[0].WAN {
		t.Errorf("keyring: %+v, %v", k, err)
	}
	if id, _, err := c.Event().Fire(&api.UserEvent{Name: "deploy", Payload: []byte("x")}, nil); err != nil || id == "" {
		t.Errorf("event: %q, %v", id, err)
	}
	if _, err := c.Agent().Host(); err != nil {
		t.Errorf("host: %v", err)
	}
	if _, err := c.Agent().Metrics(); err != nil {
		t.Errorf("metrics: %v", err)
	}
	for name, call := range map[string]func() error{
		"join":        func() error { return c.Agent().Join("10.0.0.9", false) },
		"force-leave": func() error { return c.Agent().ForceLeave("node-2") },
		"reload":      c.Agent().Reload,
		"leave":       c.Agent().Leave,
	} {
		f.err = nil
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.err = errors.New("the reason")
		if err := call(); err == nil || !strings.Contains(err.Error(), "500") || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("%s that fails: %v", name, err)
		}
	}
	f.err = nil
	f.keyring = []*wire.KeyringResponse{{WAN: true, Error: "1/2 nodes reported failure", Messages: map[string]string{"a.dc1": "no"}}}
	if err := c.Operator().KeyringUse("x", nil); err == nil || !strings.Contains(err.Error(), "2 errors occurred:\n\t* WAN error: 1/2 nodes reported failure\n\t* a.dc1: no") {
		t.Errorf("keyring failure: %v", err)
	}
}

func TestEventListBlocks(t *testing.T) {
	f := newFake(t, 1)
	_, addr := serve(t, Config{Backend: f}, false)
	resp := do(t, "GET", "http://"+addr+"/v1/event/list?index=1&wait=10ms", "")
	if resp.Header.Get("X-Consul-Index") != "1" {
		t.Errorf("index %q", resp.Header.Get("X-Consul-Index"))
	}
}

func TestConnectionCap(t *testing.T) {
	_, addr := serve(t, Config{MaxConnsPerClient: 3}, false)
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /v1/agent/version HTTP/1.1\r\nHost: x\r\n\r\n")
		var b [12]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || string(b[9:]) != "200" {
			t.Fatalf("within the limit: %q, %v", b, err)
		}
		open = append(open, c)
	}
	over, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	over.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(over)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 429 ") {
		t.Errorf("one too many: %q, %v", b, err)
	}
	if i := strings.Index(string(b), "\r\n\r\n"); !strings.Contains(string(b), fmt.Sprintf("Content-Length: %d\r\n", len(b)-i-4)) {
		t.Errorf("the length of the refusal is wrong: %q", b)
	}
	open[0].Close()
	for end := time.Now().Add(patience); ; {
		resp, err := http.Get("http://" + addr + "/v1/agent/version")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("a place that became free was not given away")
		}
	}
}

func secure(t *testing.T, verify bool) (*tlsutil.Configurator, tlsutil.Config) {
	t.Helper()
	caPEM, cert, key, err := tlsutil.MakeDev("dc1", "consul", []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := tlsutil.Config{Datacenter: "dc1", Domain: "consul", HTTPS: tlsutil.Stanza{CAPEM: caPEM, CertPEM: cert, KeyPEM: key, VerifyIncoming: verify}}
	c, err := tlsutil.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, cfg
}

func TestHTTPS(t *testing.T) {
	conf, cfg := secure(t, false)
	a, addr := serve(t, Config{TLS: conf, HandshakeTimeout: 500 * time.Millisecond}, true)
	tc := api.TLSConfig{CAPem: cfg.HTTPS.CAPEM}
	c, err := api.NewClient(&api.Config{Address: addr, Scheme: "https", TLSConfig: tc})
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", addr) // a client that stalls holds up nobody
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := c.Status().Peers(); err != nil {
		t.Fatal(err)
	}
	silent.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(silent); err != nil {
		t.Errorf("the silent client was not closed: %v", err)
	}

	plain := do(t, "GET", "http://"+addr+"/v1/agent/self", "")
	b, _ := io.ReadAll(plain.Body)
	if plain.StatusCode != 400 || string(b) != "Client sent an HTTP request to an HTTPS server.\n" {
		t.Errorf("HTTP to the HTTPS port: %d %q", plain.StatusCode, b)
	}

	// From now on clients need a certificate: the open connection goes, and a
	// new one is refused.
	cfg.HTTPS.VerifyIncoming = true
	if err := conf.Update(cfg); err != nil {
		t.Fatal(err)
	}
	a.Recheck()
	for end := time.Now().Add(patience); ; {
		if _, err := c.Status().Peers(); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a client without a certificate is still served")
		}
	}
}

func TestServeEndsUnderOpenRequests(t *testing.T) {
	a, err := New(Config{Backend: newFake(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, ln, false) }()
	monitor := do(t, "GET", "http://"+ln.Addr().String()+"/v1/agent/monitor", "")
	if monitor.StatusCode != 200 {
		t.Fatalf("monitor: %d", monitor.StatusCode)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Serve waits for a monitor")
	}
}

func TestTokensAreMasked(t *testing.T) {
	req, err := http.NewRequest("GET", "http://x/v1/agent/self?token=canary&x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := masked(req.URL); strings.Contains(got, "canary") || !strings.Contains(got, "x=1") {
		t.Errorf("logged as %q", got)
	}
}

// Whatever the path, the answer has a type, and the API goes on.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/v1/agent/self", "/v1/agent/join/%00", "//", "/v1/event/fire/..%2f", "/v1/agent/force-leave/a?prune=%zz"} {
		f.Add(p, "GET")
	}
	a, err := New(Config{Backend: newFake(f, 2), Metrics: metrics.NewInmemSink(time.Second, time.Minute)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, method string) {
		if strings.Contains(path, "monitor") || strings.Contains(path, "stream") || strings.Contains(path, "index") {
			return // these wait
		}
		req, err := http.NewRequest(method, "http://x"+path, strings.NewReader("{}"))
		if err != nil {
			return
		}
		w := &recorder{header: http.Header{}}
		a.handler.ServeHTTP(w, req)
		if w.header.Get("Content-Type") == "" || w.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %q: %d %v", method, path, w.code, w.header)
		}
	})
}

type recorder struct {
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(code int)        { r.code = code }

// Whatever a client does not send or does not take, it is not waited for longer
// than StallTimeout, also on routes that want no body.
func TestStalls(t *testing.T) {
	_, addr := serve(t, Config{Backend: newFake(t, 200), StallTimeout: 500 * time.Millisecond}, false)
	gone := func(t *testing.T, c net.Conn) {
		t.Helper()
		c.SetReadDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, c)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("the connection is still open")
		}
	}
	for _, route := range []string{"GET /v1/agent/members", "PUT /v1/agent/reload", "PUT /v1/event/fire/x", "POST /v1/operator/keyring", "GET /nothing"} {
		t.Run("half a body for "+route, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab", route)
			gone(t, c)
		})
	}
	t.Run("answers that nobody reads", func(t *testing.T) {
		t.Parallel()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(patience))
		ask := []byte(strings.Repeat("GET /v1/agent/members HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
		for err == nil {
			_, err = c.Write(ask)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("the connection is still open")
		}
	})
}

// A connection that has been idle for longer than StallTimeout still works.
func TestIdlingIsNoStall(t *testing.T) {
	_, addr := serve(t, Config{StallTimeout: 100 * time.Millisecond}, false)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, ask := range []string{"GET /v1/status/peers HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /v1/event/fire/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "PUT /v1/agent/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "GET /v1/event/list HTTP/1.1\r\nHost: x\r\n\r\n"} {
		fmt.Fprint(c, ask)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%.20s: %v", ask, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%.20s: %d", ask, resp.StatusCode)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// gatedConn lets the first write through, and the others once gate is closed.
type gatedConn struct {
	net.Conn
	wrote      bool
	held, gate chan struct{}
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if c.wrote {
		select {
		case <-c.gate:
		default:
			close(c.held)
			<-c.gate
		}
	}
	c.wrote = true
	return c.Conn.Write(b)
}

// No connection outlives the settings it began under, neither one in the middle
// of its handshake nor one in the middle of an answer without end.
func TestNothingOutlivesRecheck(t *testing.T) {
	conf, cfg := secure(t, false)
	a, addr := serve(t, Config{TLS: conf, DrainTimeout: 200 * time.Millisecond}, true)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cfg.HTTPS.CAPEM)
	dial := func(wrap func(net.Conn) net.Conn) *tls.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return tls.Client(wrap(c), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	}
	monitor := dial(func(c net.Conn) net.Conn { return c })
	fmt.Fprint(monitor, "GET /v1/agent/monitor HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(monitor), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(err)
	}
	gated := &gatedConn{held: make(chan struct{}), gate: make(chan struct{})}
	half := dial(func(c net.Conn) net.Conn { gated.Conn = c; return gated })
	shaken := make(chan error, 1)
	go func() { shaken <- half.Handshake() }()
	<-gated.held

	cfg.HTTPS.VerifyIncoming = true
	if err := conf.Update(cfg); err != nil {
		t.Fatal(err)
	}
	a.Recheck()
	close(gated.gate)
	if err := <-shaken; err == nil {
		fmt.Fprint(half, "GET /v1/status/peers HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(half), nil); err == nil {
			t.Errorf("a client without a certificate, whose handshake began before the reload, got %s", resp.Status)
		}
	}
	_, err := io.Copy(io.Discard, monitor)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the monitor of a client without a certificate goes on")
	}
}

// The command line, where a key can be, is not shown with the profiles.
func TestDebugHasNoCommandLine(t *testing.T) {
	_, addr := serve(t, Config{EnableDebug: true}, false)
	for path, want := range map[string]int{"/debug/pprof/cmdline": http.StatusNotFound, "/debug/pprof/goroutine": http.StatusOK} {
		resp := do(t, "GET", "http://"+addr+path, "")
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want || strings.Contains(string(b), os.Args[0]) && want != http.StatusOK {
			t.Errorf("%s: %d %.100q", path, resp.StatusCode, b)
		}
	}
}

// An answer that waits for something to happen may wait for longer than
// StallTimeout, and so may one that has begun, over either version of HTTP.
func TestLongPollsAreNoStall(t *testing.T) {
	conf, cfg := secure(t, false)
	fake := newFake(t, 1)
	_, addr := serve(t, Config{Backend: fake, TLS: conf, StallTimeout: 100 * time.Millisecond}, true)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cfg.HTTPS.CAPEM)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
			defer tr.CloseIdleConnections()
			get := func(path string) *http.Response {
				t.Helper()
				resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + path)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Proto != protocol || resp.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s %s", path, resp.Proto, resp.Status)
				}
				return resp
			}
			first := get("/v1/event/list")
			first.Body.Close()
			poll := get("/v1/event/list?wait=1s&index=" + first.Header.Get("X-Consul-Index"))
			if _, err := io.Copy(io.Discard, poll.Body); err != nil {
				t.Errorf("a long poll: %v", err)
			}
			poll.Body.Close()

			monitor := get("/v1/agent/monitor")
			defer monitor.Body.Close()
			get("/v1/event/list?wait=1s&index=" + first.Header.Get("X-Consul-Index")).Body.Close() // as long as ten stalls
			fake.log.Info("after the silence")
			line, err := bufio.NewReader(monitor.Body).ReadString('\n')
			if err != nil || !strings.Contains(line, "after the silence") {
				t.Errorf("a monitor after a silence: %q, %v", line, err)
			}
		})
	}
}
