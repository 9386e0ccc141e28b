package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lictor/gossip"
	"lictor/rpc/wire"
)

// keyringTimeout bounds what one other datacenter may take to answer a keyring
// operation: its own gossip query, and the way there and back.
const keyringTimeout = 30 * time.Second

func (e *Endpoints) keyringOperation(ctx context.Context, req *wire.KeyringRequest, reply *wire.KeyringResponses) error {
	resp, err := e.Keyring(ctx, req)
	if err != nil {
		return err
	}
	*reply = *resp
	return nil
}

// Keyring runs a keyring operation on this server's WAN and LAN pools and, by
// way of their servers, on the LAN pools of all other datacenters. What single
// pools and nodes report is in the responses; the error is only for a request
// that could not be run at all. It blocks for as long as the slowest
// datacenter takes, keyringTimeout at most.
func (e *Endpoints) Keyring(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	switch req.Operation {
	case wire.KeyringList, wire.KeyringInstall, wire.KeyringUse, wire.KeyringRemove:
	default:
		return nil, fmt.Errorf("invalid keyring operation %.32q", req.Operation)
	}
	if req.LocalOnly && req.Operation != wire.KeyringList {
		return nil, errors.New("argument 'local-only' can only be used for list requests")
	}

	if req.Operation == wire.KeyringRemove && !req.Forwarded {
		if refused, err := e.mayRemove(ctx, req); err != nil || refused != nil {
			return refused, err
		}
	}
	return e.everywhere(ctx, req), nil
}

// mayRemove asks every pool of every datacenter whether a node of it still
// encrypts with the key, before any pool is told to remove it: else some would
// have removed what others need. It returns nil where nothing is in the way.
func (e *Endpoints) mayRemove(ctx context.Context, req *wire.KeyringRequest) (*wire.KeyringResponses, error) {
	list := *req
	list.Operation = wire.KeyringList
	found := e.everywhere(ctx, &list)
	refused := false
	for _, r := range found.Responses {
		switch n := r.PrimaryKeys[req.Key]; {
		case r.Error != "":
			r.Error = "nothing was removed, because it is not known whether every node has stopped using the key: " + r.Error
		case n > 0:
			r.Error = fmt.Sprintf("Removing the primary key is not allowed: %d of %d nodes encrypt with it", n, r.NumNodes)
		default:
			continue
		}
		refused = true
	}
	if !refused {
		return nil, nil
	}
	for _, r := range found.Responses {
		r.Keys, r.PrimaryKeys = nil, nil
	}
	return found, nil
}

// everywhere runs an operation on all pools at once.
func (e *Endpoints) everywhere(ctx context.Context, req *wire.KeyringRequest) *wire.KeyringResponses {
	others := e.otherDatacenters(req)
	results := make([]*wire.KeyringResponse, 2, 2+len(others))
	remote := make([][]*wire.KeyringResponse, len(others))
	var ops sync.WaitGroup
	if !req.Forwarded && e.cfg.WAN != nil {
		ops.Go(func() { results[0] = e.poolKeyring(e.cfg.WAN, true, req) })
	}
	ops.Go(func() { results[1] = e.poolKeyring(e.cfg.LAN, false, req) })
	for i, dc := range others {
		ops.Go(func() { remote[i] = e.remoteKeyring(ctx, dc, req) })
	}
	ops.Wait()

	for _, r := range remote {
		results = append(results, r...)
	}
	results = slices.DeleteFunc(results, func(r *wire.KeyringResponse) bool { return r == nil })
	return &wire.KeyringResponses{Responses: results}
}

// otherDatacenters are those a request is passed on to, in order of name.
func (e *Endpoints) otherDatacenters(req *wire.KeyringRequest) []string {
	if req.Forwarded || req.LocalOnly || e.cfg.WAN == nil {
		return nil
	}
	var dcs []string
	for _, s := range Servers(e.cfg.WAN.Members()) {
		if s.Alive() && s.Datacenter != e.cfg.Datacenter {
			dcs = append(dcs, s.Datacenter)
		}
	}
	slices.Sort(dcs)
	return slices.Compact(dcs)
}

func (e *Endpoints) poolKeyring(pool *gossip.Pool, wan bool, req *wire.KeyringRequest) *wire.KeyringResponse {
	r, err := pool.Keyring(req.Operation, req.Key, req.RelayFactor)
	resp := &wire.KeyringResponse{WAN: wan, Datacenter: e.cfg.Datacenter}
	if r != nil {
		resp.Messages, resp.Keys, resp.PrimaryKeys, resp.NumNodes = r.Messages, r.Keys, r.PrimaryKeys, r.NumNodes
	}
	if err != nil {
		resp.Error = err.Error()
	}
	return resp
}

func (e *Endpoints) remoteKeyring(ctx context.Context, dc string, req *wire.KeyringRequest) []*wire.KeyringResponse {
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	fwd := *req
	fwd.Datacenter, fwd.Forwarded = dc, true
	var reply wire.KeyringResponses
	if err := e.cfg.Router.Call(ctx, dc, "Internal.KeyringOperation", &fwd, &reply); err != nil {
		return []*wire.KeyringResponse{{Datacenter: dc, Error: err.Error()}}
	}
	return reply.Responses
}
