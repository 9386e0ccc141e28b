package command

import (
	"context"
	"flag"
	"regexp"

	"lictor/rpc/wire"
)

func eventCommand() *command {
	return &command{
		name:         "event",
		args:         "[PAYLOAD]",
		synopsis:     "Fire a new event",
		example:      "event -name=deploy -service=web 1.4.2",
		about:        "Sends an event with an optional payload to the agents of a datacenter and prints its id. Filters are regular expressions; agents that they do not match ignore the event.",
		reachesAgent: true,
		define: func(fs *flag.FlagSet) action {
			ev := &wire.UserEvent{Version: 1}
			dc := fs.String("datacenter", "", "Fire in this `datacenter`. The default is the agent's own.")
			fs.Bool("stale", false, "Accepted for the family's scripts: an event is never a stale read.")
			fs.StringVar(&ev.Name, "name", "", "`name` of the event; required.")
			fs.StringVar(&ev.NodeFilter, "node", "", "Only nodes whose name matches this `expression`.")
			fs.StringVar(&ev.ServiceFilter, "service", "", "Only nodes with a service that matches this `expression`.")
			fs.StringVar(&ev.TagFilter, "tag", "", "Only services with a tag that matches this `expression`; needs -service.")
			return func(ctx context.Context, in *invocation) int {
				if ev.Name == "" {
					return in.misuse("Event name must be specified (-name)")
				}
				for name, expr := range map[string]string{"node": ev.NodeFilter, "service": ev.ServiceFilter, "tag": ev.TagFilter} {
					if _, err := regexp.Compile(expr); err != nil {
						return in.fail("Failed to compile %s filter regexp: %s", name, err)
					}
				}
				if ev.TagFilter != "" && ev.ServiceFilter == "" {
					return in.misuse("Cannot provide tag filter without service filter.")
				}
				if len(in.args) > 1 {
					return in.misuse("Too many command line arguments.")
				}
				if len(in.args) == 1 {
					ev.Payload = []byte(in.args[0])
				}
				c, ok := in.connect(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				id, err := c.FireEvent(ctx, *dc, ev)
				if err != nil {
					return in.fail("Error firing event: %s", err)
				}
				in.ui.Output("Event ID: " + clean(id))
				return 0
			}
		},
	}
}
