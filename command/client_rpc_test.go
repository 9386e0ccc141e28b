package command

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

func TestRPCRefusedSaysWhereAndHow(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, err = dial(t.Context(), target{RPCAddr: addr})
	if err == nil {
		t.Fatal("nobody listens, but there is a client")
	}
	for _, part := range []string{"connection refused", addr, "-rpc-addr", "LICTOR_RPC_ADDR", "-http-addr", "LICTOR_HTTP_ADDR"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestRPCToAnHTTPPortSaysSo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1024))
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	_, err = dial(t.Context(), target{RPCAddr: ln.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "does not speak the local RPC") || !strings.Contains(err.Error(), "-http-addr") {
		t.Errorf("an HTTP port was taken for a local RPC: %v", err)
	}
}
