package state

import (
	"maps"
	"slices"

	"lictor/rpc/wire"
)

// What follows compares objects but for their indexes: a write of what is there
// already changes nothing and wakes nobody. Nothing and empty are the same.

func samePtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameNode(a, b *wire.Node) bool {
	return a.ID == b.ID && a.Node == b.Node && a.Address == b.Address && a.Datacenter == b.Datacenter &&
		a.Partition == b.Partition && a.PeerName == b.PeerName &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) && samePtr(a.Locality, b.Locality)
}

func sameService(a, b *wire.NodeService) bool {
	return a.Kind == b.Kind && a.ID == b.ID && a.Service == b.Service && slices.Equal(a.Tags, b.Tags) &&
		a.Address == b.Address && maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) &&
		a.Port == b.Port && a.SocketPath == b.SocketPath && samePtr(a.Weights, b.Weights) &&
		a.EnableTagOverride == b.EnableTagOverride && samePtr(a.Locality, b.Locality) && a.PeerName == b.PeerName
}

func sameCheck(a, b *wire.HealthCheck) bool {
	return a.Node == b.Node && a.CheckID == b.CheckID && a.Name == b.Name && a.Status == b.Status &&
		a.Notes == b.Notes && a.Output == b.Output && a.ServiceID == b.ServiceID && a.ServiceName == b.ServiceName &&
		slices.Equal(a.ServiceTags, b.ServiceTags) && a.Type == b.Type && a.Interval == b.Interval &&
		a.Timeout == b.Timeout && a.ExposedPort == b.ExposedPort && a.PeerName == b.PeerName &&
		sameDefinition(&a.Definition, &b.Definition)
}

func sameDefinition(a, b *wire.HealthCheckDefinition) bool {
	return a.HTTP == b.HTTP && a.TLSServerName == b.TLSServerName && a.TLSSkipVerify == b.TLSSkipVerify &&
		maps.EqualFunc(a.Header, b.Header, slices.Equal) && a.Method == b.Method && a.Body == b.Body &&
		a.DisableRedirects == b.DisableRedirects && a.TCP == b.TCP && a.TCPUseTLS == b.TCPUseTLS && a.UDP == b.UDP &&
		a.H2PING == b.H2PING && a.H2PingUseTLS == b.H2PingUseTLS && a.OSService == b.OSService && a.GRPC == b.GRPC &&
		a.GRPCUseTLS == b.GRPCUseTLS && a.Interval == b.Interval && a.Timeout == b.Timeout &&
		a.DeregisterCriticalServiceAfter == b.DeregisterCriticalServiceAfter && a.OutputMaxSize == b.OutputMaxSize &&
		slices.Equal(a.ScriptArgs, b.ScriptArgs) && a.DockerContainerID == b.DockerContainerID && a.Shell == b.Shell &&
		a.AliasNode == b.AliasNode && a.AliasService == b.AliasService && a.SessionName == b.SessionName && a.TTL == b.TTL
}
