package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lictor/tlsutil"
)

// Deep finds what would only fail when the agent starts on this machine: TLS
// files, addresses that are not here, directories that cannot be written. It
// changes nothing but for a file it makes and removes in a data directory that
// exists. All problems are in one error, one line each.
func Deep(c *Config) (warnings []string, err error) { return deep(c, realEnv(), time.Now()) }

func deep(c *Config, e env, now time.Time) (warnings []string, err error) {
	var errs []error
	if !c.Node.Dev || usesFiles(c.TLS.InternalRPC) || usesFiles(c.TLS.HTTPS) {
		var tlsErr error
		warnings, tlsErr = tlsutil.Check(c.TLSUtil(), now)
		errs = append(errs, tlsErr)
	}
	errs = append(errs, localAddrs(c, e))
	if dir := c.Node.DataDir; dir != "" {
		errs = append(errs, writable("data_dir", dir))
	}
	if f := c.Node.PidFile; f != "" {
		errs = append(errs, parentExists("pid_file", f))
	}
	if f := c.Log.File; f != "" {
		errs = append(errs, parentExists("log_file", f))
	}
	for _, l := range slices.Concat(c.Listeners.HTTP, c.Listeners.HTTPS, c.Listeners.RPC) {
		if path, ok := unixPath(l); ok {
			errs = append(errs, parentExists("addresses", path))
		}
	}
	return warnings, errors.Join(errs...)
}

// usesFiles: in dev mode TLS material is in memory unless files are named.
func usesFiles(s TLSStanza) bool {
	return s.CAFile != "" || s.CAPath != "" || s.CertFile != "" || s.KeyFile != ""
}

func unixPath(l string) (string, bool) {
	const scheme = "unix://"
	if len(l) > len(scheme) && l[:len(scheme)] == scheme {
		return l[len(scheme):], true
	}
	return "", false
}

// localAddrs checks that every address to listen on is one of this machine.
func localAddrs(c *Config, e env) error {
	here, err := e.addrs()
	if err != nil {
		return err
	}
	var errs []error
	check := func(key string, a netip.Addr) {
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || slices.Contains(here, a.WithZone("")) {
			return
		}
		errs = append(errs, fmt.Errorf("key %q: %s is not an address of this machine", key, a))
	}
	check("bind_addr", c.Network.Bind)
	if c.Network.SerfLAN != c.Network.Bind {
		check("serf_lan", c.Network.SerfLAN)
	}
	if c.Node.Server && c.Network.SerfWAN != c.Network.Bind {
		check("serf_wan", c.Network.SerfWAN)
	}
	for _, a := range c.Network.Client {
		check("client_addr", a)
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"addresses.http", c.Listeners.HTTP}, {"addresses.https", c.Listeners.HTTPS}, {"addresses.dns", c.Listeners.DNS}, {"addresses.rpc", c.Listeners.RPC}} {
		for _, text := range l.list {
			if ap, err := netip.ParseAddrPort(text); err == nil && !slices.Contains(c.Network.Client, ap.Addr()) {
				check(l.key, ap.Addr())
			}
		}
	}
	return errors.Join(errs...)
}

// writable tries to make a file in dir, or looks at the nearest parent that
// exists when dir has yet to be made.
func writable(key, dir string) error {
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil {
			if !info.IsDir() {
				return fmt.Errorf("key %q: %s is not a directory", key, at)
			}
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("key %q: %w", key, err)
		}
		up := filepath.Dir(at)
		if up == at {
			return fmt.Errorf("key %q: %s does not exist", key, dir)
		}
		at = up
	}
	if at != dir {
		return nil // the agent makes it; what it may do there shows then
	}
	f, err := os.CreateTemp(at, ".check-*")
	if err != nil {
		return fmt.Errorf("key %q: %s cannot be written: %w", key, dir, reason(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func parentExists(key, file string) error {
	dir := filepath.Dir(file)
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("key %q: the directory of %s: %w", key, file, reason(err))
	}
	if !info.IsDir() {
		return fmt.Errorf("key %q: %s is not a directory", key, dir)
	}
	return nil
}
