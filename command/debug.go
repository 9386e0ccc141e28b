package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lictor/version"

	"github.com/hashicorp/consul/api"
	"github.com/posener/complete"
)

const (
	minDebugDuration = 10 * time.Second
	minDebugInterval = 5 * time.Second
)

// debugTargets are what can be captured.
var debugTargets = []string{"metrics", "logs", "pprof", "host", "agent", "members"}

func debugCommand() *command {
	return &command{
		name:     "debug",
		synopsis: "Records a debugging archive for operators",
		about: "Asks the agent what it is, follows its log and its metrics for a while, profiles it, and puts everything into an archive. " +
			"An interrupt ends the capture early and keeps what there is.\n" +
			"Tokens and keys are not in the archive. Names, addresses and the rest of the configuration are: look through it before you hand it on.",
		example: "debug -duration=1m -interval=15s\ndebug -capture=logs -capture=agent -output=/tmp/web-1",
		usesAPI: true,
		values:  complete.Flags{"-capture": complete.PredictSet(debugTargets...), "-output": complete.PredictDirs("*")},
		define: func(fs *flag.FlagSet) action {
			o := &debugOptions{}
			fs.DurationVar(&o.duration, "duration", 5*time.Minute, "For how long to capture, as a `duration` of 10s or more.")
			fs.DurationVar(&o.interval, "interval", 30*time.Second, "How often to take the profiles, as a `duration` of 5s or more.")
			fs.Var(&o.capture, "capture", "One `target` to capture: "+strings.Join(debugTargets, ", ")+". May be given again. The default is everything.")
			fs.StringVar(&o.output, "output", "", "`path` of the folder and, with .tar.gz after it, of the archive. Without it, consul-debug- and the time, here.")
			fs.BoolVar(&o.archive, "archive", true, "Make an archive and remove the folder.")
			return o.run
		},
	}
}

type debugOptions struct {
	duration, interval time.Duration
	capture            list
	output             string
	archive            bool
}

func (o *debugOptions) run(ctx context.Context, in *invocation) int {
	if len(in.args) > 0 {
		return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
	}
	if err := o.check(); err != nil {
		return in.fail("Capture validation failed: %s", err)
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	self, err := c.c.Agent().Self()
	if err != nil {
		return in.fail("Error querying target agent: %s", c.explain(err))
	}
	if o.output == "" {
		o.output = "consul-debug-" + time.Now().UTC().Format("2006-01-02T15-04-05Z")
	}
	if _, err := os.Lstat(o.output + ".tar.gz"); err == nil && o.archive {
		return in.fail("Capture validation failed: %s.tar.gz already exists", o.output)
	}
	if err := os.Mkdir(o.output, 0o700); err != nil {
		return in.fail("Capture validation failed: could not create output directory: %s", err)
	}
	agentVersion, _ := self["Config"]["Version"].(string)
	in.ui.Output("==> Starting debugger and capturing static information...")
	for _, row := range [][2]string{
		{"Agent Version", clean(agentVersion)}, {"Interval", o.interval.String()}, {"Duration", o.duration.String()},
		{"Output", o.result()}, {"Capture", strings.Join(o.capture, ", ")},
	} {
		in.ui.Output(fmt.Sprintf("%18s: '%s'", row[0], row[1]))
	}
	d := &debugCapture{
		c: c, dir: o.output, targets: o.capture,
		warn: func(what string, err error) {
			in.ui.Warn(fmt.Sprintf("[WARN] Unable to capture %s: %s", what, c.explain(err)))
		},
	}
	err = d.write("index.json", map[string]any{
		"Version": version.String(), "AgentVersion": agentVersion,
		"Interval": o.interval.String(), "Duration": o.duration.String(), "Targets": []string(o.capture),
	})
	if err != nil {
		return in.fail("Error encountered during capture: %s", err)
	}
	d.static(self)
	if d.has("metrics") || d.has("logs") || d.has("pprof") {
		in.ui.Output("==> Capturing dynamic information. It ends in " + o.duration.String() + ", or when interrupted.")
		d.follow(ctx, o.duration, o.interval)
	}
	if !o.archive {
		in.ui.Output("Saved debug directory: " + o.output)
		return 0
	}
	if err := archiveFolder(o.output, o.result()); err != nil {
		return in.fail("Archive creation failed, the folder stays: %s", err)
	}
	if err := os.RemoveAll(o.output); err != nil {
		return in.fail("Error removing %s: %s", o.output, err)
	}
	in.ui.Output("Saved debug archive: " + o.result())
	return 0
}

// check puts the targets into their final form.
func (o *debugOptions) check() error {
	switch {
	case o.duration < minDebugDuration:
		return fmt.Errorf("duration must be longer than %s", minDebugDuration)
	case o.interval < minDebugInterval:
		return fmt.Errorf("interval must be longer than %s", minDebugInterval)
	case o.duration < o.interval:
		return fmt.Errorf("duration (%s) must be longer than interval (%s)", o.duration, o.interval)
	}
	for i, t := range o.capture {
		if t == "cluster" { // its older name
			o.capture[i] = "members"
		} else if !slices.Contains(debugTargets, t) {
			return fmt.Errorf("unknown capture target: %q", t)
		}
	}
	if len(o.capture) == 0 {
		o.capture = slices.Clone(debugTargets)
	}
	return nil
}

// result is the path of what is left in the end.
func (o *debugOptions) result() string {
	if o.archive {
		return o.output + ".tar.gz"
	}
	return o.output
}

// debugCapture writes what it asks an agent into a folder. What cannot be
// captured is told to warn and left out.
type debugCapture struct {
	c       *httpClient
	dir     string
	targets []string
	warn    func(what string, err error)
}

func (d *debugCapture) has(target string) bool { return slices.Contains(d.targets, target) }

// write writes v as JSON, without secrets.
func (d *debugCapture) write(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return err
	}
	if text, err = json.MarshalIndent(d.scrub("", tree), "", "\t"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, name), append(text, '\n'), 0o600)
}

// static writes what does not change.
func (d *debugCapture) static(self map[string]map[string]any) {
	save := func(target, name string, get func() (any, error)) {
		if !d.has(target) {
			return
		}
		v, err := get()
		if err == nil {
			err = d.write(name, v)
		}
		if err != nil {
			d.warn(name, err)
		}
	}
	save("agent", "agent.json", func() (any, error) { return self, nil })
	save("host", "host.json", func() (any, error) { return d.c.c.Agent().Host() })
	save("members", "members.json", func() (any, error) { return d.c.c.Agent().MembersOpts(api.MembersOpts{Segment: api.AllSegments}) })
	save("members", "listpeers.json", func() (any, error) {
		return d.c.c.Operator().RaftGetConfiguration(&api.QueryOptions{AllowStale: true})
	})
}

// follow captures for duration or until ctx ends, and returns once everything
// is written.
func (d *debugCapture) follow(ctx context.Context, duration, interval time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var all sync.WaitGroup
	capture := func(name string, f func(context.Context, io.Writer) error) {
		all.Go(func() {
			if err := d.stream(ctx, name, f); err != nil {
				d.warn(name, err)
			}
		})
	}
	if d.has("logs") {
		capture("consul.log", d.logs)
	}
	if d.has("metrics") {
		capture("metrics.json", d.metrics)
	}
	if d.has("pprof") {
		// The two that last the whole time are asked for no more than is left of it.
		seconds := int(duration/time.Second) - 1
		capture("profile.prof", d.profile("profile", seconds))
		capture("trace.out", d.profile("trace", seconds))
		all.Go(func() { d.profiles(ctx, interval) })
	}
	all.Wait()
}

// stream has f write a file until ctx ends, which is no failure. A file into
// which nothing came is removed.
func (d *debugCapture) stream(ctx context.Context, name string, f func(context.Context, io.Writer) error) error {
	path := filepath.Join(d.dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f(ctx, file)
	if ctx.Err() != nil {
		err = nil
	}
	info, statErr := file.Stat()
	err = errors.Join(err, statErr, file.Close())
	if statErr == nil && info.Size() == 0 {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (d *debugCapture) logs(ctx context.Context, w io.Writer) error {
	var failed error
	err := d.c.Monitor(ctx, "DEBUG", false, func(line string) {
		if _, err := fmt.Fprintln(w, d.hide(line)); err != nil {
			failed = err
		}
	})
	return errors.Join(err, failed)
}

func (d *debugCapture) metrics(ctx context.Context, w io.Writer) error {
	body, err := d.c.c.Agent().MetricsStream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}

func (d *debugCapture) profile(name string, seconds int) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		body, err := d.c.c.Debug().PProf(ctx, name, seconds)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(w, body)
		return err
	}
}

// state is a profile of this moment.
func (d *debugCapture) state(get func() ([]byte, error)) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		b, err := get()
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}
}

// profiles takes the state of memory and goroutines at once and after every
// interval, each time into a folder of its own. It ends at the first failure.
func (d *debugCapture) profiles(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	heap, goroutine := d.state(d.c.c.Debug().Heap), d.state(d.c.c.Debug().Goroutine)
	for since := time.Duration(0); ; since += interval {
		sub := since.String()
		err := os.Mkdir(filepath.Join(d.dir, sub), 0o700)
		if err == nil {
			err = d.stream(ctx, filepath.Join(sub, "heap.prof"), heap)
		}
		if err == nil {
			err = d.stream(ctx, filepath.Join(sub, "goroutine.prof"), goroutine)
		}
		if err != nil {
			d.warn("pprof, for which the agent needs enable_debug", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
