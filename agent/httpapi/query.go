package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lictor/rpc"
	"lictor/rpc/wire"
)

// Reads of what the servers hold: how a request becomes the options of a call,
// and the reply's meta part becomes headers.

// readKind is what a family of reads has besides the rest.
type readKind uint8

const (
	plain     readKind = iota
	discovery          // says how consistent the answer is; discovery_max_stale applies
	cacheable          // discovery, and ?cached is answered from this agent's cache
)

// Cache-Control of a request for a cached answer.
type cacheControl struct {
	maxAge         time.Duration
	mustRevalidate bool
	staleIfError   time.Duration
}

func parseCacheControl(header string) (cacheControl, error) {
	var c cacheControl
	seconds := func(v string) (time.Duration, error) {
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 31)
		if err != nil {
			return 0, failure(http.StatusBadRequest, "Invalid Cache-Control header.")
		}
		return time.Duration(n) * time.Second, nil
	}
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		switch strings.ToLower(name) {
		case "must-revalidate":
			c.mustRevalidate = true
		case "max-age":
			c.maxAge, err = seconds(value)
			c.mustRevalidate = c.mustRevalidate || c.maxAge == 0
		case "stale-if-error":
			c.staleIfError, err = seconds(value)
		}
		if err != nil {
			return cacheControl{}, err
		}
	}
	return c, nil
}

const conflict = "Cannot specify ?%s with ?consistent, conflicting semantics."

// options reads the parameters that all reads have into o.
func (a *API) options(r *request, kind readKind, o *wire.QueryOptions) error {
	o.Token = r.token()
	if header := r.Header.Get("Cache-Control"); header != "" {
		c, err := parseCacheControl(header)
		if err != nil {
			return err
		}
		o.MaxAge, o.MustRevalidate, o.StaleIfError = c.maxAge, c.mustRevalidate, c.staleIfError
	}
	if len(r.q) == 0 {
		a.defaultStale(kind, o)
		return nil
	}
	o.Filter = r.q.get("filter")
	if len(o.Filter) > maxFilter {
		return errFilterLength
	}
	var err error
	if o.MinQueryIndex, err = r.index(); err != nil {
		return err
	}
	wait, err := a.waitTime(r)
	if err != nil {
		return err
	}
	if o.MinQueryIndex > 0 {
		o.MaxQueryTime = wait
	}
	o.AllowStale = r.q.flag("stale")
	o.RequireConsistent = r.q.flag("consistent")
	o.UseCache = kind == cacheable && !a.cfg.Data.NoCache && r.q.flag("cached")
	if v := r.q.get("max_stale"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return failure(http.StatusBadRequest, "Invalid max_stale value %.100q", v)
		}
		o.MaxStaleDuration, o.AllowStale = d, true
	}
	switch {
	case o.RequireConsistent && o.AllowStale:
		return failure(http.StatusBadRequest, conflict, "stale")
	case o.RequireConsistent && r.q.flag("cached"):
		return failure(http.StatusBadRequest, conflict, "cached")
	case !o.RequireConsistent && !o.AllowStale && !r.q.flag("leader"):
		a.defaultStale(kind, o)
	}
	return nil
}

// defaultStale applies discovery_max_stale to a read that says nothing itself.
func (a *API) defaultStale(kind readKind, o *wire.QueryOptions) {
	if d := a.cfg.Data.DiscoveryMaxStale; d > 0 && kind >= discovery {
		o.AllowStale, o.MaxStaleDuration = true, d
	}
}

// deadline bounds a blocking query: the servers add a random sixteenth to the
// wait, and may need the hold timeout to find a leader. Other calls have the
// time limit of the connection pool.
func (a *API) deadline(ctx context.Context, o *wire.QueryOptions) (context.Context, context.CancelFunc) {
	if o.MinQueryIndex == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, o.MaxQueryTime+o.MaxQueryTime/16+a.cfg.Data.HoldTimeout)
}

// withMeta is a pointer to a reply that has a meta part.
type withMeta[R any] interface {
	*R
	Meta() *wire.QueryMeta
}

// call sends a read to the servers. An answer that is older than the read allows
// is asked for again, of the leader.
func call[R any, P withMeta[R]](ctx context.Context, a *API, method string, req wire.ReadRequest) (P, error) {
	o := req.Options()
	ctx, cancel := a.deadline(ctx, o)
	defer cancel()
	for {
		reply := P(new(R))
		if err := a.cfg.Backend.RPC(ctx, method, req, reply); err != nil {
			return nil, rpcError(err)
		}
		if o.AllowStale && o.MaxStaleDuration > 0 && reply.Meta().LastContact > o.MaxStaleDuration {
			o.AllowStale, o.MaxStaleDuration = false, 0
			continue
		}
		return reply, nil
	}
}

// ask is a read that an answer is made of: it reads the options that all reads
// have, calls, and sets the headers of the answer.
func ask[R any, P withMeta[R]](a *API, w http.ResponseWriter, r *request, kind readKind, method string, req wire.ReadRequest) (P, error) {
	if err := a.options(r, kind, req.Options()); err != nil {
		return nil, err
	}
	reply, err := call[R, P](r.Context(), a, method, req)
	if err != nil {
		unknownMeta(w.Header())
		return nil, err
	}
	setMeta(w.Header(), kind, reply.Meta())
	return reply, nil
}

// answer is a read whose reply is the answer, in the form that encode appends.
// variant tells apart answers that are made in different ways from the same
// reply.
//
// This is where an answer that was encoded for one request can serve the next
// one: the reply's index and the request say all that the bytes depend on.
func answer[R any, P withMeta[R]](a *API, w http.ResponseWriter, r *request, kind readKind, method string, req wire.ReadRequest, variant string, encode func([]byte, P) []byte) error {
	if kind == cacheable && r.q.flag("cached") && !a.cfg.Data.NoCache {
		o := req.Options()
		if err := a.options(r, kind, o); err != nil {
			return err
		}
		return a.answerCached(w, r, cachedRead{
			method: method, req: req, variant: variant, refresh: true,
			fetch: func(ctx context.Context, req wire.ReadRequest) ([]byte, *wire.QueryMeta, error) {
				reply, err := call[R, P](ctx, a, method, req)
				if err != nil {
					return nil, nil, err
				}
				return encode(nil, reply), reply.Meta(), nil
			},
		})
	}
	reply, err := ask[R, P](a, w, r, kind, method, req)
	if err != nil {
		return err
	}
	a.writeAppended(w, r, func(b []byte) []byte { return encode(b, reply) })
	return nil
}

// answerBytes is answer for a read whose fetch returns the answer as it is.
func (a *API) answerBytes(w http.ResponseWriter, r *request, kind readKind, read cachedRead) error {
	if err := a.options(r, kind, read.req.Options()); err != nil {
		return err
	}
	if read.req.Options().UseCache {
		return a.answerCached(w, r, read)
	}
	body, m, err := read.fetch(r.Context(), read.req)
	if err != nil {
		unknownMeta(w.Header())
		return err
	}
	setMeta(w.Header(), kind, m)
	a.writeEncoded(w, r, http.StatusOK, body)
	return nil
}

// write sends a write to the servers.
func (a *API) write(r *request, method string, args, reply any) error {
	return rpcError(a.cfg.Backend.RPC(r.Context(), method, args, reply))
}

// setMeta sets the headers of an answer from a reply's meta part.
func setMeta(h http.Header, kind readKind, m *wire.QueryMeta) {
	h["X-Consul-Index"] = []string{strconv.FormatUint(max(m.Index, 1), 10)}
	h["X-Consul-Knownleader"] = valueFalse
	if m.KnownLeader {
		h["X-Consul-Knownleader"] = valueTrue
	}
	h["X-Consul-Lastcontact"] = valueZero
	if ms := m.LastContact.Milliseconds(); ms > 0 {
		h["X-Consul-Lastcontact"] = []string{strconv.FormatInt(ms, 10)}
	}
	h["X-Consul-Query-Backend"] = backendBlocking
	if m.Backend == 1 {
		h["X-Consul-Query-Backend"] = backendStream
	}
	if kind >= discovery && m.ConsistencyLevel != "" {
		h["X-Consul-Effective-Consistency"] = []string{m.ConsistencyLevel}
	}
	if m.ResultsFilteredByACLs {
		h["X-Consul-Results-Filtered-By-Acls"] = valueTrue
	}
}

// unknownMeta sets the headers of the answer of a read that failed.
func unknownMeta(h http.Header) {
	h["X-Consul-Index"] = valueOne
	h["X-Consul-Knownleader"] = valueFalse
	h["X-Consul-Lastcontact"] = valueZero
	h["X-Consul-Query-Backend"] = backendBlocking
}

// Texts by which errors of servers are told apart: the wire carries nothing else
// (wire.md, section 3).
const (
	textElsewhere   = "rate limit exceeded, try again later or against a different server"
	textLeaderOnly  = "rate limit exceeded for operation that can only be performed by the leader"
	textACLNotFound = "ACL not found"
	textACLOff      = "ACL support disabled"
)

// rpcError gives an error of a call its status: 500 but for those that tell a
// client what to do.
func rpcError(err error) error {
	var status statusError
	if err == nil || errors.As(err, &status) {
		return err
	}
	text := err.Error()
	for _, row := range [...]struct {
		text string
		code int
	}{
		{rpc.ErrRateLimited.Error(), http.StatusTooManyRequests},
		{textElsewhere, http.StatusTooManyRequests},
		{textLeaderOnly, http.StatusServiceUnavailable},
		{rpc.ErrPermissionDenied.Error(), http.StatusForbidden},
		{textACLNotFound, http.StatusForbidden},
		{textACLOff, http.StatusUnauthorized},
	} {
		if strings.Contains(text, row.text) {
			return statusError{row.code, text}
		}
	}
	return err
}

// near is who the answer is sorted for: a node of the datacenter that is asked,
// or this agent.
func (a *API) near(r *request) wire.QuerySource {
	switch node := r.q.get("near"); node {
	case "":
		return wire.QuerySource{}
	case "_agent":
		return wire.QuerySource{Datacenter: a.cfg.Data.Datacenter, Node: a.cfg.Data.Node}
	default:
		return wire.QuerySource{Datacenter: cmp.Or(r.dc(), a.cfg.Data.Datacenter), Node: node}
	}
}

// ofDatacenter is a request about a whole datacenter.
func (a *API) ofDatacenter(r *request) *wire.DCSpecificRequest {
	return &wire.DCSpecificRequest{Datacenter: r.dc(), NodeMetaFilters: r.q.pairs("node-meta"), Source: a.near(r)}
}

// ofNode is a request about the node that the path names.
func (r *request) ofNode(prefix string) (*wire.NodeSpecificRequest, error) {
	node, err := r.name(prefix, "Missing node name")
	if err != nil {
		return nil, err
	}
	return &wire.NodeSpecificRequest{Datacenter: r.dc(), Node: node}, nil
}

// ofService is a request about the service that the path names.
func (a *API) ofService(r *request, prefix string) (*wire.ServiceSpecificRequest, error) {
	service, err := r.name(prefix, "Missing service name")
	if err != nil {
		return nil, err
	}
	req := &wire.ServiceSpecificRequest{
		Datacenter: r.dc(), ServiceName: service, NodeMetaFilters: r.q.pairs("node-meta"), Source: a.near(r),
		ServiceTags: r.q.all("tag"), MergeCentralConfig: r.q.flag("merge-central-config"),
	}
	req.TagFilter = len(req.ServiceTags) > 0
	return req, nil
}
