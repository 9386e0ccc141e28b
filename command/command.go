package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/cli"
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

	reachesAgent bool // takes the flags that say how to reach one
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
}

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

// flags returns a fresh flag set, the command's action over it, and the flags
// that say where the agent is.
func (c *command) flags() (*flag.FlagSet, action, *targetFlags) {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	act := c.define(fs)
	to := &targetFlags{}
	if c.reachesAgent {
		to.register(fs)
	}
	return fs, act, to
}

// Run parses args and runs the command.
func (c *command) Run(args []string) int {
	fs, act, to := c.flags()
	in := &invocation{env: c.env, ui: c.env.ui, fs: fs, help: c.Help, to: to}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			c.env.ui.Output(c.Help())
			return 0
		}
		return in.misuse("%s", err)
	}
	in.args = fs.Args()
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
func (c *command) Help() string {
	fs, _, _ := c.flags()
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s", strings.TrimSpace(program+" "+c.name+" [options] "+c.args), indent(wrap(c.about, 76), "  "))
	own, reach := &strings.Builder{}, &strings.Builder{}
	fs.VisitAll(func(f *flag.Flag) {
		out := own
		if c.reachesAgent && isTargetFlag(f.Name) {
			out = reach
		}
		kind, text := flag.UnquoteUsage(f)
		if kind != "" {
			kind = "=<" + kind + ">"
		}
		fmt.Fprintf(out, "\n  -%s%s\n%s", f.Name, kind, indent(wrap(upperFirst(text), 72), "     "))
	})
	if own.Len() > 0 {
		b.WriteString("\n\nOptions\n" + own.String())
	}
	if reach.Len() > 0 {
		b.WriteString("\n\nReaching the agent\n" + reach.String())
	}
	return strings.TrimRight(b.String(), "\n")
}

// AutocompleteArgs completes positional arguments.
func (c *command) AutocompleteArgs() complete.Predictor {
	if c.positional == nil {
		return complete.PredictNothing
	}
	return c.positional
}

// AutocompleteFlags completes flags and their values.
func (c *command) AutocompleteFlags() complete.Flags {
	fs, _, _ := c.flags()
	all := complete.Flags{}
	fs.VisitAll(func(f *flag.Flag) {
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
