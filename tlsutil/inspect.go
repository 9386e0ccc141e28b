package tlsutil

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"
)

// Report is what there is to know about a certificate file.
type Report struct {
	Subject, Issuer     string
	DNSNames            []string
	IPs                 []net.IP
	URIs                []string
	Role                string // "server of dc1", "client of dc1", "CA", "none"
	Serial, Fingerprint string // SHA-256 of the certificate
	KeyType             string
	NotBefore, NotAfter time.Time
	Intermediates       int
	// Chain is "yes", "no: <why>", or "" where no CA was given.
	Chain string
	// Verdicts are what each verify setting of a peer would make of it, in
	// order, with the name of the setting first.
	Verdicts [][2]string
}

// Left is how much of its validity is left at a time; negative once expired.
func (r *Report) Left(now time.Time) time.Duration { return r.NotAfter.Sub(now) }

// Inspect reads a certificate file. ca is a PEM bundle to check the chain
// against, nil for none; dc and domain are whose names verify settings would
// ask for.
func Inspect(b, ca []byte, dc, domain string, now time.Time) (*Report, error) {
	certs, err := ParseCertificates(b)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	sum := sha256.Sum256(leaf.Raw)
	r := &Report{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(),
		DNSNames: leaf.DNSNames, IPs: leaf.IPAddresses,
		Serial: leaf.SerialNumber.Text(16), Fingerprint: hex.EncodeToString(sum[:]),
		KeyType:   keyType(leaf.PublicKey),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Intermediates: len(certs) - 1,
	}
	for _, u := range leaf.URIs {
		r.URIs = append(r.URIs, u.String())
	}
	r.Role = describeRole(leaf, domain)

	var roots *x509.CertPool
	if ca != nil {
		cas, err := ParseCertificates(ca)
		if err != nil {
			return nil, fmt.Errorf("CA: %w", err)
		}
		roots = x509.NewCertPool()
		for _, c := range cas {
			roots.AddCert(c)
		}
		r.Chain = verdict(verifyCerts(leaf, certs[1:], roots, now, x509.ExtKeyUsageAny))
	}
	if !leaf.IsCA {
		r.Verdicts = verdicts(leaf, certs[1:], roots, dc, domain, now)
	}
	return r, nil
}

func describeRole(leaf *x509.Certificate, domain string) string {
	if leaf.IsCA {
		return "CA"
	}
	for _, n := range leaf.DNSNames {
		// Any datacenter is "local" to itself: the name says which.
		parts := strings.Split(strings.ToLower(n), ".")
		if len(parts) < 3 {
			continue
		}
		if role, in := roleOf(leaf.DNSNames, parts[1], domain); role != RoleNone && role != RoleRemoteServer {
			return role.String() + " of " + in
		}
	}
	return "none"
}

func verdict(err error) string {
	if err != nil {
		return "no: " + err.Error()
	}
	return "yes"
}

func verdicts(leaf *x509.Certificate, chain []*x509.Certificate, roots *x509.CertPool, dc, domain string, now time.Time) [][2]string {
	check := func(usage x509.ExtKeyUsage, name string) string {
		if roots == nil {
			roots := x509.NewCertPool() // without a CA, judge all but the signature
			roots.AddCert(leaf)
			if err := validAt(leaf, now); err != nil {
				return "refused: " + err.Error()
			}
		} else if err := verifyCerts(leaf, chain, roots, now, usage); err != nil {
			return "refused: " + err.Error()
		}
		if name != "" {
			if err := leaf.VerifyHostname(name); err != nil {
				return "refused: " + err.Error()
			}
		}
		if roots == nil {
			return "accepted, if the CA signed it"
		}
		return "accepted"
	}
	return [][2]string{
		{"verify_incoming", check(x509.ExtKeyUsageClientAuth, "")},
		{"verify_outgoing", check(x509.ExtKeyUsageServerAuth, "")},
		{"verify_server_hostname", check(x509.ExtKeyUsageServerAuth, ServerName(dc, domain))},
	}
}
