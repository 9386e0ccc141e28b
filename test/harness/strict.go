package harness

import (
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// GossipKey is the key of clusters that Strict sets up.
const GossipKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

// RoleName is the name in the certificate of an agent of this kind.
func RoleName(server bool, dc string) string {
	if server {
		return "server." + dc + ".consul"
	}
	return "client." + dc + ".consul"
}

// Strict configures every agent of the cluster that is there now: one gossip
// key, a certificate of its role by ca, every verify setting on, and HTTPS for
// the API besides HTTP. Keys of more go into every agent's file.
func (c *Cluster) Strict(ca *CA, more map[string]any) error {
	var errs []error
	for _, a := range c.Agents() {
		cert, err := ca.Issue(time.Now().Add(24*time.Hour), RoleName(a.Server, a.Datacenter), "localhost")
		if err != nil {
			return err
		}
		conf := map[string]any{
			"encrypt": GossipKey,
			"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem",
			"verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
			"ports": map[string]any{"https": 8501},
		}
		maps.Copy(conf, more)
		if !a.Server {
			delete(conf, "bootstrap")
			delete(conf, "bootstrap_expect")
		}
		b, err := json.MarshalIndent(conf, "", "  ")
		if err != nil {
			return err
		}
		errs = append(errs,
			a.Config(map[string][]byte{"agent.json": b}),
			a.Put(map[string][]byte{"ca.pem": ca.PEM, "cert.pem": cert.CertPEM, "key.pem": cert.KeyPEM}))
	}
	return errors.Join(errs...)
}
