package command

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"lictor/rpc/wire"

	"github.com/hashicorp/cli"
	"github.com/hashicorp/consul/api"
)

// apiServer answers each "METHOD path?query" of answers with its text and
// anything else with 500, and writes down what it was asked.
func apiServer(t testing.TB, answers map[string]string) (string, *[]string) {
	t.Helper()
	asked := &[]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key := r.Method + " " + r.URL.String()
		*asked = append(*asked, strings.TrimSpace(key+" "+string(body)))
		if r.Header.Get("X-Consul-Token") != "t0ken" {
			http.Error(w, "no token", http.StatusForbidden)
			return
		}
		answer, ok := answers[key]
		if !ok {
			http.Error(w, "boom", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func dialTest(t testing.TB, h *httpTarget) *httpClient {
	t.Helper()
	h.Token = "t0ken"
	c, err := dialHTTP(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestHTTPClient(t *testing.T) {
	members, err := json.Marshal(threeMembers())
	if err != nil {
		t.Fatal(err)
	}
	addr, asked := apiServer(t, map[string]string{
		"GET /v1/agent/members?segment=_all":       string(members),
		"GET /v1/agent/members?segment=_all&wan=1": "[]",
		"PUT /v1/agent/join/10.0.0.1:8301?wan=1":   "",
		"PUT /v1/agent/leave":                      "",
		"PUT /v1/agent/force-leave/n?prune=1":      "",
		"PUT /v1/agent/reload":                     "",
		"GET /v1/agent/self":                       `{"Config":{},"Stats":{"agent":{"checks":"0"}}}`,
		"GET /v1/operator/keyring?relay-factor=2":  `[{"WAN":true,"Keys":{"k":1},"NumNodes":1}]`,
		"POST /v1/operator/keyring":                "",
		"PUT /v1/operator/keyring":                 "",
		"PUT /v1/event/fire/d?dc=dc2&node=n":       `{"ID":"an-id"}`,
		"GET /v1/agent/monitor?loglevel=DEBUG":     "one\ntwo\n",
	})
	c, ctx := dialTest(t, &httpTarget{Addr: addr}), t.Context()
	check := func(what string, ok bool, err error) {
		t.Helper()
		if !ok || err != nil {
			t.Errorf("%s: %v, asked %q", what, err, (*asked)[len(*asked)-1])
		}
	}
	m, err := c.Members(ctx, false)
	check("members", len(m) == 3, err)
	m, err = c.Members(ctx, true)
	check("wan members", len(m) == 0, err)
	check("join", true, c.Join(ctx, "10.0.0.1:8301", true))
	check("leave", true, c.Leave(ctx))
	check("force-leave", true, c.ForceLeave(ctx, "n", true, false))
	check("reload", true, c.Reload(ctx))
	stats, err := c.Stats(ctx)
	check("stats", stats["agent"]["checks"] == "0", err)
	keys, err := c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringList, RelayFactor: 2})
	check("keyring list", len(keys) == 1 && keys[0].WAN && keys[0].Keys["k"] == 1, err)
	_, err = c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringInstall, Key: "secret"})
	check("install", strings.Contains((*asked)[len(*asked)-1], `{"Key":"secret"}`), err)
	_, err = c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringUse, Key: "secret"})
	check("use", true, err)
	_, err = c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringRemove, Key: "secret"})
	if err == nil || !strings.Contains(err.Error(), "Unexpected response code: 500 (boom") || strings.Contains(err.Error(), "secret") {
		t.Errorf("remove: %v", err)
	}
	id, err := c.FireEvent(ctx, "dc2", &wire.UserEvent{Name: "d", NodeFilter: "n", Payload: []byte("p")})
	check("event", id == "an-id", err)
	var lines []string
	err = c.Monitor(ctx, "DEBUG", false, func(l string) { lines = append(lines, l) })
	if !errors.Is(err, errStreamEnded) || strings.Join(lines, ",") != "one,two" {
		t.Errorf("monitor: %q, %v", lines, err)
	}
}

func TestHTTPMonitorEndsWithItsContext(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "one")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := dialHTTP(ctx, &httpTarget{Addr: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Monitor(ctx, "", false, func(string) { cancel() }); err != nil {
		t.Errorf("an interrupted monitor returns %v", err)
	}
}

func TestHTTPRefusedSaysWhereAndHow(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	c := dialTest(t, &httpTarget{Addr: addr})
	err = c.Reload(t.Context())
	if err == nil {
		t.Fatal("nobody listens, but it was reloaded")
	}
	for _, part := range []string{"connection refused", addr, "-http-addr", "LICTOR_HTTP_ADDR", "-rpc-addr"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestHTTPOverASocketAndTLS(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })

	dir, err := os.MkdirTemp("", "") // short: the name of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skip("no unix sockets here:", err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: handler}}
	srv.Start()
	t.Cleanup(srv.Close)
	if _, err := dialTest(t, &httpTarget{Addr: "unix://" + ln.Addr().String()}).Members(t.Context(), false); err != nil {
		t.Errorf("socket: %v", err)
	}

	secure := httptest.NewTLSServer(handler)
	t.Cleanup(secure.Close)
	host := strings.TrimPrefix(secure.URL, "https://")
	// The module's own variable must not turn verification off behind our back.
	t.Setenv("CONSUL_HTTP_SSL_VERIFY", "false")
	if _, err := dialTest(t, &httpTarget{Addr: secure.URL}).Members(t.Context(), false); err == nil || !strings.Contains(err.Error(), "-ca-file") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := dialTest(t, &httpTarget{Addr: secure.URL, TLS: api.TLSConfig{CAPem: ca, Address: "elsewhere"}}).Members(t.Context(), false); err == nil || !strings.Contains(err.Error(), "-tls-server-name") {
		t.Errorf("a server of another name: %v", err)
	}
	demanding := httptest.NewUnstartedServer(handler)
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	demanding.StartTLS()
	t.Cleanup(demanding.Close)
	if _, err := dialTest(t, &httpTarget{Addr: demanding.URL, TLS: api.TLSConfig{CAPem: ca}}).Members(t.Context(), false); err == nil || !strings.Contains(err.Error(), "-client-cert") {
		t.Errorf("a server that wants a certificate: %v", err)
	}
	unverified := &httpTarget{Addr: host, SSL: true, TLS: api.TLSConfig{InsecureSkipVerify: true}}
	if _, err := dialTest(t, unverified).Members(t.Context(), false); err != nil {
		t.Errorf("verification off: %v", err)
	}
	if _, err := dialHTTP(t.Context(), &httpTarget{Addr: host, TLS: api.TLSConfig{CAFile: "/none.pem"}}); err == nil {
		t.Error("a CA file that is not there is accepted")
	}
}

// answering is a transport that has one answer to everything.
type answering struct {
	status int
	body   []byte
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(a.body)), Request: r,
	}, nil
}

// Whatever an agent answers over HTTP, commands that show it end, and none of it
// reaches the terminal as anything but text.
func FuzzHTTPAnswer(f *testing.F) {
	members, err := json.Marshal(threeMembers())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		string(members), "", "null", "[]", "{}", "[null]", `"x"`, "1e999", strings.Repeat("[", 20000),
		`[{"Name":"evil\u001b[2J\nforged","Addr":"\u0007","Port":65536,"Tags":{"role":"\u001b]0;x\u0007","build":"\r1.0"},"Status":99}]`,
		`{"Stats":{"a\u001b[2J":{"b\n":null,"c":"\u001b"}},"Config":null}`, `{"Stats":{"a":null,"b":{"c":{"d":1}}}}`, `{"Config":{},"Stats":1}`,
		`[{"WAN":true,"Datacenter":"\u001b[2J","Keys":{"k\u001b":1},"PrimaryKeys":null,"Messages":{"a":"\n\u001b"},"NumNodes":-1}]`,
	} {
		for kind := range byte(4) {
			f.Add([]byte(s), kind, uint16(200))
		}
		f.Add([]byte(s), byte(0), uint16(500))
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte, status uint16) {
		transport := &answering{int(status), body}
		c, err := api.NewClient(&api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		ui := cli.NewMockUi()
		var out bytes.Buffer
		env := &environment{
			ctx: t.Context(), ui: ui, stdin: strings.NewReader(""), stdout: &out, getenv: func(string) string { return "" },
			dial: func(context.Context, target) (agentClient, error) {
				return &httpClient{c: c, addr: "127.0.0.1:1", transport: &http.Transport{}}, nil
			},
		}
		run(env, [][]string{{"members"}, {"members", "-detailed"}, {"info"}, {"keyring", "-list"}}[kind%4], &out, &out)
		out.WriteString(ui.OutputWriter.String() + ui.ErrorWriter.String())
		if strings.ContainsFunc(out.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q", out.String())
		}
	})
}
