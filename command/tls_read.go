package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"lictor/tlsutil"
)

const hoursPerDay = 24

func tlsCertInspectCommand() *command {
	return &command{
		name:     "tls cert inspect",
		args:     "FILE...",
		synopsis: "Shows what is in certificates and what peers would make of them",
		example:  "tls cert inspect -days=30 *.pem",
		about: "Shows the subject, names, role, issuer, dates and key of each certificate, whether it chains to -ca, and what each verify setting " +
			"of a peer in -dc would make of it. The exit code is 1 where a file cannot be read or is no certificate, and with -days where one ends too soon. Private keys are skipped.",
		define: func(fs *flag.FlagSet) action {
			ca := fs.String("ca", "", "`file` with the CA to check the chain against")
			dc := fs.String("dc", "dc1", "`datacenter` whose names peers would ask for")
			domain := fs.String("domain", "consul", "`domain` of the agents")
			days := fs.Int("days", -1, "exit with 1 if a certificate ends within this many `days`")
			return func(_ context.Context, in *invocation) int {
				if len(in.args) == 0 {
					return in.misuse("Must specify at least one certificate file")
				}
				var caPEM []byte
				if *ca != "" {
					var err error
					if caPEM, err = os.ReadFile(*ca); err != nil {
						return in.fail("Error reading CA: %s", err)
					}
				}
				status, now := 0, time.Now()
				for _, file := range in.args {
					b, err := os.ReadFile(file)
					var r *tlsutil.Report
					if err == nil {
						r, err = tlsutil.Inspect(b, caPEM, strings.ToLower(*dc), *domain, now)
					}
					if errors.Is(err, tlsutil.ErrOnlyKey) { // so that *.pem may be said
						in.ui.Output(file + "\n  a private key: skipped")
						continue
					}
					if err != nil {
						in.ui.Error(fmt.Sprintf("%s: %s", file, err))
						status = 1
						continue
					}
					in.ui.Output(report(file, r, now))
					if *days >= 0 && r.Left(now) < time.Duration(*days)*hoursPerDay*time.Hour {
						in.ui.Error(fmt.Sprintf("%s: ends within %d days", file, *days))
						status = 1
					}
				}
				return status
			}
		},
	}
}

// report is a certificate as inspect prints it.
func report(file string, r *tlsutil.Report, now time.Time) string {
	left := r.Left(now)
	validity := fmt.Sprintf("%d days", int(left.Hours()/hoursPerDay))
	if left < 0 {
		validity = fmt.Sprintf("EXPIRED %d days ago", int(-left.Hours()/hoursPerDay))
	}
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-23s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s\n", file)
	row("Subject", "%s", r.Subject)
	row("Role", "%s", r.Role)
	row("DNS names", "%s", orDash(strings.Join(r.DNSNames, ", ")))
	ips := make([]string, len(r.IPs))
	for i, ip := range r.IPs {
		ips[i] = ip.String()
	}
	row("IP addresses", "%s", orDash(strings.Join(ips, ", ")))
	if len(r.URIs) > 0 {
		row("URIs", "%s", strings.Join(r.URIs, ", "))
	}
	row("Issuer", "%s", r.Issuer)
	row("Serial", "%s", r.Serial)
	row("SHA-256", "%s", r.Fingerprint)
	row("Key", "%s", r.KeyType)
	row("Valid", "%s to %s", r.NotBefore.UTC().Format(time.RFC3339), r.NotAfter.UTC().Format(time.RFC3339))
	row("Left", "%s", validity)
	if r.Intermediates > 0 {
		row("More in the file", "%d certificates", r.Intermediates)
	}
	if r.Chain != "" {
		row("Signed by the CA", "%s", r.Chain)
	}
	for _, v := range r.Verdicts {
		row(v[0], "%s", v[1])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func tlsCertRenewCommand() *command {
	return &command{
		name:     "tls cert renew",
		args:     "FILE",
		synopsis: "Issues a certificate again with new dates",
		example:  "tls cert renew dc1-server-consul-0.pem",
		about: "Signs the certificate in FILE again: same key, names and uses, a new serial number and new dates. The old file is kept as FILE.bak and the " +
			"new one put in its place in one step; with -out it goes to a file of its own. Agents take it over by reload.",
		define: func(fs *flag.FlagSet) action {
			var caFile, keyFile string
			caFlags(fs, &caFile, &keyFile)
			domain := fs.String("domain", "consul", "`domain` of the agents; the start of the CA's file names")
			days := fs.Int("days", tlsutil.DefaultCertDays, "`days` that it is valid; never longer than the CA")
			out := fs.String("out", "", "`file` to write, which must not exist; FILE stays as it is")
			return func(_ context.Context, in *invocation) int {
				if len(in.args) != 1 {
					return in.misuse("Must specify one certificate file")
				}
				if *days <= 0 {
					return in.misuse("-days must be positive")
				}
				caFile = strings.ReplaceAll(caFile, domainMark, *domain)
				keyFile = strings.ReplaceAll(keyFile, domainMark, *domain)
				return in.renew(in.args[0], *out, caFile, keyFile, *days)
			}
		},
	}
}

func (in *invocation) renew(file, out, caFile, keyFile string, days int) int {
	old, err := os.ReadFile(file)
	if err != nil {
		return in.fail("Error reading the certificate: %s", err)
	}
	ca, err := readCA(caFile, keyFile)
	if err != nil {
		return in.fail("%s", err)
	}
	in.ui.Output(fmt.Sprintf("==> Using %s and %s", caFile, keyFile))
	renewed, err := tlsutil.Renew(ca, old, days)
	if err != nil {
		return in.fail("Error renewing %s: %s", file, err)
	}
	if out != "" {
		if err := tlsutil.SaveNew(out, renewed, tlsutil.CertMode); err != nil {
			return in.fail("%s", err)
		}
		in.ui.Output("==> Saved " + out)
		return 0
	}
	if err := tlsutil.Replace(file+".bak", old, tlsutil.CertMode); err != nil {
		return in.fail("%s", err)
	}
	if err := tlsutil.Replace(file, renewed, tlsutil.CertMode); err != nil {
		return in.fail("%s", err)
	}
	in.ui.Output("==> Kept the old one as " + file + ".bak")
	in.ui.Output("==> Saved " + file)
	return 0
}
