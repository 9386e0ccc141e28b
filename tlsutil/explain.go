package tlsutil

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// alertReasons are what a peer's alert means for whoever reads the log. The
// keys are the texts of crypto/tls, which has no other way to tell them apart.
var alertReasons = []struct{ text, reason string }{
	{"certificate required", "the peer wants a certificate and we showed none: it has verify_incoming on; set cert_file and key_file here"},
	{"bad certificate", "the peer refused our certificate"},
	{"unknown certificate authority", "the peer does not know the CA of our certificate"},
	{"expired certificate", "the peer says that our certificate has expired: compare the clocks, and its dates (tls cert inspect)"},
	{"unsupported certificate", "the peer does not accept a certificate of our kind or for this use"},
	{"protocol version not supported", "the peer does not speak a TLS version that we allow (tls_min_version)"},
	{"handshake failure", "the peer found no version or cipher suite in common"},
	{"no application protocol", "the peer does not speak the protocol we asked for"},
}

// maxReason is how much of an error's own text a reason repeats: part of it may
// be the peer's.
const maxReason = 300

// Explain puts a failed handshake into one line for a log: what was shown, what
// was expected, both clocks where a date is the reason. It is never empty for
// an error.
func Explain(err error, now time.Time) string {
	if err == nil {
		return ""
	}
	var (
		verify  *tls.CertificateVerificationError
		header  tls.RecordHeaderError
		timeout net.Error
	)
	switch {
	case errors.As(err, &verify):
		return explainVerify(verify.Err, verify.UnverifiedCertificates, now)
	case errors.As(err, &header):
		return "the peer does not speak TLS here (it sent something else)"
	case errors.Is(err, ErrNoCertificate):
		return "the peer speaks TLS, and this agent has no certificate (cert_file, key_file)"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "the peer did not finish the TLS handshake in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the peer closed the connection during the TLS handshake: its log says why (it may not accept TLS on this port)"
	}
	text := err.Error()
	if strings.Contains(text, "client didn't provide a certificate") {
		return "the peer showed no certificate, and verify_incoming is on"
	}
	if i := strings.Index(text, "remote error: tls: "); i >= 0 {
		alert := text[i+len("remote error: tls: "):]
		for _, a := range alertReasons {
			if strings.Contains(alert, a.text) {
				return fmt.Sprintf("%s (alert %.64q)", a.reason, alert)
			}
		}
	}
	return fmt.Sprintf("%.*q", maxReason, text)
}

func explainVerify(err error, certs []*x509.Certificate, now time.Time) string {
	var (
		shown    = "no certificate"
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
	)
	if len(certs) > 0 {
		id := describe(certs[0])
		shown = fmt.Sprintf("names %s, serial %s, issuer %.64q, valid %s to %s", quoteNames(id.Names), id.Serial, id.Issuer,
			certs[0].NotBefore.UTC().Format(time.RFC3339), certs[0].NotAfter.UTC().Format(time.RFC3339))
	}
	switch {
	case errors.As(err, &hostname):
		return fmt.Sprintf("the name in the peer's certificate is not the expected one: want %q, shown %s", hostname.Host, shown)
	case errors.As(err, &unknown):
		return "the peer's certificate is not signed by our CA (certificate signed by unknown authority): shown " + shown
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the peer's certificate has expired or is not valid yet: our clock says %s, shown %s", now.UTC().Format(time.RFC3339), shown)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "the peer's certificate is not for this use (extended key usage): shown " + shown
	}
	return fmt.Sprintf("the peer's certificate does not verify: %.*q, shown %s", maxReason, err, shown)
}
