package localrpc

import (
	"net"
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"

	"lictor/rpc/wire"
)

const protocolVersion = 1

// Commands. The first group is Serf's, the second that of the family before
// 0.8, the third our own CLI's.
const (
	cmdHandshake       = "handshake"
	cmdAuth            = "auth"
	cmdEvent           = "event"
	cmdForceLeave      = "force-leave"
	cmdJoin            = "join"
	cmdMembers         = "members"
	cmdMembersFiltered = "members-filtered"
	cmdStream          = "stream"
	cmdStop            = "stop"
	cmdMonitor         = "monitor"
	cmdLeave           = "leave"
	cmdInstallKey      = "install-key"
	cmdUseKey          = "use-key"
	cmdRemoveKey       = "remove-key"
	cmdListKeys        = "list-keys"
	cmdTags            = "tags"
	cmdQuery           = "query"
	cmdRespond         = "respond"
	cmdStats           = "stats"
	cmdGetCoordinate   = "get-coordinate"

	cmdMembersLAN = "members-lan"
	cmdMembersWAN = "members-wan"
	cmdReload     = "reload"

	cmdKeyring   = "lictor-keyring"
	cmdEventFire = "lictor-event"
)

// Errors in the words that clients know (wire.md, section 7).
const (
	errHandshakeRequired  = "Handshake required"
	errHandshakeDone      = "Handshake already performed"
	errVersion            = "Unsupported IPC version"
	errVersionFamily      = "Unsupported RPC version" // to a client of the family
	errUnsupportedCommand = "Unsupported command"
	errAuthRequired       = "Authentication required"
	errAuthToken          = "Invalid authentication token"
	errMonitorExists      = "Monitor already exists"
	errStreamExists       = "Stream with given sequence exists"
	errEventFilter        = "Invalid event filter"
	errNoQuery            = "No pending queries matching ID"
)

// requestHeader opens a request. Token is nil in Serf's dialect; its value has
// no meaning here.
type requestHeader struct {
	Command string
	Seq     uint64
	Token   *string `codec:",omitempty"`
}

type responseHeader struct {
	Seq   uint64
	Error string
}

type handshakeRequest struct{ Version int32 }

type authRequest struct{ AuthKey string }

type eventRequest struct {
	Name     string
	Payload  []byte
	Coalesce bool
}

type forceLeaveRequest struct {
	Node  string
	Prune bool
	WAN   bool
}

// joinRequest is that of both dialects: Replay is Serf's, WAN the family's.
// Replay has no effect: user events from before the join are never replayed.
type joinRequest struct {
	Existing []string
	Replay   bool
	WAN      bool
}

type joinResponse struct{ Num int32 }

type membersFilteredRequest struct {
	Tags   map[string]string
	Status string
	Name   string
}

type membersResponse struct{ Members []member }

type member struct {
	Name        string
	Addr        net.IP
	Port        uint16
	Tags        map[string]string
	Status      string
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

func toMember(m serf.Member) member {
	return member{
		Name: m.Name, Addr: m.Addr, Port: m.Port, Tags: m.Tags, Status: m.Status.String(),
		ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
	}
}

func toMembers(all []serf.Member) []member {
	members := make([]member, len(all)) // never nil: clients expect a list
	for i, m := range all {
		members[i] = toMember(m)
	}
	return members
}

func (m member) serf() serf.Member {
	sm := serf.Member{
		Name: m.Name, Addr: m.Addr, Port: m.Port, Tags: m.Tags,
		ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
	}
	for s := serf.StatusNone; s <= serf.StatusFailed; s++ {
		if s.String() == m.Status {
			sm.Status = s
		}
	}
	return sm
}

// keyRequest is that of both dialects: RelayFactor is the family's, and nil in
// Serf's.
type keyRequest struct {
	Key         string
	RelayFactor *uint8 `codec:",omitempty"`
}

// keyResponse is Serf's answer to a key command.
type keyResponse struct {
	Messages map[string]string
	Keys     map[string]int
	NumNodes int
	NumErr   int
	NumResp  int
}

// familyKeyResponse is the family's.
type familyKeyResponse struct {
	Keys     []familyKey
	Messages []familyMessage
	Info     []familyInfo
}

type familyKey struct {
	Datacenter, Pool, Key string
	Count                 int
}

type familyMessage struct{ Datacenter, Pool, Node, Message string }

type familyInfo struct {
	Datacenter, Pool string
	NumNodes         int
	Error            string
}

// monitorRequest is Serf's, with LogJSON of our own CLI.
type monitorRequest struct {
	LogLevel string
	LogJSON  bool
}

type logRecord struct{ Log string }

type streamRequest struct{ Type string }

type stopRequest struct{ Stop uint64 }

type memberEventRecord struct {
	Event   string
	Members []member
}

type userEventRecord struct {
	Event    string
	LTime    serf.LamportTime
	Name     string
	Payload  []byte
	Coalesce bool
}

// droppedRecord tells the reader of a stream that events were lost. Serf has no
// such record.
type droppedRecord struct {
	Event   string // "dropped"
	Dropped uint64
}

type queryEventRecord struct {
	Event   string
	ID      uint64
	LTime   serf.LamportTime
	Name    string
	Payload []byte
}

type tagsRequest struct {
	Tags       map[string]string
	DeleteTags []string
}

type queryRequest struct {
	FilterNodes []string
	FilterTags  map[string]string
	RequestAck  bool
	RelayFactor uint8
	Timeout     time.Duration
	Name        string
	Payload     []byte
}

type queryRecord struct {
	Type    string // ack, response, done
	From    string
	Payload []byte
}

type respondRequest struct {
	ID      uint64
	Payload []byte
}

type coordinateRequest struct{ Node string }

type coordinateResponse struct {
	Coord coordinate.Coordinate
	Ok    bool
}

type eventFireRequest struct {
	Datacenter string
	Event      wire.UserEvent
}

type eventFireResponse struct{ ID string }
