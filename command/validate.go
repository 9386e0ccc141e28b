package command

import (
	"context"
	"flag"

	"lictor/agent/config"

	"github.com/posener/complete"
)

func validateCommand() *command {
	return &command{
		name:     "validate",
		args:     "FILE_OR_FOLDER...",
		synopsis: "Validate config files/directories",
		example:  "validate /etc/lictor.d",
		about: "Reads configuration files and folders as the agent does and checks what would only fail when it starts: " +
			"certificates and keys, key lengths, addresses that this machine does not have.",
		values:     complete.Flags{"-config-format": complete.PredictSet("hcl", "json")},
		positional: complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			quiet := fs.Bool("quiet", false, "Print nothing where the configuration is valid, not even warnings.")
			format := fs.String("config-format", "", "Read every file in this `format`, whatever its name: hcl or json.")
			return func(_ context.Context, in *invocation) int {
				if len(in.args) == 0 {
					return in.fail("Must specify at least one config file or directory")
				}
				switch *format {
				case "", "hcl", "json":
				default:
					return in.fail("-config-format must be either 'hcl' or 'json'")
				}
				cfg, err := config.LoadPaths(in.args, *format)
				var warnings []string
				if cfg != nil {
					warnings = cfg.Warnings
				}
				if err == nil {
					var deep []string
					deep, err = config.Deep(cfg)
					warnings = append(warnings, deep...)
				}
				if !*quiet {
					for _, w := range warnings {
						in.ui.Warn("==> WARNING: " + w)
					}
				}
				if err != nil {
					return in.fail("Config validation failed: %s", err)
				}
				if !*quiet {
					in.ui.Output("Configuration is valid!")
				}
				return 0
			}
		},
	}
}
