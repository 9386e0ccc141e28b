package state

import (
	"errors"
	"time"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// WatchSet collects the channels that a blocking query waits for.
type WatchSet = memdb.WatchSet

// Store is the state store.
type Store struct{}

// New returns an empty store.
func New() (*Store, error) { return &Store{}, nil }

// Snapshot is an immutable view.
type Snapshot struct{}

// Close releases the view.
func (s *Snapshot) Close() {}

// Restore builds a new content.
type Restore struct{}

// Commit makes it visible.
func (r *Restore) Commit() error { return nil }

func (s *Store) AbandonCh() <-chan struct{} { return nil }

func (s *Store) Abandon() {}

func (s *Store) EnsureRegistration(idx uint64, r *wire.RegisterRequest) error { return nil }

func (s *Store) DeleteNode(idx uint64, node string) error { return nil }

func (s *Store) DeleteService(idx uint64, node, serviceID string) error { return nil }

func (s *Store) DeleteCheck(idx uint64, node, checkID string) error { return nil }

func (s *Store) Nodes(ws WatchSet, meta map[string]string) (uint64, []*wire.Node, error) {
	return 0, nil, nil
}

func (s *Store) Node(ws WatchSet, name string) (uint64, *wire.Node, error) { return 0, nil, nil }

func (s *Store) NodeByID(ws WatchSet, id string) (uint64, *wire.Node, error) { return 0, nil, nil }

func (s *Store) Services(ws WatchSet, nodeMeta map[string]string) (uint64, map[string][]string, error) {
	return 0, nil, nil
}

func (s *Store) ServiceNodes(ws WatchSet, service string, tags []string, nodeMeta map[string]string) (uint64, []*wire.ServiceNode, error) {
	return 0, nil, nil
}

func (s *Store) NodeServices(ws WatchSet, node string) (uint64, *wire.NodeServices, error) {
	return 0, nil, nil
}

func (s *Store) NodeChecks(ws WatchSet, node string) (uint64, []*wire.HealthCheck, error) {
	return 0, nil, nil
}

func (s *Store) ServiceChecks(ws WatchSet, service string, nodeMeta map[string]string) (uint64, []*wire.HealthCheck, error) {
	return 0, nil, nil
}

func (s *Store) ChecksInState(ws WatchSet, state string, nodeMeta map[string]string) (uint64, []*wire.HealthCheck, error) {
	return 0, nil, nil
}

func (s *Store) CheckServiceNodes(ws WatchSet, service string, tags []string, nodeMeta map[string]string) (uint64, []wire.CheckServiceNode, error) {
	return 0, nil, nil
}

func (s *Store) ServiceDump(ws WatchSet, kind string, useKind bool) (uint64, []wire.CheckServiceNode, error) {
	return 0, nil, nil
}

func (s *Store) NodeInfo(ws WatchSet, node string) (uint64, []*wire.NodeInfo, error) {
	return 0, nil, nil
}

func (s *Store) NodeDump(ws WatchSet) (uint64, []*wire.NodeInfo, error) { return 0, nil, nil }

func (s *Store) Overview(ws WatchSet) (uint64, *wire.CatalogOverview, error) { return 0, nil, nil }

func (s *Store) Usage() (uint64, wire.ServiceUsage, error) { return 0, wire.ServiceUsage{}, nil }

func (s *Store) KVSSet(idx uint64, e *wire.DirEntry) error { return nil }

func (s *Store) KVSSetCAS(idx uint64, e *wire.DirEntry) (bool, error) { return false, nil }

func (s *Store) KVSDelete(idx uint64, key string) error { return nil }

func (s *Store) KVSDeleteCAS(idx, cidx uint64, key string) (bool, error) { return false, nil }

func (s *Store) KVSDeleteTree(idx uint64, prefix string) error { return nil }

func (s *Store) KVSLock(idx uint64, e *wire.DirEntry) (bool, error) { return false, nil }

func (s *Store) KVSUnlock(idx uint64, e *wire.DirEntry) (bool, error) { return false, nil }

func (s *Store) KVSGet(ws WatchSet, key string) (uint64, *wire.DirEntry, error) { return 0, nil, nil }

func (s *Store) KVSList(ws WatchSet, prefix string) (uint64, []*wire.DirEntry, error) {
	return 0, nil, nil
}

func (s *Store) KVSListKeys(ws WatchSet, prefix, separator string) (uint64, []string, error) {
	return 0, nil, nil
}

func (s *Store) KVSLockDelay(key string) time.Time { return time.Time{} }

func (s *Store) ReapTombstones(idx, upTo uint64) error { return nil }

func (s *Store) OnTombstone(fn func(idx uint64)) {}

func (s *Store) SessionCreate(idx uint64, sess *wire.Session) error { return nil }

func (s *Store) SessionGet(ws WatchSet, id string) (uint64, *wire.Session, error) { return 0, nil, nil }

func (s *Store) SessionList(ws WatchSet) (uint64, []*wire.Session, error) { return 0, nil, nil }

func (s *Store) NodeSessions(ws WatchSet, node string) (uint64, []*wire.Session, error) {
	return 0, nil, nil
}

func (s *Store) SessionDestroy(idx uint64, id string) error { return nil }

func (s *Store) TxnRW(idx uint64, ops []*wire.TxnOp) ([]*wire.TxnResult, []*wire.TxnError) {
	return nil, nil
}

func (s *Store) TxnRO(ops []*wire.TxnOp) (uint64, []*wire.TxnResult, []*wire.TxnError) {
	return 0, nil, nil
}

func (s *Store) CoordinateBatchUpdate(idx uint64, updates []*wire.Coordinate) error { return nil }

func (s *Store) Coordinates(ws WatchSet) (uint64, []*wire.Coordinate, error) { return 0, nil, nil }

func (s *Store) NodeCoordinates(ws WatchSet, node string) (uint64, []*wire.Coordinate, error) {
	return 0, nil, nil
}

func (s *Store) AutopilotConfig() (uint64, *wire.AutopilotConfig, error) { return 0, nil, nil }

func (s *Store) AutopilotSetConfig(idx uint64, c *wire.AutopilotConfig) error { return nil }

func (s *Store) AutopilotCASConfig(idx, cidx uint64, c *wire.AutopilotConfig) (bool, error) {
	return false, nil
}

func (s *Store) Snapshot() *Snapshot { return nil }

func (s *Store) Restore() *Restore { return nil }

// ErrMissingNode: a session's node is not in the catalog.
var ErrMissingNode = errors.New("Missing node registration")
