package httpapi

import (
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strings"
	"time"

	"lictor/rpc/wire"
)

// handler answers one request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *request) error

// route is one row of the API: a path, the methods it takes, what serves it. A
// path that ends in "/" takes a name behind it. Writes are what
// allow_write_http_from and the browser check apply to.
type route struct {
	path    string
	methods []string
	serve   handler
}

// table is every route. What is not here does not exist.
func (a *API) table() []route {
	get, put, post := []string{http.MethodGet}, []string{http.MethodPut}, []string{http.MethodPost}
	getPut := []string{http.MethodGet, http.MethodPut}
	getPutDelete := []string{http.MethodGet, http.MethodPut, http.MethodDelete}
	return []route{
		{"/v1/agent/self", get, a.agentSelf},
		{"/v1/agent/host", get, a.agentHost},
		{"/v1/agent/version", get, a.agentVersion},
		{"/v1/agent/members", get, a.agentMembers},
		{joinPath, put, a.agentJoin},
		{"/v1/agent/leave", put, a.agentLeave},
		{forceLeavePath, put, a.agentForceLeave},
		{"/v1/agent/reload", put, a.agentReload},
		{"/v1/agent/monitor", get, a.agentMonitor},
		{"/v1/agent/metrics", get, a.agentMetrics},
		{"/v1/agent/metrics/stream", get, a.agentMetricsStream},
		{"/v1/agent/maintenance", put, a.agentMaintenance},

		{"/v1/agent/services", get, a.agentServices},
		{servicePath, get, a.agentService},
		{"/v1/agent/service/register", put, a.serviceRegister},
		{serviceDeregisterPath, put, a.serviceDeregister},
		{serviceMaintenancePath, put, a.serviceMaintenance},
		{"/v1/agent/checks", get, a.agentChecks},
		{"/v1/agent/check/register", put, a.checkRegister},
		{checkDeregisterPath, put, a.checkDeregister},
		{checkPassPath, put, a.checkTTL(checkPassPath, wire.HealthPassing)},
		{checkWarnPath, put, a.checkTTL(checkWarnPath, wire.HealthWarning)},
		{checkFailPath, put, a.checkTTL(checkFailPath, wire.HealthCritical)},
		{checkUpdatePath, put, a.checkUpdate},
		{localHealthIDPath, get, a.localHealthByID},
		{localHealthNamePath, get, a.localHealthByName},

		{"/v1/catalog/register", put, a.catalogRegister},
		{"/v1/catalog/deregister", put, a.catalogDeregister},
		{"/v1/catalog/datacenters", get, a.catalogDatacenters},
		{"/v1/catalog/nodes", get, a.catalogNodes},
		{"/v1/catalog/services", get, a.catalogServices},
		{catalogServicePath, get, a.catalogService},
		{catalogNodePath, get, a.catalogNode},
		{catalogNodeServicesPath, get, a.catalogNodeServices},

		{healthNodePath, get, a.healthNode},
		{healthChecksPath, get, a.healthChecks},
		{healthStatePath, get, a.healthState},
		{healthServicePath, get, a.healthService},

		{kvPath, getPutDelete, a.kv},
		{txnPath, put, a.txn},

		{"/v1/session/create", put, a.sessionCreate},
		{sessionDestroyPath, put, a.sessionDestroy},
		{sessionRenewPath, put, a.sessionRenew},
		{sessionInfoPath, get, a.sessionInfo},
		{"/v1/session/list", get, a.sessionList},
		{sessionNodePath, get, a.sessionNode},

		{"/v1/coordinate/datacenters", get, a.coordinateDatacenters},
		{"/v1/coordinate/nodes", get, a.coordinateNodes},
		{coordinateNodePath, get, a.coordinateNode},
		{"/v1/coordinate/update", put, a.coordinateUpdate},

		{"/v1/event/list", get, a.eventList},
		{eventFirePath, put, a.eventFire},
		{"/v1/status/leader", get, a.statusLeader},
		{"/v1/status/peers", get, a.statusPeers},

		{"/v1/operator/keyring", []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, a.operatorKeyring},
		{"/v1/operator/raft/configuration", get, a.raftConfiguration},
		{"/v1/operator/raft/peer", []string{http.MethodDelete}, a.raftRemovePeer},
		{"/v1/operator/raft/transfer-leader", post, a.raftTransferLeader},
		{"/v1/operator/autopilot/configuration", getPut, a.autopilotConfiguration},
		{"/v1/operator/autopilot/health", get, a.autopilotHealth},
		{"/v1/operator/autopilot/state", get, a.autopilotState},
		{"/v1/operator/usage", get, a.operatorUsage},
		{snapshotPath, getPut, a.snapshot},

		{"/v1/internal/ui/nodes", get, a.uiNodes},
		{uiNodePath, get, a.uiNode},
		{"/v1/internal/ui/services", get, a.uiServices},
		{"/v1/internal/ui/catalog-overview", get, a.uiCatalogOverview},

		// There is no access control by tokens. Clients that look whether there is
		// read so from these.
		{"/v1/agent/token/", put, aclOff},
		{"/v1/acl/bootstrap", put, aclOff},
		{"/v1/acl/login", post, aclOff},
		{"/v1/acl/logout", post, aclOff},
		{"/v1/acl/replication", get, aclOff},
		{"/v1/acl/tokens", get, aclOff},
		{"/v1/acl/token", put, aclOff},
		{"/v1/acl/token/", getPutDelete, aclOff},
		{"/v1/acl/policies", get, aclOff},
		{"/v1/acl/policy", put, aclOff},
		{"/v1/acl/policy/", getPutDelete, aclOff},
		{"/v1/acl/roles", get, aclOff},
		{"/v1/acl/role", put, aclOff},
		{"/v1/acl/role/", getPutDelete, aclOff},
		{"/v1/acl/auth-methods", get, aclOff},
		{"/v1/acl/auth-method", put, aclOff},
		{"/v1/acl/auth-method/", getPutDelete, aclOff},
		{"/v1/acl/binding-rules", get, aclOff},
		{"/v1/acl/binding-rule", put, aclOff},
		{"/v1/acl/binding-rule/", getPutDelete, aclOff},
		{"/v1/acl/templated-policies", get, aclOff},
		{"/v1/acl/templated-policy/name/", get, aclOff},
		{"/v1/acl/templated-policy/preview/", post, aclOff},
	}
}

func aclOff(http.ResponseWriter, *request) error {
	return failure(http.StatusUnauthorized, textACLOff)
}

// compiled is a route with what follows from it.
type compiled struct {
	route
	allow   []string // the header, one value
	limit   int64    // of a body in bytes; below 0: none
	setting string   // by which the limit can be changed
}

func (a *API) compile(r route) *compiled {
	c := &compiled{route: r, allow: []string{allow(r)}, limit: maxBodyBytes}
	switch r.path {
	case kvPath:
		c.limit, c.setting = a.cfg.Data.KVMaxValueSize, "limits.kv_max_value_size"
	case txnPath:
		c.limit, c.setting = a.cfg.Data.TxnMaxReqLen, "limits.txn_max_req_len"
	case snapshotPath:
		c.limit = -1 // a stream, which nobody here keeps
	}
	return c
}

const (
	unknownEndpoint = "Invalid URL path: not a recognized HTTP API endpoint\n"
	unknownPath     = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	rootText        = "Lictor agent: the UI is disabled. The HTTP API is below /v1/.\n"
)

// router finds the route of a request. Paths are compared as they were sent,
// decoded once: "//", ".." and ";x" are part of a name and match nothing else.
type router struct {
	exact  map[string]*compiled
	prefix map[string]*compiled // by path; the longest one that fits counts
	depth  int                  // how many slashes the longest prefix has
}

func (a *API) newRouter() *router {
	rt := &router{exact: map[string]*compiled{}, prefix: map[string]*compiled{}}
	for _, r := range a.table() {
		if strings.HasSuffix(r.path, "/") {
			rt.prefix[r.path] = a.compile(r)
			rt.depth = max(rt.depth, strings.Count(r.path, "/"))
		} else {
			rt.exact[r.path] = a.compile(r)
		}
	}
	return rt
}

func (rt *router) find(path string) *compiled {
	if row := rt.exact[path]; row != nil {
		return row
	}
	var found *compiled
	end := 0
	for range rt.depth {
		i := strings.IndexByte(path[end:], '/')
		if i < 0 {
			break
		}
		end += i + 1
		if row := rt.prefix[path[:end]]; row != nil {
			found = row
		}
	}
	return found
}

func (a *API) routes() http.Handler {
	rt := a.newRouter()
	// Without pprof's cmdline: a gossip key can be on the command line. And no
	// ServeMux, which redirects paths that are written in another way.
	debug := map[string]http.HandlerFunc{
		"/debug/pprof/profile": pprof.Profile, "/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bounded := a.bound(w, r)
		defer bounded.finish()
		w = bounded
		h := w.Header()
		h["Vary"] = varyEncoding
		h["X-Content-Type-Options"] = noSniff
		for k, v := range a.cfg.ResponseHeaders {
			h.Set(k, v)
		}
		if a.log.IsDebug() {
			start := time.Now()
			defer func() {
				a.log.Debug("request", "method", r.Method, "url", masked(r.URL), "from", r.RemoteAddr, "latency", time.Since(start))
			}()
		}
		path := r.URL.Path
		if err := a.admit(r, path); err != nil {
			writeError(w, err)
			return
		}
		if row := rt.find(path); row != nil {
			a.serve(w, r, row)
			return
		}
		switch {
		case a.cfg.EnableDebug && strings.HasPrefix(path, "/debug/pprof/"):
			serve, ok := debug[path]
			if !ok {
				serve = pprof.Index
			}
			serve(w, r)
		case path == "/":
			writeText(w, http.StatusOK, rootText)
		case strings.HasPrefix(path, "/v1/"):
			writeText(w, http.StatusNotFound, unknownEndpoint)
		default:
			writeText(w, http.StatusNotFound, unknownPath)
		}
	})
}

// bound puts deadlines on what net/http would wait for without end: a body,
// which it reads to its end even where no handler does, and a client that does
// not take its answer. The deadline of the body holds until readBody has it all,
// or the request is over.
func (a *API) bound(w http.ResponseWriter, r *http.Request) *timedWriter {
	t := &timedWriter{ResponseWriter: w, rc: http.NewResponseController(w), timeout: a.cfg.StallTimeout, stream: r.ProtoMajor > 1}
	if r.ContentLength != 0 {
		t.rc.SetReadDeadline(time.Now().Add(t.timeout))
	}
	return t
}

// timedWriter gives each write its own time, and the rest of the answer another
// once the handler is done. Between writes there is no limit: an answer may wait
// for something to happen.
type timedWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	// stream: HTTP/2, where a deadline that passes ends the stream, also while
	// nothing is being written.
	stream bool
}

func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish is for when the handler has returned: what it has buffered goes out.
func (w *timedWriter) finish() { w.rc.SetWriteDeadline(time.Now().Add(w.timeout)) }

// timed runs one write under a deadline.
func (w *timedWriter) timed(write func()) {
	w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
	write()
	if w.stream {
		w.rc.SetWriteDeadline(time.Time{})
	}
}

func (w *timedWriter) Write(b []byte) (n int, err error) {
	w.timed(func() { n, err = w.ResponseWriter.Write(b) })
	return n, err
}

// FlushError implements what http.ResponseController looks for.
func (w *timedWriter) FlushError() (err error) {
	w.timed(func() { err = w.rc.Flush() })
	return err
}

// admit refuses a request before its route is looked at.
func (a *API) admit(r *http.Request, path string) error {
	if !a.cfg.DisablePathFilter {
		for _, c := range path {
			if c < ' ' || c == 0x7f {
				return failure(http.StatusBadRequest, "")
			}
		}
	}
	for _, prefix := range a.cfg.BlockEndpoints {
		if strings.HasPrefix(path, prefix) {
			return failure(http.StatusForbidden, "Endpoint is blocked by agent configuration")
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if len(a.cfg.AllowWriteHTTPFrom) > 0 {
		addr := remoteAddr(r)
		ok := false
		for _, p := range a.cfg.AllowWriteHTTPFrom {
			ok = ok || p.Contains(addr)
		}
		if !ok {
			return failure(http.StatusForbidden, "Access is restricted")
		}
	}
	// A browser says when another site made it send this. Without the check any
	// page that an operator looks at could make the agent on loopback leave.
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return failure(http.StatusForbidden, "Request was made by another web site")
	}
	if o := r.Header.Get("Origin"); o != "" {
		if u, err := url.Parse(o); err != nil || u.Host != r.Host {
			return failure(http.StatusForbidden, "Request was made by another web site")
		}
	}
	return nil
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, row *compiled) {
	h := w.Header()
	switch {
	case r.Method == http.MethodOptions:
		h["Allow"] = row.allow
		h["Content-Type"] = typeText
		w.WriteHeader(http.StatusOK)
		return
	case !slices.Contains(row.methods, r.Method):
		h["Allow"] = row.allow
		writeText(w, http.StatusMethodNotAllowed, "method "+quoteMethod(r.Method)+" not allowed")
		return
	}
	h["X-Consul-Default-Acl-Policy"] = policyAllow
	if a.cfg.Data.TranslateWAN {
		h["X-Consul-Translate-Addresses"] = valueTrue
	}
	if err := a.run(w, r, row); err != nil {
		writeError(w, err)
	}
}

// run reads what every route has and hands the request to its handler.
func (a *API) run(w http.ResponseWriter, r *http.Request, row *compiled) error {
	q, err := parseParams(r.URL.RawQuery)
	if err != nil {
		return failure(http.StatusBadRequest, "Invalid query string: %.200s", err)
	}
	if err := foreign(q); err != nil {
		return err
	}
	if err := limitBody(w, r, row); err != nil {
		return err
	}
	return row.serve(w, &request{Request: r, q: q})
}

func allow(row route) string { return "OPTIONS," + strings.Join(row.methods, ",") }

// quoteMethod keeps a method that a stranger made up short; net/http has
// checked that it is a token.
func quoteMethod(m string) string { return m[:min(len(m), 32)] }

// masked is a URL for the log: a token in it is hidden.
func masked(u *url.URL) string {
	if u.RawQuery == "" {
		return cut(u.EscapedPath())
	}
	q := u.Query()
	if q.Has("token") {
		q.Set("token", "<hidden>")
	}
	return cut(u.EscapedPath() + "?" + q.Encode())
}

func cut(s string) string { return s[:min(len(s), 512)] }
