package command

import (
	"context"
	"flag"
	"fmt"
)

func joinCommand() *command {
	return &command{
		name:     "join",
		args:     "ADDRESS...",
		synopsis: "Tell an agent to join a cluster",
		example:  "join 10.0.0.1 10.0.0.2",
		about: "Tells a running agent to join the cluster of the agents at the given addresses. One that answers is enough. " +
			"The status is 0 where at least one address was joined.",
		reachesAgent: true,
		define: func(fs *flag.FlagSet) action {
			wan := fs.Bool("wan", false, "Join the WAN pool: servers of other datacenters.")
			enterpriseFlags(fs)
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) == 0 {
					return in.misuse("At least one address to join must be specified.")
				}
				c, ok := in.connect(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				joined := 0
				for _, addr := range in.args {
					if err := c.Join(ctx, addr, *wan); err != nil {
						in.ui.Error(cleanText(fmt.Sprintf("Error joining address '%s': %s", addr, err)))
						continue
					}
					joined++
				}
				if joined == 0 {
					return in.fail("Failed to join any nodes.")
				}
				in.ui.Output(fmt.Sprintf("Successfully joined cluster by contacting %d nodes.", joined))
				return 0
			}
		},
	}
}

// enterpriseFlags are accepted for scripts written for the family's enterprise
// product, and have no effect.
func enterpriseFlags(fs *flag.FlagSet) {
	fs.String("namespace", "", "any `name`; accepted, without effect")
	fs.String("partition", "", "any `name`; accepted, without effect")
}
