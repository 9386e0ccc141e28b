package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// request is an HTTP request, its query parameters parsed once.
type request struct {
	*http.Request
	q params
}

// params are the query parameters of a request in the order they were sent.
// Names are compared exactly; where one is given twice, the first counts.
type params []param

type param struct{ name, value string }

// maxParams bounds how many parameters a request may have.
const maxParams = 256

// parseParams reads a query string. Unlike net/url it gives no half answers: a
// parameter that cannot be read is an error, and not a parameter that is not
// there.
func parseParams(raw string) (params, error) {
	if raw == "" {
		return nil, nil
	}
	p := make(params, 0, min(strings.Count(raw, "&")+1, maxParams))
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, errors.New("a semicolon separates nothing, write it as %3B")
		}
		if len(p) == maxParams {
			return nil, fmt.Errorf("more than %d parameters", maxParams)
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, err
		}
		p = append(p, param{name, value})
	}
	return p, nil
}

// has says whether a parameter was given, be it empty.
func (p params) has(name string) bool {
	for i := range p {
		if p[i].name == name {
			return true
		}
	}
	return false
}

// get is the value of a parameter, "" where it was not given.
func (p params) get(name string) string {
	for i := range p {
		if p[i].name == name {
			return p[i].value
		}
	}
	return ""
}

// all are the values of a parameter that may be given again and again.
func (p params) all(name string) []string {
	var values []string
	for i := range p {
		if p[i].name == name {
			values = append(values, p[i].value)
		}
	}
	return values
}

// flag says whether a parameter is on: "?wan" and "?wan=1" are, "?wan=false" is
// not.
func (p params) flag(name string) bool {
	for i := range p {
		if p[i].name == name {
			v := p[i].value
			return v != "0" && !strings.EqualFold(v, "false")
		}
	}
	return false
}

// boolean is the value of a parameter that must be a boolean; given without a
// value it is true.
func (p params) boolean(name string) (bool, error) {
	if !p.has(name) {
		return false, nil
	}
	v := p.get(name)
	if v == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, failure(http.StatusBadRequest, "Invalid value for ?%s", name)
	}
	return b, nil
}

// pairs are the values of a parameter of the form "key:value", nil for none.
func (p params) pairs(name string) map[string]string {
	var m map[string]string
	for i := range p {
		if p[i].name != name {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		k, v, _ := strings.Cut(p[i].value, ":")
		m[k] = v
	}
	return m
}

// dc is the datacenter that was asked for, "" for this agent's own.
func (r *request) dc() string {
	if dc := r.q.get("datacenter"); dc != "" {
		return dc
	}
	return r.q.get("dc")
}

// token is the secret that came with the request, "" for none.
func (r *request) token() string {
	if t := r.q.get("token"); t != "" {
		return t
	}
	if t := r.Header.Get("X-Consul-Token"); t != "" {
		return t
	}
	scheme, t, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(t)
}

// name is what stands behind a route's path, decoded once: a name may hold
// slashes and percent signs.
func (r *request) name(prefix, missing string) (string, error) {
	n := strings.TrimPrefix(r.URL.Path, prefix)
	if n == "" {
		return "", failure(http.StatusBadRequest, "%s", missing)
	}
	return n, nil
}

// foreign refuses the name of a namespace, partition, peer or sameness group:
// this agent has only the default ones, and an answer from there would be an
// answer to another question.
func foreign(p params) error {
	for i := range p {
		v := p[i].value
		if v == "" {
			continue
		}
		switch p[i].name {
		case "ns", "namespace", "partition", "ap":
			if v != "default" {
				return failure(http.StatusBadRequest, "Invalid query parameter: %q: there is only the default one", p[i].name)
			}
		case "peer", "sg", "sameness-group":
			return failure(http.StatusBadRequest, "Invalid query parameter: %q: this agent has no cluster peering", p[i].name)
		}
	}
	return nil
}

// waitTime reads ?wait: how long a blocking query may take, within the limits.
func (a *API) waitTime(r *request) (time.Duration, error) {
	wait := a.cfg.Data.DefaultQueryTime
	if v := r.q.get("wait"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return 0, failure(http.StatusBadRequest, "Invalid wait time")
		}
		if d > 0 {
			wait = d
		}
	}
	return min(wait, a.cfg.Data.MaxQueryTime), nil
}

// index reads ?index.
func (r *request) index() (uint64, error) {
	v := r.q.get("index")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, failure(http.StatusBadRequest, "Invalid index")
	}
	return n, nil
}
