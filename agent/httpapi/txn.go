package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"lictor/agent/answers"
	"lictor/agent/decode"
	"lictor/rpc/wire"
)

const txnPath = "/v1/txn"

// maxTxnOps is how many operations a transaction may have.
const maxTxnOps = 128

// txnReads are the verbs that change nothing. An unknown verb is no read: the
// servers say of it what they say.
var txnReads = map[string]bool{
	string(wire.KVGet): true, string(wire.KVGetOrEmpty): true, string(wire.KVGetTree): true,
	string(wire.KVCheckSession): true, string(wire.KVCheckIndex): true, string(wire.KVCheckNotExists): true,
}

// txnOp is an operation as it is read.
type txnOp struct {
	wire.TxnOp
	verb string
}

func (o *txnOp) kv(v any) error {
	op := &wire.TxnKVOp{}
	e := &op.DirEnt
	err := object(decode.Fields{
		"verb": &o.verb, "key": &e.Key, "value": bytesField(&e.Value), "flags": uintField(&e.Flags), "index": uintField(&e.ModifyIndex),
		"session": &e.Session, "namespace": decode.OnlyDefault, "partition": decode.OnlyDefault,
	})(v)
	op.Verb, o.KV = wire.KVOp(o.verb), op
	return err
}

func (o *txnOp) node(v any) error {
	op := &wire.TxnNodeOp{}
	err := object(decode.Fields{"verb": &o.verb, "node": object(nodeFields(&op.Node))})(v)
	op.Verb, o.Node = o.verb, op
	return err
}

func (o *txnOp) service(v any) error {
	op := &wire.TxnServiceOp{}
	err := object(decode.Fields{"verb": &o.verb, "node": &op.Node, "service": object(serviceFields(&op.Service))})(v)
	op.Verb, o.Service = o.verb, op
	return err
}

func (o *txnOp) check(v any) error {
	op := &wire.TxnCheckOp{}
	err := object(decode.Fields{"verb": &o.verb, "check": object(checkFields(&op.Check))})(v)
	op.Verb, o.Check = o.verb, op
	return err
}

func (o *txnOp) session(v any) error {
	op := &wire.TxnSessionOp{}
	err := object(decode.Fields{"verb": &o.verb, "session": func(v any) error {
		raw, ok := v.(map[string]any)
		if !ok {
			return errWantsObject
		}
		id := decode.Fields{"id": &op.Session.ID}
		return decode.Object(decode.Known(raw, id), id)
	}})(v)
	op.Verb, o.Session = o.verb, op
	return err
}

// parseTxn reads the operations of a body and says whether all of them read.
func parseTxn(b []byte, maxValue int64) (ops []*wire.TxnOp, reads bool, err error) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, false, failure(http.StatusBadRequest, "Failed to parse body: %.200s", err)
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false, failure(http.StatusBadRequest, "Failed to parse body: it must be a list of operations")
	}
	if len(list) > maxTxnOps {
		return nil, false, failure(http.StatusRequestEntityTooLarge, "Transaction contains too many operations (%d > %d)", len(list), maxTxnOps)
	}
	reads = true
	for i, v := range list {
		op, err := parseTxnOp(v)
		if err != nil {
			return nil, false, failure(http.StatusBadRequest, "Failed to parse body: operation %d: %.200s", i, err)
		}
		if op.KV != nil && int64(len(op.KV.DirEnt.Value)) > maxValue {
			return nil, false, failure(http.StatusRequestEntityTooLarge, "Value for key %.200q is too large (%d > %d bytes)",
				op.KV.DirEnt.Key, len(op.KV.DirEnt.Value), maxValue)
		}
		reads = reads && txnReads[op.verb]
		ops = append(ops, &op.TxnOp)
	}
	return ops, reads, nil
}

func parseTxnOp(v any) (*txnOp, error) {
	raw, ok := v.(map[string]any)
	if !ok {
		return nil, errWantsObject
	}
	op := &txnOp{}
	err := decode.Object(raw, decode.Fields{"kv": op.kv, "node": op.node, "service": op.service, "check": op.check, "session": op.session})
	if err != nil {
		return nil, err
	}
	n := 0
	for _, set := range []bool{op.KV != nil, op.Node != nil, op.Service != nil, op.Check != nil, op.Session != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("it must have one of KV, Node, Service, Check and Session, it has %d", n)
	}
	return op, nil
}

func (a *API) txn(w http.ResponseWriter, r *request) error {
	b, err := readBody(w, r)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return failure(http.StatusBadRequest, "Failed to parse body: %s", errors.New("it is empty"))
	}
	ops, reads, err := parseTxn(b, a.cfg.Data.KVMaxValueSize)
	if err != nil {
		return err
	}
	if reads {
		reply, err := ask[wire.TxnReadResponse](a, w, r, plain, "Txn.Read", &wire.TxnReadRequest{Datacenter: r.dc(), Ops: ops})
		if err != nil {
			return err
		}
		a.writeTxn(w, r, &reply.TxnResponse, &reply.QueryMeta)
		return nil
	}
	req := &wire.TxnRequest{Datacenter: r.dc(), Ops: ops, WriteRequest: wire.WriteRequest{Token: r.token()}}
	var reply wire.TxnResponse
	if err := a.write(r, "Txn.Apply", req, &reply); err != nil {
		return err
	}
	a.writeTxn(w, r, &reply, nil)
	return nil
}

// writeTxn answers with results, or with a conflict and its reasons.
func (a *API) writeTxn(w http.ResponseWriter, r *request, reply *wire.TxnResponse, meta *wire.QueryMeta) {
	code := http.StatusOK
	b := append([]byte(nil), `{"Results":`...)
	if len(reply.Errors) > 0 {
		code = http.StatusConflict
		b = append(b, `null,"Errors":`...)
		b = answers.AppendList(b, reply.Errors, func(b []byte, e *wire.TxnError) []byte {
			b = answers.AppendInt(b, `{"OpIndex":`, e.OpIndex)
			return append(answers.AppendField(b, `,"What":`, e.What), '}')
		})
	} else {
		b = answers.AppendList(b, reply.Results, appendTxnResult)
		b = append(b, `,"Errors":null`...)
	}
	if meta != nil {
		b = appendMeta(b, meta)
	}
	a.writeEncoded(w, r, code, append(b, '}'))
}

func appendTxnResult(b []byte, t *wire.TxnResult) []byte {
	switch {
	case t.KV != nil:
		b = answers.AppendDirEntry(append(b, `{"KV":`...), t.KV)
	case t.Node != nil:
		b = answers.AppendNode(append(b, `{"Node":`...), t.Node)
	case t.Service != nil:
		b = answers.AppendNodeService(append(b, `{"Service":`...), t.Service)
	case t.Check != nil:
		b = answers.AppendCheck(append(b, `{"Check":`...), t.Check)
	default:
		b = append(b, '{')
	}
	return append(b, '}')
}

// appendMeta appends a reply's meta part for the answers that show it.
func appendMeta(b []byte, m *wire.QueryMeta) []byte {
	b = answers.AppendUint(b, `,"Index":`, m.Index)
	b = strconv.AppendInt(append(b, `,"LastContact":`...), int64(m.LastContact), 10)
	b = strconv.AppendBool(append(b, `,"KnownLeader":`...), m.KnownLeader)
	b = answers.AppendField(b, `,"ConsistencyLevel":`, m.ConsistencyLevel)
	b = strconv.AppendBool(append(b, `,"NotModified":`...), m.NotModified)
	b = answers.AppendInt(b, `,"Backend":`, m.Backend)
	b = strconv.AppendBool(append(b, `,"ResultsFilteredByACLs":`...), m.ResultsFilteredByACLs)
	return b
}
