package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"lictor/tlsutil"
)

// domainMark stands for the domain in the default names of the CA's files.
const domainMark = "#DOMAIN#"

func tlsCACreateCommand() *command {
	return &command{
		name:     "tls ca create",
		synopsis: "Creates a new certificate authority",
		example:  "tls ca create -days=1825",
		about: "Makes a certificate authority for the cluster and saves its certificate and its key in this folder. " +
			"Existing files are never overwritten. Keep the key on a machine you trust: whoever has it can be any agent.",
		define: func(fs *flag.FlagSet) action {
			var r tlsutil.CARequest
			var names list
			fs.StringVar(&r.Domain, "domain", "consul", "`domain` of the agents; the start of the file names")
			fs.IntVar(&r.Days, "days", tlsutil.DefaultCADays, "`days` that the CA is valid")
			fs.StringVar(&r.CommonName, "common-name", "", "common `name` of the CA; by default one with its serial number")
			fs.BoolVar(&r.NameConstraint, "name-constraint", false, "let the CA sign only for localhost, the domain, and the additional names")
			fs.Var(&names, "additional-name-constraint", "further `name` the CA may sign for; may be repeated")
			fs.StringVar(&r.ClusterID, "cluster-id", "", "`id` of the cluster, put into a URI SAN")
			return func(_ context.Context, in *invocation) int {
				if len(in.args) > 0 {
					return in.misuse("tls ca create takes no arguments")
				}
				r.AdditionalNames = names
				r.Domain = strings.TrimSuffix(strings.ToLower(r.Domain), ".")
				ca, err := tlsutil.CreateCA(r)
				if err != nil {
					return in.fail("Error creating the CA: %s", err)
				}
				return in.savePair(r.Domain+"-agent-ca.pem", r.Domain+"-agent-ca-key.pem", ca)
			}
		},
	}
}

func (in *invocation) savePair(cert, key string, p *tlsutil.Pair) int {
	if err := tlsutil.SavePair(cert, key, p); err != nil {
		return in.fail("%s", err)
	}
	in.ui.Output("==> Saved " + cert)
	in.ui.Output("==> Saved " + key)
	return 0
}

const serverWarning = `==> WARNING: whoever holds a server certificate and its key can
    act as a server of this datacenter and see everything servers
    see. Copy them to server machines only, and keep them as safe
    as the key of the CA.`

func tlsCertCreateCommand() *command {
	return &command{
		name:     "tls cert create",
		synopsis: "Creates a certificate for an agent or an operator",
		example:  "tls cert create -server -dc=dc1\ntls cert create -client",
		about: "Makes a key and a certificate that the CA in this folder signs: -server for a server agent, -client for a client agent, " +
			"-cli for an operator. What its holder may do follows from the name in it. Existing files are never overwritten.",
		define: func(fs *flag.FlagSet) action {
			var r tlsutil.CertRequest
			var server, client, operator bool
			var caFile, keyFile string
			var names, ips list
			fs.BoolVar(&server, "server", false, "make a server certificate")
			fs.BoolVar(&client, "client", false, "make a client certificate")
			fs.BoolVar(&operator, "cli", false, "make a certificate for an operator")
			fs.StringVar(&r.Datacenter, "dc", "dc1", "`datacenter` the certificate is for")
			fs.StringVar(&r.Domain, "domain", "consul", "`domain` of the agents")
			fs.StringVar(&r.Node, "node", "", "`name` of the server it is for, which gets a name of its own")
			fs.IntVar(&r.Days, "days", tlsutil.DefaultCertDays, "`days` that it is valid; never longer than the CA")
			caFlags(fs, &caFile, &keyFile)
			fs.Var(&names, "additional-dnsname", "further DNS `name`; may be repeated")
			fs.Var(&ips, "additional-ipaddress", "further IP `address`; may be repeated")
			return func(_ context.Context, in *invocation) int {
				kinds := map[tlsutil.Role]bool{tlsutil.RoleServer: server, tlsutil.RoleClient: client, tlsutil.RoleCLI: operator}
				n := 0
				for role, on := range kinds {
					if on {
						r.Kind = role
						n++
					}
				}
				if n != 1 || len(in.args) > 0 {
					return in.misuse("Please provide either -server, -client, or -cli")
				}
				if r.Node != "" && !server {
					return in.misuse("-node requires -server")
				}
				for _, ip := range ips {
					parsed := net.ParseIP(ip)
					if parsed == nil {
						return in.fail("-additional-ipaddress: %q is not an IP address", ip)
					}
					r.IPs = append(r.IPs, parsed)
				}
				r.DNSNames = names
				r.Domain = strings.TrimSuffix(strings.ToLower(r.Domain), ".")
				r.Datacenter = strings.ToLower(r.Datacenter)
				return in.issue(r, caFile, keyFile)
			}
		},
	}
}

func caFlags(fs *flag.FlagSet, ca, key *string) {
	fs.StringVar(ca, "ca", domainMark+"-agent-ca.pem", "`file` with the CA's certificate; "+domainMark+" stands for -domain")
	fs.StringVar(key, "key", domainMark+"-agent-ca-key.pem", "`file` with the CA's key; "+domainMark+" stands for -domain")
}

func (in *invocation) issue(r tlsutil.CertRequest, caFile, keyFile string) int {
	caFile = strings.ReplaceAll(caFile, domainMark, r.Domain)
	keyFile = strings.ReplaceAll(keyFile, domainMark, r.Domain)
	ca, err := readCA(caFile, keyFile)
	if err != nil {
		return in.fail("%s", err)
	}
	if r.Kind == tlsutil.RoleServer {
		in.ui.Output(serverWarning)
	}
	in.ui.Output(fmt.Sprintf("==> Using %s and %s", caFile, keyFile))
	pair, err := tlsutil.IssueCertificate(ca, r)
	if err != nil {
		return in.fail("Error creating the certificate: %s", err)
	}
	prefix, err := unusedPrefix(fmt.Sprintf("%s-%s-%s", r.Domain, r.Kind, r.Datacenter))
	if err != nil {
		return in.fail("%s", err)
	}
	return in.savePair(prefix+".pem", prefix+"-key.pem", pair)
}

func readCA(caFile, keyFile string) (*tlsutil.Pair, error) {
	cert, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("Error reading CA: %w (make one with: %s tls ca create)", err, program)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("Error reading CA key: %w", err)
	}
	return &tlsutil.Pair{Cert: cert, Key: key}, nil
}

// maxNumbered bounds the search for an unused file name.
const maxNumbered = 100000

// unusedPrefix is prefix with the first number that neither a certificate nor a
// key has.
func unusedPrefix(prefix string) (string, error) {
	for n := range maxNumbered {
		p := fmt.Sprintf("%s-%d", prefix, n)
		_, certErr := os.Lstat(p + ".pem")
		_, keyErr := os.Lstat(p + "-key.pem")
		if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
			return p, nil
		}
	}
	return "", fmt.Errorf("there are %d certificates named %s-<n>.pem in this folder", maxNumbered, prefix)
}
