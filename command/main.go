// Package command is Lictor's command line: a file a subcommand, which reads
// its flags, calls one thing and prints. Outputs and exit codes are those of
// the family's CLI with lictor for the program's name.
//
// Commands that operate an agent reach it over its local RPC
// (127.0.0.1:8400) or, where a flag or the environment names one, over an HTTP
// API; see target. They see only the small interface agentClient. Commands that
// read and write the cluster's data use the HTTP API (127.0.0.1:8500); see
// invocation.api.
//
// It does not hide what a caller puts into its own command line: the process
// list shows arguments. Every secret can therefore also be given in a file, on
// the standard input or in the environment.
package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/cli"
)

// program is the name that help texts and completions use.
const program = "lictor"

// environment is what a command may touch of the process it runs in.
type environment struct {
	ctx    context.Context
	ui     cli.Ui
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	dial   func(context.Context, target) (agentClient, error)
}

// Main runs the command line args (without the program's name) and returns the
// exit status. It blocks until the command is done; an interrupt or SIGTERM
// cancels it, a second one kills the process. The agent command has signals of
// its own.
func Main(ctx context.Context, args []string) int {
	env := &environment{
		ctx: ctx,
		ui: &cli.ConcurrentUi{Ui: &cli.BasicUi{
			Reader: os.Stdin, Writer: os.Stdout, ErrorWriter: os.Stderr,
		}},
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
		dial:   dial,
	}
	return run(env, args, os.Stdout, os.Stderr)
}

func run(env *environment, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "-v" || args[0] == "-version" || args[0] == "--version") {
		args = append([]string{"version"}, args[1:]...)
	}
	c := cli.NewCLI(program, "")
	c.Args = args
	c.Commands = commands(env)
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && c.Commands[args[0]] == nil {
		fmt.Fprintf(stderr, "Unknown command: %q%s\n\n", args[0], notHere[args[0]])
	}
	c.HelpWriter = stdout
	c.ErrorWriter = stderr
	status, err := c.Run()
	if err != nil {
		fmt.Fprintf(stderr, "Error executing CLI: %s\n", err)
		if status == 0 {
			status = 1
		}
	}
	return status
}

// commands is every subcommand by name.
func commands(env *environment) map[string]cli.CommandFactory {
	all := map[string]cli.CommandFactory{}
	for _, define := range []func() *command{
		agentCommand, completionCommand, eventCommand, forceLeaveCommand, infoCommand, joinCommand,
		keygenCommand, keyringCommand, leaveCommand, membersCommand, monitorCommand, reloadCommand,
		validateCommand, versionCommand,
		kvGetCommand, kvPutCommand, kvDeleteCommand, kvExportCommand, kvImportCommand,
		catalogDatacentersCommand, catalogNodesCommand, catalogServicesCommand,
		servicesRegisterCommand, servicesDeregisterCommand, maintCommand, rttCommand, watchCommand, lockCommand, debugCommand,
		raftListPeersCommand, raftRemovePeerCommand, raftTransferLeaderCommand,
		autopilotGetConfigCommand, autopilotSetConfigCommand, autopilotStateCommand, usageInstancesCommand,
		snapshotSaveCommand, snapshotRestoreCommand, snapshotInspectCommand, snapshotDecodeCommand,
		tlsCACreateCommand, tlsCertCreateCommand, tlsCertInspectCommand, tlsCertRenewCommand,
	} {
		all[define().name] = func() (cli.Command, error) {
			c := define()
			c.env = env
			return c, nil
		}
	}
	for name, synopsis := range groups {
		if _, ok := all[name]; !ok {
			all[name] = func() (cli.Command, error) { return &group{env, name, synopsis}, nil }
		}
	}
	return all
}

// notHere says of the family's commands that this program does not have them.
var notHere = func() map[string]string {
	out := map[string]string{}
	for _, name := range strings.Fields("acl config connect exec intention login logout peering resource troubleshoot") {
		out[name] = " (the family has it, " + program + " does not)"
	}
	return out
}()

// groups are the names that only hold subcommands.
var groups = map[string]string{
	"catalog":            "Interact with the catalog",
	"kv":                 "Interact with the key-value store",
	"operator":           "Provides cluster-level tools for operators",
	"operator autopilot": "Provides tools for modifying Autopilot configuration",
	"operator raft":      "Provides cluster-level tools for operators on the Raft subsystem",
	"operator usage":     "Provides cluster-level usage information",
	"services":           "Interact with services",
	"snapshot":           "Saves, restores and inspects snapshots of the servers' state",
	"tls":                "Built-in helpers for creating and reading CAs and certificates",
	"tls ca":             "Helpers for CAs",
	"tls cert":           "Helpers for certificates",
}

// group is a name that only holds subcommands: it prints its help, and fails.
type group struct {
	env            *environment
	name, synopsis string
}

func (g *group) Run(args []string) int {
	if len(args) > 0 {
		g.env.ui.Error(fmt.Sprintf("Unknown subcommand of %s: %q\n", g.name, args[0]))
	}
	return cli.RunResultHelp
}

func (g *group) Synopsis() string { return g.synopsis }

func (g *group) Help() string {
	return "Usage: " + program + " " + g.name + " <subcommand> [options]\n\n  " + g.synopsis + "."
}

// untilSignal returns a context that ends at the first interrupt or SIGTERM and
// then restores their default handling, so that a second one kills.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
