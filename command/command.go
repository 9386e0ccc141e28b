package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/cli"
	"github.com/hashicorp/consul/api"
	"github.com/posener/complete"
)

// action is what a command does once its flags are read. It returns the exit
// status.
type action func(ctx context.Context, in *invocation) int

// command is one subcommand. It implements cli.Command and
// cli.CommandAutocomplete.
type command struct {
	env *environment

	name     string
	args     string // after the options in the usage line: "ADDRESS..."
	synopsis string
	about    string
	example  string // one or more command lines, without the program's name

	reachesAgent bool // takes the flags that say how to reach one
	usesAPI      bool // takes the flags that say where an HTTP API is
	picksServer  bool // takes -datacenter and -stale, and the family's names without effect; with usesAPI
	ownSignals   bool // handles signals itself

	// define registers the command's own flags and returns what it does. It is
	// called once for each parse.
	define func(fs *flag.FlagSet) action
	// values completes the values of flags by name; positional those of arguments.
	values     complete.Flags
	positional complete.Predictor
}

// invocation is one call of a command.
type invocation struct {
	env  *environment
	ui   cli.Ui
	args []string
	fs   *flag.FlagSet
	help func() string
	to   *targetFlags
	dc   string // -datacenter
	old  bool   // -stale: any server may answer
}

// api reaches the HTTP API that the flags and the environment name; nothing is
// sent yet, and every request ends with ctx. On failure it has told the user,
// and ok is false. The caller closes the client.
func (in *invocation) api(ctx context.Context) (c *httpClient, ok bool) {
	h, err := in.to.http(in.env.getenv)
	if err == nil {
		h.Datacenter = in.dc
		c, err = dialHTTP(ctx, h)
	}
	if err != nil {
		in.ui.Error(fmt.Sprintf("Error connecting to the agent: %s", err))
		return nil, false
	}
	c.hint = hintAPI
	return c, true
}

// askAPI is the action of a command that takes no arguments and asks the HTTP API.
// It owns the client.
func askAPI(ask func(in *invocation, c *httpClient) int) action {
	return func(ctx context.Context, in *invocation) int {
		if len(in.args) > 0 {
			return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
		}
		c, ok := in.api(ctx)
		if !ok {
			return 1
		}
		defer c.Close()
		return ask(in, c)
	}
}

// query are the options of a read.
func (in *invocation) query() *api.QueryOptions { return &api.QueryOptions{AllowStale: in.old} }

// connect reaches the agent that the flags and the environment name. On
// failure it has told the user, and ok is false.
func (in *invocation) connect(ctx context.Context) (c agentClient, ok bool) {
	t, err := in.to.resolve(in.fs, in.env.getenv)
	if err == nil {
		c, err = in.env.dial(ctx, t)
	}
	if err != nil {
		in.ui.Error(fmt.Sprintf("Error connecting to the agent: %s", err))
		return nil, false
	}
	return c, true
}

// misuse tells the user what was wrong with the command line, and the usage.
func (in *invocation) misuse(format string, args ...any) int {
	in.ui.Error(fmt.Sprintf(format, args...))
	in.ui.Error("")
	in.ui.Error(in.help())
	return 1
}

// fail tells the user what went wrong: part of it may be in the words of another
// machine.
func (in *invocation) fail(format string, args ...any) int {
	in.ui.Error(cleanText(fmt.Sprintf(format, args...)))
	return 1
}

// given reports whether the flag was on the command line.
func (in *invocation) given(name string) bool {
	found := false
	in.fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// parser returns the command's action and an invocation of it that has a fresh
// flag set.
func (c *command) parser() (action, *invocation) {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	act := c.define(fs)
	in := &invocation{env: c.env, fs: fs, help: func() string { return c.usage(false) }, to: &targetFlags{}}
	switch {
	case c.reachesAgent:
		in.to.registerAgent(fs)
	case c.usesAPI:
		in.to.registerAPI(fs)
	}
	if c.picksServer {
		fs.StringVar(&in.dc, "datacenter", "", "Ask this `datacenter`. The default is the agent's own.")
		fs.BoolVar(&in.old, "stale", false, "Let any server answer a read, not only the leader. The answer may be old.")
		enterpriseFlags(fs)
	}
	return act, in
}

// Run parses args and runs the command.
func (c *command) Run(args []string) int {
	act, in := c.parser()
	in.ui = c.env.ui
	if err := in.fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			c.env.ui.Output(c.Help())
			return 0
		}
		return in.misuse("%s", err)
	}
	in.args = in.fs.Args()
	ctx := c.env.ctx
	if !c.ownSignals {
		var stop context.CancelFunc
		ctx, stop = untilSignal(ctx)
		defer stop()
	}
	return act(ctx, in)
}

// Synopsis is the line in the list of commands.
func (c *command) Synopsis() string { return c.synopsis }

// Help is the text of -h.
func (c *command) Help() string { return c.usage(true) }

// usage is the text of -h. Below an error it goes without the flags that all
// commands have to reach the agent, or they push the error off the screen.
func (c *command) usage(whole bool) string {
	_, in := c.parser()
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s", strings.TrimSpace(program+" "+c.name+" [options] "+c.args), indent(wrap(c.about, 76), "  "))
	if c.example != "" {
		b.WriteString("\n\nExample\n")
		for line := range strings.SplitSeq(c.example, "\n") {
			b.WriteString("\n  $ " + program + " " + line)
		}
	}
	own, reach := &strings.Builder{}, &strings.Builder{}
	in.fs.VisitAll(func(f *flag.Flag) {
		out := own
		if (c.reachesAgent || c.usesAPI) && isTargetFlag(f.Name) {
			out = reach
		}
		kind, text := flag.UnquoteUsage(f)
		if kind != "" {
			kind = "=<" + kind + ">"
		}
		if f.DefValue != "" && kind != "" && !slices.Contains(noDefault, f.DefValue) {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(out, "\n  -%s%s\n%s", f.Name, kind, indent(wrap(upperFirst(text), 72), "     "))
	})
	if own.Len() > 0 {
		b.WriteString("\n\nOptions\n" + own.String())
	}
	switch {
	case reach.Len() > 0 && whole:
		b.WriteString("\n\nReaching the agent\n" + reach.String())
	case reach.Len() > 0:
		b.WriteString("\n\nThe flags for reaching the agent: " + program + " " + c.name + " -help")
	}
	return strings.TrimRight(b.String(), "\n")
}

// noDefault are the values that flags have which were not given, and which say
// nothing to the reader of a help text.
var noDefault = []string{"0", "0s", "-1", ".*"}

// AutocompleteArgs completes positional arguments.
func (c *command) AutocompleteArgs() complete.Predictor {
	if c.positional == nil {
		return complete.PredictNothing
	}
	return c.positional
}

// AutocompleteFlags completes flags and their values.
func (c *command) AutocompleteFlags() complete.Flags {
	_, in := c.parser()
	all := complete.Flags{}
	in.fs.VisitAll(func(f *flag.Flag) {
		switch p, ok := c.values["-"+f.Name]; {
		case ok:
			all["-"+f.Name] = p
		case isBool(f):
			all["-"+f.Name] = complete.PredictNothing
		case strings.HasSuffix(f.Name, "-file"), f.Name == "client-cert", f.Name == "client-key":
			all["-"+f.Name] = complete.PredictFiles("*")
		case strings.HasSuffix(f.Name, "-dir"), strings.HasSuffix(f.Name, "-path"):
			all["-"+f.Name] = complete.PredictDirs("*")
		default:
			all["-"+f.Name] = complete.PredictAnything
		}
	})
	return all
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// wrap breaks text into lines of at most width, keeping its own line breaks.
func wrap(text string, width int) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "  ") { // an example: as it is
			out = append(out, line)
			continue
		}
		cur := ""
		for _, word := range strings.Fields(line) {
			switch {
			case cur == "":
				cur = word
			case len(cur)+1+len(word) > width:
				out = append(out, cur)
				cur = word
			default:
				cur += " " + word
			}
		}
		out = append(out, cur)
	}
	return strings.Join(out, "\n")
}

func indent(text, by string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "\n")
}
