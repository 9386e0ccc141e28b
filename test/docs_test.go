package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sample finds the code blocks of a document, with their language.
var sample = regexp.MustCompile("(?ms)^```([a-z]*)[^\n]*\n(.*?)^```")

// base is the configuration that the samples of the documents are merged into.
const base = `{
  "data_dir": "/opt/consul",
  "bind_addr": "127.0.0.1",
  "ca_file": "consul-agent-ca.pem",
  "cert_file": "consul-server-dc1-0.pem",
  "key_file": "consul-server-dc1-0-key.pem"
}`

// Every configuration in docs and in the README loads: a block of JSON or HCL
// that is an object, or is marked as javascript as in the guide. What a file
// needs around it (certificates) is provided under the names it uses.
func TestConfigSamplesLoad(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	var docs []string
	must(t, filepath.WalkDir("../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
		return err
	}))
	docs = append(docs, "../README.md")

	ca := newCA(t, "Consul Agent CA")
	names := map[string]string{"server": "server.dc1.consul", "client": "client.dc1.consul", "cli": "cli.dc1.consul"}
	files := map[string][]byte{"consul-agent-ca.pem": ca.PEM}
	for role, name := range names {
		for _, dc := range []string{"dc1"} {
			cert := issueUntil(t, ca, time.Now().Add(24*time.Hour), name, "localhost")
			files["consul-"+role+"-"+dc+"-0.pem"] = cert.CertPEM
			files["consul-"+role+"-"+dc+"-0-key.pem"] = cert.KeyPEM
		}
	}
	n := 0
	for _, doc := range docs {
		b, err := os.ReadFile(doc)
		must(t, err)
		for _, m := range sample.FindAllStringSubmatch(string(b), -1) {
			lang, text := m[1], m[2]
			ext := map[string]string{"json": ".json", "javascript": ".json", "hcl": ".hcl"}[lang]
			if ext == "" || ext == ".json" && !strings.HasPrefix(strings.TrimSpace(text), "{") {
				continue
			}
			n++
			t.Run(filepath.Base(doc)+"/"+strconv.Itoa(n), func(t *testing.T) {
				dir := t.TempDir()
				must(t, os.WriteFile(filepath.Join(dir, "agent"+ext), []byte(text), 0o600))
				for name, b := range files {
					must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
				}
				// A file with a few settings is to be merged with the rest of a
				// configuration: base has what any of them may need.
				must(t, os.WriteFile(filepath.Join(dir, "base.json"), []byte(base), 0o600))
				args := []string{"validate", "base.json", "agent" + ext}
				r, err := c.CLI(dir, args...)
				must(t, err)
				if r.Code != 0 {
					t.Errorf("%s does not load:\n%s\n%s", doc, text, r.Stderr)
				}
			})
		}
	}
	t.Logf("%d samples in %d documents", n, len(docs))
}
