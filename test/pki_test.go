package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"lictor/test/harness"
)

// A server's certificate that an intermediate CA has signed, which the others
// know from the handshake alone (GH-10964): the server joins, is believed, and
// has the role of a server; and agents start with each way in which tools and
// people write PEM files, and are believed as well.
func TestIntermediatesAndPEMForms(t *testing.T) {
	t.Parallel()
	root := newCA(t, "root CA")
	first, err := root.Intermediate("first intermediate CA", nil)
	must(t, err)
	second, err := first.Intermediate("second intermediate CA", nil)
	must(t, err)
	chain := func(cert *harness.Cert, cas ...*harness.CA) []byte {
		b := bytes.Clone(cert.CertPEM)
		for _, ca := range cas {
			b = append(b, ca.PEM...)
		}
		return b
	}
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	strict := []keys{{"encrypt": guideKey}, tlsFiles, verify(true, true, true)}
	c := cluster(t)
	server := func(name string) *harness.Agent {
		a := c.AddServer(name)
		config(t, a, strict...)
		cert := issue(t, second, "server.dc1.consul")
		must(t, a.Put(map[string][]byte{"ca.pem": root.PEM, "cert.pem": chain(cert, second, first), "key.pem": cert.KeyPEM}))
		must(t, a.Start())
		return a
	}
	s1, s2 := server("s1"), server("s2")

	rows := []struct {
		name  string
		by    *harness.CA // that signs the agent's certificate
		files func(cert *harness.Cert) map[string][]byte
		keys  keys
	}{
		{"crlf", root, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": crlf(root.PEM), "cert.pem": crlf(cert.CertPEM), "key.pem": crlf(cert.KeyPEM)}
		}, nil},
		{"no-final-newline", second, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": bytes.TrimSpace(root.PEM), "cert.pem": bytes.TrimSpace(chain(cert, second, first)), "key.pem": bytes.TrimSpace(cert.KeyPEM)}
		}, nil},
		{"comments", second, func(cert *harness.Cert) map[string][]byte {
			note := []byte("Bag Attributes\n    friendlyName: x\nsubject=/CN=x\n# a comment\n\n")
			with := func(parts ...[]byte) []byte {
				return append(bytes.Join(append([][]byte{nil}, parts...), note), note...)
			}
			return map[string][]byte{"ca.pem": with(root.PEM), "cert.pem": with(cert.CertPEM, second.PEM, first.PEM), "key.pem": with(cert.KeyPEM)}
		}, nil},
		{"key-first", root, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": root.PEM, "both.pem": append(bytes.Clone(cert.KeyPEM), cert.CertPEM...)}
		}, keys{"cert_file": "both.pem", "key_file": "both.pem"}},
		{"combined", second, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": root.PEM, "both.pem": append(chain(cert, second, first), cert.KeyPEM...)}
		}, keys{"cert_file": "both.pem", "key_file": "both.pem"}},
		{"chain-before-certificate", second, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": root.PEM, "cert.pem": bytes.Join([][]byte{first.PEM, second.PEM, cert.CertPEM}, nil), "key.pem": cert.KeyPEM}
		}, nil},
		{"bundle-with-root", second, func(cert *harness.Cert) map[string][]byte {
			return map[string][]byte{"ca.pem": append(newCA(t, "another CA").PEM, root.PEM...), "cert.pem": chain(cert, second, first, root), "key.pem": cert.KeyPEM}
		}, nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			a := c.AddClient(row.name)
			config(t, a, append(strict, row.keys)...)
			must(t, a.Put(row.files(issue(t, row.by, "client.dc1.consul"))))
			must(t, a.Start())
			poll(t, "an RPC", a.RPC)
			a.Kill() // it need not be one more that is probed
		})
	}

	t.Run("roles", func(t *testing.T) {
		for _, a := range []*harness.Agent{s1, s2} {
			for name, allowed := range map[string]bool{"server.dc1.consul": true, "client.dc1.consul": false} {
				cert := issue(t, second, name)
				cert.CertPEM = chain(cert, second, first)
				answer := call(t, a.Addr(harness.RPCPort), cert, "Status.RaftStats")
				if denied := strings.Contains(answer, "Permission denied"); denied == allowed {
					t.Errorf("%s as %s: %q", a.Name, name, answer)
				}
			}
			short := issue(t, second, "server.dc1.consul") // the intermediates are not shown
			if err := handshake(t, a.Addr(harness.RPCPort), short); err == nil {
				t.Errorf("%s believes a chain that it was not shown", a.Name)
			}
		}
		poll(t, "the servers to meet in the WAN pool", func() error {
			members, err := s2.Members(true)
			if err == nil && (members["s1.dc1"] != "alive" || members["s2.dc1"] != "alive") {
				err = fmt.Errorf("members: %v", members)
			}
			return err
		})
	})
}

// call makes one call of a method without arguments over TLS and returns the
// answer as it is on the wire.
func call(t testing.TB, addr string, cert *harness.Cert, method string) string {
	t.Helper()
	raw, err := net.DialTimeout("tcp", addr, harness.Patience)
	must(t, err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(harness.Patience))
	_, err = raw.Write([]byte{3})
	must(t, err)
	pair, err := cert.TLS()
	must(t, err)
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	_, err = conn.Write(packet(0, rpcHeader(method), 0x80))
	must(t, err)
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return string(b[:n])
}
