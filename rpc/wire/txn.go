package wire

// Verbs of node, service and check operations in a transaction.
const (
	VerbGet       = "get"
	VerbSet       = "set"
	VerbCAS       = "cas"
	VerbDelete    = "delete"
	VerbDeleteCAS = "delete-cas"
)

// TxnOp is one operation of a transaction; exactly one field is set.
type TxnOp struct {
	KV      *TxnKVOp      `json:",omitempty"`
	Node    *TxnNodeOp    `json:",omitempty"`
	Service *TxnServiceOp `json:",omitempty"`
	Check   *TxnCheckOp   `json:",omitempty"`
	Session *TxnSessionOp `json:",omitempty"`
}

// TxnKVOp works on the key-value store. DirEnt.ModifyIndex and DirEnt.Session
// are what the cas and check verbs compare.
type TxnKVOp struct {
	Verb   KVOp
	DirEnt DirEntry
}

// TxnNodeOp works on a node.
type TxnNodeOp struct {
	Verb string
	Node Node
}

// TxnServiceOp works on a service of a node.
type TxnServiceOp struct {
	Verb    string
	Node    string
	Service NodeService
}

// TxnCheckOp works on a check.
type TxnCheckOp struct {
	Verb  string
	Check HealthCheck
}

// TxnSessionOp works on a session; only delete exists.
type TxnSessionOp struct {
	Verb    string
	Session Session
}

// TxnRequest is Txn.Apply.
type TxnRequest struct {
	Datacenter string
	Ops        []*TxnOp
	WriteRequest
}

// TxnReadRequest is Txn.Read: no operation of it writes.
type TxnReadRequest struct {
	Datacenter string
	Ops        []*TxnOp
	QueryOptions
}

// TxnResult is the result of one operation; results of writes carry no value.
type TxnResult struct {
	KV      *DirEntry    `json:",omitempty"`
	Node    *Node        `json:",omitempty"`
	Service *NodeService `json:",omitempty"`
	Check   *HealthCheck `json:",omitempty"`
}

// TxnError says which operation failed, and why.
type TxnError struct {
	OpIndex int
	What    string
}

// TxnResponse is the reply of Txn.Apply: results, or errors and nothing done.
type TxnResponse struct {
	Results []*TxnResult
	Errors  []*TxnError
}

// TxnReadResponse is the reply of Txn.Read.
type TxnReadResponse struct {
	TxnResponse
	QueryMeta
}
