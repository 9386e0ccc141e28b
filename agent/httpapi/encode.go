package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"

	"lictor/rpc/wire"
)

// The answers that are asked for again and again are put together by hand, the
// rest by encoding/json. What these functions append is what encoding/json would,
// with the differences of the family's API: lists are never null, and services
// carry the empty settings of the mesh, which some clients read unasked.

// appendString appends s as JSON, escaped as encoding/json does it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendEscaped(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return append(b, q...)
}

func appendUint(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(b, name...), n, 10)
}

func appendInt(b []byte, name string, n int) []byte {
	return strconv.AppendInt(append(b, name...), int64(n), 10)
}

func appendField(b []byte, name, value string) []byte {
	return appendString(append(b, name...), value)
}

// appendIndexes appends the last two fields of an object and closes it.
func appendIndexes(b []byte, i *wire.RaftIndex) []byte {
	b = appendUint(b, `,"CreateIndex":`, i.CreateIndex)
	b = appendUint(b, `,"ModifyIndex":`, i.ModifyIndex)
	return append(b, '}')
}

// appendList appends a list, [] for nil.
func appendList[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = item(b, v)
	}
	return append(b, ']')
}

func appendStrings(b []byte, list []string) []byte { return appendList(b, list, appendString) }

// appendMap appends a map with its keys in order. none is written for a nil map.
func appendMap[T any](b []byte, m map[string]T, none string, item func([]byte, T) []byte) []byte {
	if m == nil {
		return append(b, none...)
	}
	b = append(b, '{')
	var room [16]string
	keys := room[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = item(b, m[k])
	}
	return append(b, '}')
}

func appendStringMap(b []byte, m map[string]string, none string) []byte {
	return appendMap(b, m, none, appendString)
}

func appendDirEntry(b []byte, e *wire.DirEntry) []byte {
	b = appendUint(b, `{"LockIndex":`, e.LockIndex)
	b = appendField(b, `,"Key":`, e.Key)
	b = appendUint(b, `,"Flags":`, e.Flags)
	b = append(b, `,"Value":`...)
	if len(e.Value) == 0 {
		b = append(b, `null`...)
	} else {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, e.Value)
		b = append(b, '"')
	}
	if e.Session != "" {
		b = appendField(b, `,"Session":`, e.Session)
	}
	return appendIndexes(b, &e.RaftIndex)
}

func appendLocality(b []byte, name string, l *wire.Locality) []byte {
	b = appendField(append(b, name...), `{"Region":`, l.Region)
	return append(appendField(b, `,"Zone":`, l.Zone), '}')
}

func appendNode(b []byte, n *wire.Node) []byte {
	if n == nil {
		return append(b, `null`...)
	}
	b = appendField(b, `{"ID":`, n.ID)
	b = appendField(b, `,"Node":`, n.Node)
	b = appendField(b, `,"Address":`, n.Address)
	b = appendField(b, `,"Datacenter":`, n.Datacenter)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), n.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"Meta":`...), n.Meta, `null`)
	if n.Locality != nil {
		b = appendLocality(b, `,"Locality":`, n.Locality)
	}
	return appendIndexes(b, &n.RaftIndex)
}

func appendServiceAddress(b []byte, a wire.ServiceAddress) []byte {
	b = appendField(b, `{"Address":`, a.Address)
	return append(appendInt(b, `,"Port":`, a.Port), '}')
}

func appendWeights(b []byte, w wire.Weights) []byte {
	b = appendInt(b, `{"Passing":`, w.Passing)
	return append(appendInt(b, `,"Warning":`, w.Warning), '}')
}

// weightsOf are a service's weights, 1 and 1 where none were set.
func weightsOf(s *wire.NodeService) wire.Weights {
	if s.Weights == nil {
		return wire.Weights{Passing: 1, Warning: 1}
	}
	return *s.Weights
}

const noMesh = `{"Mode":"","MeshGateway":{},"Expose":{}}`

func appendNodeService(b []byte, s *wire.NodeService) []byte {
	if s == nil {
		return append(b, `null`...)
	}
	b = append(b, '{')
	if s.Kind != "" {
		b = append(appendField(b, `"Kind":`, s.Kind), ',')
	}
	b = appendField(b, `"ID":`, s.ID)
	b = appendField(b, `,"Service":`, s.Service)
	b = appendStrings(append(b, `,"Tags":`...), s.Tags)
	b = appendField(b, `,"Address":`, s.Address)
	if len(s.TaggedAddresses) > 0 {
		b = appendMap(append(b, `,"TaggedAddresses":`...), s.TaggedAddresses, `null`, appendServiceAddress)
	}
	b = appendStringMap(append(b, `,"Meta":`...), s.Meta, `{}`)
	b = appendInt(b, `,"Port":`, s.Port)
	if s.SocketPath != "" {
		b = appendField(b, `,"SocketPath":`, s.SocketPath)
	}
	b = appendWeights(append(b, `,"Weights":`...), weightsOf(s))
	b = strconv.AppendBool(append(b, `,"EnableTagOverride":`...), s.EnableTagOverride)
	b = append(b, `,"Proxy":`+noMesh+`,"Connect":{}`...)
	if s.Locality != nil {
		b = appendLocality(b, `,"Locality":`, s.Locality)
	}
	b = append(b, `,"PeerName":""`...)
	return appendIndexes(b, &s.RaftIndex)
}

func appendServiceNode(b []byte, s *wire.ServiceNode) []byte {
	b = appendField(b, `{"ID":`, s.ID)
	b = appendField(b, `,"Node":`, s.Node)
	b = appendField(b, `,"Address":`, s.Address)
	b = appendField(b, `,"Datacenter":`, s.Datacenter)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), s.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"NodeMeta":`...), s.NodeMeta, `null`)
	b = appendField(b, `,"ServiceKind":`, s.ServiceKind)
	b = appendField(b, `,"ServiceID":`, s.ServiceID)
	b = appendField(b, `,"ServiceName":`, s.ServiceName)
	b = appendStrings(append(b, `,"ServiceTags":`...), s.ServiceTags)
	b = appendField(b, `,"ServiceAddress":`, s.ServiceAddress)
	if len(s.ServiceTaggedAddresses) > 0 {
		b = appendMap(append(b, `,"ServiceTaggedAddresses":`...), s.ServiceTaggedAddresses, `null`, appendServiceAddress)
	}
	b = appendWeights(append(b, `,"ServiceWeights":`...), s.ServiceWeights)
	b = appendStringMap(append(b, `,"ServiceMeta":`...), s.ServiceMeta, `{}`)
	b = appendInt(b, `,"ServicePort":`, s.ServicePort)
	b = appendField(b, `,"ServiceSocketPath":`, s.ServiceSocketPath)
	b = strconv.AppendBool(append(b, `,"ServiceEnableTagOverride":`...), s.ServiceEnableTagOverride)
	b = append(b, `,"ServiceProxy":`+noMesh+`,"ServiceConnect":{}`...)
	if s.ServiceLocality != nil {
		b = appendLocality(b, `,"ServiceLocality":`, s.ServiceLocality)
	} else {
		b = append(b, `,"ServiceLocality":null`...)
	}
	return appendIndexes(b, &s.RaftIndex)
}

func appendCheck(b []byte, c *wire.HealthCheck) []byte {
	b = appendField(b, `{"Node":`, c.Node)
	b = appendField(b, `,"CheckID":`, c.CheckID)
	b = appendField(b, `,"Name":`, c.Name)
	b = appendField(b, `,"Status":`, c.Status)
	b = appendField(b, `,"Notes":`, c.Notes)
	b = appendField(b, `,"Output":`, c.Output)
	b = appendField(b, `,"ServiceID":`, c.ServiceID)
	b = appendField(b, `,"ServiceName":`, c.ServiceName)
	b = appendStrings(append(b, `,"ServiceTags":`...), c.ServiceTags)
	b = appendField(b, `,"Type":`, c.Type)
	b = appendField(b, `,"Interval":`, c.Interval)
	b = appendField(b, `,"Timeout":`, c.Timeout)
	b = appendInt(b, `,"ExposedPort":`, c.ExposedPort)
	b = appendDefinition(append(b, `,"Definition":`...), &c.Definition)
	return appendIndexes(b, &c.RaftIndex)
}

func appendDefinition(b []byte, d *wire.HealthCheckDefinition) []byte {
	if emptyDefinition(d) {
		return append(b, `{}`...)
	}
	q, err := json.Marshal(*d)
	if err != nil {
		panic(err) // texts, numbers and lists of them always have a JSON form
	}
	return append(b, q...)
}

// emptyDefinition says whether nothing is set, as in most checks of the catalog.
func emptyDefinition(d *wire.HealthCheckDefinition) bool {
	return d.HTTP == "" && d.TLSServerName == "" && !d.TLSSkipVerify && d.Header == nil && d.Method == "" && d.Body == "" &&
		!d.DisableRedirects && d.TCP == "" && !d.TCPUseTLS && d.UDP == "" && d.H2PING == "" && !d.H2PingUseTLS && d.OSService == "" &&
		d.GRPC == "" && !d.GRPCUseTLS && d.Interval == 0 && d.Timeout == 0 && d.DeregisterCriticalServiceAfter == 0 &&
		d.OutputMaxSize == 0 && d.ScriptArgs == nil && d.DockerContainerID == "" && d.Shell == "" && d.AliasNode == "" &&
		d.AliasService == "" && d.SessionName == "" && d.TTL == 0
}

func appendChecks(b []byte, list []*wire.HealthCheck) []byte { return appendList(b, list, appendCheck) }

func appendInstance(b []byte, i *wire.CheckServiceNode) []byte {
	b = appendNode(append(b, `{"Node":`...), i.Node)
	b = appendNodeService(append(b, `,"Service":`...), i.Service)
	b = appendChecks(append(b, `,"Checks":`...), i.Checks)
	return append(b, '}')
}

// appendInstances appends the instances of a service, or of them those whose
// checks all pass.
func appendInstances(b []byte, list []wire.CheckServiceNode, passing bool) []byte {
	b = append(b, '[')
	first := true
	for i := range list {
		if passing && !allPass(list[i].Checks) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendInstance(b, &list[i])
	}
	return append(b, ']')
}

func allPass(checks []*wire.HealthCheck) bool {
	for _, c := range checks {
		if c.Status != wire.HealthPassing {
			return false
		}
	}
	return true
}

func appendNodeServices(b []byte, n *wire.NodeServices) []byte {
	if n == nil {
		return append(b, `null`...)
	}
	b = appendNode(append(b, `{"Node":`...), n.Node)
	b = appendMap(append(b, `,"Services":`...), n.Services, `{}`, appendNodeService)
	return append(b, '}')
}

func appendNodeServiceList(b []byte, n *wire.NodeServiceList) []byte {
	if n.Node == nil {
		return append(b, `{"Node":null,"Services":null}`...)
	}
	b = appendNode(append(b, `{"Node":`...), n.Node)
	b = appendList(append(b, `,"Services":`...), n.Services, appendNodeService)
	return append(b, '}')
}

func appendNodeInfo(b []byte, n *wire.NodeInfo) []byte {
	b = appendField(b, `{"ID":`, n.ID)
	b = appendField(b, `,"Node":`, n.Node)
	b = appendField(b, `,"Address":`, n.Address)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), n.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"Meta":`...), n.Meta, `null`)
	b = appendList(append(b, `,"Services":`...), n.Services, appendNodeService)
	b = appendChecks(append(b, `,"Checks":`...), n.Checks)
	return append(b, '}')
}

func appendSession(b []byte, s *wire.Session) []byte {
	b = appendField(b, `{"ID":`, s.ID)
	b = appendField(b, `,"Name":`, s.Name)
	b = appendField(b, `,"Node":`, s.Node)
	b = strconv.AppendInt(append(b, `,"LockDelay":`...), int64(s.LockDelay), 10)
	b = appendField(b, `,"Behavior":`, s.Behavior)
	b = appendField(b, `,"TTL":`, s.TTL)
	b = appendStrings(append(b, `,"NodeChecks":`...), s.NodeChecks)
	b = append(b, `,"ServiceChecks":`...)
	if len(s.ServiceChecks) == 0 {
		b = append(b, `null`...)
	} else {
		b = appendList(b, s.ServiceChecks, func(b []byte, c wire.ServiceCheckID) []byte {
			b = appendField(b, `{"ID":`, c.ID)
			return append(appendField(b, `,"Namespace":`, c.Namespace), '}')
		})
	}
	return appendIndexes(b, &s.RaftIndex)
}
