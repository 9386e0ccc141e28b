package command

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"lictor/rpc/wire"

	"github.com/hashicorp/consul/api"
)

// httpClient is agentClient over the HTTP API. Every request ends with the
// context that it was dialled with, besides the method's own: the API module
// has calls that take none.
type httpClient struct {
	c         *api.Client
	addr      string
	hint      string // how to reach another agent
	token     string // a secret
	transport *http.Transport
}

// boundTransport ends every request, its answer's body too, with one context.
type boundTransport struct {
	ctx  context.Context
	base http.RoundTripper
}

func (b boundTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(b.ctx, cancel)
	release := func() { stop(); cancel() }
	resp, err := b.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &boundBody{resp.Body, release}
	return resp, nil
}

type boundBody struct {
	io.ReadCloser
	release func()
}

func (b *boundBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// dialHTTP prepares a client; nothing is sent yet.
func dialHTTP(ctx context.Context, h *httpTarget) (*httpClient, error) {
	// The http.Client is made here and not by the API module, whose own look at
	// CONSUL_HTTP_SSL_VERIFY could turn verification off again.
	tc, err := api.SetupTLSConfig(&h.TLS)
	if err != nil {
		return nil, fmt.Errorf("TLS for the HTTP API: %w", err)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     tc,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
	}
	conf := &api.Config{Address: h.Addr, Scheme: "http", Token: h.Token, Datacenter: h.Datacenter, TLSConfig: h.TLS, Transport: transport}
	if h.SSL {
		conf.Scheme = "https"
	}
	if path, ok := strings.CutPrefix(h.Addr, "unix://"); ok {
		conf.Address = "localhost"
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
	}
	conf.HttpClient = &http.Client{Transport: boundTransport{ctx, transport}}
	if h.BasicAuth != "" {
		user, pass, _ := strings.Cut(h.BasicAuth, ":")
		conf.HttpAuth = &api.HttpBasicAuth{Username: user, Password: pass}
	}
	c, err := api.NewClient(conf)
	if err != nil {
		return nil, err
	}
	return &httpClient{c: c, addr: h.Addr, hint: hintHTTP, token: h.Token, transport: transport}, nil
}

func (h *httpClient) Close() error {
	h.transport.CloseIdleConnections()
	return nil
}

// explain adds to an error that kept us from the API which address was tried
// and how to choose another.
func (h *httpClient) explain(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w\nTried the HTTP API at %s. %s", err, h.addr, h.hint)
	}
	if hint := hintTLS(err); hint != "" {
		return fmt.Errorf("%w\n%s", err, hint)
	}
	return err
}

// hintTLS is what to do about a TLS handshake that failed, if that is known.
func hintTLS(err error) string {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var op *net.OpError
	switch {
	case errors.As(err, &name):
		return "Give a name that the certificate has with -tls-server-name, or use a certificate made with -additional-ipaddress or -additional-dnsname."
	case errors.As(err, &authority):
		return "Give the file of the CA that signed the agent's certificate with -ca-file or LICTOR_CACERT."
	case errors.Is(err, http.ErrSchemeMismatch):
		return "It is plain HTTP there: give the address with http://."
	case errors.As(err, &op) && op.Op == "remote error":
		return "The agent did not accept this end: where it has verify_incoming, give a certificate of its CA with -client-cert and -client-key."
	}
	return ""
}

func (h *httpClient) Members(_ context.Context, wan bool) ([]*api.AgentMember, error) {
	out, err := h.c.Agent().MembersOpts(api.MembersOpts{WAN: wan, Segment: api.AllSegments})
	return out, h.explain(err)
}

func (h *httpClient) Join(_ context.Context, addr string, wan bool) error {
	return h.explain(h.c.Agent().Join(addr, wan))
}

func (h *httpClient) Leave(context.Context) error { return h.explain(h.c.Agent().Leave()) }

func (h *httpClient) ForceLeave(_ context.Context, node string, prune, wan bool) error {
	return h.explain(h.c.Agent().ForceLeaveOpts(node, api.ForceLeaveOpts{Prune: prune, WAN: wan}))
}

func (h *httpClient) Reload(context.Context) error { return h.explain(h.c.Agent().Reload()) }

func (h *httpClient) Stats(context.Context) (map[string]map[string]string, error) {
	self, err := h.c.Agent().Self()
	if err != nil {
		return nil, h.explain(err)
	}
	out := map[string]map[string]string{}
	for group, v := range self["Stats"] {
		values, ok := v.(map[string]any)
		if !ok {
			continue
		}
		out[group] = map[string]string{}
		for k, v := range values {
			out[group][k] = fmt.Sprint(v)
		}
	}
	return out, nil
}

func (h *httpClient) Keyring(_ context.Context, req *wire.KeyringRequest) ([]*wire.KeyringResponse, error) {
	op := h.c.Operator()
	w := &api.WriteOptions{RelayFactor: req.RelayFactor}
	switch req.Operation {
	case wire.KeyringInstall:
		return nil, h.explain(op.KeyringInstall(req.Key, w))
	case wire.KeyringUse:
		return nil, h.explain(op.KeyringUse(req.Key, w))
	case wire.KeyringRemove:
		return nil, h.explain(op.KeyringRemove(req.Key, w))
	}
	list, err := op.KeyringList(&api.QueryOptions{RelayFactor: req.RelayFactor, LocalOnly: req.LocalOnly})
	if err != nil {
		return nil, h.explain(err)
	}
	out := make([]*wire.KeyringResponse, 0, len(list))
	for _, r := range list {
		if r == nil {
			continue
		}
		out = append(out, &wire.KeyringResponse{
			WAN: r.WAN, Datacenter: r.Datacenter, Segment: r.Segment, Partition: r.Partition,
			Messages: r.Messages, Keys: r.Keys, PrimaryKeys: r.PrimaryKeys, NumNodes: r.NumNodes,
		})
	}
	return out, nil
}

func (h *httpClient) FireEvent(_ context.Context, dc string, ev *wire.UserEvent) (string, error) {
	id, _, err := h.c.Event().Fire(&api.UserEvent{
		Name: ev.Name, Payload: ev.Payload,
		NodeFilter: ev.NodeFilter, ServiceFilter: ev.ServiceFilter, TagFilter: ev.TagFilter,
	}, &api.WriteOptions{Datacenter: dc})
	return id, h.explain(err)
}

func (h *httpClient) Monitor(ctx context.Context, level string, json bool, line func(string)) error {
	start := h.c.Agent().Monitor
	if json {
		start = h.c.Agent().MonitorJSON
	}
	lines, err := start(level, ctx.Done(), nil)
	if err != nil {
		return h.explain(err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case text, open := <-lines:
			if !open || text == "" { // the module's sign for the end of the stream
				if ctx.Err() != nil {
					return nil
				}
				return errStreamEnded
			}
			line(text)
		}
	}
}
