// Package wire holds the request and response types of the server RPC port as
// they are on the wire: msgpack maps keyed by Go field name, embedded structs
// flattened, durations as integer nanoseconds (reference: wire.md, section 2).
//
// A field is never renamed or given another type once it has been released:
// peers of other versions decode these maps by name and skip what they do not
// know.
package wire

import (
	"slices"
	"time"
)

// QueryOptions is embedded by every read request. Token is a secret and is
// never logged.
type QueryOptions struct {
	Token                    string
	MinQueryIndex            uint64
	MaxQueryTime             time.Duration
	AllowStale               bool
	RequireConsistent        bool
	UseCache                 bool
	MaxStaleDuration         time.Duration
	MaxAge                   time.Duration
	MustRevalidate           bool
	StaleIfError             time.Duration
	Filter                   string
	AllowNotModifiedResponse bool
}

// QueryMeta is embedded by every read response.
type QueryMeta struct {
	Index                 uint64
	LastContact           time.Duration
	KnownLeader           bool
	ConsistencyLevel      string
	NotModified           bool
	Backend               int
	ResultsFilteredByACLs bool
}

// QuerySource says who asks, for sorting by distance.
type QuerySource struct {
	Datacenter    string
	Segment       string
	Node          string
	NodePartition string
	DisableNode   bool
	Ip            string
}

// Empty is a request or response without fields; it is the map {} on the wire.
type Empty struct{}

// DCSpecificRequest names the datacenter that must answer; an empty Datacenter
// is the receiver's own.
type DCSpecificRequest struct {
	Datacenter      string
	NodeMetaFilters map[string]string
	Source          QuerySource
	PeerName        string
	QueryOptions
}

// RequestDatacenter returns the datacenter that must answer.
func (r *DCSpecificRequest) RequestDatacenter() string { return r.Datacenter }

// NodeSpecificRequest asks one server about one node.
type NodeSpecificRequest struct {
	Datacenter         string
	Node               string
	PeerName           string
	MergeCentralConfig bool
	QueryOptions
}

// RequestDatacenter returns the datacenter that must answer.
func (r *NodeSpecificRequest) RequestDatacenter() string { return r.Datacenter }

// Keyring operations, the values of KeyringRequest.Operation.
const (
	KeyringList    = "list"
	KeyringInstall = "install"
	KeyringUse     = "use"
	KeyringRemove  = "remove"
)

// KeyringRequest is Internal.KeyringOperation. Key is base64 and a secret.
// Forwarded marks a request that another datacenter's server has passed on: it
// runs on the LAN pool only and is not passed on again.
type KeyringRequest struct {
	Operation   string
	Key         string
	Datacenter  string
	Forwarded   bool
	RelayFactor uint8
	LocalOnly   bool
	QueryOptions
}

// RequestDatacenter returns the datacenter that must answer.
func (r *KeyringRequest) RequestDatacenter() string { return r.Datacenter }

// KeyringResponse is the answer of one pool. Keys and PrimaryKeys count the
// nodes that hold a base64 key; Messages holds what single nodes reported.
type KeyringResponse struct {
	WAN         bool
	Datacenter  string
	Segment     string
	Partition   string
	Messages    map[string]string
	Keys        map[string]int
	PrimaryKeys map[string]int
	NumNodes    int
	Error       string
}

// KeyringResponses is the reply of Internal.KeyringOperation: the WAN pool
// first, then the local LAN pool, then those of other datacenters.
type KeyringResponses struct {
	Responses []*KeyringResponse
	QueryMeta
}

// DropNil removes what a peer has left empty in the list.
func (r *KeyringResponses) DropNil() {
	r.Responses = slices.DeleteFunc(r.Responses, func(p *KeyringResponse) bool { return p == nil })
}

// EventFireRequest is Internal.EventFire. Payload is an encoded UserEvent.
type EventFireRequest struct {
	Datacenter string
	Name       string
	Payload    []byte
	QueryOptions
}

// RequestDatacenter returns the datacenter that must answer.
func (r *EventFireRequest) RequestDatacenter() string { return r.Datacenter }

// EventFireResponse is the reply of Internal.EventFire.
type EventFireResponse struct {
	QueryMeta
}

// UserEvent is the msgpack blob inside a "consul:event:<name>" Serf event
// (wire.md, 5.5). LTime is set by the receiver from the Serf event and is not
// part of the blob.
type UserEvent struct {
	ID            string
	Name          string `codec:"n"`
	Payload       []byte `codec:"p,omitempty"`
	NodeFilter    string `codec:"nf,omitempty"`
	ServiceFilter string `codec:"sf,omitempty"`
	TagFilter     string `codec:"tf,omitempty"`
	Version       int    `codec:"v"`
	LTime         uint64 `codec:"-"`
}

// MonitorRequest is Agent.Monitor, a streaming method: after the response
// header the server sends LogFrame objects until either side closes.
type MonitorRequest struct {
	Datacenter string
	LogLevel   string
	LogJSON    bool
	QueryOptions
}

// RequestDatacenter returns the datacenter that must answer.
func (r *MonitorRequest) RequestDatacenter() string { return r.Datacenter }

// LogFrame is one log line of Agent.Monitor, without its newline.
type LogFrame struct {
	Log string
}

// NodeStatus is the reply of Internal.AgentInfo: what a server says of itself.
type NodeStatus struct {
	Node         string
	Datacenter   string
	ID           string
	Address      string
	Build        string
	Server       bool
	GossipLAN    string // posture: plain, ready, sending, strict
	GossipWAN    string
	RPC          string // posture: plain, ready, outgoing, strict
	Certificate  string // role in the agent's own certificate, or ""
	CertNotAfter time.Time
}
