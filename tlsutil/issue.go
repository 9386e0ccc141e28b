package tlsutil

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Default validity (limits-and-defaults.md, section 12).
const (
	DefaultCADays   = 1825
	DefaultCertDays = 365
)

// backdate is how long before now a certificate begins, for machines whose
// clocks differ a little.
const backdate = time.Minute

// serialBits is the length of a serial number.
const serialBits = 128

// CARequest says what CA to make.
type CARequest struct {
	Domain          string
	CommonName      string // "" makes one with the serial number
	Days            int
	NameConstraint  bool     // allow only localhost, Domain and AdditionalNames
	AdditionalNames []string // further allowed DNS names
	ClusterID       string   // adds the URI spiffe://<id>.<domain>
}

// CertRequest says what certificate to issue.
type CertRequest struct {
	Kind       Role // RoleServer, RoleClient or RoleCLI
	Datacenter string
	Domain     string
	Node       string // servers only: adds <node>.server.<dc>.<domain>
	Days       int
	DNSNames   []string // put before the default names
	IPs        []net.IP
}

// Pair is a certificate with its key, PEM.
type Pair struct {
	Cert, Key []byte
}

// label is one part of a DNS name (RFC 1123), with the underscores that
// datacenter names may have.
var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// checkName says why a name could not be in a certificate that verifies.
func checkName(what, name string) error {
	if len(name) > 253 {
		return fmt.Errorf("%s %.64q is too long for a DNS name", what, name)
	}
	for part := range strings.SplitSeq(name, ".") {
		if !label.MatchString(part) {
			return fmt.Errorf("%s %.64q cannot be part of a DNS name: want lower-case letters, digits, - and _, at most 63 between dots", what, name)
		}
	}
	return nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, encode("EC PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// CreateCA makes a self-signed CA with an ECDSA P-256 key.
func CreateCA(r CARequest) (*Pair, error) {
	if err := checkName("domain", r.Domain); err != nil {
		return nil, err
	}
	if r.Days <= 0 {
		return nil, fmt.Errorf("days must be positive, not %d", r.Days)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	if r.CommonName == "" {
		r.CommonName = fmt.Sprintf("Lictor Agent CA %d", serial)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: r.CommonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(0, 0, r.Days),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		SubjectKeyId:          id,
		AuthorityKeyId:        id,
	}
	if r.NameConstraint {
		t.PermittedDNSDomainsCritical = true
		t.PermittedDNSDomains = append(append([]string{}, r.AdditionalNames...), r.Domain, "localhost")
	} else if len(r.AdditionalNames) > 0 {
		return nil, errors.New("additional name constraints need -name-constraint")
	}
	if r.ClusterID != "" {
		t.URIs = []*url.URL{{Scheme: "spiffe", Host: r.ClusterID + "." + r.Domain}}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Pair{Cert: encode("CERTIFICATE", der), Key: keyPEM}, nil
}

// signer reads the CA that a certificate is to be signed with.
func signer(ca *Pair) (*x509.Certificate, crypto.Signer, error) {
	cert, err := pair(ca.Cert, ca.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("CA: %w", err)
	}
	if !cert.Leaf.IsCA {
		return nil, nil, fmt.Errorf("CA: the certificate %.64q is not a CA's", cert.Leaf.Subject.CommonName)
	}
	return cert.Leaf, cert.PrivateKey.(crypto.Signer), nil
}

// IssueCertificate signs a certificate for an agent or an operator with a new
// ECDSA P-256 key. It never outlives the CA. What it returns has been verified
// against the CA.
func IssueCertificate(ca *Pair, r CertRequest) (*Pair, error) {
	if err := errors.Join(checkName("datacenter", r.Datacenter), checkName("domain", r.Domain)); err != nil {
		return nil, err
	}
	if strings.Contains(r.Datacenter, ".") {
		return nil, fmt.Errorf("datacenter %.64q must not have a dot in it", r.Datacenter)
	}
	if r.Days <= 0 {
		return nil, fmt.Errorf("days must be positive, not %d", r.Days)
	}
	t := &x509.Certificate{IPAddresses: r.IPs}
	var name string
	switch r.Kind {
	case RoleServer:
		name = ServerName(r.Datacenter, r.Domain)
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case RoleClient:
		name = "client." + r.Datacenter + "." + r.Domain
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case RoleCLI:
		name = "cli." + r.Datacenter + "." + r.Domain
	default:
		return nil, fmt.Errorf("there are no certificates for the role %q", r.Kind)
	}
	t.DNSNames = append(t.DNSNames, r.DNSNames...)
	if r.Node != "" {
		if r.Kind != RoleServer {
			return nil, errors.New("a node name goes into server certificates only")
		}
		if err := checkName("node", strings.ToLower(r.Node)); err != nil {
			return nil, err
		}
		t.DNSNames = append(t.DNSNames, strings.ToLower(r.Node)+"."+name)
	}
	t.DNSNames = append(t.DNSNames, name, "localhost")
	if r.Kind != RoleCLI {
		t.IPAddresses = append(t.IPAddresses, net.IPv4(127, 0, 0, 1))
	}
	t.Subject.CommonName = name
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(ca, t, key.Public(), r.Days)
	if err != nil {
		return nil, err
	}
	return &Pair{Cert: cert, Key: keyPEM}, nil
}

// sign fills in what all certificates have, and signs.
func sign(ca *Pair, t *x509.Certificate, pub crypto.PublicKey, days int) ([]byte, error) {
	caCert, caKey, err := signer(ca)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := validAt(caCert, now); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.AddDate(0, 0, days)
	if t.NotAfter.After(caCert.NotAfter) {
		t.NotAfter = caCert.NotAfter
	}
	t.BasicConstraintsValid, t.IsCA = true, false
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	t.AuthorityKeyId = caCert.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, t, caCert, pub, caKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(caCert)
	if err := verifyCerts(leaf, nil, roots, now, x509.ExtKeyUsageAny); err != nil {
		return nil, fmt.Errorf("the CA would not vouch for this certificate (name constraints?): %w", err)
	}
	return encode("CERTIFICATE", der), nil
}

// Renew issues a certificate again: same key, subject, names and uses, a new
// serial number and new dates. Intermediates behind the old one are kept where
// it was not the CA itself that signed it.
func Renew(ca *Pair, old []byte, days int) ([]byte, error) {
	certs, err := ParseCertificates(old)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	if leaf.IsCA {
		return nil, errors.New("this is a CA; a new one is made with ca create, and rolled over in three steps")
	}
	t := &x509.Certificate{
		RawSubject:     leaf.RawSubject,
		Subject:        leaf.Subject,
		DNSNames:       leaf.DNSNames,
		IPAddresses:    leaf.IPAddresses,
		URIs:           leaf.URIs,
		EmailAddresses: leaf.EmailAddresses,
		ExtKeyUsage:    leaf.ExtKeyUsage,
	}
	renewed, err := sign(ca, t, leaf.PublicKey, days)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Write(renewed)
	caCerts, err := ParseCertificates(ca.Cert)
	if err != nil {
		return nil, err
	}
	if len(caCerts) > 1 { // the CA is itself an intermediate: its chain goes along
		for _, c := range caCerts {
			if !bytes.Equal(c.RawIssuer, c.RawSubject) {
				out.Write(encode("CERTIFICATE", c.Raw))
			}
		}
	}
	return out.Bytes(), nil
}

// MakeDev makes a CA and a server certificate for a -dev agent, in memory. The
// CA's key is thrown away.
func MakeDev(dc, domain string, ips []net.IP) (caPEM, certPEM, keyPEM []byte, err error) {
	ca, err := CreateCA(CARequest{Domain: domain, CommonName: "Lictor -dev CA", Days: DefaultCertDays})
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := IssueCertificate(ca, CertRequest{
		Kind: RoleServer, Datacenter: dc, Domain: domain, Days: DefaultCertDays, IPs: ips,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return ca.Cert, cert.Cert, cert.Key, nil
}
