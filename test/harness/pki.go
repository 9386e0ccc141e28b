package harness

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA issues certificates that the program's own commands would not: expired
// ones, of other roles, by other CAs, by intermediate ones. It is for tests only.
type CA struct {
	PEM []byte

	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a CA of this name.
func NewCA(name string) (*CA, error) { return newCA(name, nil, nil) }

// Intermediate makes a CA that this one has signed. edit, if not nil, changes its
// certificate before that.
func (ca *CA) Intermediate(name string, edit func(*x509.Certificate)) (*CA, error) {
	return newCA(name, ca, edit)
}

func newCA(name string, by *CA, edit func(*x509.Certificate)) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(tmpl)
	}
	ca := &CA{cert: tmpl, key: key}
	if by == nil {
		by = ca
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	ca.PEM = encode("CERTIFICATE", der)
	return ca, nil
}

// DER is the CA's certificate.
func (ca *CA) DER() []byte { return ca.cert.Raw }

// Odd signs a certificate for a key that may be of any kind and that nobody need
// have. edit changes the certificate before that, and tbs, if not nil, what is
// signed, byte for byte.
func (ca *CA) Odd(pub any, edit func(*x509.Certificate), tbs func([]byte) []byte) ([]byte, error) {
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "odd"}, DNSNames: []string{"client.dc1.consul"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil || tbs == nil {
		return der, err
	}
	var cert struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, err
	}
	cert.TBS = asn1.RawValue{FullBytes: tbs(cert.TBS.FullBytes)}
	sum := sha256.Sum256(cert.TBS.FullBytes)
	if cert.Signature.Bytes, err = ca.key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
		return nil, err
	}
	cert.Signature.BitLength = 8 * len(cert.Signature.Bytes)
	return asn1.Marshal(cert)
}

// Cert is a certificate with its key.
type Cert struct{ CertPEM, KeyPEM []byte }

// Issue makes a certificate for these DNS names, good from now until notAfter;
// a notAfter that has passed makes an expired one.
func (ca *CA) Issue(notAfter time.Time, names ...string) (*Cert, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-24 * time.Hour), NotAfter: notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Cert{CertPEM: encode("CERTIFICATE", der), KeyPEM: encode("EC PRIVATE KEY", keyDER)}, nil
}

// TLS is the certificate as crypto/tls wants it.
func (c *Cert) TLS() (tls.Certificate, error) { return tls.X509KeyPair(c.CertPEM, c.KeyPEM) }

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the system has no randomness
	}
	return n
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Put writes files, by name, into the agent's working folder.
func (a *Agent) Put(files map[string][]byte) error {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(a.Dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
