package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// handler answers one request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request) error

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
	get, put := []string{http.MethodGet}, []string{http.MethodPut}
	return []route{
		{"/v1/agent/self", get, a.agentSelf},
		{"/v1/agent/host", get, a.agentHost},
		{"/v1/agent/version", get, a.agentVersion},
		{"/v1/agent/members", get, a.agentMembers},
		{"/v1/agent/join/", put, a.agentJoin},
		{"/v1/agent/leave", put, a.agentLeave},
		{"/v1/agent/force-leave/", put, a.agentForceLeave},
		{"/v1/agent/reload", put, a.agentReload},
		{"/v1/agent/monitor", get, a.agentMonitor},
		{"/v1/agent/metrics", get, a.agentMetrics},
		{"/v1/agent/metrics/stream", get, a.agentMetricsStream},
		{"/v1/status/leader", get, a.statusLeader},
		{"/v1/status/peers", get, a.statusPeers},
		{"/v1/event/fire/", put, a.eventFire},
		{"/v1/event/list", get, a.eventList},
		{"/v1/operator/keyring", []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, a.operatorKeyring},
	}
}

const (
	unknownEndpoint = "Invalid URL path: not a recognized HTTP API endpoint\n"
	unknownPath     = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	rootText        = "Lictor agent: the UI is disabled. The HTTP API is below /v1/.\n"
)

// router finds the route of a request. Paths are compared as they were sent,
// decoded once: "//", ".." and ";x" are part of a name and match nothing else.
type router struct {
	exact  map[string]route
	prefix []route
}

func (rt *router) find(path string) (route, bool) {
	if r, ok := rt.exact[path]; ok {
		return r, true
	}
	for _, r := range rt.prefix {
		if strings.HasPrefix(path, r.path) {
			return r, true
		}
	}
	return route{}, false
}

func (a *API) routes() http.Handler {
	rt := &router{exact: map[string]route{}}
	for _, r := range a.table() {
		if strings.HasSuffix(r.path, "/") {
			rt.prefix = append(rt.prefix, r)
		} else {
			rt.exact[r.path] = r
		}
	}
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
		h.Set("Vary", "Accept-Encoding")
		h.Set("X-Content-Type-Options", "nosniff")
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
		if row, ok := rt.find(path); ok {
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
		case strings.HasPrefix(path, "/v1/acl/"), strings.HasPrefix(path, "/v1/agent/token/"):
			writeText(w, http.StatusUnauthorized, "ACL support disabled")
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

func (a *API) serve(w http.ResponseWriter, r *http.Request, row route) {
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", allow(row))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		return
	case !slices.Contains(row.methods, r.Method):
		w.Header().Set("Allow", allow(row))
		writeText(w, http.StatusMethodNotAllowed, "method "+quoteMethod(r.Method)+" not allowed")
		return
	}
	if r.ContentLength > maxBodyBytes {
		writeTooLarge(w, r.ContentLength)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	w.Header().Set("X-Consul-Default-ACL-Policy", "allow")
	if err := row.serve(w, r); err != nil {
		writeError(w, err)
	}
}

func allow(row route) string { return "OPTIONS," + strings.Join(row.methods, ",") }

// quoteMethod keeps a method that a stranger made up short; net/http has
// checked that it is a token.
func quoteMethod(m string) string { return m[:min(len(m), 32)] }

func writeTooLarge(w http.ResponseWriter, n int64) {
	w.Header().Set("Connection", "close")
	text := "Request body too large, max size: " + strconv.Itoa(maxBodyBytes) + " bytes"
	if n > 0 {
		text = "Request body(" + strconv.FormatInt(n, 10) + " bytes) too large, max size: " + strconv.Itoa(maxBodyBytes) + " bytes"
	}
	writeText(w, http.StatusRequestEntityTooLarge, text)
}

// readBody reads the whole body, within its size and its time (see bound).
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, failure(http.StatusRequestEntityTooLarge, "Request body too large, max size: %d bytes", maxBodyBytes)
	}
	if err != nil {
		return nil, failure(http.StatusBadRequest, "Request body could not be read")
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return b, nil
}

// decodeBody reads one JSON object into v; unknown fields are errors.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := readBody(w, r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return failure(http.StatusBadRequest, "Request decode failed: %.200s", err)
	}
	if _, err := dec.Token(); err != io.EOF { // More would let a brace through
		return failure(http.StatusBadRequest, "Request decode failed: more than one JSON value")
	}
	return nil
}

// gzipAbove is the size from which an answer is compressed where the client
// asks for it (limits-and-defaults.md, section 6).
const gzipAbove = 1400

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

func (a *API) writeBody(w http.ResponseWriter, r *http.Request, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if len(b) < gzipAbove || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b)
		return
	}
	h.Set("Content-Encoding", "gzip")
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	z.Write(b)
	z.Close()
}

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
