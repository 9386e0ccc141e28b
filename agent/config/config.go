// Package config turns files and flags into one validated, immutable Config.
// The agent and the validate command run the same loader; nothing writes to a
// Config once Load has returned it. Sources, order and merge rules are those of
// the family's configuration reference.
//
// Every error and warning names the file, line and key. None holds the value
// of a secret, also where the file is so broken that its parts cannot be told
// apart. What it does not defend against: someone who may write the
// configuration files decides what the agent does.
package config

import (
	"net/netip"
	"time"

	"lictor/agent/checks"
	"lictor/agent/local"
	"lictor/agent/watches"
)

// Config is the whole configuration, checked and resolved: templates are
// expanded, defaults filled in, addresses parsed. A part of the agent receives
// its own few fields, never this.
type Config struct {
	Node      Node
	Network   Network
	Ports     Ports
	Listeners Listeners
	Join      Join
	Gossip    Gossip
	TLS       TLS
	Limits    Limits
	Server    ServerOptions
	HTTP      HTTP
	Log       Log
	Telemetry Telemetry
	RunTime   RunTime
	Health    Health

	// Services, Checks and Watches are the definitions in the files, in order, each
	// checked. A later service or check of the same id replaces an earlier one.
	Services []*local.Service
	Checks   []*checks.Definition
	Watches  []*watches.Definition

	// Warnings are what Load had to say that did not stop it, in order, each
	// with the file and key it speaks of. Never the value of a secret.
	Warnings []string

	settings map[string]value // by key, for Diff and DebugMap
}

// Node is who this agent is.
type Node struct {
	Name              string
	ID                string // configured id; "" means take or make DATA/node-id
	DisableHostNodeID bool
	Meta              map[string]string
	Datacenter        string // lower case
	PrimaryDatacenter string
	Domain            string // without the final dot: "consul"
	AltDomain         string
	DataDir           string // "" only in dev mode
	Server            bool
	ServerName        string // the name in this agent's own certificate, or ""
	PidFile           string
	Dev               bool // -dev: everything in memory, nothing written
}

// Network is the addresses the agent binds and announces.
type Network struct {
	Bind           netip.Addr
	AdvertiseLAN   netip.Addr
	AdvertiseWAN   netip.Addr
	Client         []netip.Addr
	SerfLAN        netip.Addr // bind address of the LAN pool
	SerfWAN        netip.Addr
	SerfLANAllowed []netip.Prefix // empty: everyone
	SerfWANAllowed []netip.Prefix
	TaggedAddrs    map[string]string
	UnixSockets    UnixSockets
}

// UnixSockets is how created sockets are owned.
type UnixSockets struct {
	User, Group string
	Mode        string // octal, "" means 0600
}

// Ports as configured after normalisation: -1 is off.
type Ports struct {
	DNS, HTTP, HTTPS, SerfLAN, SerfWAN, Server, RPC int
}

// Listeners are the resolved listen addresses of the client-facing sockets:
// "ip:port" or "unix:///path". An empty list is an interface that is off.
type Listeners struct {
	HTTP, HTTPS, DNS, RPC []string
}

// Join is joining and leaving.
type Join struct {
	RetryLAN, RetryWAN        []string
	RetryIntervalLAN          time.Duration
	RetryIntervalWAN          time.Duration
	RetryMaxLAN, RetryMaxWAN  int // 0 = for ever
	RejoinAfterLeave          bool
	LeaveOnTerminate          bool
	SkipLeaveOnInterrupt      bool
	ReconnectTimeoutLAN       time.Duration
	ReconnectTimeoutWAN       time.Duration
	AdvertiseReconnectTimeout time.Duration
	LeaveDrainTime            time.Duration
	ServerRejoinAgeMax        time.Duration
}

// Gossip is both pools' timers and encryption.
type Gossip struct {
	Encrypt            Secret // raw key bytes; empty: none configured
	VerifyIncoming     bool
	VerifyOutgoing     bool
	DisableKeyringFile bool
	// AllowPlaintext is encrypt_allow_plaintext: start without a key although
	// this node once had one. Never implied by anything else.
	AllowPlaintext bool
	LAN, WAN       GossipTimers
}

// GossipTimers are the tunables of gossip_lan and gossip_wan.
type GossipTimers struct {
	GossipNodes    int
	GossipInterval time.Duration
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	SuspicionMult  int
	RetransmitMult int
}

// TLS is the two stanzas that are in use, with defaults inherited.
type TLS struct {
	InternalRPC TLSStanza
	HTTPS       TLSStanza
}

// TLSStanza is one protocol's TLS settings. VerifyOutgoing is already true
// where VerifyServerHostname is (CVE-2018-19653).
type TLSStanza struct {
	CAFile, CAPath, CertFile, KeyFile string
	MinVersion                        string // TLSv1_2 ...
	CipherSuites                      []string
	VerifyIncoming                    bool
	VerifyOutgoing                    bool
	VerifyServerHostname              bool
}

// Limits are the bounds on connections, rates and times.
type Limits struct {
	HTTPMaxConnsPerClient int
	HTTPSHandshakeTimeout time.Duration
	RPCHandshakeTimeout   time.Duration
	RPCClientTimeout      time.Duration
	RPCHoldTimeout        time.Duration
	RPCMaxConnsPerClient  int
	RPCRate               float64 // per second; 0 = unlimited
	RPCMaxBurst           int
	KVMaxValueSize        int           // bytes
	TxnMaxReqLen          int           // bytes, never less than KVMaxValueSize
	DefaultQueryTime      time.Duration // of a blocking query without a wait
	MaxQueryTime          time.Duration // before jitter
}

// ServerOptions are what only servers use.
type ServerOptions struct {
	Bootstrap       bool
	BootstrapExpect int
	Protocol        int
	RaftProtocol    int
	Raft            Raft
	Autopilot       Autopilot
	SessionTTLMin   time.Duration
}

// Raft is performance.raft_multiplier and raft_*.
type Raft struct {
	Multiplier        int // 1 to 10, of the election, heartbeat and lease times
	SnapshotThreshold int // log entries
	SnapshotInterval  time.Duration
	TrailingLogs      int
	PrevoteDisabled   bool
	DisableLogCache   bool
	SegmentSizeMB     int // of the log's files
}

// Autopilot is the autopilot stanza. It seeds what the servers agree on when
// they are first started, and has no effect later.
type Autopilot struct {
	CleanupDeadServers      bool
	LastContactThreshold    time.Duration
	MaxTrailingLogs         int
	MinQuorum               int
	ServerStabilizationTime time.Duration
}

// Health is how this agent runs health checks.
type Health struct {
	EnableScripts      bool          // from anywhere
	EnableLocalScripts bool          // from files; true where EnableScripts is
	AgentTLS           bool          // enable_agent_tls_for_checks
	UpdateInterval     time.Duration // how long a change of output alone may wait; 0 is not at all
	OutputMaxSize      int           // bytes
	DiscardOutput      bool
}

// HTTP is http_config and what belongs to it.
type HTTP struct {
	BlockEndpoints     []string
	ResponseHeaders    map[string]string
	AllowWriteHTTPFrom []netip.Prefix
	MaxHeaderBytes     int // 0 = the API's default
	DisablePathFilter  bool
	UseCache           bool // ?cached counts
	DisableCoordinates bool
	TranslateWAN       bool          // answers about other datacenters have WAN addresses
	DiscoveryMaxStale  time.Duration // how old an answer of any server may be; 0 = the leader answers
	EnableDebug        bool
	// RPCAuthKey is rpc_auth_key: the key of the local RPC; required where a
	// listener of it is not loopback or a unix socket.
	RPCAuthKey Secret
}

// Log is logging.
type Log struct {
	Level          string // TRACE, DEBUG, INFO, WARN, ERROR
	JSON           bool
	File           string
	RotateDuration time.Duration
	RotateBytes    int
	RotateMaxFiles int
	Syslog         bool
	SyslogFacility string
}

// Telemetry is the telemetry stanza.
type Telemetry struct {
	Prefix                   string
	DisableHostname          bool
	StatsdAddr               string
	StatsiteAddr             string
	DogstatsdAddr            string
	DogstatsdTags            []string
	PrometheusRetention      time.Duration // 0 = off
	FilterDefault            bool
	AllowedPrefixes          []string
	BlockedPrefixes          []string
	RetryFailedConfiguration bool
}

// RunTime is how this process behaves rather than what it serves.
type RunTime struct {
	AutoReload bool
	// Files are the configuration files that were read, in order.
	Files []string
}
