package tlsutil

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds on what is read from a file before it is believed.
const (
	maxBundleBytes = 4 << 20
	maxBundleCerts = 1024
)

// readBounded reads a file that should be PEM.
func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s is a folder", path)
	}
	if st.Size() > maxBundleBytes {
		return nil, fmt.Errorf("%s is too large for PEM: %d bytes, at most %d", path, st.Size(), maxBundleBytes)
	}
	return os.ReadFile(path)
}

// ErrOnlyKey: a file that should hold a certificate holds a private key.
var ErrOnlyKey = errors.New("no CERTIFICATE block in it, only a private key")

// ParseCertificates reads every CERTIFICATE block of a PEM bundle, in order.
// Other blocks, text between blocks, CRLF and a missing final newline are no
// error; a bundle without a certificate is.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	hasKey := false
	for rest := bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			hasKey = hasKey || strings.HasSuffix(block.Type, "PRIVATE KEY")
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", len(certs)+1, err)
		}
		if certs = append(certs, c); len(certs) > maxBundleCerts {
			return nil, fmt.Errorf("more than %d certificates in one bundle", maxBundleCerts)
		}
	}
	if len(certs) == 0 && hasKey {
		return nil, ErrOnlyKey
	}
	if len(certs) == 0 {
		return nil, errors.New("no CERTIFICATE block in it (want PEM)")
	}
	return certs, nil
}

// ParseKey reads the first private key of a PEM bundle: PKCS #8, SEC 1 or
// PKCS #1. The error never repeats what was in it.
func ParseKey(b []byte) (crypto.Signer, error) {
	for rest := bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("no private key block in it (want PEM)")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the private key is encrypted; store it decrypted, mode 0600")
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("the private key does not parse")
		}
		s, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("the private key cannot sign")
		}
		return s, nil
	}
}

// publicKey is what all keys we accept have.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// pair makes a certificate with its chain from PEM. A combined file may hold
// both, and the leaf may stand behind its chain: it is the one the key is for.
func pair(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	pub, ok := key.Public().(publicKey)
	if !ok {
		return nil, errors.New("key: of a kind that is not supported")
	}
	at := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return pub.Equal(c.PublicKey) })
	if at < 0 {
		return nil, fmt.Errorf("the key does not belong to the certificate (subject %q)", certs[0].Subject.CommonName)
	}
	leaf := certs[at]
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for i, c := range certs {
		if i != at {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
	}
	return cert, nil
}

// keyType names the kind and size of a public key.
func keyType(pub any) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", pub)
}

// caFiles are the files below a ca_path, in order of name.
func caFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = errors.New("no files in it")
	}
	return files, err
}
