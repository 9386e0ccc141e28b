package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"lictor/test/harness"
)

// The gossip keys of these tests; guideKey is the guide's.
const (
	guideKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
	otherKey = "HKiPFfpCLHZgLGXdxRBDAwbhDYjfjQGm3R3dFEtIY2c="
	thirdKey = "cg8StVXbQJ0gPvMd9o7yrg=="
)

type keys = map[string]any

// cluster makes an empty cluster in a folder of its own and, at the end of the
// test, checks that no agent has raced or panicked.
func cluster(t *testing.T) *harness.Cluster {
	t.Helper()
	c := harness.New(t, t.TempDir())
	t.Cleanup(func() {
		c.Close()
		if err := c.Healthy(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config gives an agent one configuration file made of these keys.
func config(t testing.TB, a *harness.Agent, parts ...keys) {
	t.Helper()
	all := keys{}
	for _, p := range parts {
		maps.Copy(all, p)
	}
	b, err := json.MarshalIndent(all, "", "  ")
	must(t, err)
	must(t, a.Config(map[string][]byte{"agent.json": b}))
}

// tlsFiles are the keys that name the files that issue puts into an agent's folder.
var tlsFiles = keys{"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"}

// verify are the three verify settings of the guide.
func verify(incoming, outgoing, hostname bool) keys {
	return keys{"verify_incoming": incoming, "verify_outgoing": outgoing, "verify_server_hostname": hostname}
}

func newCA(t testing.TB, name string) *harness.CA {
	t.Helper()
	ca, err := harness.NewCA(name)
	must(t, err)
	return ca
}

func issue(t testing.TB, ca *harness.CA, names ...string) *harness.Cert {
	t.Helper()
	return issueUntil(t, ca, time.Now().Add(24*time.Hour), names...)
}

func issueUntil(t testing.TB, ca *harness.CA, notAfter time.Time, names ...string) *harness.Cert {
	t.Helper()
	cert, err := ca.Issue(notAfter, names...)
	must(t, err)
	return cert
}

// put gives an agent trust in cas and a certificate, under the names of tlsFiles.
func put(t testing.TB, a *harness.Agent, cert *harness.Cert, cas ...*harness.CA) {
	t.Helper()
	files := map[string][]byte{"ca.pem": nil}
	for _, ca := range cas {
		files["ca.pem"] = append(files["ca.pem"], ca.PEM...)
	}
	if cert != nil {
		files["cert.pem"], files["key.pem"] = cert.CertPEM, cert.KeyPEM
	}
	must(t, a.Put(files))
}

func poll(t testing.TB, what string, ok func() error) {
	t.Helper()
	must(t, harness.Poll(what, ok))
}

// wantLog waits for a line after mark that matches expr.
func wantLog(t testing.TB, a *harness.Agent, mark int, expr string) {
	t.Helper()
	if _, err := a.Log().Wait(mark, expr); err != nil {
		t.Errorf("%s: %v", a.Name, err)
	}
}

// wantMatch checks text against an expression.
func wantMatch(t testing.TB, what, text, expr string) {
	t.Helper()
	if !regexp.MustCompile(expr).MatchString(text) {
		t.Errorf("%s is %q, want something like %q", what, text, expr)
	}
}

// refused waits until a's call to a server is refused, and returns the reason.
func refused(t testing.TB, a *harness.Agent) string {
	t.Helper()
	var reason string
	poll(t, a.Name+"'s RPC to be refused", func() error {
		err := a.RPC()
		status := (*harness.StatusError)(nil)
		if !errors.As(err, &status) {
			return fmt.Errorf("it was not: %v", err)
		}
		reason = status.Body
		if regexp.MustCompile(`(?i)no known .*servers`).MatchString(reason) {
			return errors.New(reason) // it has not met the server yet
		}
		return nil
	})
	return reason
}

const sigterm = syscall.SIGTERM

// removeKeyrings removes an agent's keyring files: the documented way to give
// it another key.
func removeKeyrings(a *harness.Agent) error {
	files, err := filepath.Glob(filepath.Join(a.DataDir(), "serf", "*.keyring"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

var fingerprint = regexp.MustCompile(`\b[0-9a-f]{8,64}\b`)

// fingerprints are the different key fingerprints in a log line.
func fingerprints(line string) []string {
	found := fingerprint.FindAllString(line, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// impatient has an agent give up an RPC that cannot work sooner than by default.
func impatient(a *harness.Agent) {
	a.Set(keys{"performance": keys{"rpc_hold_timeout": "500ms", "leave_drain_time": "100ms"}})
}
