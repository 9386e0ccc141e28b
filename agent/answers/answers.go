// Package answers puts together the JSON of the HTTP API's answers that are asked
// for again and again; for the rest there is encoding/json. Servers use it too:
// they encode an answer once for all who ask, and agents pass the bytes on.
//
// What its functions append is what encoding/json would, with the differences of
// the family's API: lists are never null, and services carry the empty settings of
// the mesh, which some clients read unasked.
package answers

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"

	"lictor/rpc/wire"
)

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

// AppendUint appends name, which is as it shall stand there, and n.
func AppendUint(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(b, name...), n, 10)
}

// AppendInt is AppendUint for an int.
func AppendInt(b []byte, name string, n int) []byte {
	return strconv.AppendInt(append(b, name...), int64(n), 10)
}

// AppendField appends name, which is as it shall stand there, and value.
func AppendField(b []byte, name, value string) []byte {
	return appendString(append(b, name...), value)
}

// appendIndexes appends the last two fields of an object and closes it.
func appendIndexes(b []byte, i *wire.RaftIndex) []byte {
	b = AppendUint(b, `,"CreateIndex":`, i.CreateIndex)
	b = AppendUint(b, `,"ModifyIndex":`, i.ModifyIndex)
	return append(b, '}')
}

// AppendList appends a list, [] for nil.
func AppendList[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = item(b, v)
	}
	return append(b, ']')
}

// AppendStrings appends a list of strings.
func AppendStrings(b []byte, list []string) []byte { return AppendList(b, list, appendString) }

// AppendMap appends a map with its keys in order. none is written for a nil map.
func AppendMap[T any](b []byte, m map[string]T, none string, item func([]byte, T) []byte) []byte {
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
	return AppendMap(b, m, none, appendString)
}

// AppendDirEntry appends an entry of the key-value store.
func AppendDirEntry(b []byte, e *wire.DirEntry) []byte {
	b = AppendUint(b, `{"LockIndex":`, e.LockIndex)
	b = AppendField(b, `,"Key":`, e.Key)
	b = AppendUint(b, `,"Flags":`, e.Flags)
	b = append(b, `,"Value":`...)
	if len(e.Value) == 0 {
		b = append(b, `null`...)
	} else {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, e.Value)
		b = append(b, '"')
	}
	if e.Session != "" {
		b = AppendField(b, `,"Session":`, e.Session)
	}
	return appendIndexes(b, &e.RaftIndex)
}

func appendLocality(b []byte, name string, l *wire.Locality) []byte {
	b = AppendField(append(b, name...), `{"Region":`, l.Region)
	return append(AppendField(b, `,"Zone":`, l.Zone), '}')
}

// AppendNode appends a node.
func AppendNode(b []byte, n *wire.Node) []byte {
	if n == nil {
		return append(b, `null`...)
	}
	b = AppendField(b, `{"ID":`, n.ID)
	b = AppendField(b, `,"Node":`, n.Node)
	b = AppendField(b, `,"Address":`, n.Address)
	b = AppendField(b, `,"Datacenter":`, n.Datacenter)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), n.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"Meta":`...), n.Meta, `null`)
	if n.Locality != nil {
		b = appendLocality(b, `,"Locality":`, n.Locality)
	}
	return appendIndexes(b, &n.RaftIndex)
}

func appendServiceAddress(b []byte, a wire.ServiceAddress) []byte {
	b = AppendField(b, `{"Address":`, a.Address)
	return append(AppendInt(b, `,"Port":`, a.Port), '}')
}

func appendWeights(b []byte, w wire.Weights) []byte {
	b = AppendInt(b, `{"Passing":`, w.Passing)
	return append(AppendInt(b, `,"Warning":`, w.Warning), '}')
}

// WeightsOf are a service's weights, 1 and 1 where none were set.
func WeightsOf(s *wire.NodeService) wire.Weights {
	if s.Weights == nil {
		return wire.Weights{Passing: 1, Warning: 1}
	}
	return *s.Weights
}

const noMesh = `{"Mode":"","MeshGateway":{},"Expose":{}}`

// AppendNodeService appends a service as it is on a node.
func AppendNodeService(b []byte, s *wire.NodeService) []byte {
	if s == nil {
		return append(b, `null`...)
	}
	b = append(b, '{')
	if s.Kind != "" {
		b = append(AppendField(b, `"Kind":`, s.Kind), ',')
	}
	b = AppendField(b, `"ID":`, s.ID)
	b = AppendField(b, `,"Service":`, s.Service)
	b = AppendStrings(append(b, `,"Tags":`...), s.Tags)
	b = AppendField(b, `,"Address":`, s.Address)
	if len(s.TaggedAddresses) > 0 {
		b = AppendMap(append(b, `,"TaggedAddresses":`...), s.TaggedAddresses, `null`, appendServiceAddress)
	}
	b = appendStringMap(append(b, `,"Meta":`...), s.Meta, `{}`)
	b = AppendInt(b, `,"Port":`, s.Port)
	if s.SocketPath != "" {
		b = AppendField(b, `,"SocketPath":`, s.SocketPath)
	}
	b = appendWeights(append(b, `,"Weights":`...), WeightsOf(s))
	b = strconv.AppendBool(append(b, `,"EnableTagOverride":`...), s.EnableTagOverride)
	b = append(b, `,"Proxy":`+noMesh+`,"Connect":{}`...)
	if s.Locality != nil {
		b = appendLocality(b, `,"Locality":`, s.Locality)
	}
	b = append(b, `,"PeerName":""`...)
	return appendIndexes(b, &s.RaftIndex)
}

// AppendServiceNode appends an instance as the catalog lists it.
func AppendServiceNode(b []byte, s *wire.ServiceNode) []byte {
	b = AppendField(b, `{"ID":`, s.ID)
	b = AppendField(b, `,"Node":`, s.Node)
	b = AppendField(b, `,"Address":`, s.Address)
	b = AppendField(b, `,"Datacenter":`, s.Datacenter)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), s.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"NodeMeta":`...), s.NodeMeta, `null`)
	b = AppendField(b, `,"ServiceKind":`, s.ServiceKind)
	b = AppendField(b, `,"ServiceID":`, s.ServiceID)
	b = AppendField(b, `,"ServiceName":`, s.ServiceName)
	b = AppendStrings(append(b, `,"ServiceTags":`...), s.ServiceTags)
	b = AppendField(b, `,"ServiceAddress":`, s.ServiceAddress)
	if len(s.ServiceTaggedAddresses) > 0 {
		b = AppendMap(append(b, `,"ServiceTaggedAddresses":`...), s.ServiceTaggedAddresses, `null`, appendServiceAddress)
	}
	b = appendWeights(append(b, `,"ServiceWeights":`...), s.ServiceWeights)
	b = appendStringMap(append(b, `,"ServiceMeta":`...), s.ServiceMeta, `{}`)
	b = AppendInt(b, `,"ServicePort":`, s.ServicePort)
	b = AppendField(b, `,"ServiceSocketPath":`, s.ServiceSocketPath)
	b = strconv.AppendBool(append(b, `,"ServiceEnableTagOverride":`...), s.ServiceEnableTagOverride)
	b = append(b, `,"ServiceProxy":`+noMesh+`,"ServiceConnect":{}`...)
	if s.ServiceLocality != nil {
		b = appendLocality(b, `,"ServiceLocality":`, s.ServiceLocality)
	} else {
		b = append(b, `,"ServiceLocality":null`...)
	}
	return appendIndexes(b, &s.RaftIndex)
}

// AppendCheck appends a check.
func AppendCheck(b []byte, c *wire.HealthCheck) []byte {
	b = AppendField(b, `{"Node":`, c.Node)
	b = AppendField(b, `,"CheckID":`, c.CheckID)
	b = AppendField(b, `,"Name":`, c.Name)
	b = AppendField(b, `,"Status":`, c.Status)
	b = AppendField(b, `,"Notes":`, c.Notes)
	b = AppendField(b, `,"Output":`, c.Output)
	b = AppendField(b, `,"ServiceID":`, c.ServiceID)
	b = AppendField(b, `,"ServiceName":`, c.ServiceName)
	b = AppendStrings(append(b, `,"ServiceTags":`...), c.ServiceTags)
	b = AppendField(b, `,"Type":`, c.Type)
	b = AppendField(b, `,"Interval":`, c.Interval)
	b = AppendField(b, `,"Timeout":`, c.Timeout)
	b = AppendInt(b, `,"ExposedPort":`, c.ExposedPort)
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

// AppendChecks appends a list of checks.
func AppendChecks(b []byte, list []*wire.HealthCheck) []byte { return AppendList(b, list, AppendCheck) }

func appendInstance(b []byte, i *wire.CheckServiceNode) []byte {
	b = AppendNode(append(b, `{"Node":`...), i.Node)
	b = AppendNodeService(append(b, `,"Service":`...), i.Service)
	b = AppendChecks(append(b, `,"Checks":`...), i.Checks)
	return append(b, '}')
}

// AppendInstances appends the instances of a service, or of them those whose
// checks all pass.
func AppendInstances(b []byte, list []wire.CheckServiceNode, passing bool) []byte {
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

// AppendNodeServices appends a node with its services by their ids.
func AppendNodeServices(b []byte, n *wire.NodeServices) []byte {
	if n == nil {
		return append(b, `null`...)
	}
	b = AppendNode(append(b, `{"Node":`...), n.Node)
	b = AppendMap(append(b, `,"Services":`...), n.Services, `{}`, AppendNodeService)
	return append(b, '}')
}

// AppendNodeServiceList appends a node with a list of its services.
func AppendNodeServiceList(b []byte, n *wire.NodeServiceList) []byte {
	if n.Node == nil {
		return append(b, `{"Node":null,"Services":null}`...)
	}
	b = AppendNode(append(b, `{"Node":`...), n.Node)
	b = AppendList(append(b, `,"Services":`...), n.Services, AppendNodeService)
	return append(b, '}')
}

// AppendNodeInfo appends a node with all that is on it.
func AppendNodeInfo(b []byte, n *wire.NodeInfo) []byte {
	b = AppendField(b, `{"ID":`, n.ID)
	b = AppendField(b, `,"Node":`, n.Node)
	b = AppendField(b, `,"Address":`, n.Address)
	b = appendStringMap(append(b, `,"TaggedAddresses":`...), n.TaggedAddresses, `null`)
	b = appendStringMap(append(b, `,"Meta":`...), n.Meta, `null`)
	b = AppendList(append(b, `,"Services":`...), n.Services, AppendNodeService)
	b = AppendChecks(append(b, `,"Checks":`...), n.Checks)
	return append(b, '}')
}

// AppendSession appends a session.
func AppendSession(b []byte, s *wire.Session) []byte {
	b = AppendField(b, `{"ID":`, s.ID)
	b = AppendField(b, `,"Name":`, s.Name)
	b = AppendField(b, `,"Node":`, s.Node)
	b = strconv.AppendInt(append(b, `,"LockDelay":`...), int64(s.LockDelay), 10)
	b = AppendField(b, `,"Behavior":`, s.Behavior)
	b = AppendField(b, `,"TTL":`, s.TTL)
	b = AppendStrings(append(b, `,"NodeChecks":`...), s.NodeChecks)
	b = append(b, `,"ServiceChecks":`...)
	if len(s.ServiceChecks) == 0 {
		b = append(b, `null`...)
	} else {
		b = AppendList(b, s.ServiceChecks, func(b []byte, c wire.ServiceCheckID) []byte {
			b = AppendField(b, `{"ID":`, c.ID)
			return append(AppendField(b, `,"Namespace":`, c.Namespace), '}')
		})
	}
	return appendIndexes(b, &s.RaftIndex)
}
