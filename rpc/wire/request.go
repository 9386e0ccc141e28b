package wire

// WriteRequest is embedded by every write request. Token is a secret and is
// never logged.
type WriteRequest struct {
	Token string
}

// Options returns the options of a read request, to be read or set.
func (q *QueryOptions) Options() *QueryOptions { return q }

// Meta returns the meta part of a read response, to be read or set.
func (m *QueryMeta) Meta() *QueryMeta { return m }

// ReadRequest is a request that only reads; a pointer to any request type with
// QueryOptions is one where it names a datacenter.
type ReadRequest interface {
	RequestDatacenter() string
	Options() *QueryOptions
}

// The datacenter that must answer each request.

func (r *RegisterRequest) RequestDatacenter() string           { return r.Datacenter }
func (r *DeregisterRequest) RequestDatacenter() string         { return r.Datacenter }
func (r *ServiceSpecificRequest) RequestDatacenter() string    { return r.Datacenter }
func (r *ChecksInStateRequest) RequestDatacenter() string      { return r.Datacenter }
func (r *ServiceDumpRequest) RequestDatacenter() string        { return r.Datacenter }
func (r *KVSRequest) RequestDatacenter() string                { return r.Datacenter }
func (r *KeyRequest) RequestDatacenter() string                { return r.Datacenter }
func (r *KeyListRequest) RequestDatacenter() string            { return r.Datacenter }
func (r *SessionRequest) RequestDatacenter() string            { return r.Datacenter }
func (r *SessionSpecificRequest) RequestDatacenter() string    { return r.Datacenter }
func (r *TxnRequest) RequestDatacenter() string                { return r.Datacenter }
func (r *TxnReadRequest) RequestDatacenter() string            { return r.Datacenter }
func (r *CoordinateUpdateRequest) RequestDatacenter() string   { return r.Datacenter }
func (r *RaftRemovePeerRequest) RequestDatacenter() string     { return r.Datacenter }
func (r *TransferLeaderRequest) RequestDatacenter() string     { return r.Datacenter }
func (r *AutopilotSetConfigRequest) RequestDatacenter() string { return r.Datacenter }
func (r *UsageRequest) RequestDatacenter() string              { return r.Datacenter }
func (r *SnapshotRequest) RequestDatacenter() string           { return r.Datacenter }
func (r *DatacentersRequest) RequestDatacenter() string        { return "" }
