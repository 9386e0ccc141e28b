package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/posener/complete"
)

func monitorCommand() *command {
	return &command{
		name:         "monitor",
		synopsis:     "Stream logs from an agent",
		example:      "monitor -log-level=DEBUG",
		about:        "Prints the agent's log as it is written, until interrupted. The level is independent of the one the agent logs at.",
		reachesAgent: true,
		values:       complete.Flags{"-log-level": complete.PredictSet("TRACE", "DEBUG", "INFO", "WARN", "ERROR")},
		define: func(fs *flag.FlagSet) action {
			level := fs.String("log-level", "INFO", "Show lines of this `level` and above: TRACE, DEBUG, INFO, WARN, ERROR.")
			json := fs.Bool("log-json", false, "Show lines as JSON.")
			return func(ctx context.Context, in *invocation) int {
				c, ok := in.connect(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				err := c.Monitor(ctx, *level, *json, func(line string) { fmt.Fprintln(in.env.stdout, line) })
				switch {
				case ctx.Err() != nil, err == nil:
					return 0
				case errors.Is(err, errStreamEnded):
					in.ui.Output("")
					in.ui.Output("The agent ended the log stream: it has probably stopped.")
					return 1
				}
				return in.fail("Error starting monitor: %s", err)
			}
		},
	}
}
