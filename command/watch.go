package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/posener/complete"
)

func watchCommand() *command {
	return &command{
		name:     "watch",
		args:     "[CHILD...]",
		synopsis: "Watch for changes",
		about: "Without CHILD, prints the data as JSON once. With CHILD, runs that program with the data now and after each change, until interrupted: " +
			"as JSON on its standard input, with the index of the change in LICTOR_INDEX and CONSUL_INDEX. A child that fails does not end the watch.",
		example:     "watch -type=service -service=web\nwatch -type=key -key=redis/config 'cat > /etc/redis.json'",
		usesAPI:     true,
		picksServer: true,
		values:      complete.Flags{"-type": complete.PredictSet("key", "keyprefix", "services", "nodes", "service", "checks", "event")},
		positional:  complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			o := &watchOptions{}
			fs.StringVar(&o.kind, "type", "", "The `type` of data: key, keyprefix, services, nodes, service, checks or event; required.")
			fs.StringVar(&o.key, "key", "", "The `key` to watch, for type key.")
			fs.StringVar(&o.prefix, "prefix", "", "The `prefix` to watch, for type keyprefix.")
			fs.StringVar(&o.service, "service", "", "The `service` to watch, for types service and checks.")
			fs.Var(&o.tags, "tag", "Only instances with this `tag`, for type service. May be given again: all have to match.")
			fs.BoolVar(&o.passing, "passingonly", false, "Only healthy instances, for type service: true or false.")
			fs.StringVar(&o.state, "state", "", "The `state` of the checks to watch, for type checks: any, passing, warning or critical.")
			fs.StringVar(&o.name, "name", "", "Only events with this `name`, for type event.")
			fs.StringVar(&o.filter, "filter", "", "Only what this filter `expression` holds for, for types services, nodes, service and checks.")
			fs.BoolVar(&o.shell, "shell", true, "Have the shell run CHILD. With -shell=false it is a program and its arguments.")
			return o.run
		},
	}
}

type watchOptions struct {
	kind, key, prefix, service string
	state, name, filter        string
	tags                       list
	passing, shell             bool
}

// watchKind is one type of data: the flags it takes, the one that it needs, and
// how it is read. read blocks where q says so.
type watchKind struct {
	flags []string
	needs string
	read  func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error)
}

var watchKinds = map[string]watchKind{
	"key": {[]string{"key"}, "key", func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		pair, meta, err := c.KV().Get(kvKey(o.key), q)
		return pair, meta, err
	}},
	"keyprefix": {[]string{"prefix"}, "prefix", func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		pairs, meta, err := c.KV().List(kvKey(o.prefix), q)
		return pairs, meta, err
	}},
	"services": {[]string{"filter"}, "", func(_ *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		services, meta, err := c.Catalog().Services(q)
		return services, meta, err
	}},
	"nodes": {[]string{"filter"}, "", func(_ *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		nodes, meta, err := c.Catalog().Nodes(q)
		return nodes, meta, err
	}},
	"service": {[]string{"service", "tag", "passingonly", "filter"}, "service", func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		entries, meta, err := c.Health().ServiceMultipleTags(o.service, o.tags, o.passing, q)
		return entries, meta, err
	}},
	"checks": {[]string{"service", "state", "filter"}, "", func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		read, what := c.Health().State, first(o.state, api.HealthAny)
		if o.service != "" {
			read, what = c.Health().Checks, o.service
		}
		checks, meta, err := read(what, q)
		return checks, meta, err
	}},
	"event": {[]string{"name"}, "", func(o *watchOptions, c *api.Client, q *api.QueryOptions) (any, *api.QueryMeta, error) {
		events, meta, err := c.Event().List(o.name, q)
		for i, e := range events {
			if q.WaitIndex != 0 && c.Event().IDToIndex(e.ID) == q.WaitIndex {
				events = events[i+1:] // those that were not seen yet
				break
			}
		}
		return events, meta, err
	}},
}

// check says why the flags do not go together.
func (o *watchOptions) check(in *invocation) (watchKind, error) {
	switch o.kind {
	case "":
		return watchKind{}, errors.New("Watch type must be specified")
	case "connect_roots", "connect_leaf", "agent_service":
		return watchKind{}, fmt.Errorf("Type %s is not supported in the CLI tool", o.kind)
	}
	kind, ok := watchKinds[o.kind]
	if !ok {
		return watchKind{}, fmt.Errorf("Unsupported watch type: %s", o.kind)
	}
	if kind.needs != "" && in.fs.Lookup(kind.needs).Value.String() == "" {
		return watchKind{}, fmt.Errorf("Must specify a single %s to watch", kind.needs)
	}
	if o.kind == "checks" && o.service != "" && o.state != "" {
		return watchKind{}, errors.New("Cannot specify service and state")
	}
	for _, name := range []string{"key", "prefix", "service", "tag", "passingonly", "state", "name", "filter"} {
		if in.given(name) && !slices.Contains(kind.flags, name) {
			return watchKind{}, fmt.Errorf("Invalid parameter for type %s: -%s", o.kind, name)
		}
	}
	return kind, nil
}

func (o *watchOptions) run(ctx context.Context, in *invocation) int {
	kind, err := o.check(in)
	if err != nil {
		return in.misuse("%s", err)
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	w := &watcher{
		read: func(index uint64) (any, uint64, error) {
			q := in.query()
			q.Filter, q.WaitIndex = o.filter, index
			data, meta, err := kind.read(o, c.c, q)
			if err != nil {
				return nil, 0, c.explain(err)
			}
			return data, meta.LastIndex, nil
		},
		unordered: o.kind == "event",
		failed: func(err error, wait time.Duration) {
			in.ui.Error(fmt.Sprintf("Watch errored, retrying in %s: %s", wait, err))
		},
	}
	if len(in.args) == 0 {
		data, _, err := w.read(0)
		if err != nil {
			return in.fail("Error querying agent: %s", err)
		}
		text, err := json.MarshalIndent(data, "", "    ")
		if err != nil {
			return in.fail("Error encoding output: %s", err)
		}
		in.ui.Output(string(text))
		return 0
	}
	err = w.follow(ctx, func(index uint64, data []byte) error {
		number := strconv.FormatUint(index, 10)
		err := child{
			args: in.args, shell: o.shell, stdin: bytes.NewReader(data),
			env: []string{"LICTOR_INDEX=" + number, "CONSUL_INDEX=" + number},
		}.run(ctx, in.env)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if ctx.Err() == nil {
				in.ui.Error(fmt.Sprintf("Error executing handler: %s", err))
			}
			return nil
		}
		return err
	})
	if err != nil {
		return in.fail("Error executing handler: %s", err)
	}
	return 0
}

const (
	watchRetry    = 5 * time.Second
	maxWatchRetry = 180 * time.Second
)

// watcher reads data again and again.
type watcher struct {
	// read blocks until the index of the data is another than index.
	read      func(index uint64) (any, uint64, error)
	unordered bool                                // a lower index is not an older one
	failed    func(err error, wait time.Duration) // told of each failure, before the wait
}

// follow calls changed with the data as a line of JSON, first as it is and then
// after each change, until ctx ends (nil) or changed fails.
func (w *watcher) follow(ctx context.Context, changed func(index uint64, data []byte) error) error {
	var index uint64
	var last []byte
	failures := time.Duration(0)
	for ctx.Err() == nil {
		data, now, err := w.read(index)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			failures++
			wait := min(watchRetry*failures*failures, maxWatchRetry)
			w.failed(err, wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			continue
		}
		failures = 0
		if now == index {
			continue // the wait was over
		}
		if now < index && !w.unordered {
			index = 0 // the state was restored from an older one: begin anew
		} else {
			index = now
		}
		text, err := json.Marshal(data)
		if err != nil {
			return err
		}
		if last != nil && bytes.Equal(text, last) {
			continue
		}
		last = text
		if err := changed(now, append(slices.Clip(text), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// childName is the program in the words of a command line: arguments may hold
// secrets.
func childName(args []string) string {
	if words := strings.Fields(strings.Join(args[:1], "")); len(words) > 0 {
		return words[0]
	}
	return ""
}
