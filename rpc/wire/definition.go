package wire

import (
	"encoding/json"
	"time"
)

// HealthCheckDefinition is what a check does, as it is registered with it. The
// agent that runs the check does not read it from the catalog.
type HealthCheckDefinition struct {
	HTTP                           string
	TLSServerName                  string
	TLSSkipVerify                  bool
	Header                         map[string][]string
	Method                         string
	Body                           string
	DisableRedirects               bool
	TCP                            string
	TCPUseTLS                      bool
	UDP                            string
	H2PING                         string
	H2PingUseTLS                   bool
	OSService                      string
	GRPC                           string
	GRPCUseTLS                     bool
	Interval                       time.Duration
	Timeout                        time.Duration
	DeregisterCriticalServiceAfter time.Duration
	OutputMaxSize                  int
	ScriptArgs                     []string
	DockerContainerID              string
	Shell                          string
	AliasNode                      string
	AliasService                   string
	SessionName                    string
	TTL                            time.Duration
}

// MarshalJSON writes the form of the HTTP API: empty fields left out, durations
// as text.
func (d HealthCheckDefinition) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		HTTP                           string              `json:",omitempty"`
		TLSServerName                  string              `json:",omitempty"`
		TLSSkipVerify                  bool                `json:",omitempty"`
		Header                         map[string][]string `json:",omitempty"`
		Method                         string              `json:",omitempty"`
		Body                           string              `json:",omitempty"`
		DisableRedirects               bool                `json:",omitempty"`
		TCP                            string              `json:",omitempty"`
		TCPUseTLS                      bool                `json:",omitempty"`
		UDP                            string              `json:",omitempty"`
		H2PING                         string              `json:",omitempty"`
		H2PingUseTLS                   bool                `json:",omitempty"`
		OSService                      string              `json:",omitempty"`
		GRPC                           string              `json:",omitempty"`
		GRPCUseTLS                     bool                `json:",omitempty"`
		Interval                       string              `json:",omitempty"`
		Timeout                        string              `json:",omitempty"`
		DeregisterCriticalServiceAfter string              `json:",omitempty"`
		OutputMaxSize                  int                 `json:",omitempty"`
		ScriptArgs                     []string            `json:",omitempty"`
		DockerContainerID              string              `json:",omitempty"`
		Shell                          string              `json:",omitempty"`
		AliasNode                      string              `json:",omitempty"`
		AliasService                   string              `json:",omitempty"`
		SessionName                    string              `json:",omitempty"`
		TTL                            string              `json:",omitempty"`
	}{
		d.HTTP, d.TLSServerName, d.TLSSkipVerify, d.Header, d.Method, d.Body, d.DisableRedirects,
		d.TCP, d.TCPUseTLS, d.UDP, d.H2PING, d.H2PingUseTLS, d.OSService, d.GRPC, d.GRPCUseTLS,
		text(d.Interval), text(d.Timeout), text(d.DeregisterCriticalServiceAfter), d.OutputMaxSize, d.ScriptArgs,
		d.DockerContainerID, d.Shell, d.AliasNode, d.AliasService, d.SessionName, text(d.TTL),
	})
}

func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
