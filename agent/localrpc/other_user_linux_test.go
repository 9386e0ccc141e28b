package localrpc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lictor/rpc/wire"
)

const (
	otherUser = 65534
	otherEnv  = "LOCALRPC_TEST_OTHER_USER"
)

// TestMain is also the program that calls as another user.
func TestMain(m *testing.M) {
	if addr := os.Getenv(otherEnv); addr != "" {
		if err := json.NewEncoder(os.Stdout).Encode(callAll(addr)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// callAll runs one command of each kind and returns what became of it.
func callAll(addr string) map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := map[string]string{}
	c, err := Dial(ctx, addr, Options{})
	if err != nil {
		return map[string]string{"dial": err.Error()}
	}
	defer c.Close()
	note := func(name string, err error) {
		out[name] = fmt.Sprint(err)
	}
	_, err = c.Members(ctx, false)
	note("members", err)
	_, err = c.Stats(ctx)
	note("stats", err)
	_, err = c.Join(ctx, []string{"127.0.0.1:1"}, false)
	note("join", err)
	_, err = c.Keyring(ctx, &wire.KeyringRequest{Operation: wire.KeyringList})
	note("keyring", err)
	note("event", c.FireEvent(ctx, "", &wire.UserEvent{Name: "x"}))
	note("force-leave", c.ForceLeave(ctx, "x", false, false))
	note("reload", c.Reload(ctx))
	if s, err := c.Monitor(ctx, "INFO", false); err == nil {
		s.Close()
		note("monitor", nil)
	} else {
		note("monitor", err)
	}
	note("leave", c.Leave(ctx))
	return out
}

func asOtherUser(t *testing.T, addr string) map[string]string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: calls as another user")
	}
	exe, err := os.Open("/proc/self/exe") // its folder may be closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{otherEnv + "=" + addr}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	var out map[string]string
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return out
}

func TestOtherUserMayOnlyRead(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	out := asOtherUser(t, start(t, Config{Backend: f}))
	for cmd, got := range out {
		want := "not for user 65534"
		if cmd == "members" || cmd == "stats" {
			want = "<nil>"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s", cmd, got)
		}
	}
	if len(out) != 9 {
		t.Error(out)
	}
	if calls := f.list(); len(calls) != 0 {
		t.Errorf("the agent was asked: %q", calls)
	}
}

func TestOtherUserOnASocketMayNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	addr := "unix://" + filepath.Join(dir, "s")
	ln, err := Listen(t.Context(), addr, false, SocketOptions{Mode: "0666"})
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	serve(t, Config{Backend: f}, ln)
	for cmd, got := range asOtherUser(t, addr) {
		if !strings.Contains(got, "not for user 65534") {
			t.Errorf("%s: %s", cmd, got)
		}
	}
	if calls := f.list(); len(calls) != 0 {
		t.Errorf("the agent was asked: %q", calls)
	}
}

// Who sends and closes at once must not be taken for root, as whose the kernel
// shows the closed socket.
func TestClosedSocketHasNoOwner(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:20D0 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
   1: 0100007F:1F91 0100007F:20D0 01 00000000:00000000 00:00000000 00000000  1000        0 77 1 0
   2: 0100007F:1F92 0100007F:20D0 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0
`
	for _, tt := range []struct {
		self string
		uid  uint32
		ok   bool
	}{{"0100007F:1F90", 0, false}, {"0100007F:1F91", 1000, true}, {"0100007F:1F92", 0, false}, {"0100007F:1F93", 0, false}} {
		uid, ok, err := scanProc(strings.NewReader(table), tt.self, "0100007F:20D0")
		if err != nil || uid != tt.uid || ok != tt.ok {
			t.Errorf("%s: %d, %t, %v", tt.self, uid, ok, err)
		}
	}
}

func TestOwnUserIsFound(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := Listen(t.Context(), addr, false, SocketOptions{})
		if err != nil {
			t.Logf("%s: %v", addr, err) // a machine without IPv6
			continue
		}
		f := newFake(t)
		serve(t, Config{Backend: f}, ln)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		c, err := Dial(ctx, ln.Addr().String(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Reload(ctx); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
