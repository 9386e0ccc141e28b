package command

import (
	"context"
	"flag"
)

func forceLeaveCommand() *command {
	return &command{
		name:     "force-leave",
		args:     "NODE",
		synopsis: "Forces a member of the cluster to enter the \"left\" state",
		example:  "force-leave -prune web-1",
		about: "Has the cluster see a failed member as left, so that nobody tries to reach it any more. A member that is alive comes back by itself. " +
			"In the WAN pool a name is NODE.DATACENTER.",
		reachesAgent: true,
		define: func(fs *flag.FlagSet) action {
			prune := fs.Bool("prune", false, "Remove the member from the list at once.")
			wan := fs.Bool("wan", false, "Only in the WAN pool.")
			enterpriseFlags(fs)
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) != 1 {
					return in.misuse("A single node name must be specified to force leave.")
				}
				c, ok := in.connect(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				if err := c.ForceLeave(ctx, in.args[0], *prune, *wan); err != nil {
					return in.fail("Error force leaving: %s", err)
				}
				return 0
			}
		},
	}
}
