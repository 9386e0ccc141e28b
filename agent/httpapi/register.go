package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"lictor/agent/decode"
	"lictor/rpc/wire"
)

// Objects of the catalog as requests write them: the bodies of registrations and
// of transactions. Keys come in any spelling of the family.

var errWantsObject = errors.New("wants an object")

// ignore takes what an object that was read has and a written one does not need.
func ignore(any) error { return nil }

// object takes an object with the given keys.
func object(fields decode.Fields) func(any) error {
	return func(v any) error {
		raw, ok := v.(map[string]any)
		if !ok {
			return errWantsObject
		}
		return within(decode.Object(raw, fields))
	}
}

// within makes an error of an inner object one that reads on after the key of
// the outer one.
func within(err error) error {
	if err == nil {
		return nil
	}
	return &innerError{err}
}

type innerError struct{ error }

func (e *innerError) Error() string { return "cannot be used: " + e.error.Error() }
func (e *innerError) Unwrap() error { return e.error }

// each takes a list of objects.
func each(item func(raw map[string]any) error) func(any) error {
	return func(v any) error {
		list, ok := v.([]any)
		if !ok {
			return errors.New("wants a list of objects")
		}
		for _, v := range list {
			if v == nil {
				continue
			}
			raw, ok := v.(map[string]any)
			if !ok {
				return errors.New("wants a list of objects")
			}
			if err := item(raw); err != nil {
				return within(err)
			}
		}
		return nil
	}
}

// uintField takes a whole number that is not negative.
func uintField(to *uint64) func(any) error {
	return func(v any) error {
		if n, ok := v.(json.Number); ok {
			if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
				*to = u
				return nil
			}
		}
		return errors.New("wants a whole number that is not negative")
	}
}

// bytesField takes base64.
func bytesField(to *[]byte) func(any) error {
	return func(v any) error {
		s, ok := v.(string)
		if !ok {
			return errors.New("wants base64")
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return errors.New("wants base64")
		}
		*to = b
		return nil
	}
}

func localityField(to **wire.Locality) func(any) error {
	return func(v any) error {
		l := &wire.Locality{}
		*to = l
		return object(decode.Fields{"region": &l.Region, "zone": &l.Zone})(v)
	}
}

func taggedField(to *map[string]wire.ServiceAddress) func(any) error {
	return func(v any) error {
		m, ok := v.(map[string]any)
		if !ok {
			return errWantsObject
		}
		out := make(map[string]wire.ServiceAddress, len(m))
		for name, v := range m {
			var a wire.ServiceAddress
			if err := object(decode.Fields{"address": &a.Address, "port": &a.Port})(v); err != nil {
				return err
			}
			out[name] = a
		}
		*to = out
		return nil
	}
}

// weightsField leaves the weights as they are where both are zero: so they are
// written by clients that do not know of them.
func weightsField(to **wire.Weights) func(any) error {
	return func(v any) error {
		var w wire.Weights
		if err := object(decode.Fields{"passing": &w.Passing, "warning": &w.Warning})(v); err != nil {
			return err
		}
		if w != (wire.Weights{}) {
			*to = &w
		}
		return nil
	}
}

func nodeFields(n *wire.Node) decode.Fields {
	return decode.Fields{
		"id": &n.ID, "node": &n.Node, "address": &n.Address, "datacenter": &n.Datacenter, "taggedaddresses": &n.TaggedAddresses,
		"meta": &n.Meta, "locality": localityField(&n.Locality), "createindex": ignore, "modifyindex": uintField(&n.ModifyIndex),
		"partition": decode.OnlyDefault, "peername": &n.PeerName,
	}
}

func serviceFields(s *wire.NodeService) decode.Fields {
	return decode.Fields{
		"kind": &s.Kind, "id": &s.ID, "service": &s.Service, "tags": &s.Tags, "address": &s.Address,
		"taggedaddresses": taggedField(&s.TaggedAddresses), "meta": &s.Meta, "port": &s.Port, "socketpath": &s.SocketPath,
		"weights": weightsField(&s.Weights), "enabletagoverride": &s.EnableTagOverride, "locality": localityField(&s.Locality),
		"createindex": ignore, "modifyindex": uintField(&s.ModifyIndex), "peername": &s.PeerName,
		"namespace": decode.OnlyDefault, "partition": decode.OnlyDefault, "datacenter": ignore, "contenthash": ignore,
		"proxy": ignore, "connect": ignore, "ports": ignore, "ai": ignore, // of the mesh, which this agent does not have
	}
}

func checkFields(c *wire.HealthCheck) decode.Fields {
	return decode.Fields{
		"node": &c.Node, "checkid": &c.CheckID, "name": &c.Name, "status": &c.Status, "notes": &c.Notes, "output": &c.Output,
		"serviceid": &c.ServiceID, "servicename": &c.ServiceName, "servicetags": &c.ServiceTags, "type": &c.Type,
		"interval": &c.Interval, "timeout": &c.Timeout, "exposedport": &c.ExposedPort,
		"definition":  object(definitionFields(&c.Definition)),
		"createindex": ignore, "modifyindex": uintField(&c.ModifyIndex), "peername": &c.PeerName,
		"namespace": decode.OnlyDefault, "partition": decode.OnlyDefault,
	}
}

func definitionFields(d *wire.HealthCheckDefinition) decode.Fields {
	return decode.Fields{
		"http": &d.HTTP, "tlsservername": &d.TLSServerName, "tlsskipverify": &d.TLSSkipVerify, "header": &d.Header, "method": &d.Method,
		"body": &d.Body, "disableredirects": &d.DisableRedirects, "tcp": &d.TCP, "tcpusetls": &d.TCPUseTLS, "udp": &d.UDP,
		"h2ping": &d.H2PING, "h2pingusetls": &d.H2PingUseTLS, "osservice": &d.OSService, "grpc": &d.GRPC, "grpcusetls": &d.GRPCUseTLS,
		"outputmaxsize": &d.OutputMaxSize, "args": &d.ScriptArgs, "scriptargs": &d.ScriptArgs, "dockercontainerid": &d.DockerContainerID,
		"shell": &d.Shell, "aliasnode": &d.AliasNode, "aliasservice": &d.AliasService, "sessionname": &d.SessionName, "ttl": &d.TTL,
		"interval": &d.Interval, "timeout": &d.Timeout, "deregistercriticalserviceafter": &d.DeregisterCriticalServiceAfter,
		"intervalduration": &d.Interval, "timeoutduration": &d.Timeout,
		"deregistercriticalserviceafterduration": &d.DeregisterCriticalServiceAfter,
	}
}

func floatField(to *float64) func(any) error {
	return func(v any) error {
		if n, ok := v.(json.Number); ok {
			if f, err := n.Float64(); err == nil {
				*to = f
				return nil
			}
		}
		return errors.New("wants a number")
	}
}

func floatsField(to *[]float64) func(any) error {
	return func(v any) error {
		list, ok := v.([]any)
		if !ok {
			return errors.New("wants a list of numbers")
		}
		out := make([]float64, len(list))
		for i, v := range list {
			if err := floatField(&out[i])(v); err != nil {
				return err
			}
		}
		*to = out
		return nil
	}
}
