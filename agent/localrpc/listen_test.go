package localrpc

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestListenRefusesOtherMachines(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		ln, err := Listen(t.Context(), addr, false, SocketOptions{})
		if err == nil {
			ln.Close()
		}
		if !errors.Is(err, ErrNotLocal) || !strings.Contains(err.Error(), "rpc_auth_key") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	ln, err := Listen(t.Context(), "0.0.0.0:0", true, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("sockets have no modes here")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	listen := func() (net.Listener, error) {
		return Listen(t.Context(), "unix://"+path, false, SocketOptions{})
	}
	refused := func(why string) {
		t.Helper()
		if ln, err := listen(); err == nil {
			ln.Close()
			t.Errorf("taken, although %q", why)
		} else if !strings.Contains(err.Error(), why) {
			t.Error(err)
		}
	}
	ln, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != fs.ModeSocket|0o600 {
		t.Fatal(st.Mode(), err)
	}
	refused("another process listens there")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}

	// A socket that nobody answers on is replaced.
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	if ln, err = listen(); err != nil {
		t.Fatal(err)
	}
	ln.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("not a socket")
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Fatal(string(b), err)
	}
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+"2", path); err != nil {
		t.Fatal(err)
	}
	refused("symbolic link")

	for _, o := range []SocketOptions{{Mode: "rw"}, {Mode: "7777"}, {User: "no such user"}, {Group: "no such group"}} {
		if ln, err := Listen(t.Context(), "unix://"+filepath.Join(dir, "o"), false, o); err == nil {
			ln.Close()
			t.Errorf("%+v taken", o)
		}
	}
}
