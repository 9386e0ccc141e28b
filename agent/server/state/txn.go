package state

import (
	"errors"
	"fmt"

	"lictor/rpc/wire"
)

// TxnRW does all operations, in order, or if any of them fails none, and then
// says which ones failed.
func (s *Store) TxnRW(idx uint64, ops []*wire.TxnOp) ([]*wire.TxnResult, []*wire.TxnError) {
	w := s.Begin()
	defer w.Abort()
	results, errs := w.do(idx, ops, false)
	if len(errs) > 0 {
		return nil, errs
	}
	w.Commit()
	return results, nil
}

// TxnRO is TxnRW for operations that only read. The index is the largest of the
// tables that a transaction can read.
func (s *Store) TxnRO(ops []*wire.TxnOp) (uint64, []*wire.TxnResult, []*wire.TxnError) {
	w := &Write{Txn: s.read(nil), store: s} // never commits
	idx := last(w.Txn, nil, scopeKVS, scopeTombstones, scopeNodes, scopeServices, scopeChecks)
	results, errs := w.do(0, ops, true)
	if len(errs) > 0 {
		return idx, nil, errs
	}
	return idx, results, nil
}

// maxTxnResults bounds what a transaction lists: more could not be sent anywhere,
// and would be put together on every server.
const maxTxnResults = 1 << 20

var errTooManyResults = fmt.Errorf("the results of the transaction are more than %d", maxTxnResults)

var errReadOnly = errors.New("a transaction that only reads cannot write")

func (w *Write) do(idx uint64, ops []*wire.TxnOp, readOnly bool) ([]*wire.TxnResult, []*wire.TxnError) {
	results := make([]*wire.TxnResult, 0, len(ops))
	var errs []*wire.TxnError
	for i, op := range ops {
		var got []*wire.TxnResult
		err := errReadOnly
		if !readOnly || OnlyReads(op) {
			got, err = w.one(idx, op)
		}
		if err != nil {
			errs = append(errs, &wire.TxnError{OpIndex: i, What: err.Error()})
			continue
		}
		if len(results)+len(got) > maxTxnResults {
			return nil, append(errs, &wire.TxnError{OpIndex: i, What: errTooManyResults.Error()})
		}
		results = append(results, got...)
	}
	return results, errs
}

// OnlyReads says whether an operation changes nothing.
func OnlyReads(op *wire.TxnOp) bool {
	switch {
	case op == nil:
		return true
	case op.KV != nil:
		switch op.KV.Verb {
		case wire.KVGet, wire.KVGetOrEmpty, wire.KVGetTree, wire.KVCheckIndex, wire.KVCheckSession, wire.KVCheckNotExists:
			return true
		}
		return false
	case op.Node != nil:
		return op.Node.Verb == wire.VerbGet
	case op.Service != nil:
		return op.Service.Verb == wire.VerbGet
	case op.Check != nil:
		return op.Check.Verb == wire.VerbGet
	}
	return op.Session == nil
}

func (w *Write) one(idx uint64, op *wire.TxnOp) ([]*wire.TxnResult, error) {
	var r *wire.TxnResult
	var err error
	switch {
	case op == nil:
		return nil, errors.New("no operation given")
	case op.KV != nil:
		return w.kvOp(idx, op.KV)
	case op.Node != nil:
		r, err = w.nodeOp(idx, op.Node)
	case op.Service != nil:
		r, err = w.serviceOp(idx, op.Service)
	case op.Check != nil:
		r, err = w.checkOp(idx, op.Check)
	case op.Session != nil:
		if op.Session.Verb != wire.VerbDelete {
			return nil, fmt.Errorf("unknown session verb %q", op.Session.Verb)
		}
		return nil, w.SessionDestroy(idx, op.Session.Session.ID)
	default:
		return nil, errors.New("no operation given")
	}
	if r == nil {
		return nil, err
	}
	return []*wire.TxnResult{r}, err
}

// written is the result of a write: the entry without its value.
func written(e *wire.DirEntry) []*wire.TxnResult {
	n := *e
	n.Value = nil
	return []*wire.TxnResult{{KV: &n}}
}

func (w *Write) kvOp(idx uint64, op *wire.TxnKVOp) ([]*wire.TxnResult, error) {
	e := &op.DirEnt
	var n *wire.DirEntry
	var err error
	failed := ""
	switch op.Verb {
	case wire.KVSet:
		n, err = w.kvsSet(idx, e)
	case wire.KVCAS:
		n, err = w.kvsSetCAS(idx, e)
		failed = "failed to set key %q, index is stale"
	case wire.KVLock:
		n, err = w.kvsLock(idx, e)
		failed = "failed to lock key %q, lock is already held"
	case wire.KVUnlock:
		n, err = w.kvsUnlock(idx, e)
		failed = "failed to unlock key %q, lock isn't held, or is held by another session"
	case wire.KVDelete:
		return nil, w.KVSDelete(idx, e.Key)
	case wire.KVDeleteTree:
		return nil, w.KVSDeleteTree(idx, e.Key)
	case wire.KVDeleteCAS:
		ok, err := w.KVSDeleteCAS(idx, e.ModifyIndex, e.Key)
		if err == nil && !ok {
			err = fmt.Errorf("failed to delete key %q, index is stale", e.Key)
		}
		return nil, err
	default:
		return w.kvRead(op)
	}
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fmt.Errorf(failed, e.Key)
	}
	return written(n), nil
}

func (w *Write) kvRead(op *wire.TxnKVOp) ([]*wire.TxnResult, error) {
	e := &op.DirEnt
	cur := w.entry(e.Key)
	switch op.Verb {
	case wire.KVGetTree:
		results := []*wire.TxnResult{}
		for e := range list[wire.DirEntry](w.Txn, tableKVS, byPrefix, e.Key) {
			results = append(results, &wire.TxnResult{KV: e})
		}
		return results, nil
	case wire.KVGetOrEmpty:
		if cur == nil {
			cur = &wire.DirEntry{Key: e.Key}
		}
		return []*wire.TxnResult{{KV: cur}}, nil
	case wire.KVCheckNotExists:
		if cur != nil {
			return nil, fmt.Errorf("key %q exists", e.Key)
		}
		return nil, nil
	case wire.KVGet, wire.KVCheckSession, wire.KVCheckIndex:
	default:
		return nil, fmt.Errorf("unknown KV verb %q", op.Verb)
	}
	switch {
	case cur == nil:
		return nil, fmt.Errorf("key %q doesn't exist", e.Key)
	case op.Verb == wire.KVGet:
		return []*wire.TxnResult{{KV: cur}}, nil
	case op.Verb == wire.KVCheckSession && cur.Session != e.Session:
		return nil, fmt.Errorf("failed session check for key %q, current session %q != %q", e.Key, cur.Session, e.Session)
	case op.Verb == wire.KVCheckIndex && cur.ModifyIndex != e.ModifyIndex:
		return nil, fmt.Errorf("failed index check for key %q, current modify index %d != %d", e.Key, cur.ModifyIndex, e.ModifyIndex)
	}
	return written(cur), nil
}

// object is one node, service or check that an operation of a transaction is
// about: what is in the store, and how to change it.
type object struct {
	name   string
	exists bool
	index  uint64 // its ModifyIndex
	get    func() *wire.TxnResult
	set    func() (*wire.TxnResult, error)
	delete func()
}

// apply does what a verb says; want is the index that cas and delete-cas compare.
func (o object) apply(verb string, want uint64) (*wire.TxnResult, error) {
	fresh := o.exists && o.index == want
	switch verb {
	case wire.VerbGet:
		if !o.exists {
			return nil, fmt.Errorf("%s doesn't exist", o.name)
		}
		return o.get(), nil
	case wire.VerbSet:
		return o.set()
	case wire.VerbCAS:
		if !fresh && (o.exists || want != 0) {
			return nil, fmt.Errorf("failed to set %s, index is stale", o.name)
		}
		return o.set()
	case wire.VerbDelete:
		if o.exists {
			o.delete()
		}
		return nil, nil
	case wire.VerbDeleteCAS:
		if !fresh || want == 0 {
			return nil, fmt.Errorf("failed to delete %s, index is stale", o.name)
		}
		o.delete()
		return nil, nil
	}
	return nil, fmt.Errorf("unknown verb %q for %s", verb, o.name)
}

func (w *Write) nodeOp(idx uint64, op *wire.TxnNodeOp) (*wire.TxnResult, error) {
	n := op.Node
	cur := w.node(n.Node)
	if n.ID != "" {
		if known := w.nodeByID(n.ID); known != nil || n.Node == "" {
			cur = known
		}
	}
	o := object{
		name: fmt.Sprintf("node %q", n.Node), exists: cur != nil,
		get: func() *wire.TxnResult { return &wire.TxnResult{Node: cur} },
		set: func() (*wire.TxnResult, error) {
			if n.Node == "" {
				return nil, errors.New("Must provide node")
			}
			return &wire.TxnResult{Node: w.ensureNode(idx, &n)}, nil
		},
		delete: func() { w.deleteNode(idx, cur) },
	}
	if cur != nil {
		o.index = cur.ModifyIndex
	}
	return o.apply(op.Verb, n.ModifyIndex)
}

func (w *Write) serviceOp(idx uint64, op *wire.TxnServiceOp) (*wire.TxnResult, error) {
	svc := op.Service
	id := svc.ID
	if id == "" {
		id = svc.Service
	}
	cur := w.instance(op.Node, id)
	o := object{
		name: fmt.Sprintf("service %q on node %q", id, op.Node), exists: cur != nil,
		get: func() *wire.TxnResult { return &wire.TxnResult{Service: cur.svc} },
		set: func() (*wire.TxnResult, error) {
			node := w.node(op.Node)
			if node == nil {
				return nil, ErrMissingNode
			}
			if err := completeService(&svc); err != nil {
				return nil, err
			}
			return &wire.TxnResult{Service: w.ensureService(idx, node, &svc)}, nil
		},
		delete: func() { w.deleteService(idx, cur) },
	}
	if cur != nil {
		o.index = cur.svc.ModifyIndex
	}
	return o.apply(op.Verb, svc.ModifyIndex)
}

func (w *Write) checkOp(idx uint64, op *wire.TxnCheckOp) (*wire.TxnResult, error) {
	c := op.Check
	id := c.CheckID
	if id == "" {
		id = c.Name
	}
	cur := w.check(c.Node, id)
	o := object{
		name: fmt.Sprintf("check %q on node %q", id, c.Node), exists: cur != nil,
		get: func() *wire.TxnResult { return &wire.TxnResult{Check: cur} },
		set: func() (*wire.TxnResult, error) {
			node := w.node(c.Node)
			if node == nil {
				return nil, ErrMissingNode
			}
			if err := completeCheck(&c); err != nil {
				return nil, err
			}
			if c.ServiceID != "" && w.instance(c.Node, c.ServiceID) == nil {
				return nil, ErrMissingService
			}
			return &wire.TxnResult{Check: w.ensureCheck(idx, node, &c)}, nil
		},
		delete: func() { w.deleteCheck(idx, cur) },
	}
	if cur != nil {
		o.index = cur.ModifyIndex
	}
	return o.apply(op.Verb, c.ModifyIndex)
}
