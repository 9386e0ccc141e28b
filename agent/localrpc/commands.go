package localrpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/serf/serf"

	"lictor/rpc/wire"
)

func handshake(_ context.Context, c *session, h *requestHeader, req *handshakeRequest) (any, error) {
	switch {
	case req.Version != protocolVersion && h.Token != nil:
		return nil, errors.New(errVersionFamily)
	case req.Version != protocolVersion:
		return nil, errors.New(errVersion)
	case c.greeted:
		return nil, errors.New(errHandshakeDone)
	}
	c.greeted = true
	return nil, nil
}

// auth compares digests, in constant time: nothing about the key can be told
// from how long it takes.
func auth(ctx context.Context, c *session, h *requestHeader, req *authRequest) (any, error) {
	sum := sha256.Sum256([]byte(req.AuthKey))
	if c.s.keySum != nil && subtle.ConstantTimeCompare(sum[:], c.s.keySum) == 1 {
		c.authed = true
		if !c.full {
			c.full = true
			c.s.promote()
		}
		return nil, nil
	}
	c.fails++
	c.s.warn("wrong auth key", "from", c.caller.name, "addr", c.nc.RemoteAddr(), "key_is_set", c.s.keySum != nil)
	pause(ctx, c.s.limits.AuthDelay)
	if c.fails >= maxAuthFailures {
		return nil, c.hangUpWith(h, errAuthToken)
	}
	return nil, errors.New(errAuthToken)
}

func stopStream(_ context.Context, c *session, _ *requestHeader, req *stopRequest) (any, error) {
	c.streams.stop(req.Stop)
	return nil, nil
}

func membersLAN(_ context.Context, c *session, _ *requestHeader, _ *none) (any, error) {
	return &membersResponse{Members: toMembers(c.s.backend.Members(false))}, nil
}

func membersWAN(_ context.Context, c *session, _ *requestHeader, _ *none) (any, error) {
	return &membersResponse{Members: toMembers(c.s.backend.Members(true))}, nil
}

func membersFiltered(_ context.Context, c *session, _ *requestHeader, req *membersFilteredRequest) (any, error) {
	match := func(expr string) (*regexp.Regexp, error) {
		re, err := regexp.Compile("^(?:" + expr + ")$")
		if err != nil {
			return nil, fmt.Errorf("Failed to compile regex: %w", err) // Serf's text
		}
		return re, nil
	}
	status, err := match(req.Status)
	if err != nil {
		return nil, err
	}
	name, err := match(req.Name)
	if err != nil {
		return nil, err
	}
	tags := map[string]*regexp.Regexp{}
	for tag, expr := range req.Tags {
		if tags[tag], err = match(expr); err != nil {
			return nil, err
		}
	}
	found := slices.DeleteFunc(slices.Clone(c.s.backend.Members(false)), func(m serf.Member) bool {
		if req.Status != "" && !status.MatchString(m.Status.String()) || req.Name != "" && !name.MatchString(m.Name) {
			return true
		}
		for tag, re := range tags {
			if !re.MatchString(m.Tags[tag]) {
				return true
			}
		}
		return false
	})
	return &membersResponse{Members: toMembers(found)}, nil
}

func getCoordinate(_ context.Context, c *session, _ *requestHeader, req *coordinateRequest) (any, error) {
	res := &coordinateResponse{}
	if coord, ok := c.s.backend.LAN().Coordinate(req.Node); ok && coord != nil {
		res.Coord, res.Ok = *coord, true
	}
	return res, nil
}

func stats(_ context.Context, c *session, _ *requestHeader, _ *none) (any, error) {
	return c.s.backend.Stats(), nil
}

func join(ctx context.Context, c *session, _ *requestHeader, req *joinRequest) (any, error) {
	n, err := c.s.backend.Join(ctx, req.Existing, req.WAN)
	if n > 0 {
		err = nil // as Serf: one that answers is enough, and clients take an error for a failure of all
	}
	return &joinResponse{Num: int32(n)}, err
}

func leave(ctx context.Context, c *session, _ *requestHeader, _ *none) (any, error) {
	return nil, c.s.backend.Leave(ctx)
}

func forceLeave(_ context.Context, c *session, _ *requestHeader, req *forceLeaveRequest) (any, error) {
	return nil, c.s.backend.ForceLeave(req.Node, req.Prune, req.WAN)
}

func reload(ctx context.Context, c *session, _ *requestHeader, _ *none) (any, error) {
	return nil, c.s.backend.Reload(ctx)
}

// ownTags are the tags that other agents go by. Only the configuration changes
// them.
var ownTags = []string{
	"role", "dc", "id", "segment", "ap", "vsn", "vsn_min", "vsn_max", "build", "port", "bootstrap", "expect",
	"raft_vsn", "use_tls", "acls", "wan_join_port", "rc_tm", "nonvoter", "read_replica",
}

func isOwnTag(name string) bool {
	return slices.Contains(ownTags, name) || strings.HasPrefix(name, "ft_") || strings.HasPrefix(name, "lictor")
}

func setTags(_ context.Context, c *session, _ *requestHeader, req *tagsRequest) (any, error) {
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(req.Tags)), req.DeleteTags) {
		if isOwnTag(name) {
			return nil, fmt.Errorf("tag %.64q is the agent's own and follows its configuration", name)
		}
	}
	tags := maps.Clone(c.s.backend.LAN().LocalMember().Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	for _, name := range req.DeleteTags {
		delete(tags, name)
	}
	maps.Copy(tags, req.Tags)
	return nil, c.s.backend.LAN().SetTags(tags)
}

func fireSerfEvent(_ context.Context, c *session, _ *requestHeader, req *eventRequest) (any, error) {
	return nil, c.s.backend.LAN().UserEvent(req.Name, req.Payload, req.Coalesce)
}

func fireEvent(ctx context.Context, c *session, _ *requestHeader, req *eventFireRequest) (any, error) {
	if err := c.s.backend.FireEvent(ctx, req.Datacenter, &req.Event); err != nil {
		return nil, err
	}
	return &eventFireResponse{ID: req.Event.ID}, nil
}

func keyring(ctx context.Context, c *session, _ *requestHeader, req *wire.KeyringRequest) (any, error) {
	// The rest of the request is for servers among each other.
	res, err := c.s.backend.Keyring(ctx, &wire.KeyringRequest{
		Operation: req.Operation, Key: req.Key, Datacenter: req.Datacenter, RelayFactor: req.RelayFactor, LocalOnly: req.LocalOnly,
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// keyOperations are the names of the key commands in a KeyringRequest.
var keyOperations = map[string]string{
	cmdInstallKey: wire.KeyringInstall,
	cmdUseKey:     wire.KeyringUse,
	cmdRemoveKey:  wire.KeyringRemove,
	cmdListKeys:   wire.KeyringList,
}

// key runs a key command: in the family's dialect on all pools, in Serf's on the
// LAN pool alone.
func key(ctx context.Context, c *session, h *requestHeader, req *keyRequest) (any, error) {
	if req == nil {
		req = &keyRequest{}
	}
	op := keyOperations[h.Command]
	if h.Token != nil || req.RelayFactor != nil {
		var relay uint8
		if req.RelayFactor != nil {
			relay = *req.RelayFactor
		}
		all, err := c.s.backend.Keyring(ctx, &wire.KeyringRequest{Operation: op, Key: req.Key, RelayFactor: relay})
		if err != nil {
			return familyKeys(nil), err
		}
		return familyKeys(all.Responses), nil
	}
	r, err := c.s.backend.LAN().Keyring(op, req.Key, 0)
	if r == nil {
		return &keyResponse{}, err
	}
	res := &keyResponse{Messages: r.Messages, NumNodes: r.NumNodes, NumErr: r.NumErr, NumResp: r.NumResp}
	if op == wire.KeyringList {
		res.Keys = r.Keys
	}
	return res, err
}

func familyKeys(responses []*wire.KeyringResponse) *familyKeyResponse {
	res := &familyKeyResponse{Keys: []familyKey{}, Messages: []familyMessage{}, Info: []familyInfo{}}
	for _, r := range responses {
		pool := "LAN"
		if r.WAN {
			pool = "WAN"
		}
		res.Info = append(res.Info, familyInfo{Datacenter: r.Datacenter, Pool: pool, NumNodes: r.NumNodes, Error: r.Error})
		for _, k := range slices.Sorted(maps.Keys(r.Keys)) {
			res.Keys = append(res.Keys, familyKey{Datacenter: r.Datacenter, Pool: pool, Key: k, Count: r.Keys[k]})
		}
		for _, node := range slices.Sorted(maps.Keys(r.Messages)) {
			res.Messages = append(res.Messages, familyMessage{Datacenter: r.Datacenter, Pool: pool, Node: node, Message: r.Messages[node]})
		}
	}
	return res
}
