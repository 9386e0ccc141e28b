package command

import (
	"context"
	"errors"
	"fmt"
	"net"

	"lictor/agent/localrpc"
	"lictor/rpc/wire"

	"github.com/hashicorp/consul/api"
)

// rpcClient is agentClient over the local RPC.
type rpcClient struct{ *localrpc.Client }

func dialRPC(ctx context.Context, t target) (agentClient, error) {
	c, err := localrpc.Dial(ctx, t.RPCAddr, localrpc.Options{AuthKey: t.RPCAuth})
	if err == nil {
		return rpcClient{c}, nil
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return nil, fmt.Errorf("%w\nTried the local RPC at %s. %s", err, t.RPCAddr, hintRPC)
	}
	if errors.Is(err, localrpc.ErrProtocol) {
		return nil, fmt.Errorf("%w: that is by default on port %s. An HTTP API is named with -http-addr", err, defaultRPCPort)
	}
	return nil, err
}

func (r rpcClient) Members(ctx context.Context, wan bool) ([]*api.AgentMember, error) {
	list, err := r.Client.Members(ctx, wan)
	if err != nil {
		return nil, err
	}
	out := make([]*api.AgentMember, 0, len(list))
	for _, m := range list {
		out = append(out, &api.AgentMember{
			Name: m.Name, Addr: m.Addr.String(), Port: m.Port, Tags: m.Tags, Status: int(m.Status),
			ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
			DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
		})
	}
	return out, nil
}

func (r rpcClient) Join(ctx context.Context, addr string, wan bool) error {
	n, err := r.Client.Join(ctx, []string{addr}, wan)
	if n > 0 { // the address is a name of several, and one of them answered
		return nil
	}
	return err
}

func (r rpcClient) Keyring(ctx context.Context, req *wire.KeyringRequest) ([]*wire.KeyringResponse, error) {
	res, err := r.Client.Keyring(ctx, req)
	if err != nil {
		return nil, err
	}
	return res.Responses, keyringFailure(res.Responses)
}

func (r rpcClient) FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) (string, error) {
	err := r.Client.FireEvent(ctx, dc, ev)
	return ev.ID, err
}

func (r rpcClient) Monitor(ctx context.Context, level string, json bool, line func(string)) error {
	s, err := r.Client.Monitor(ctx, level, json)
	if err != nil {
		return err
	}
	defer s.Close()
	for text := range s.C {
		line(text)
	}
	if err := s.Err(); errors.Is(err, localrpc.ErrStreamEnded) {
		return errStreamEnded
	} else if err != nil {
		return err
	}
	return nil
}
