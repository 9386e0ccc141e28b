package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"lictor/agent/answers"
	"lictor/rpc/wire"
)

const kvPath = "/v1/kv/"

var errNoKey = failure(http.StatusBadRequest, "Missing key name")

// errNothing is the answer for what is not there: a status without a text.
var errNothing = failure(http.StatusNotFound, "")

func (a *API) kv(w http.ResponseWriter, r *request) error {
	key := strings.TrimPrefix(r.URL.Path, kvPath)
	switch r.Method {
	case http.MethodGet:
		if r.q.flag("keys") {
			return a.kvKeys(w, r, key)
		}
		return a.kvGet(w, r, key)
	case http.MethodPut:
		return a.kvPut(w, r, key)
	}
	return a.kvDelete(w, r, key)
}

func (a *API) kvGet(w http.ResponseWriter, r *request, key string) error {
	method, recurse := "KVS.Get", r.q.flag("recurse")
	if recurse {
		method = "KVS.List"
	} else if key == "" {
		return errNoKey
	}
	reply, err := ask[wire.IndexedDirEntries](a, w, r, plain, method, &wire.KeyRequest{Datacenter: r.dc(), Key: key})
	if err != nil {
		return err
	}
	if len(reply.Entries) == 0 {
		return errNothing
	}
	if r.q.flag("raw") && !recurse {
		writeRaw(w, reply.Entries[0].Value)
		return nil
	}
	a.writeAppended(w, r, func(b []byte) []byte { return answers.AppendList(b, reply.Entries, answers.AppendDirEntry) })
	return nil
}

// writeRaw answers with the bytes of a value. Whoever may write it chose them:
// no browser shall take them for a page of this agent (CVE-2020-25864).
func writeRaw(w http.ResponseWriter, value []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h["X-Content-Type-Options"] = noSniff
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("Content-Length", strconv.Itoa(len(value)))
	w.WriteHeader(http.StatusOK)
	w.Write(value)
}

func (a *API) kvKeys(w http.ResponseWriter, r *request, prefix string) error {
	req := &wire.KeyListRequest{Datacenter: r.dc(), Prefix: prefix, Seperator: r.q.get("separator")}
	if req.Seperator == "" {
		req.Seperator = r.q.get("seperator") // as it was once written
	}
	reply, err := ask[wire.IndexedKeyList](a, w, r, plain, "KVS.ListKeys", req)
	if err != nil {
		return err
	}
	if len(reply.Keys) == 0 && prefix != "" {
		return errNothing
	}
	a.writeAppended(w, r, func(b []byte) []byte { return answers.AppendStrings(b, reply.Keys) })
	return nil
}

// exclusive refuses a request that has more than one of the given parameters.
func exclusive(q params, names ...string) error {
	var given []string
	for _, name := range names {
		if q.has(name) {
			given = append(given, url.QueryEscape(name)+"="+url.QueryEscape(q.get(name)))
		}
	}
	if len(given) > 1 {
		return failure(http.StatusBadRequest, "Conflicting flags: %.400s\n", strings.Join(given, "&"))
	}
	return nil
}

// number reads a parameter that must be a number where it is given. Its error is
// a plain one: the family answers it as a failure of its own.
func (p params) number(name string) (n uint64, given bool, err error) {
	if !p.has(name) {
		return 0, false, nil
	}
	v := p.get(name)
	n, err = strconv.ParseUint(v[:min(len(v), 100)], 10, 64)
	return n, true, err
}

func (a *API) kvPut(w http.ResponseWriter, r *request, key string) error {
	if key == "" {
		return errNoKey
	}
	if err := exclusive(r.q, "acquire", "cas", "release"); err != nil {
		return err
	}
	req := &wire.KVSRequest{Datacenter: r.dc(), Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key}, WriteRequest: wire.WriteRequest{Token: r.token()}}
	var err error
	if req.DirEnt.Flags, _, err = r.q.number("flags"); err != nil {
		return err
	}
	if index, ok, err := r.q.number("cas"); err != nil {
		return err
	} else if ok {
		req.Op, req.DirEnt.ModifyIndex = wire.KVCAS, index
	}
	if r.q.has("acquire") {
		req.Op, req.DirEnt.Session = wire.KVLock, r.q.get("acquire")
	}
	if r.q.has("release") {
		req.Op, req.DirEnt.Session = wire.KVUnlock, r.q.get("release")
	}
	if req.DirEnt.Value, err = readBody(w, r); err != nil {
		return err
	}
	return a.kvApply(w, r, req)
}

func (a *API) kvDelete(w http.ResponseWriter, r *request, key string) error {
	req := &wire.KVSRequest{Datacenter: r.dc(), Op: wire.KVDelete, DirEnt: wire.DirEntry{Key: key}, WriteRequest: wire.WriteRequest{Token: r.token()}}
	index, cas, err := r.q.number("cas")
	switch {
	case r.q.flag("recurse"):
		if err := exclusive(r.q, "cas", "recurse"); err != nil {
			return err
		}
		req.Op = wire.KVDeleteTree
	case key == "":
		return errNoKey
	case err != nil:
		return err
	case cas:
		req.Op, req.DirEnt.ModifyIndex = wire.KVDeleteCAS, index
	}
	return a.kvApply(w, r, req)
}

// kvApply answers a write: with whether it was done where it had a condition,
// else with true.
func (a *API) kvApply(w http.ResponseWriter, r *request, req *wire.KVSRequest) error {
	var done bool
	if err := a.write(r, "KVS.Apply", req, &done); err != nil {
		return err
	}
	switch req.Op {
	case wire.KVSet, wire.KVDelete, wire.KVDeleteTree:
		done = true
	}
	a.writeBool(w, r, done)
	return nil
}
