package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"

	"lictor/version"

	"github.com/posener/complete"
)

func versionCommand() *command {
	return &command{
		name:     "version",
		synopsis: "Prints the Lictor version",
		example:  "version -format=json",
		about:    "Prints the version of this program, when it was built, and which versions of the protocol it speaks.",
		values:   complete.Flags{"-format": complete.PredictSet("pretty", "json")},
		define: func(fs *flag.FlagSet) action {
			format := fs.String("format", "pretty", "Output `format`: pretty or json.")
			return func(_ context.Context, in *invocation) int {
				if len(in.args) > 0 {
					return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
				}
				v := version.Get()
				switch *format {
				case "pretty":
					in.ui.Output("Lictor v" + version.String())
					in.ui.Output("Build Date " + v.BuildDate)
					in.ui.Output(fmt.Sprintf("Protocol %d spoken by default, understands %d to %d (agents use the highest that all of them speak)",
						version.ProtocolDefault, version.ProtocolMin, version.ProtocolMax))
					in.ui.Output("")
				case "json":
					out, err := json.MarshalIndent(versionJSON{
						Version: v.Version, Revision: v.Revision, Prerelease: v.Prerelease, BuildDate: v.BuildDate,
						RPC: protocolRange{version.ProtocolDefault, version.ProtocolMin, version.ProtocolMax},
					}, "", "   ")
					if err != nil {
						return in.fail("Error formatting version: %s", err)
					}
					in.ui.Output(string(out))
				default:
					return in.fail("Unknown format: %s", *format)
				}
				return 0
			}
		},
	}
}

type versionJSON struct {
	Version    string
	Revision   string
	Prerelease string
	BuildDate  string
	RPC        protocolRange
}

type protocolRange struct{ Default, Min, Max int }
