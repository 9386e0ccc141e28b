package command

import (
	"context"
	"flag"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

func maintCommand() *command {
	return &command{
		name:     "maint",
		synopsis: "Controls node or service maintenance mode",
		about: "Puts the agent's node, or one of its services, into maintenance mode and takes it out again. What is in maintenance counts as critical: " +
			"it is left out of the answers that only list what is healthy. The mode survives a restart of the agent.\n" +
			"Without flags, prints what is in maintenance on this agent, and why.",
		example: "maint -enable -reason='new disk'\nmaint -enable -service=web\nmaint -disable",
		usesAPI: true,
		define: func(fs *flag.FlagSet) action {
			o := &maintOptions{}
			fs.BoolVar(&o.enable, "enable", false, "Enter maintenance mode.")
			fs.BoolVar(&o.disable, "disable", false, "Leave maintenance mode.")
			fs.StringVar(&o.reason, "reason", "", "`text` that says why, for -enable.")
			fs.StringVar(&o.service, "service", "", "The service with this `id`, not the whole node.")
			return o.run
		},
	}
}

type maintOptions struct {
	enable, disable bool
	reason, service string
}

func (o *maintOptions) run(ctx context.Context, in *invocation) int {
	switch {
	case len(in.args) > 0:
		return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
	case o.enable && o.disable:
		return in.fail("Only one of -enable or -disable may be provided")
	case !o.enable && o.reason != "":
		return in.fail("Reason may only be provided with -enable")
	case !o.enable && !o.disable && o.service != "":
		return in.fail("-service needs -enable or -disable")
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	agent := c.c.Agent()
	var err error
	switch {
	case o.enable && o.service != "":
		if err = agent.EnableServiceMaintenance(o.service, o.reason); err == nil {
			in.ui.Output("Service maintenance is now enabled for \"" + o.service + "\"")
		}
	case o.disable && o.service != "":
		if err = agent.DisableServiceMaintenance(o.service); err == nil {
			in.ui.Output("Service maintenance is now disabled for \"" + o.service + "\"")
		}
	case o.enable:
		if err = agent.EnableNodeMaintenance(o.reason); err == nil {
			in.ui.Output("Node maintenance is now enabled")
		}
	case o.disable:
		if err = agent.DisableNodeMaintenance(); err == nil {
			in.ui.Output("Node maintenance is now disabled")
		}
	default:
		return o.show(in, c)
	}
	switch {
	case err == nil:
		return 0
	case o.enable:
		return in.fail("Error enabling maintenance: %s", c.explain(err))
	}
	return in.fail("Error disabling maintenance: %s", c.explain(err))
}

// show prints what is in maintenance: the node first, then services by id.
func (o *maintOptions) show(in *invocation, c *httpClient) int {
	checks, err := c.c.Agent().Checks()
	if err != nil {
		return in.fail("Error getting checks: %s", c.explain(err))
	}
	if check := checks[api.NodeMaint]; check != nil {
		in.ui.Output("Node:\n  Name:   " + clean(check.Node) + "\n  Reason: " + clean(check.Notes) + "\n")
	}
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		if check := checks[id]; check != nil && strings.HasPrefix(id, api.ServiceMaintPrefix) {
			in.ui.Output("Service:\n  ID:     " + clean(check.ServiceID) + "\n  Reason: " + clean(check.Notes) + "\n")
		}
	}
	return 0
}
