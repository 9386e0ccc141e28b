package command

import (
	"context"
	"flag"
)

func reloadCommand() *command {
	return &command{
		name:         "reload",
		synopsis:     "Triggers the agent to reload configuration files",
		example:      "reload",
		about:        "Has the agent read its configuration again, and returns when that is done. Where the new configuration is bad nothing changes, and the error says why.",
		reachesAgent: true,
		define: func(*flag.FlagSet) action {
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) > 0 {
					return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
				}
				c, ok := in.connect(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				if err := c.Reload(ctx); err != nil {
					return in.fail("Error reloading: %s", err)
				}
				in.ui.Output("Configuration reload triggered")
				return 0
			}
		},
	}
}
