package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/posener/complete"
)

func autopilotGetConfigCommand() *command {
	return &command{
		name:        "operator autopilot get-config",
		synopsis:    "Display the current Autopilot configuration",
		about:       "Prints what autopilot, which looks after the set of servers, is configured to do.",
		example:     "operator autopilot get-config",
		usesAPI:     true,
		picksServer: true,
		define: func(*flag.FlagSet) action {
			return askAPI(func(in *invocation, c *httpClient) int {
				conf, err := c.c.Operator().AutopilotGetConfiguration(in.query())
				if err != nil {
					return in.fail("Error querying Autopilot configuration: %s", c.explain(err))
				}
				in.ui.Output(fmt.Sprintf("CleanupDeadServers = %v\nLastContactThreshold = %v\nMaxTrailingLogs = %v\nMinQuorum = %v\n"+
					"ServerStabilizationTime = %v\nRedundancyZoneTag = %q\nDisableUpgradeMigration = %v\nUpgradeVersionTag = %q",
					conf.CleanupDeadServers, conf.LastContactThreshold, conf.MaxTrailingLogs, conf.MinQuorum,
					conf.ServerStabilizationTime, conf.RedundancyZoneTag, conf.DisableUpgradeMigration, conf.UpgradeVersionTag))
				return 0
			})
		},
	}
}

func autopilotSetConfigCommand() *command {
	return &command{
		name:     "operator autopilot set-config",
		synopsis: "Modify the current Autopilot configuration",
		about: "Changes what the flags name in autopilot's configuration and leaves the rest. " +
			"Where somebody else changes it at the same moment nothing is written, and the status is 1.",
		example:     "operator autopilot set-config -cleanup-dead-servers=false\noperator autopilot set-config -min-quorum=3 -last-contact-threshold=500ms",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			o := &autopilotOptions{}
			fs.BoolVar(&o.CleanupDeadServers, "cleanup-dead-servers", false, "Remove dead servers when new ones join: true or false.")
			fs.DurationVar(&o.lastContact, "last-contact-threshold", 0, "How long a server may go without contact with the leader and count as healthy, as a `duration`.")
			fs.Uint64Var(&o.MaxTrailingLogs, "max-trailing-logs", 0, "By how many log `entries` a server may trail and count as healthy.")
			fs.UintVar(&o.MinQuorum, "min-quorum", 0, "The `number` of servers below which no dead one is removed.")
			fs.DurationVar(&o.stabilization, "server-stabilization-time", 0, "How long a new server has to be healthy before it votes, as a `duration`.")
			fs.StringVar(&o.RedundancyZoneTag, "redundancy-zone-tag", "", "Of the family's enterprise version: the node metadata `key` that names zones.")
			fs.BoolVar(&o.DisableUpgradeMigration, "disable-upgrade-migration", false, "Of the family's enterprise version: true or false.")
			fs.StringVar(&o.UpgradeVersionTag, "upgrade-version-tag", "", "Of the family's enterprise version: the node metadata `key` that holds a version.")
			return askAPI(o.run)
		},
	}
}

type autopilotOptions struct {
	api.AutopilotConfiguration
	lastContact, stabilization time.Duration
}

func (o *autopilotOptions) run(in *invocation, c *httpClient) int {
	op := c.c.Operator()
	conf, err := op.AutopilotGetConfiguration(in.query())
	if err != nil {
		return in.fail("Error querying Autopilot configuration: %s", c.explain(err))
	}
	for name, change := range map[string]func(){
		"cleanup-dead-servers":      func() { conf.CleanupDeadServers = o.CleanupDeadServers },
		"last-contact-threshold":    func() { conf.LastContactThreshold = api.NewReadableDuration(o.lastContact) },
		"max-trailing-logs":         func() { conf.MaxTrailingLogs = o.MaxTrailingLogs },
		"min-quorum":                func() { conf.MinQuorum = o.MinQuorum },
		"server-stabilization-time": func() { conf.ServerStabilizationTime = api.NewReadableDuration(o.stabilization) },
		"redundancy-zone-tag":       func() { conf.RedundancyZoneTag = o.RedundancyZoneTag },
		"disable-upgrade-migration": func() { conf.DisableUpgradeMigration = o.DisableUpgradeMigration },
		"upgrade-version-tag":       func() { conf.UpgradeVersionTag = o.UpgradeVersionTag },
	} {
		if in.given(name) {
			change()
		}
	}
	done, err := op.AutopilotCASConfiguration(conf, nil)
	if err != nil {
		return in.fail("Error setting Autopilot configuration: %s", c.explain(err))
	}
	if !done {
		return in.fail("Configuration could not be updated: somebody else has changed it. Please try again.")
	}
	in.ui.Output("Configuration updated!")
	return 0
}

func autopilotStateCommand() *command {
	return &command{
		name:        "operator autopilot state",
		synopsis:    "Display the current Autopilot state",
		about:       "Prints how autopilot sees the servers: which are healthy, which vote, and how many may fail.",
		example:     "operator autopilot state\noperator autopilot state -format=json",
		usesAPI:     true,
		picksServer: true,
		values:      complete.Flags{"-format": complete.PredictSet("pretty", "json")},
		define: func(fs *flag.FlagSet) action {
			format := fs.String("format", "pretty", "Output `format`: pretty or json.")
			return func(ctx context.Context, in *invocation) int {
				switch {
				case len(in.args) > 0:
					return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
				case *format != "pretty" && *format != "json":
					return in.fail("Unknown format: %s", *format)
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				state, err := c.c.Operator().AutopilotState(in.query())
				if err != nil {
					return in.fail("Error querying Autopilot state: %s", c.explain(err))
				}
				if *format == "pretty" {
					in.ui.Output(autopilotText(state))
					return 0
				}
				text, err := json.MarshalIndent(state, "", "   ")
				if err != nil {
					return in.fail("Error formatting Autopilot state: %s", err)
				}
				in.ui.Output(string(text))
				return 0
			}
		},
	}
}

// autopilotText is the state for people. Servers are in the order of their ids.
func autopilotText(s *api.AutopilotState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Healthy:                      %t\n", s.Healthy)
	fmt.Fprintf(&b, "Failure Tolerance:            %d\n", s.FailureTolerance)
	fmt.Fprintf(&b, "Optimistic Failure Tolerance: %d\n", s.OptimisticFailureTolerance)
	fmt.Fprintf(&b, "Leader:                       %s\n", clean(s.Leader))
	fmt.Fprintf(&b, "Voters:\n")
	for _, id := range s.Voters {
		fmt.Fprintf(&b, "   %s\n", clean(id))
	}
	fmt.Fprintf(&b, "\nServers:\n")
	for _, id := range slices.Sorted(maps.Keys(s.Servers)) {
		srv := s.Servers[id]
		fmt.Fprintf(&b, "   %s\n", clean(id))
		for _, row := range [][2]string{
			{"Name", srv.Name}, {"Address", srv.Address}, {"Version", srv.Version},
			{"Status", string(srv.Status)}, {"Node Type", string(srv.NodeType)}, {"Node Status", srv.NodeStatus},
			{"Healthy", fmt.Sprint(srv.Healthy)}, {"Last Contact", srv.LastContact.String()},
			{"Last Term", fmt.Sprint(srv.LastTerm)}, {"Last Index", fmt.Sprint(srv.LastIndex)},
		} {
			fmt.Fprintf(&b, "      %-14s%s\n", row[0]+":", clean(row[1]))
		}
		if len(srv.Meta) > 0 {
			fmt.Fprintf(&b, "      Meta\n")
			for _, k := range slices.Sorted(maps.Keys(srv.Meta)) {
				fmt.Fprintf(&b, "         %q: %q\n", k, srv.Meta[k])
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}
