package checks

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"lictor/rpc/wire"
	"lictor/tlsutil"
)

func systemTLS(serverName string, skipVerify bool) *tls.Config {
	return tlsutil.CheckConfig(nil, serverName, skipVerify)
}

// dial connects to a target, over TLS where tc is not nil. The connection's
// deadline is ctx's.
func dial(ctx context.Context, network, addr string, tc *tls.Config) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if tc == nil {
		return conn, nil
	}
	if tc.ServerName == "" {
		tc.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(conn, tc)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, nil
}

// failure is the output of a probe that failed.
func (d *Definition) failure(ctx context.Context, what string, err error) (string, string) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return wire.HealthCritical, what + ": " + d.timedOut(networkTimeout)
	}
	return wire.HealthCritical, what + ": " + cut(err.Error())
}

// newTCP passes when a connection can be made, with TLS where asked for.
func newTCP(d *Definition, o Options) (Check, error) {
	what := "TCP connect " + d.TCP
	return newPeriodic(d, o, networkTimeout, func(ctx context.Context) (string, string) {
		var tc *tls.Config
		if d.TCPUseTLS {
			tc = o.TLS(d.TLSServerName, d.TLSSkipVerify)
		}
		conn, err := dial(ctx, "tcp", d.TCP, tc)
		if err != nil {
			return d.failure(ctx, what, err)
		}
		conn.Close()
		return wire.HealthPassing, what + ": Success"
	}), nil
}

// newUDP sends an empty datagram. Only a target that is known to be gone is
// critical (the system hears that the port is closed): most services do not
// answer what they do not understand, so silence passes.
func newUDP(d *Definition, o Options) (Check, error) {
	what := "UDP connect " + d.UDP
	return newPeriodic(d, o, networkTimeout, func(ctx context.Context) (string, string) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp", d.UDP)
		if err != nil {
			return d.failure(ctx, what, err)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		if _, err := conn.Write(nil); err != nil {
			return d.failure(ctx, what, err)
		}
		var answer [1]byte
		_, err = conn.Read(answer[:])
		switch {
		case err == nil:
			return wire.HealthPassing, what + ": Success"
		case errors.Is(err, os.ErrDeadlineExceeded):
			return wire.HealthPassing, what + ": Success (no answer, and no word that the port is closed)"
		}
		return d.failure(ctx, what, err)
	}), nil
}
