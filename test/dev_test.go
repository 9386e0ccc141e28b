package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// -dev is encrypted too, everything of it: the banner says so, and nothing is
// written to disk, so that no key can be.
func TestDevAgent(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	a := c.AddServer("dev")
	a.Bare = true
	home := filepath.Join(a.Dir, "home")
	must(t, os.MkdirAll(home, 0o700))
	a.Env("HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+home, "XDG_CACHE_HOME="+home)
	must(t, a.Start("-dev", "-node", "dev", "-bind", a.IP, "-client", a.IP))

	for _, line := range []string{
		`Node name: 'dev'`,
		`Server: true \(bootstrap: (true|false)\)`,
		`HTTP: 8500, HTTPS: 8501, DNS: (-1|8600), RPC: 8400\)`,
		`Gossip encrypt: true, RPC-TLS: true, TLS-Incoming: true`,
	} {
		wantLog(t, a, 0, line)
	}
	must(t, a.RPC())
	r, err := a.CLI(c.Dir, "info")
	must(t, err)
	if n := len(regexp.MustCompile(`encrypted = true`).FindAllString(r.Stdout, -1)); n != 2 {
		t.Errorf("%d pools say that they are encrypted, want 2:\n%s", n, r.Stdout)
	}
	r, err = a.CLI(c.Dir, "keyring", "-list")
	must(t, err)
	wantMatch(t, "keyring -list", r.Stdout, `(?s)WAN:\n  \S{44} \[1/1\].*dc1 \(LAN\):\n  \S{44} \[1/1\]`)
	if err := handshake(t, a.Addr("8300"), nil); err == nil {
		t.Error("a caller without a certificate was answered")
	}
	r, err = a.CLI(c.Dir, "leave")
	must(t, err)
	if r.Code != 0 {
		t.Errorf("leave: exit %d: %s", r.Code, r.Stderr)
	}
	status, err := a.Wait()
	must(t, err)
	if status != 0 {
		t.Errorf("exit status %d after a leave, want 0", status)
	}
	must(t, filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("it has written %s", path)
		}
		return err
	}))
}
