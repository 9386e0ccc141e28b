package wire

import "time"

// DirEntry is an entry of the key-value store.
type DirEntry struct {
	LockIndex uint64
	Key       string
	Flags     uint64
	Value     []byte
	Session   string `json:",omitempty"`
	RaftIndex
}

// KVOp is an operation on the key-value store: KVSRequest.Op, and in a
// transaction TxnKVOp.Verb. The last group exists in transactions only.
type KVOp string

// The operations.
const (
	KVSet        KVOp = "set"
	KVDelete     KVOp = "delete"
	KVDeleteCAS  KVOp = "delete-cas"
	KVDeleteTree KVOp = "delete-tree"
	KVCAS        KVOp = "cas"
	KVLock       KVOp = "lock"
	KVUnlock     KVOp = "unlock"

	KVGet            KVOp = "get"
	KVGetOrEmpty     KVOp = "get-or-empty"
	KVGetTree        KVOp = "get-tree"
	KVCheckSession   KVOp = "check-session"
	KVCheckIndex     KVOp = "check-index"
	KVCheckNotExists KVOp = "check-not-exists"
)

// KVSRequest is KVS.Apply; its reply is a bool, which says for cas, delete-cas,
// lock and unlock whether it was done. DirEnt.ModifyIndex is the index that cas
// and delete-cas compare.
type KVSRequest struct {
	Datacenter string
	Op         KVOp
	DirEnt     DirEntry
	WriteRequest
}

// KeyRequest is KVS.Get (one key) and KVS.List (a prefix).
type KeyRequest struct {
	Datacenter string
	Key        string
	QueryOptions
}

// KeyListRequest is KVS.ListKeys. Seperator is spelled so on the wire.
type KeyListRequest struct {
	Datacenter string
	Prefix     string
	Seperator  string
	QueryOptions
}

// IndexedDirEntries is the reply of KVS.Get and KVS.List.
type IndexedDirEntries struct {
	Entries []*DirEntry
	QueryMeta
}

// IndexedKeyList is the reply of KVS.ListKeys.
type IndexedKeyList struct {
	Keys []string
	QueryMeta
}

// Session behaviors: what happens to locked keys when a session ends.
const (
	SessionRelease = "release"
	SessionDelete  = "delete"
)

// ServiceCheckID names a check of a service in a session.
type ServiceCheckID struct {
	ID        string
	Namespace string
}

// Session holds locks for as long as its node and its checks are well and its
// TTL is renewed. Checks is the old form of NodeChecks and ServiceChecks.
type Session struct {
	ID            string
	Name          string
	Node          string
	LockDelay     time.Duration
	Behavior      string
	TTL           string
	NodeChecks    []string
	ServiceChecks []ServiceCheckID
	Checks        []string `json:"-" codec:",omitempty"`
	RaftIndex
}

// Session operations, SessionRequest.Op.
const (
	SessionCreate  = "create"
	SessionDestroy = "destroy"
)

// SessionRequest is Session.Apply; its reply is the session's id. Destroy needs
// Session.ID only.
type SessionRequest struct {
	Datacenter string
	Op         string
	Session    Session
	WriteRequest
}

// SessionSpecificRequest is Session.Get, Session.List and Session.Renew. Session
// is an older name of SessionID: both are sent.
type SessionSpecificRequest struct {
	Datacenter string
	SessionID  string
	Session    string
	QueryOptions
}

// IndexedSessions is the reply of the Session methods that read.
type IndexedSessions struct {
	Sessions []*Session
	QueryMeta
}
