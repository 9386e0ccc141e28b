package agent

import (
	"os"
	"path/filepath"
	"testing"

	"lictor/agent/config"
)

func TestWatchedFilesChange(t *testing.T) {
	dir := t.TempDir()
	file, cert := filepath.Join(dir, "agent.json"), filepath.Join(dir, "cert.pem")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "{}")
	cfg := &config.Config{
		RunTime: config.RunTime{Files: []string{file}},
		TLS:     config.TLS{InternalRPC: config.TLSStanza{CertFile: cert}},
	}
	first := watchedFiles(cfg)
	if !equalStates(first, watchedFiles(cfg)) {
		t.Error("nothing has changed, and it is seen as a change")
	}
	write(cert, "new") // a file that was missing
	second := watchedFiles(cfg)
	if equalStates(first, second) {
		t.Error("a new certificate is not seen")
	}
	write(file, "{ }")
	if equalStates(second, watchedFiles(cfg)) {
		t.Error("a changed configuration is not seen")
	}
}
