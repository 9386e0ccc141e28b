package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"lictor/test/harness"
)

// routesOfState are the routes that read or write what the servers hold, or what
// an agent registered, with a body that is right where they take one. {} stands
// for a name.
var routesOfState = []struct {
	method, path string
	json         bool // it takes a JSON body
}{
	{"GET", "/v1/agent/services", false}, {"GET", "/v1/agent/service/{}", false}, {"PUT", "/v1/agent/service/register", true},
	{"PUT", "/v1/agent/service/deregister/{}", false}, {"PUT", "/v1/agent/service/maintenance/{}?enable=true", false},
	{"GET", "/v1/agent/checks", false}, {"PUT", "/v1/agent/check/register", true}, {"PUT", "/v1/agent/check/deregister/{}", false},
	{"PUT", "/v1/agent/check/pass/{}", false}, {"PUT", "/v1/agent/check/warn/{}", false}, {"PUT", "/v1/agent/check/fail/{}", false},
	{"PUT", "/v1/agent/check/update/{}", true}, {"GET", "/v1/agent/health/service/id/{}", false}, {"GET", "/v1/agent/health/service/name/{}", false},
	{"PUT", "/v1/catalog/register", true}, {"PUT", "/v1/catalog/deregister", true}, {"GET", "/v1/catalog/datacenters", false},
	{"GET", "/v1/catalog/nodes", false}, {"GET", "/v1/catalog/services", false}, {"GET", "/v1/catalog/service/{}", false},
	{"GET", "/v1/catalog/node/{}", false}, {"GET", "/v1/catalog/node-services/{}", false},
	{"GET", "/v1/health/node/{}", false}, {"GET", "/v1/health/checks/{}", false}, {"GET", "/v1/health/state/{}", false}, {"GET", "/v1/health/service/{}", false},
	{"GET", "/v1/kv/{}", false}, {"PUT", "/v1/kv/{}", false}, {"DELETE", "/v1/kv/{}", false}, {"PUT", "/v1/txn", true},
	{"PUT", "/v1/session/create", true}, {"PUT", "/v1/session/destroy/{}", false}, {"PUT", "/v1/session/renew/{}", false},
	{"GET", "/v1/session/info/{}", false}, {"GET", "/v1/session/list", false}, {"GET", "/v1/session/node/{}", false},
	{"GET", "/v1/coordinate/datacenters", false}, {"GET", "/v1/coordinate/nodes", false}, {"GET", "/v1/coordinate/node/{}", false},
	{"PUT", "/v1/coordinate/update", true}, {"GET", "/v1/operator/raft/configuration", false}, {"DELETE", "/v1/operator/raft/peer", false},
	{"GET", "/v1/operator/autopilot/configuration", false}, {"PUT", "/v1/operator/autopilot/configuration", true},
	{"GET", "/v1/operator/autopilot/health", false}, {"GET", "/v1/operator/autopilot/state", false}, {"GET", "/v1/operator/usage", false},
	{"PUT", "/v1/event/fire/{}", false}, {"GET", "/v1/event/list", false}, {"GET", "/v1/status/leader", false}, {"GET", "/v1/status/peers", false},
	{"POST", "/v1/operator/keyring", true}, {"GET", "/v1/internal/ui/nodes", false}, {"GET", "/v1/internal/ui/node/{}", false},
}

// Every route of a real server, over HTTPS with a certificate of each role and
// without one, with what it does not expect: the answer says whose fault it is,
// and the process lives and goes on.
func TestEveryRouteWithBadInput(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "CA")
	c := cluster(t)
	s := c.AddServer("s1")
	config(t, s, keys{"encrypt": guideKey, "bootstrap": true, "ports": keys{"https": 8501, "http": -1}}, tlsFiles, verify(true, true, true))
	put(t, s, issue(t, ca, "server.dc1.consul", "localhost"), ca)
	must(t, s.Put(nil))
	cliCert := issue(t, ca, "cli.dc1.consul")
	must(t, s.Put(map[string][]byte{"cli.pem": cliCert.CertPEM, "cli-key.pem": cliCert.KeyPEM}))
	c.APICert(s.Dir+"/cli.pem", s.Dir+"/cli-key.pem")
	must(t, s.Start())
	writes := func() error {
		b, err := s.Do("PUT", "/v1/kv/alive", []byte("x"))
		if err == nil && strings.TrimSpace(string(b)) != "true" {
			err = fmt.Errorf("answer %q", b)
		}
		return err
	}
	poll(t, "a write", writes)

	client := func(cert *harness.Cert) *http.Client {
		tc := &tls.Config{InsecureSkipVerify: true}
		if cert != nil {
			pair, err := cert.TLS()
			must(t, err)
			tc.Certificates = []tls.Certificate{pair}
		}
		tr := &http.Transport{TLSClientConfig: tc}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	ask := func(cl *http.Client, method, path string, body []byte) (int, string, error) {
		req, err := http.NewRequest(method, "https://"+s.Addr(harness.HTTPSPort)+path, bytes.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		resp, err := cl.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	operator := client(cliCert)
	wants := func(what string, method, path string, body []byte, codes ...int) {
		t.Helper()
		code, text, err := ask(operator, method, path, body)
		for _, want := range codes {
			if err == nil && code == want {
				return
			}
		}
		t.Errorf("%s: %s %s: %d, want one of %v (%.100q, %v)", what, method, path, code, codes, text, err)
	}
	big := bytes.Repeat([]byte{'x'}, 600<<10)
	names := []string{"plain", "a/b", "%2e%2e%2f", "%c3%bc", "%20", "a%2Fb", strings.Repeat("n", 2000)}
	for _, row := range routesOfState {
		path := strings.ReplaceAll(row.path, "{}", "x")
		wants("a wrong method", http.MethodPatch, path, nil, 405)
		wants("control bytes", row.method, strings.ReplaceAll(row.path, "{}", "x")+"%00", nil, 400)
		if row.method != http.MethodGet {
			wants("an oversize body", row.method, path, big, 413)
		}
		if row.json {
			for _, bad := range []string{"{", `[]`, `"x"`, `{"NoSuchField": 1}`, "null null", ""} {
				if bad == "[]" && path == "/v1/txn" {
					continue // no operations are none too few
				}
				code, text, err := ask(operator, row.method, path, []byte(bad))
				if err != nil || code < 400 && !(bad == "" && strings.HasPrefix(path, "/v1/session")) || code >= 500 && bad != "" {
					t.Errorf("body %q: %s %s: %d %.100q, %v", bad, row.method, path, code, text, err)
				}
			}
		}
		if strings.Contains(row.path, "{}") {
			for _, name := range names {
				code, text, err := ask(operator, row.method, strings.ReplaceAll(row.path, "{}", name), nil)
				if err != nil || code > 500 && code != 503 {
					t.Errorf("a name: %s %.60s: %d %.100q, %v", row.method, strings.ReplaceAll(row.path, "{}", name), code, text, err)
				}
			}
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		if row.method == http.MethodGet && (strings.HasPrefix(path, "/v1/catalog/n") || strings.HasPrefix(path, "/v1/health/") || strings.HasPrefix(path, "/v1/kv/")) {
			wants("a bad index", row.method, path+sep+"index=x", nil, 400)
			wants("a bad wait", row.method, path+sep+"index=1&wait=x", nil, 400)
			wants("both", row.method, path+sep+"stale&consistent", nil, 400)
			wants("an unknown datacenter", row.method, path+sep+"dc=nowhere", nil, 500)
		}
	}
	must(t, writes())

	// The roles: any certificate of our CA is let in, and nothing else.
	for _, role := range []string{"server.dc1.consul", "client.dc1.consul", "cli.dc1.consul", "server.dc2.consul", "somebody.example"} {
		cl := client(issue(t, ca, role))
		for _, row := range routesOfState {
			if row.method != http.MethodGet {
				continue
			}
			path := strings.ReplaceAll(row.path, "{}", "x")
			if code, text, err := ask(cl, row.method, path, nil); err != nil || code >= 500 && code != 503 {
				t.Errorf("%s: GET %s: %d %.100q, %v", role, path, code, text, err)
			}
		}
	}
	for what, cl := range map[string]*http.Client{"no certificate": client(nil), "a certificate of another CA": client(issue(t, newCA(t, "other"), "cli.dc1.consul"))} {
		for _, row := range routesOfState {
			if code, _, err := ask(cl, row.method, strings.ReplaceAll(row.path, "{}", "x"), nil); err == nil {
				t.Errorf("%s: %s %s: %d", what, row.method, row.path, code)
			}
		}
	}
	must(t, writes())
}
