package checks

import "time"

// Definition is what one check does, from a file or from the API. Exactly one
// kind is set (see Kind). A zero number takes its default.
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
