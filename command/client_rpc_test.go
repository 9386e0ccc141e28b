package command

import (
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
