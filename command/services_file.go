package command

import (
	"fmt"
	"time"

	"lictor/agent/checks"
	"lictor/agent/config"
	"lictor/agent/local"
	"lictor/rpc/wire"
)

// readServices reads the services of definition files.
func readServices(paths []string) ([]*local.Service, error) {
	services, err := config.ServiceFiles(paths)
	if err != nil {
		return nil, fmt.Errorf("Error reading service definitions: %w", err)
	}
	return services, nil
}

// registration is a service in the form of PUT /v1/agent/service/register.
type registration struct {
	Kind              string `json:",omitempty"`
	ID                string `json:",omitempty"`
	Name              string
	Tags              []string                       `json:",omitempty"`
	Address           string                         `json:",omitempty"`
	TaggedAddresses   map[string]wire.ServiceAddress `json:",omitempty"`
	Port              int                            `json:",omitempty"`
	SocketPath        string                         `json:",omitempty"`
	Meta              map[string]string              `json:",omitempty"`
	Weights           *wire.Weights                  `json:",omitempty"`
	EnableTagOverride bool                           `json:",omitempty"`
	Locality          *wire.Locality                 `json:",omitempty"`
	Token             string                         `json:",omitempty"` // a secret
	Checks            []checkRegistration            `json:",omitempty"`
}

// checkRegistration is one check of a registration.
type checkRegistration struct {
	CheckID                        string              `json:",omitempty"`
	Name                           string              `json:",omitempty"`
	Notes                          string              `json:",omitempty"`
	Status                         string              `json:",omitempty"`
	Token                          string              `json:",omitempty"` // a secret
	ScriptArgs                     []string            `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	HTTP                           string              `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	H2PingUseTLS                   *bool               `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	TTL                            string              `json:",omitempty"`
	Interval                       string              `json:",omitempty"`
	Timeout                        string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	OutputMaxSize                  int                 `json:",omitempty"`
	SuccessBeforePassing           int                 `json:",omitempty"`
	FailuresBeforeWarning          int                 `json:",omitempty"`
	FailuresBeforeCritical         int                 `json:",omitempty"`
	DeregisterCriticalServiceAfter string              `json:",omitempty"`
}

func registrationOf(s *local.Service) *registration {
	r := &registration{
		Kind: s.Kind, ID: s.ID, Name: s.Service, Tags: s.Tags, Address: s.Address, TaggedAddresses: s.TaggedAddresses,
		Port: s.Port, SocketPath: s.SocketPath, Meta: s.Meta, Weights: s.Weights, EnableTagOverride: s.EnableTagOverride,
		Locality: s.Locality, Token: s.Token,
	}
	for _, d := range s.Checks {
		r.Checks = append(r.Checks, checkRegistrationOf(d))
	}
	return r
}

func checkRegistrationOf(d *checks.Definition) checkRegistration {
	c := checkRegistration{
		CheckID: d.ID, Name: d.Name, Notes: d.Notes, Status: d.Status, Token: d.Token,
		ScriptArgs: d.Args, Shell: d.Shell, DockerContainerID: d.DockerContainer,
		HTTP: d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, DisableRedirects: d.DisableRedirects,
		TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS, H2PING: d.H2Ping,
		OSService: d.OSService, AliasNode: d.AliasNode, AliasService: d.AliasService,
		TTL: durationText(d.TTL), Interval: durationText(d.Interval), Timeout: durationText(d.Timeout),
		TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify, OutputMaxSize: d.OutputMaxSize,
		SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeWarning: d.FailuresBeforeWarning,
		FailuresBeforeCritical: d.FailuresBeforeCritical, DeregisterCriticalServiceAfter: durationText(d.DeregisterCriticalAfter),
	}
	if d.H2Ping != "" {
		c.H2PingUseTLS = &d.H2PingUseTLS // true is its default: say a false one too
	}
	return c
}

// durationText is a duration as the API reads it; "" for none.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
