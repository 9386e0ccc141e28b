package checks

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lictor/agent/decode"
	"lictor/rpc/wire"
)

// Parse reads a definition, its keys in any spelling of the family. It checks
// keys and types only: Validate says whether what they say makes a check. No
// error holds a value.
func Parse(raw map[string]any) (*Definition, error) { return parse(raw, false) }

// ParseStored is Parse for what an agent has written to its data directory. It
// skips keys that it does not know: another version may have written them.
func ParseStored(raw map[string]any) (*Definition, error) { return parse(raw, true) }

func parse(raw map[string]any, lenient bool) (*Definition, error) {
	d := &Definition{}
	useTLS := func(v any) error {
		b, ok := v.(bool)
		if !ok {
			return errors.New("wants true or false")
		}
		d.H2PingUseTLS = b
		return nil
	}
	var id, checkID string
	fields := decode.Fields{
		"id": &id, "checkid": &checkID, "name": &d.Name, "notes": &d.Notes, "serviceid": &d.ServiceID, "status": &d.Status, "token": &d.Token,
		"args": &d.Args, "scriptargs": &d.Args, "shell": &d.Shell, "dockercontainerid": &d.DockerContainer,
		"http": &d.HTTP, "header": &d.Header, "method": &d.Method, "body": &d.Body, "disableredirects": &d.DisableRedirects,
		"tcp": &d.TCP, "tcpusetls": &d.TCPUseTLS, "udp": &d.UDP, "grpc": &d.GRPC, "grpcusetls": &d.GRPCUseTLS,
		"h2ping": &d.H2Ping, "h2pingusetls": useTLS, "osservice": &d.OSService,
		"aliasnode": &d.AliasNode, "aliasservice": &d.AliasService, "ttl": &d.TTL,
		"interval": &d.Interval, "timeout": &d.Timeout, "tlsservername": &d.TLSServerName, "tlsskipverify": &d.TLSSkipVerify,
		"outputmaxsize": &d.OutputMaxSize, "successbeforepassing": &d.SuccessBeforePassing,
		"failuresbeforewarning": &d.FailuresBeforeWarning, "failuresbeforecritical": &d.FailuresBeforeCritical,
		"deregistercriticalserviceafter": &d.DeregisterCriticalAfter,
		"namespace":                      decode.OnlyDefault, "partition": decode.OnlyDefault,
	}
	d.H2PingUseTLS = true
	if lenient {
		raw = decode.Known(raw, fields)
	}
	if err := decode.Object(raw, fields); err != nil {
		return nil, err
	}
	if d.ID = checkID; d.ID == "" {
		d.ID = id
	}
	if d.H2Ping == "" {
		d.H2PingUseTLS = false
	}
	return d, nil
}

// Stored is the definition in the form that ParseStored reads. It holds the
// token of no one: that is stored beside it.
func (d *Definition) Stored() map[string]any {
	out := map[string]any{"CheckID": d.ID, "Name": d.Name}
	set := func(key string, value any, isSet bool) {
		if isSet {
			out[key] = value
		}
	}
	for key, s := range map[string]string{
		"Notes": d.Notes, "ServiceID": d.ServiceID, "Status": d.Status, "Shell": d.Shell, "DockerContainerID": d.DockerContainer,
		"HTTP": d.HTTP, "Method": d.Method, "Body": d.Body, "TCP": d.TCP, "UDP": d.UDP, "GRPC": d.GRPC, "H2PING": d.H2Ping,
		"OSService": d.OSService, "AliasNode": d.AliasNode, "AliasService": d.AliasService, "TLSServerName": d.TLSServerName,
	} {
		set(key, s, s != "")
	}
	for key, b := range map[string]bool{
		"DisableRedirects": d.DisableRedirects, "TCPUseTLS": d.TCPUseTLS, "GRPCUseTLS": d.GRPCUseTLS, "TLSSkipVerify": d.TLSSkipVerify,
	} {
		set(key, b, b)
	}
	set("H2PingUseTLS", d.H2PingUseTLS, d.H2Ping != "")
	for key, n := range map[string]int{
		"OutputMaxSize": d.OutputMaxSize, "SuccessBeforePassing": d.SuccessBeforePassing,
		"FailuresBeforeWarning": d.FailuresBeforeWarning, "FailuresBeforeCritical": d.FailuresBeforeCritical,
	} {
		set(key, n, n != 0)
	}
	set("ScriptArgs", d.Args, len(d.Args) > 0)
	set("Header", d.Header, len(d.Header) > 0)
	set("TTL", d.TTL.String(), d.TTL != 0)
	set("Interval", d.Interval.String(), d.Interval != 0)
	set("Timeout", d.Timeout.String(), d.Timeout != 0)
	set("DeregisterCriticalServiceAfter", d.DeregisterCriticalAfter.String(), d.DeregisterCriticalAfter != 0)
	return out
}

// ValidStatus says whether a check can have this status.
func ValidStatus(s string) bool {
	return s == wire.HealthPassing || s == wire.HealthWarning || s == wire.HealthCritical
}

// Validate says why d is no check that could run. It does not look at names, ids
// and the first status, which mean different things to different callers.
func (d *Definition) Validate() error {
	kinds := d.kinds()
	if len(kinds) > 1 {
		return fmt.Errorf("a check is of one kind, this one is %s", strings.Join(kinds, " and "))
	}
	kind := d.Kind()
	switch kind {
	case "":
		switch {
		case d.Shell != "":
			return errors.New("shell is for docker checks, with args and docker_container_id")
		default:
			return errors.New("TTL must be > 0 for TTL checks")
		}
	case KindTTL:
		if d.Interval > 0 {
			return errors.New("interval and ttl exclude each other")
		}
	case KindAlias:
		if d.Interval > 0 {
			return errors.New("interval is not for alias checks")
		}
	default:
		if d.Interval <= 0 {
			return fmt.Errorf("interval must be more than zero for %s checks", kind)
		}
		if d.TTL > 0 {
			return errors.New("interval and ttl exclude each other")
		}
	}
	for name, n := range map[string]int{
		"output_max_size": d.OutputMaxSize, "success_before_passing": d.SuccessBeforePassing,
		"failures_before_warning": d.FailuresBeforeWarning, "failures_before_critical": d.FailuresBeforeCritical,
	} {
		if n < 0 {
			return fmt.Errorf("%s must not be negative", name)
		}
	}
	if d.FailuresBeforeWarning > d.FailuresBeforeCritical {
		return errors.New("failures_before_warning must not be more than failures_before_critical")
	}
	return d.validateTarget(kind)
}

// ValidateAlone is Validate for a check that is not part of the definition of a
// service, in the words of the family's API.
func (d *Definition) ValidateAlone() error {
	switch {
	case d.Name == "":
		return errors.New("Missing check name")
	case d.Status != "" && !ValidStatus(d.Status):
		return errors.New("Bad check status")
	case !wire.PlainName(d.ID) || d.ID == "" && !wire.PlainName(d.Name):
		return errors.New("Invalid check: its id holds a control character")
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("Invalid check: %w", err)
	}
	return nil
}

// validateTarget finds what could never be dialled or run.
func (d *Definition) validateTarget(kind string) error {
	hostPort := func(key, addr string) error {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return fmt.Errorf("%s must be host:port", key)
		}
		return nil
	}
	switch kind {
	case KindScript, KindDocker:
		if len(d.Args) == 0 {
			return errors.New("args must name a program for docker checks")
		}
		if slices.ContainsFunc(d.Args, func(s string) bool { return strings.ContainsRune(s, 0) }) || d.Args[0] == "" {
			return errors.New("args must begin with a program and hold no NUL")
		}
	case KindHTTP:
		u, err := url.Parse(d.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return errors.New("http must be a URL that begins with http:// or https://")
		}
		if _, err := http.NewRequest(d.Method, d.HTTP, nil); err != nil {
			return errors.New("method is not an HTTP method")
		}
		for name, values := range d.Header {
			if name == "" || strings.ContainsAny(name, " :\r\n\x00") || slices.ContainsFunc(values, func(v string) bool { return strings.ContainsAny(v, "\r\n\x00") }) {
				return errors.New("header holds what cannot be sent")
			}
		}
	case KindTCP:
		return hostPort("tcp", d.TCP)
	case KindUDP:
		return hostPort("udp", d.UDP)
	case KindGRPC:
		addr, _ := splitGRPC(d.GRPC)
		return hostPort("grpc", addr)
	case KindH2Ping:
		return hostPort("h2ping", d.H2Ping)
	case KindOSService:
		if strings.HasPrefix(d.OSService, "-") || strings.ContainsAny(d.OSService, " \r\n\x00/") {
			return errors.New("os_service must be the name of a service")
		}
	}
	return nil
}

// splitGRPC separates the service from the address.
func splitGRPC(target string) (addr, service string) {
	addr, service, _ = strings.Cut(target, "/")
	return addr, service
}
