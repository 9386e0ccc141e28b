//go:build unix

package rpc_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"

	"lictor/rpc"
	"lictor/tlsutil"
)

// cpu is the CPU time that this process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure reports CPU time per operation: both ends run in this process.
func measure(b *testing.B, op func()) {
	op() // warm
	start := cpu(b)
	for b.Loop() {
		op()
	}
	b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
}

func strict(b *testing.B) (server, client *tlsutil.Configurator) {
	authority := newCA(b)
	server = configurator(b, authority.stanza(authority.issue(b, tlsutil.RoleServer, "dc1"), true, true, true))
	client = configurator(b, authority.stanza(authority.issue(b, tlsutil.RoleClient, "dc1"), true, true, true))
	return server, client
}

const payload = 100

func BenchmarkCall100(b *testing.B) {
	serverTLS, clientTLS := strict(b)
	_, target := serve(b, rpc.ServerConfig{TLS: serverTLS})
	p := pool(b, clientTLS)
	args, reply := echo{Bytes: make([]byte, payload)}, echo{}
	measure(b, func() {
		if err := p.Call(context.Background(), target, "Status.Ping", args, &reply); err != nil {
			b.Fatal(err)
		}
	})
}

// rawListener accepts crypto/tls connections with the same settings and gives
// each to handle.
func rawListener(b *testing.B, conf *tlsutil.Configurator, handle func(*tls.Conn)) string {
	tc, err := conf.IncomingRPC()
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go handle(tls.Server(c, tc))
		}
	}()
	return ln.Addr().String()
}

func dialRaw(b *testing.B, conf *tlsutil.Configurator, addr string) *tls.Conn {
	tc, err := conf.OutgoingRPC("dc1")
	if err != nil {
		b.Fatal(err)
	}
	c, err := tls.Dial("tcp", addr, tc)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkRawTLS is the floor of BenchmarkCall100: as many bytes as its request
// and its answer have, there and back over one connection.
func BenchmarkRawTLS(b *testing.B) {
	serverTLS, clientTLS := strict(b)
	addr := rawListener(b, serverTLS, func(c *tls.Conn) {
		defer c.Close()
		io.Copy(c, c)
	})
	c := dialRaw(b, clientTLS, addr)
	defer c.Close()
	buf := make([]byte, payload)
	measure(b, func() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	serverTLS, clientTLS := strict(b)
	_, target := serve(b, rpc.ServerConfig{TLS: serverTLS, Limits: rpc.Limits{MaxConnsPerClient: -1}})
	measure(b, func() {
		p := rpc.NewPool(rpc.PoolConfig{TLS: clientTLS})
		if err := p.Call(context.Background(), target, "Status.Ping", echo{}, nil); err != nil {
			b.Fatal(err)
		}
		p.Close()
	})
}

// BenchmarkRawHandshake is the floor of BenchmarkHandshake: a handshake, and one
// byte there and back.
func BenchmarkRawHandshake(b *testing.B) {
	serverTLS, clientTLS := strict(b)
	addr := rawListener(b, serverTLS, func(c *tls.Conn) {
		defer c.Close()
		io.Copy(c, c)
	})
	one := []byte{0}
	measure(b, func() {
		c := dialRaw(b, clientTLS, addr)
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
		c.Close()
	})
}
