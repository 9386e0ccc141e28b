// Package tlsutil is the only place that makes a tls.Config, reads a
// certificate, or issues one.
//
// It promises: a chain is verified against the CA that is configured now, not
// the one that was when a connection or a session began; what a peer may do
// follows from the exact DNS names in its verified certificate and from nothing
// else; sessions are never resumed on RPC; and a configuration that asks for
// verification which its files cannot give is an error, never a silence.
//
// It does not check revocation: a certificate that must go before it expires
// goes by changing the CA.
package tlsutil

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Role is what a certificate of our CA makes its holder.
type Role uint8

// The roles. The zero Role may do the least.
const (
	RoleNone         Role = iota // no verified certificate, or one without a name of ours
	RoleClient                   // client.<dc>.<domain>: a client agent of this datacenter
	RoleCLI                      // cli.<dc>.<domain>: an operator
	RoleServer                   // server.<dc>.<domain> of this datacenter
	RoleRemoteServer             // server.<dc>.<domain> of another datacenter
)

func (r Role) String() string {
	switch r {
	case RoleClient:
		return "client"
	case RoleCLI:
		return "cli"
	case RoleServer:
		return "server"
	case RoleRemoteServer:
		return "remote server"
	}
	return "none"
}

// Identity is who the holder of a verified certificate is.
type Identity struct {
	Role       Role
	Datacenter string   // of the name that gave the role
	Names      []string // DNS SANs
	Serial     string   // hexadecimal
	Issuer     string
	NotAfter   time.Time
}

// String describes the identity for a log line; names that a peer chose are
// quoted and cut.
func (i Identity) String() string {
	if i.Serial == "" {
		return "no certificate"
	}
	return fmt.Sprintf("role %s, names %s, serial %s, issuer %.64q, expires %s",
		i.Role, quoteNames(i.Names), i.Serial, i.Issuer, i.NotAfter.UTC().Format(time.RFC3339))
}

// maxNames is how many of a certificate's names a message repeats.
const maxNames = 8

func quoteNames(names []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range names {
		if i == maxNames {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.80q", n)
	}
	b.WriteByte(']')
	return b.String()
}

// identityOf reads the identity from a leaf that has been verified.
func identityOf(leaf *x509.Certificate, dc, domain string) Identity {
	id := describe(leaf)
	id.Role, id.Datacenter = roleOf(leaf.DNSNames, dc, domain)
	return id
}

func describe(leaf *x509.Certificate) Identity {
	return Identity{
		Names:    leaf.DNSNames,
		Serial:   leaf.SerialNumber.Text(16),
		Issuer:   leaf.Issuer.CommonName,
		NotAfter: leaf.NotAfter,
	}
}

// roleOf finds the role in DNS names: exactly <role>.<dc>.<domain>, in any
// ASCII case, without wildcard or trailing dot. A certificate with several such
// names has the first role that is the least trusted to be wrong about: a
// client or cli name beside a server name makes it no server.
func roleOf(names []string, dc, domain string) (Role, string) {
	role, in := RoleNone, ""
	for _, n := range names {
		r, d := roleOfName(n, dc, domain)
		if r == RoleNone {
			continue
		}
		if role == RoleNone || r < role {
			role, in = r, d
		}
	}
	return role, in
}

func roleOfName(name, dc, domain string) (Role, string) {
	for i := range len(name) {
		if name[i] >= 0x80 {
			return RoleNone, ""
		}
	}
	name = strings.ToLower(name)
	kind, rest, _ := strings.Cut(name, ".")
	in, ok := strings.CutSuffix(rest, "."+strings.ToLower(domain))
	if !ok || in == "" || strings.ContainsAny(in, ".*") {
		return RoleNone, ""
	}
	local := in == strings.ToLower(dc)
	switch kind {
	case "server":
		if local {
			return RoleServer, in
		}
		return RoleRemoteServer, in
	case "client":
		if local {
			return RoleClient, in
		}
	case "cli":
		if local {
			return RoleCLI, in
		}
	}
	return RoleNone, ""
}

// ServerName is the name that verify_server_hostname wants in a server's
// certificate.
func ServerName(dc, domain string) string {
	return "server." + strings.ToLower(dc) + "." + strings.ToLower(strings.TrimSuffix(domain, "."))
}
