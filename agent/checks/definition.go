package checks

import "time"

// Definition is what one check does, from a file or from the API. Exactly one
// kind is set (see Kind). A zero number takes its default. A Definition is not
// changed once it was registered.
type Definition struct {
	ID        string // of the check; "" takes Name, or is made from the service's
	Name      string
	Notes     string
	ServiceID string
	Status    string // the first status; "" is critical
	Token     string // a secret
	Source    string // "local" from files, "remote" from the API

	Args             []string
	Shell            string
	DockerContainer  string
	HTTP             string
	Header           map[string][]string
	Method           string
	Body             string
	DisableRedirects bool
	TCP              string
	TCPUseTLS        bool
	UDP              string
	GRPC             string // host:port, or host:port/service
	GRPCUseTLS       bool
	H2Ping           string
	H2PingUseTLS     bool
	OSService        string
	AliasNode        string
	AliasService     string
	TTL              time.Duration

	Interval      time.Duration
	Timeout       time.Duration
	TLSServerName string
	TLSSkipVerify bool
	OutputMaxSize int // bytes

	SuccessBeforePassing    int
	FailuresBeforeWarning   int
	FailuresBeforeCritical  int
	DeregisterCriticalAfter time.Duration
}

// Where a definition came from.
const (
	SourceLocal  = "local"  // configuration files
	SourceRemote = "remote" // the API
)

// The kinds of checks, as the API reports them.
const (
	KindScript    = "script"
	KindDocker    = "docker"
	KindHTTP      = "http"
	KindTCP       = "tcp"
	KindUDP       = "udp"
	KindGRPC      = "grpc"
	KindH2Ping    = "h2ping"
	KindOSService = "os_service"
	KindTTL       = "ttl"
	KindAlias     = "alias"
)

// kinds are the kinds that a definition has set; a valid one has one.
func (d *Definition) kinds() []string {
	var out []string
	add := func(kind string, set bool) {
		if set {
			out = append(out, kind)
		}
	}
	add(KindDocker, d.DockerContainer != "")
	add(KindScript, d.DockerContainer == "" && len(d.Args) > 0)
	add(KindHTTP, d.HTTP != "")
	add(KindTCP, d.TCP != "")
	add(KindUDP, d.UDP != "")
	add(KindGRPC, d.GRPC != "")
	add(KindH2Ping, d.H2Ping != "")
	add(KindOSService, d.OSService != "")
	add(KindAlias, d.AliasNode != "" || d.AliasService != "")
	add(KindTTL, d.TTL > 0)
	return out
}

// Kind is what sort of check this is; "" while nothing says so.
func (d *Definition) Kind() string {
	if kinds := d.kinds(); len(kinds) > 0 {
		return kinds[0]
	}
	return ""
}

// RunsPrograms says whether the check starts a program that its author chose,
// which an agent allows only where it was told to.
func (d *Definition) RunsPrograms() bool { return len(d.Args) > 0 || d.DockerContainer != "" }
