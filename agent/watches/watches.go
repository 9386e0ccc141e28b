// Package watches runs a handler whenever something in the cluster changes: a
// program that gets the new view as JSON on its standard input, or an HTTP request
// with it as the body. What is watched is asked of this agent's own HTTP API, with
// blocking queries, by the family's client library.
//
// A handler gets whatever others put into the cluster; its input is data and
// never part of its command line. It runs as long as it needs, and the next
// change waits for it; it is killed when the watch ends.
package watches

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"sync"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
	"github.com/hashicorp/go-hclog"

	"lictor/agent/script"
	"lictor/tlsutil"
)

// maxOutput is how much of a handler's output is logged.
const maxOutput = 4096

// Config is what watches need of the agent.
type Config struct {
	// API answers requests to this agent's own HTTP API, whatever their host
	// (see Over).
	API http.RoundTripper
	Log hclog.Logger
}

// Set is the watches of one agent. Its methods may be called from any goroutine.
type Set struct {
	cfg   Config
	tasks sync.WaitGroup

	mu      sync.Mutex      // guards the fields below
	run     context.Context // nil while watches do not run
	running []*running
	wanted  []*Definition
}

type running struct {
	def    *Definition
	cancel context.CancelFunc
}

// New makes a set without watches.
func New(cfg Config) *Set {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	return &Set{cfg: cfg}
}

// Replace makes these the watches. One that was among those before goes on; a new
// one runs its handler with the present view.
func (s *Set) Replace(defs []*Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = defs
	s.followLocked()
}

// Run runs the watches until ctx ends, and returns when they and their handlers
// have ended. It is called once.
func (s *Set) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.run = ctx
	s.followLocked()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	s.tasks.Wait()
	return nil
}

// followLocked ends what is not wanted and starts what is.
func (s *Set) followLocked() {
	if s.run == nil {
		return
	}
	old := s.running
	s.running = nil
	for _, def := range s.wanted {
		found := false
		for i, r := range old {
			if r != nil && reflect.DeepEqual(r.def, def) {
				s.running, old[i], found = append(s.running, r), nil, true
				break
			}
		}
		if !found {
			ctx, cancel := context.WithCancel(s.run)
			s.running = append(s.running, &running{def, cancel})
			s.tasks.Go(func() { s.watch(ctx, def) })
		}
	}
	for _, r := range old {
		if r != nil {
			r.cancel()
		}
	}
}

// watch follows one definition until ctx ends.
func (s *Set) watch(ctx context.Context, def *Definition) {
	log := s.cfg.Log.With("type", def.Type)
	plan, err := def.plan()
	if err != nil {
		log.Error("a watch cannot run", "error", err)
		return
	}
	client, err := api.NewClient(&api.Config{
		Address: "127.0.0.1", Scheme: "http", HttpClient: &http.Client{Transport: s.cfg.API}, Datacenter: plan.Datacenter, Token: plan.Token,
	})
	if err != nil {
		log.Error("a watch cannot run", "error", err)
		return
	}
	plan.HybridHandler = func(at watch.BlockingParamVal, view any) {
		body, err := json.Marshal(view)
		if err == nil {
			err = def.handle(ctx, fmt.Sprint(at), append(body, '\n'), log)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("the handler of a watch failed", "error", err)
		}
	}
	stop := context.AfterFunc(ctx, plan.Stop)
	defer stop()
	if err := plan.RunWithClientAndHclog(client, log); err != nil {
		log.Error("a watch ended", "error", err)
	}
}

// handle runs the handler with a view and the index it is of.
func (d *Definition) handle(ctx context.Context, index string, view []byte, log hclog.Logger) error {
	if d.HTTP != nil {
		return d.HTTP.send(ctx, index, view, log)
	}
	r, err := script.Command{Args: d.Args, Stdin: bytes.NewReader(view), Env: []string{"CONSUL_INDEX=" + index}, MaxOutput: maxOutput}.Run(ctx)
	if err != nil {
		return err
	}
	log.Debug("the handler of a watch has run", "status", r.Code, "output", r.Output)
	if r.Code != 0 {
		return fmt.Errorf("exit status %d", r.Code)
	}
	return nil
}

// send makes the request. It follows no redirect: the view goes where the
// configuration says and nowhere else.
func (h *HTTPHandler) send(ctx context.Context, index string, view []byte, log hclog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, h.Method, h.Path, bytes.NewReader(view))
	if err != nil {
		return fmt.Errorf("the request cannot be made")
	}
	for name, values := range h.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Consul-Index", index)
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: tlsutil.CheckConfig(nil, "", h.TLSSkipVerify)}
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := script.NewOutput(maxOutput)
	_, _ = io.Copy(out, io.LimitReader(resp.Body, maxOutput))
	log.Debug("the handler of a watch has answered", "status", resp.StatusCode, "output", out.String())
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the handler answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}

// Over is a RoundTripper that calls h in this process. It returns when h has
// answered completely.
func Over(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	in := req.Clone(req.Context())
	in.RequestURI, in.RemoteAddr, in.Host = req.URL.RequestURI(), "127.0.0.1:0", req.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answer{header: http.Header{}}
	defer func() {
		if recover() != nil {
			resp, err = nil, fmt.Errorf("the API gave up on the request")
		}
	}()
	p.ServeHTTP(w, in)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: req,
	}, nil
}

// answer is what a handler in this process answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
