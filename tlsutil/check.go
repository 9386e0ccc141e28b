package tlsutil

import "crypto/tls"

// CheckConfig is the client side of a health check's connection: with the
// system's CAs, or, where c is not nil (enable_agent_tls_for_checks), with the CA
// and certificate of internal RPC as they are in force now. The caller owns the
// result, and gives it a name where serverName is "".
//
// skipVerify is tls_skip_verify: whoever wrote the check gave up knowing whom it
// asks. It reaches no other connection.
func CheckConfig(c *Configurator, serverName string, skipVerify bool) *tls.Config {
	tc := &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify}
	if c == nil {
		return tc
	}
	m := c.state.Load().rpc
	tc.RootCAs = m.pool
	if m.cert != nil {
		tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert, nil }
	}
	return tc
}
