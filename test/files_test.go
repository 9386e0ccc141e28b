package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lictor/test/harness"
)

// Whatever the umask, what an agent writes is for its user alone, but for what
// others are meant to read.
func TestFileModes(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	a, b := c.AddServer("s1"), c.AddClient("c1")
	for _, each := range []*harness.Agent{a, b} {
		each.Wrap("sh", "-c", `umask 0; exec "$@"`, "sh")
		each.Set(keys{"log_file": filepath.Join(each.Dir, "log") + "/", "log_level": "DEBUG", "log_rotate_bytes": 1024, "pid_file": filepath.Join(each.Dir, "pid")})
		must(t, each.Put(nil))
		must(t, os.Mkdir(filepath.Join(each.Dir, "log"), 0o700))
		config(t, each, keys{"encrypt": guideKey, "addresses": keys{
			"rpc":  each.IP + " unix://" + filepath.Join(each.Dir, "rpc.sock"),
			"http": each.IP + " unix://" + filepath.Join(each.Dir, "http.sock"),
		}})
	}
	must(t, c.StartAll())
	for _, args := range [][]string{{"-install", otherKey}, {"-use", otherKey}, {"-remove", guideKey}} {
		r, err := a.CLI(c.Dir, append([]string{"keyring"}, args...)...)
		must(t, err)
		if r.Code != 0 {
			t.Errorf("keyring %v: %s", args, r.Stderr)
		}
	}
	_, err := a.Do("PUT", "/v1/event/fire/x", []byte("x"))
	must(t, err)
	modes := func(each *harness.Agent) map[string]fs.FileMode {
		found := map[string]fs.FileMode{}
		must(t, filepath.WalkDir(each.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			name, err := filepath.Rel(each.Dir, path)
			found[name] = st.Mode()
			if name == "data/raft" && err == nil {
				// What is in it is made by libraries, as the umask has it: the folder is
				// what keeps others out.
				return filepath.SkipDir
			}
			return err
		}))
		return found
	}
	check := func(each *harness.Agent) {
		t.Helper()
		found := modes(each)
		want := []string{"data", "data/node-id", "data/serf", "data/serf/local.keyring", "data/serf/local.snapshot", "data/serf/local.encrypted", "pid"}
		if each.Server {
			want = append(want, "data/raft", "data/serf/remote.keyring", "data/serf/remote.snapshot", "data/serf/remote.encrypted")
		}
		for _, name := range want {
			if _, ok := found[name]; !ok && (name != "pid" || each.Up()) {
				t.Errorf("%s has no %s: %v", each.Name, name, found)
			}
		}
		logs := 0
		for name, mode := range found {
			most := fs.FileMode(0o700)
			switch {
			case strings.HasPrefix(name, "log/"):
				most = 0o640
				logs++
			case name == "pid":
				most = 0o644
			case name == "rpc.sock", name == "http.sock":
				most = 0o600
			case !mode.IsDir():
				most = 0o600
			}
			if mode.Perm()&^most != 0 {
				t.Errorf("%s of %s has mode %s, want at most %s", name, each.Name, mode, most)
			}
		}
		if logs < 2 {
			t.Errorf("%s has not rotated its log: %v", each.Name, found)
		}
	}
	check(a)
	check(b)
	for _, each := range []*harness.Agent{b, a} { // what is written at the end counts too
		_, err := each.Stop(sigterm)
		must(t, err)
		check(each)
	}
}

// A symlink where an agent would read or write a file of its own is an error that
// names it, or is replaced: what it points at is neither read nor changed.
func TestSymlinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	const precious = "precious"
	const id = "6a3c1c5e-3b5c-4e0a-9d4e-0c6b8f1d2a37"
	c := cluster(t)
	for i, row := range []struct {
		name     string
		link     string // the file in the agent's folder that is a symlink
		content  string // of what it points at
		keys     keys
		replaced bool
	}{
		{"keyring", "data/serf/local.keyring", `["` + otherKey + `"]`, nil, false},
		{"wan-keyring", "data/serf/remote.keyring", `["` + otherKey + `"]`, nil, false},
		{"snapshot", "data/serf/local.snapshot", precious, nil, false},
		{"wan-snapshot", "data/serf/remote.snapshot", precious, nil, false},
		{"node-id", "data/node-id", id, nil, false},
		{"log", "agent.log", precious, keys{"log_file": "DIR/agent.log"}, false},
		{"rpc-socket", "rpc.sock", precious, keys{"addresses": keys{"rpc": "unix://DIR/rpc.sock"}}, false},
		{"http-socket", "http.sock", precious, keys{"addresses": keys{"http": "unix://DIR/http.sock"}}, false},
		{"pid", "agent.pid", precious, keys{"pid_file": "DIR/agent.pid"}, true},
		{"marker", "data/serf/local.encrypted", precious, nil, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := c.AddServer(fmt.Sprintf("s%d", i))
			a.Alone = true
			config(t, a, keys{"encrypt": guideKey}, inDir(row.keys, a.Dir))
			must(t, os.MkdirAll(filepath.Join(a.DataDir(), "serf"), 0o700))
			target, link := filepath.Join(a.Dir, "elsewhere"), filepath.Join(a.Dir, row.link)
			must(t, os.WriteFile(target, []byte(row.content), 0o600))
			must(t, os.Symlink(target, link))
			if row.replaced {
				must(t, a.Start())
			} else {
				must(t, a.Launch())
				status, err := a.Wait()
				must(t, err)
				if status != 1 {
					t.Errorf("exit status %d, want 1", status)
				}
				wantLog(t, a, 0, `Error starting agent: .*`+filepath.Base(row.link)+`.*(?i)sym(bolic )?links?.* not followed`)
				if strings.Contains(a.Log().String(), row.content) {
					t.Error("what the symlink points at is in the log")
				}
			}
			st, err := os.Lstat(link)
			must(t, err)
			if is := st.Mode()&fs.ModeSymlink != 0; is == row.replaced {
				t.Errorf("it is a symlink: %t, replaced: %t", is, row.replaced)
			}
			b, err := os.ReadFile(target)
			must(t, err)
			if string(b) != row.content {
				t.Errorf("what it points at is %q now", b)
			}
			a.Kill()
		})
	}
}

// inDir puts an agent's folder into values that have DIR in them.
func inDir(k keys, dir string) keys {
	out := keys{}
	for name, v := range k {
		switch v := v.(type) {
		case string:
			out[name] = strings.ReplaceAll(v, "DIR", dir)
		case keys:
			out[name] = inDir(v, dir)
		}
	}
	return out
}
