package wire

import (
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
)

// Coordinate is a node's network coordinate.
type Coordinate struct {
	Node      string
	Segment   string
	Partition string `json:",omitempty"`
	Coord     *coordinate.Coordinate
}

// CoordinateUpdateRequest is Coordinate.Update. It is answered before it is
// written.
type CoordinateUpdateRequest struct {
	Datacenter string
	Node       string
	Segment    string
	Partition  string
	Coord      *coordinate.Coordinate
	WriteRequest
}

// IndexedCoordinates is the reply of Coordinate.ListNodes and Coordinate.Node.
type IndexedCoordinates struct {
	Coordinates []*Coordinate
	QueryMeta
}

// DatacenterMap is an element of Coordinate.ListDatacenters: the servers of a
// datacenter in the WAN pool.
type DatacenterMap struct {
	Datacenter  string
	AreaID      string
	Coordinates []*Coordinate
}

// RaftServer is one server of the Raft configuration.
type RaftServer struct {
	ID              string
	Node            string
	Address         string
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// RaftConfiguration is the reply of Operator.RaftGetConfiguration.
type RaftConfiguration struct {
	Servers []*RaftServer
	Index   uint64
}

// RaftRemovePeerRequest is Operator.RaftRemovePeerByAddress and ...ByID.
type RaftRemovePeerRequest struct {
	Datacenter string
	Address    string
	ID         string
	WriteRequest
}

// TransferLeaderRequest is Operator.TransferLeader, a method of Lictor's own:
// the family does this over gRPC. An empty ID lets Raft choose.
type TransferLeaderRequest struct {
	Datacenter string
	ID         string
	WriteRequest
}

// TransferLeaderResponse is the reply of Operator.TransferLeader.
type TransferLeaderResponse struct{ Success bool }

// RaftStats is the reply of Status.RaftStats.
type RaftStats struct {
	LastContact string
	LastTerm    uint64
	LastIndex   uint64
}

// AutopilotConfig is the configuration of autopilot, in the state store.
type AutopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    time.Duration
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime time.Duration
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	RaftIndex
}

// AutopilotSetConfigRequest is Operator.AutopilotSetConfiguration. With CAS it
// is done only where Config.ModifyIndex is the one in the store; the reply is a
// bool.
type AutopilotSetConfigRequest struct {
	Datacenter string
	Config     AutopilotConfig
	CAS        bool
	WriteRequest
}

// AutopilotServerHealth is one server in AutopilotHealth.
type AutopilotServerHealth struct {
	ID          string
	Name        string
	Address     string
	SerfStatus  serf.MemberStatus
	Version     string
	Leader      bool
	LastContact time.Duration
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	Voter       bool
	StableSince time.Time
}

// AutopilotHealth is the reply of Operator.ServerHealth.
type AutopilotHealth struct {
	Healthy          bool
	FailureTolerance int
	Servers          []AutopilotServerHealth
}

// AutopilotServerState is one server in AutopilotState.
type AutopilotServerState struct {
	ID          string
	Name        string
	Address     string
	NodeStatus  string
	Version     string
	LastContact time.Duration
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	StableSince time.Time
	ReadReplica bool
	Status      string // leader, voter, non-voter, staging
	Meta        map[string]string
	NodeType    string
}

// AutopilotState is the reply of Operator.AutopilotState.
type AutopilotState struct {
	Healthy                    bool
	FailureTolerance           int
	OptimisticFailureTolerance int
	Servers                    map[string]*AutopilotServerState
	Leader                     string
	Voters                     []string
}

// ServiceUsage counts what one datacenter holds.
type ServiceUsage struct {
	Nodes                    int
	Services                 int
	ServiceInstances         int
	ConnectServiceInstances  map[string]int
	BillableServiceInstances int
}

// UsageRequest is Operator.Usage; Global asks all datacenters.
type UsageRequest struct {
	Datacenter string
	Global     bool
	QueryOptions
}

// UsageResponse is the reply of Operator.Usage, by datacenter.
type UsageResponse struct {
	Usage map[string]ServiceUsage
	QueryMeta
}

// Snapshot operations, SnapshotRequest.Op.
const (
	SnapshotSave    = 0
	SnapshotRestore = 1
)

// SnapshotRequest starts a snapshot exchange on a connection with first byte 5
// (wire.md, 4.8).
type SnapshotRequest struct {
	Datacenter string
	Token      string
	AllowStale bool
	Op         int
}

// SnapshotResponse answers it; after a save the archive follows until EOF.
type SnapshotResponse struct {
	Error string
	QueryMeta
}
