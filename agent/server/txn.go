package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lictor/agent/server/fsm"
	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

func (e *Endpoints) txnMethods() []method {
	reads := read(e, "Txn.Read", data, nil, e.txnRead)
	return []method{
		write(e, "Txn.Apply", data, checkTxn, e.txnApply),
		unary("Txn.Read", data, func(ctx context.Context, in *wire.TxnReadRequest, reply *wire.TxnReadResponse) error {
			if err := checkOps(in.Ops); err != nil {
				return err
			}
			req := *in
			req.MinQueryIndex = 0 // it watches nothing and so cannot block
			return reads.call(ctx, &req, reply)
		}),
	}
}

// maxTxnOps is how many operations a transaction may have: each may list all
// keys, and the servers do all of one transaction before anything else.
const maxTxnOps = 128

func checkTxn(req *wire.TxnRequest) error { return checkOps(req.Ops) }

func checkOps(ops []*wire.TxnOp) error {
	if len(ops) > maxTxnOps {
		return fmt.Errorf("Transaction contains too many operations (%d > %d)", len(ops), maxTxnOps)
	}
	return nil
}

// txnApply answers a transaction that fails with its errors in the reply. What a
// transaction registers is checked like what Catalog.Register does.
func (e *Endpoints) txnApply(ctx context.Context, in *wire.TxnRequest, reply *wire.TxnResponse) error {
	req := *in
	var failed []*wire.TxnError
	req.Ops = make([]*wire.TxnOp, len(in.Ops))
	for i, op := range in.Ops {
		var err error
		if req.Ops[i], err = e.checkOp(op); err != nil {
			failed = append(failed, &wire.TxnError{OpIndex: i, What: err.Error()})
		}
	}
	if failed != nil {
		*reply = wire.TxnResponse{Errors: failed}
		return nil
	}
	result, err := e.apply(ctx, fsm.Txn, &req, "raft apply failed")
	if err != nil {
		return err
	}
	resp, ok := result.(*wire.TxnResponse)
	if !ok {
		return fmt.Errorf("unexpected result of a transaction: %T", result)
	}
	*reply = *resp
	return nil
}

var errEmptyOp = errors.New("operation is empty")

// checkOp is the operation with what it may leave out. Verbs are for the state
// store to judge.
func (e *Endpoints) checkOp(op *wire.TxnOp) (*wire.TxnOp, error) {
	switch {
	case op == nil:
		return nil, errEmptyOp
	case op.KV != nil:
		return op, e.checkKVOp(op.KV)
	case op.Node != nil && sets(op.Node.Verb):
		set := *op.Node
		set.Node.Datacenter = e.cfg.Datacenter
		return &wire.TxnOp{Node: &set}, checkNode(set.Node.ID, set.Node.Node, set.Node.Address, true)
	case op.Service != nil && sets(op.Service.Verb):
		if op.Service.Node == "" {
			return op, errNoNode
		}
		if err := errors.Join(plain("Node", op.Service.Node), checkService(&op.Service.Service)); err != nil {
			return op, err
		}
		set := *op.Service
		set.Service = *completed(&set.Service)
		return &wire.TxnOp{Service: &set}, nil
	case op.Check != nil && sets(op.Check.Verb):
		c := &op.Check.Check
		if c.Node == "" {
			return op, errNoNode
		}
		if err := errors.Join(plain("Node", c.Node), checkCheck(c, c.Node)); err != nil {
			return op, err
		}
		set := *op.Check
		set.Check = *completedCheck(c, c.Node)
		return &wire.TxnOp{Check: &set}, nil
	case op.Node == nil && op.Service == nil && op.Check == nil && op.Session == nil:
		return nil, errEmptyOp
	}
	return op, nil
}

func sets(verb string) bool { return verb == wire.VerbSet || verb == wire.VerbCAS }

func (e *Endpoints) checkKVOp(op *wire.TxnKVOp) error {
	if op.DirEnt.Key == "" && op.Verb != wire.KVDeleteTree && op.Verb != wire.KVGetTree {
		return errNoKey
	}
	if op.Verb == wire.KVLock && e.lockDelayed(op.DirEnt.Key) {
		return fmt.Errorf("lock of %q is not possible: its lock-delay has not passed", op.DirEnt.Key)
	}
	return nil
}

// txnRead answers operations that only read; others are errors in the reply.
func (e *Endpoints) txnRead(s *state.Store, _ state.WatchSet, req *wire.TxnReadRequest, reply *wire.TxnReadResponse) (uint64, error) {
	var failed []*wire.TxnError
	for i, op := range req.Ops {
		if what := notARead(op); what != "" {
			failed = append(failed, &wire.TxnError{OpIndex: i, What: what})
		}
	}
	if failed != nil {
		reply.Results, reply.Errors = nil, failed
		return 0, nil
	}
	idx, results, errs := s.TxnRO(req.Ops)
	reply.Results, reply.Errors = results, errs
	return idx, nil
}

func notARead(op *wire.TxnOp) string {
	verb := ""
	switch {
	case op == nil:
		return errEmptyOp.Error()
	case op.KV != nil:
		switch op.KV.Verb {
		case wire.KVGet, wire.KVGetOrEmpty, wire.KVGetTree, wire.KVCheckSession, wire.KVCheckIndex, wire.KVCheckNotExists:
			return ""
		}
		verb = string(op.KV.Verb)
	case op.Node != nil:
		verb = op.Node.Verb
	case op.Service != nil:
		verb = op.Service.Verb
	case op.Check != nil:
		verb = op.Check.Verb
	case op.Session != nil:
		verb = op.Session.Verb
	default:
		return errEmptyOp.Error()
	}
	if verb == wire.VerbGet {
		return ""
	}
	return fmt.Sprintf("verb %q is not for a transaction that only reads", strings.ToValidUTF8(fmt.Sprintf("%.32s", verb), "?"))
}
