package command

import (
	"context"
	"flag"
)

func leaveCommand() *command {
	return &command{
		name:         "leave",
		synopsis:     "Gracefully leaves the cluster and shuts down",
		example:      "leave",
		about:        "Has the agent leave the cluster gracefully and stop. The others then see it as left, not as failed.",
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
				if err := c.Leave(ctx); err != nil {
					return in.fail("Error leaving: %s", err)
				}
				in.ui.Output("Graceful leave complete")
				return 0
			}
		},
	}
}
