package localrpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// SocketOptions say who owns a unix socket.
type SocketOptions struct {
	User, Group string // names or numbers; "" means the agent's own
	Mode        string // octal; "" means 0600
}

// ErrNotLocal is the refusal of an address that other machines can reach.
var ErrNotLocal = errors.New("not a loopback address, and no auth key is set: " +
	"use 127.0.0.1, a unix:// socket, or set rpc_auth_key")

// Listen binds host:port, tcp://host:port or unix:///path. Without auth, which
// says that callers must authenticate themselves, only a loopback address or a
// unix socket is taken.
//
// A unix socket has its owner and mode before it appears under its name. A
// socket that nobody listens on is replaced; anything else in its place, a
// symbolic link among them, is an error. Closing the listener removes it.
func Listen(ctx context.Context, addr string, auth bool, opts SocketOptions) (net.Listener, error) {
	network, where := splitAddr(addr)
	if network == "unix" {
		return listenUnix(ctx, where, opts)
	}
	tcp, err := net.ResolveTCPAddr("tcp", where)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if !auth && !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: %w", addr, ErrNotLocal)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", tcp.String())
}

// listenUnix binds in a folder of its own that only we can enter, so that
// nobody can connect before owner and mode are right, whatever the umask, and
// then moves the socket to its place.
func listenUnix(ctx context.Context, path string, opts SocketOptions) (_ net.Listener, err error) {
	fail := func(err error) (net.Listener, error) {
		return nil, fmt.Errorf("listen on unix://%s: %w", path, err)
	}
	mode, uid, gid, err := opts.resolve()
	if err != nil {
		return fail(err)
	}
	if err := clearSocket(ctx, path); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".l") // 0700
	if err != nil {
		return fail(err)
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil && err == nil {
			err = rmErr
		}
	}()
	tmp := filepath.Join(dir, "s") // short: the name of a socket has little room
	inner, err := new(net.ListenConfig).Listen(ctx, "unix", tmp)
	if err != nil {
		return fail(err)
	}
	ln := inner.(*net.UnixListener)
	ln.SetUnlinkOnClose(false)
	place := func() error {
		if uid >= 0 || gid >= 0 {
			if err := os.Lchown(tmp, uid, gid); err != nil {
				return err
			}
		}
		if err := os.Chmod(tmp, mode); err != nil {
			return err
		}
		return os.Rename(tmp, path)
	}
	if err := place(); err != nil {
		ln.Close()
		return fail(err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		ln.Close()
		return fail(err)
	}
	return &unixListener{UnixListener: ln, path: path, file: st}, nil
}

func (o SocketOptions) resolve() (mode fs.FileMode, uid, gid int, err error) {
	mode, uid, gid = 0o600, -1, -1
	if o.Mode != "" {
		m, err := strconv.ParseUint(o.Mode, 8, 32)
		if err != nil || m > 0o777 {
			return 0, 0, 0, fmt.Errorf("unix_sockets.mode: %q is not an octal mode such as 0600", o.Mode)
		}
		mode = fs.FileMode(m)
	}
	if o.User != "" {
		if uid, err = lookupID("user", o.User); err != nil {
			return 0, 0, 0, err
		}
	}
	if o.Group != "" {
		if gid, err = lookupID("group", o.Group); err != nil {
			return 0, 0, 0, err
		}
	}
	return mode, uid, gid, nil
}

// clearSocket makes sure that nothing is at path, removing a socket that nobody
// listens on.
func clearSocket(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&fs.ModeSymlink != 0:
		return errors.New("there is a symbolic link, which is not followed")
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("there is something that is not a socket (%s)", st.Mode().Type())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		return errors.New("another process listens there")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("cannot tell whether another process listens there: %w", err)
}

// unixListener removes its socket file, where that still is its own.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if st, err := os.Lstat(l.path); err == nil && os.SameFile(st, l.file) {
			os.Remove(l.path) // what is left would be found stale at the next start
		}
	})
	return l.UnixListener.Close()
}
