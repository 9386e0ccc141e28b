package state

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-memdb"

	"lictor/rpc/wire"
)

// The tables. Every table has the unique index "id".
const (
	tableNodes       = "nodes"       // *wire.Node
	tableServices    = "services"    // *instance
	tableChecks      = "checks"      // *wire.HealthCheck
	tableKVS         = "kvs"         // *wire.DirEntry
	tableTombstones  = "tombstones"  // *tombstone
	tableSessions    = "sessions"    // *wire.Session
	tableCoordinates = "coordinates" // *nodeCoordinate
	tableAutopilot   = "autopilot"   // *wire.AutopilotConfig, one
	tableIndex       = "index"       // *scope
)

// Indexes other than "id".
const (
	byID      = "id"
	byPrefix  = "id_prefix"
	byUUID    = "uuid"
	byName    = "name"
	byService = "service" // checks of one service of one node
	byStatus  = "status"
	bySession = "session"
	byNode    = "node"
	byCheck   = "check"
)

// instance is one service of one node.
type instance struct {
	node string // as the node writes itself
	svc  *wire.NodeService
}

// tombstone remembers the index at which a key was deleted.
type tombstone struct {
	Key   string
	Index uint64
}

// nodeCoordinate is a coordinate and the index of its last change.
type nodeCoordinate struct {
	*wire.Coordinate
	modified uint64
}

// scope is the last index at which something of a kind changed: of a table, of
// a node, of a service. It is replaced by each change, so what was computed from
// one is right for as long as it is in the table.
type scope struct {
	Key   string
	Index uint64
	view  atomic.Value // what was computed from it
}

// key makes keys of several parts such that no two lists of parts make the same
// key and the order is that of the parts. A part ends with 0 1; 0 inside is 0 ff.
func key(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += len(p) + 2
	}
	b := make([]byte, 0, n+16) // memdb appends the primary key
	for _, p := range parts {
		b = appendPart(b, p)
	}
	return b
}

func appendPart(b []byte, p string) []byte {
	for {
		i := strings.IndexByte(p, 0)
		if i < 0 {
			return append(append(b, p...), 0, 1)
		}
		b = append(append(b, p[:i]...), 0, 0xff)
		p = p[i+1:]
	}
}

func fold(name string) string { return strings.ToLower(name) }

// indexer makes the keys of one index of a table of T. Arguments are strings,
// put together by args (or taken as they are).
type indexer[T any] struct {
	of   func(T) []byte         // nil: the object is not in the index
	args func(...string) []byte // nil: key
}

func (x indexer[T]) FromObject(raw any) (bool, []byte, error) {
	obj, ok := raw.(T)
	if !ok {
		return false, nil, fmt.Errorf("a %T in a table of %T", raw, obj)
	}
	k := x.of(obj)
	return k != nil, k, nil
}

func (x indexer[T]) FromArgs(args ...any) ([]byte, error) { return argKey(x.args, args) }

func (x indexer[T]) PrefixFromArgs(args ...any) ([]byte, error) { return argKey(x.args, args) }

func argKey(join func(...string) []byte, args []any) ([]byte, error) {
	var buf [2]string
	parts := buf[:0]
	for _, a := range args {
		s, ok := a.(string)
		if !ok {
			return nil, fmt.Errorf("a %T as part of a key", a)
		}
		parts = append(parts, s)
	}
	if join == nil {
		return key(parts...), nil
	}
	return join(parts...), nil
}

// rawKey takes a single string as it is, so that every prefix of it can be
// looked for.
func rawKey(parts ...string) []byte { return []byte(parts[0]) }

func rawOf[T any](of func(T) string) indexer[T] {
	return indexer[T]{of: func(v T) []byte { return []byte(of(v)) }, args: rawKey}
}

// checkIndexer finds the sessions that a check of a node ends.
type checkIndexer struct{}

func (checkIndexer) FromObject(raw any) (bool, [][]byte, error) {
	s, ok := raw.(*wire.Session)
	if !ok {
		return false, nil, fmt.Errorf("a %T in the table of sessions", raw)
	}
	var keys [][]byte
	for id := range sessionChecks(s) {
		keys = append(keys, key(fold(s.Node), id))
	}
	return len(keys) > 0, keys, nil
}

func (checkIndexer) FromArgs(args ...any) ([]byte, error) { return argKey(nil, args) }

func schema() *memdb.DBSchema {
	unique := func(name string, x memdb.Indexer) *memdb.IndexSchema {
		return &memdb.IndexSchema{Name: name, Unique: true, AllowMissing: name != byID, Indexer: x}
	}
	many := func(name string, x memdb.Indexer) *memdb.IndexSchema {
		return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: x}
	}
	s := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	table := func(name string, indexes ...*memdb.IndexSchema) {
		t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{}}
		for _, x := range indexes {
			t.Indexes[x.Name] = x
		}
		s.Tables[name] = t
	}
	table(tableNodes,
		unique(byID, indexer[*wire.Node]{of: func(n *wire.Node) []byte { return key(fold(n.Node)) }}),
		unique(byUUID, indexer[*wire.Node]{of: func(n *wire.Node) []byte {
			if n.ID == "" {
				return nil
			}
			return key(fold(n.ID))
		}}))
	table(tableServices,
		unique(byID, indexer[*instance]{of: func(i *instance) []byte { return key(fold(i.node), i.svc.ID) }}),
		many(byName, indexer[*instance]{of: func(i *instance) []byte { return key(fold(i.svc.Service)) }}))
	table(tableChecks,
		unique(byID, indexer[*wire.HealthCheck]{of: func(c *wire.HealthCheck) []byte { return key(fold(c.Node), c.CheckID) }}),
		many(byService, indexer[*wire.HealthCheck]{of: func(c *wire.HealthCheck) []byte { return key(fold(c.Node), c.ServiceID) }}),
		many(byName, indexer[*wire.HealthCheck]{of: func(c *wire.HealthCheck) []byte {
			if c.ServiceID == "" {
				return nil
			}
			return key(fold(c.ServiceName))
		}}),
		many(byStatus, indexer[*wire.HealthCheck]{of: func(c *wire.HealthCheck) []byte { return key(c.Status) }}))
	table(tableKVS,
		unique(byID, rawOf(func(e *wire.DirEntry) string { return e.Key })),
		many(bySession, indexer[*wire.DirEntry]{of: func(e *wire.DirEntry) []byte {
			if e.Session == "" {
				return nil
			}
			return key(e.Session)
		}}))
	table(tableTombstones, unique(byID, rawOf(func(t *tombstone) string { return t.Key })))
	table(tableSessions,
		unique(byID, indexer[*wire.Session]{of: func(s *wire.Session) []byte { return key(s.ID) }}),
		many(byNode, indexer[*wire.Session]{of: func(s *wire.Session) []byte { return key(fold(s.Node)) }}),
		many(byCheck, checkIndexer{}))
	table(tableCoordinates,
		unique(byID, indexer[*nodeCoordinate]{of: func(c *nodeCoordinate) []byte { return key(fold(c.Node), c.Segment) }}))
	table(tableAutopilot,
		unique(byID, indexer[*wire.AutopilotConfig]{of: func(*wire.AutopilotConfig) []byte { return key("") }}))
	table(tableIndex, unique(byID, rawOf(func(c *scope) string { return c.Key })))
	return s
}
