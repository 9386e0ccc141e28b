package command

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
)

func infoCommand() *command {
	return &command{
		name:         "info",
		synopsis:     "Provides debugging information for operators",
		example:      "info",
		about:        "Prints figures of the running agent, by part. None of them is a secret.",
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
				stats, err := c.Stats(ctx)
				if err != nil {
					return in.fail("Error querying agent: %s", err)
				}
				for _, group := range slices.Sorted(maps.Keys(stats)) {
					in.ui.Output(clean(group) + ":")
					for _, key := range slices.Sorted(maps.Keys(stats[group])) {
						in.ui.Output(fmt.Sprintf("\t%s = %s", clean(key), clean(stats[group][key])))
					}
				}
				return 0
			}
		},
	}
}
