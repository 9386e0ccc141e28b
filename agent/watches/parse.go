package watches

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api/watch"

	"lictor/agent/decode"
	"lictor/agent/script"
)

// Definition is one watch. It is not changed once it was made.
type Definition struct {
	Type   string
	Params map[string]any // what to watch; may hold a token
	Args   []string       // the program of a script handler
	HTTP   *HTTPHandler   // or where to send the view
}

// HTTPHandler is a request that a view is sent with.
type HTTPHandler struct {
	Path          string // a URL
	Method        string
	Header        map[string][]string
	Timeout       time.Duration
	TLSSkipVerify bool
}

const defaultTimeout = 10 * time.Second

// types are the kinds of views.
var types = []string{"agent_service", "checks", "event", "key", "keyprefix", "nodes", "service", "services"}

// Parse reads a watch of a configuration file and checks that it could run. No
// error holds a value.
func Parse(raw map[string]any) (*Definition, error) {
	d := &Definition{Params: map[string]any{}}
	var kind, line string
	var handler any
	fields := decode.Fields{
		"type": &d.Type, "args": &d.Args, "handler": &line, "handlertype": &kind,
		"httphandlerconfig": func(v any) error { handler = v; return nil },
	}
	for _, key := range []string{"key", "prefix", "service", "service_id", "state", "name", "filter", "datacenter", "token"} {
		fields[decode.Fold(key)] = func(v any) error {
			if _, ok := v.(string); !ok {
				return errors.New("wants a string")
			}
			d.Params[key] = v
			return nil
		}
	}
	for _, key := range []string{"stale", "passingonly"} {
		fields[key] = func(v any) error {
			if _, ok := v.(bool); !ok {
				return errors.New("wants true or false")
			}
			d.Params[key] = v
			return nil
		}
	}
	fields["tag"] = func(v any) error {
		if _, ok := v.(string); ok {
			d.Params["tag"] = v
			return nil
		}
		list, ok := decode.Strings(v)
		if !ok {
			return errors.New("wants a string or a list of strings")
		}
		d.Params["tag"] = list
		return nil
	}
	if err := decode.Object(raw, fields); err != nil {
		return nil, err
	}
	if !slices.Contains(types, d.Type) {
		return nil, fmt.Errorf("type must be one of %s", strings.Join(types, ", "))
	}
	if _, err := d.plan(); err != nil {
		return nil, err
	}
	return d, d.parseHandler(kind, line, handler)
}

func (d *Definition) parseHandler(kind, line string, handler any) error {
	if kind == "http" {
		if len(d.Args) > 0 || line != "" {
			return errors.New("args and handler are not for handler_type http")
		}
		return d.parseHTTP(handler)
	}
	if kind != "" && kind != "script" {
		return errors.New("handler_type must be script or http")
	}
	switch {
	case handler != nil:
		return errors.New("http_handler_config needs handler_type http")
	case len(d.Args) > 0 && line != "":
		return errors.New("args and handler exclude each other")
	case line != "":
		d.Args = script.Shell(line)
	case len(d.Args) == 0 || d.Args[0] == "":
		return errors.New("a watch needs a handler: args, or handler_type http")
	}
	return nil
}

func (d *Definition) parseHTTP(handler any) error {
	raw, ok := handler.(map[string]any)
	if !ok {
		return errors.New("handler_type http needs http_handler_config")
	}
	h := &HTTPHandler{Method: http.MethodPost}
	err := decode.Object(raw, decode.Fields{
		"path": &h.Path, "method": &h.Method, "header": &h.Header, "timeout": &h.Timeout, "tlsskipverify": &h.TLSSkipVerify,
	})
	if err != nil {
		return fmt.Errorf("http_handler_config: %w", err)
	}
	if h.Method == "" {
		h.Method = http.MethodPost
	}
	if h.Timeout == 0 {
		h.Timeout = defaultTimeout
	}
	u, err := url.Parse(h.Path)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("http_handler_config: path must be a URL that begins with http:// or https://")
	}
	if _, err := http.NewRequest(h.Method, h.Path, nil); err != nil {
		return errors.New("http_handler_config: method is not an HTTP method")
	}
	d.HTTP = h
	return nil
}

// plan is the watch of the client library. It takes what it knows out of the
// map it gets, so it gets a copy.
func (d *Definition) plan() (*watch.Plan, error) {
	params := maps.Clone(d.Params)
	params["type"] = d.Type
	plan, err := watch.Parse(params)
	if err != nil {
		return nil, errors.New(strings.ToLower(err.Error()[:1]) + err.Error()[1:])
	}
	return plan, nil
}
