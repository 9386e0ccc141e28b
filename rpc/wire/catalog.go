package wire

import "strings"

// Health states of a check, worst last in HealthCritical.
const (
	HealthAny      = "any"
	HealthPassing  = "passing"
	HealthWarning  = "warning"
	HealthCritical = "critical"
	HealthMaint    = "maintenance"
)

// Ids of checks that the agent or the leader makes itself.
const (
	// SerfHealth is the check by which the leader says whether a member is alive.
	SerfHealth = "serfHealth"
	// NodeMaint and ServiceMaintPrefix are the checks of maintenance mode.
	NodeMaint          = "_node_maintenance"
	ServiceMaintPrefix = "_service_maintenance:"
)

// ConsulService is the name under which servers register themselves.
const ConsulService = "consul"

// RaftIndex is embedded by everything that the state store keeps.
type RaftIndex struct {
	CreateIndex uint64
	ModifyIndex uint64
}

// Locality says where a node or service is. It is data only.
type Locality struct {
	Region string
	Zone   string
}

// ServiceAddress is one tagged address of a service.
type ServiceAddress struct {
	Address string
	Port    int
}

// Weights are a service's weights for DNS SRV answers.
type Weights struct {
	Passing int
	Warning int
}

// Node is an entry of the catalog.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	Partition       string `json:",omitempty"`
	PeerName        string `json:",omitempty"`
	TaggedAddresses map[string]string
	Meta            map[string]string
	Locality        *Locality `json:",omitempty"`
	RaftIndex
}

// NodeService is one instance of a service, without its node.
type NodeService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int
	SocketPath        string `json:",omitempty"`
	Weights           *Weights
	EnableTagOverride bool
	Locality          *Locality `json:",omitempty"`
	PeerName          string    `json:",omitempty"`
	RaftIndex
}

// ServiceNode is one instance of a service together with its node.
type ServiceNode struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	ServiceWeights           Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceSocketPath        string
	ServiceEnableTagOverride bool
	ServiceLocality          *Locality `json:",omitempty"`
	PeerName                 string    `json:",omitempty"`
	RaftIndex
}

// HealthCheck is a check as the catalog has it.
type HealthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	PeerName    string `json:",omitempty"`
	Definition  HealthCheckDefinition
	RaftIndex
}

// CheckServiceNode is an instance of a service, its node, and the checks of
// both.
type CheckServiceNode struct {
	Node    *Node
	Service *NodeService
	Checks  []*HealthCheck
}

// NodeServices is a node with its services by id.
type NodeServices struct {
	Node     *Node
	Services map[string]*NodeService
}

// NodeServiceList is a node with its services as a list.
type NodeServiceList struct {
	Node     *Node
	Services []*NodeService
}

// NodeInfo is a node with everything on it.
type NodeInfo struct {
	ID              string
	Node            string
	Partition       string `json:",omitempty"`
	PeerName        string `json:",omitempty"`
	Address         string
	TaggedAddresses map[string]string
	Meta            map[string]string
	Services        []*NodeService
	Checks          []*HealthCheck
}

// RegisterRequest is Catalog.Register. Check and Checks are both applied.
type RegisterRequest struct {
	Datacenter      string
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	NodeMeta        map[string]string
	Service         *NodeService
	Check           *HealthCheck
	Checks          []*HealthCheck
	Locality        *Locality `json:",omitempty"`
	// SkipNodeUpdate leaves an existing node entry as it is.
	SkipNodeUpdate bool
	PeerName       string `json:",omitempty"`
	WriteRequest
	RaftIndex
}

// DeregisterRequest is Catalog.Deregister: a service where ServiceID is set, a
// check where CheckID is, else the node.
type DeregisterRequest struct {
	Datacenter string
	Node       string
	ServiceID  string
	CheckID    string
	PeerName   string `json:",omitempty"`
	WriteRequest
}

// DatacentersRequest is Catalog.ListDatacenters.
type DatacentersRequest struct {
	QueryOptions
}

// ServiceSpecificRequest asks about one service. Of ServiceTags an instance
// must have all.
type ServiceSpecificRequest struct {
	Datacenter         string
	PeerName           string
	SamenessGroup      string
	NodeMetaFilters    map[string]string
	ServiceName        string
	ServiceKind        string
	ServiceTag         string // of peers from before ServiceTags
	ServiceTags        []string
	ServiceAddress     string
	TagFilter          bool // ServiceTag or ServiceTags count
	HealthFilterType   int
	Source             QuerySource
	Connect            bool
	Ingress            bool
	MergeCentralConfig bool
	QueryOptions
}

// ChecksInStateRequest is Health.ChecksInState.
type ChecksInStateRequest struct {
	Datacenter      string
	NodeMetaFilters map[string]string
	State           string
	Source          QuerySource
	PeerName        string
	QueryOptions
}

// ServiceDumpRequest is Internal.ServiceDump.
type ServiceDumpRequest struct {
	Datacenter     string
	ServiceKind    string
	UseServiceKind bool
	NodesOnly      bool
	Source         QuerySource
	PeerName       string
	QueryOptions
}

// IndexedNodes is the reply of Catalog.ListNodes.
type IndexedNodes struct {
	Nodes []*Node
	QueryMeta
}

// IndexedServices is the reply of Catalog.ListServices: tags by service name.
type IndexedServices struct {
	Services map[string][]string
	QueryMeta
}

// ServiceName is an element of Catalog.ServiceList.
type ServiceName struct{ Name string }

// IndexedServiceList is the reply of Catalog.ServiceList.
type IndexedServiceList struct {
	Services []ServiceName
	QueryMeta
}

// IndexedServiceNodes is the reply of Catalog.ServiceNodes.
type IndexedServiceNodes struct {
	ServiceNodes []*ServiceNode
	QueryMeta
}

// IndexedNodeServices is the reply of Catalog.NodeServices; NodeServices is nil
// for an unknown node.
type IndexedNodeServices struct {
	NodeServices *NodeServices
	QueryMeta
}

// IndexedNodeServiceList is the reply of Catalog.NodeServiceList.
type IndexedNodeServiceList struct {
	NodeServices NodeServiceList
	QueryMeta
}

// IndexedHealthChecks is the reply of the Health methods that list checks.
type IndexedHealthChecks struct {
	HealthChecks []*HealthCheck
	QueryMeta
}

// IndexedCheckServiceNodes is the reply of Health.ServiceNodes and
// Internal.ServiceDump.
type IndexedCheckServiceNodes struct {
	Nodes         []CheckServiceNode
	ImportedNodes []CheckServiceNode `json:",omitempty"`
	QueryMeta
}

// ServiceNodesJSONRequest is Health.ServiceNodesJSON: a request for
// Health.ServiceNodes, and what only the HTTP API has besides.
type ServiceNodesJSONRequest struct {
	ServiceSpecificRequest
	Passing bool // only instances whose checks all pass
}

// EncodedAnswer is the reply of a method that answers with the JSON of the HTTP
// API. Body may be shared and must not be changed.
type EncodedAnswer struct {
	Body []byte
	QueryMeta
}

// IndexedNodeDump is the reply of Internal.NodeInfo and Internal.NodeDump.
type IndexedNodeDump struct {
	Dump         []*NodeInfo
	ImportedDump []*NodeInfo `json:",omitempty"`
	QueryMeta
}

// HealthSummary counts a set by the worst state of its checks.
type HealthSummary struct {
	Name     string `json:",omitempty"`
	Total    int
	Passing  int
	Warning  int
	Critical int
}

// CatalogOverview is the reply of Internal.CatalogOverview.
type CatalogOverview struct {
	Nodes    []HealthSummary
	Services []HealthSummary
	Checks   []HealthSummary
	QueryMeta
}

// PlainName says whether name may be one in the catalog: it has no control
// characters. The state store ends names with a NUL where it puts them together, so
// one inside a name could reach into another node's entries.
func PlainName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}
