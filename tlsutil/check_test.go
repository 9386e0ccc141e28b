package tlsutil

import (
	"crypto/tls"
	"testing"
)

func TestCheckConfig(t *testing.T) {
	ca := mustCA(t)
	agent := mustNew(t, rpcConfig(ca.Cert, mustIssue(t, ca, RoleClient, "dc1"), false, true, false))
	server := mustNew(t, rpcConfig(ca.Cert, mustIssue(t, ca, RoleServer, "dc1"), true, true, false))
	in, err := server.IncomingRPC() // asks for a certificate of the CA
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"the agent's material", CheckConfig(agent, "localhost", false), true},
		{"another name", CheckConfig(agent, "elsewhere.example", false), false},
		{"the system's CAs", CheckConfig(nil, "localhost", false), false},
		{"no verification, and no certificate", CheckConfig(nil, "localhost", true), false},
	} {
		_, _, serverErr, clientErr := handshake(t, in, tc.client)
		if ok := serverErr == nil && clientErr == nil; ok != tc.ok {
			t.Errorf("%s: %v %v", tc.name, serverErr, clientErr)
		}
	}
	if tc := CheckConfig(agent, "", true); tc.MinVersion < tls.VersionTLS12 {
		t.Error("a check may speak old versions")
	}
}
