package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/posener/complete"
)

// completionScripts are the lines a shell needs; %s is this program's path.
var completionScripts = map[string]string{
	"bash": "complete -o nospace -C %s " + program,
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o nospace -C %s " + program,
	"fish": "function __complete_" + program + "\n" +
		"    set -lx COMP_LINE (commandline -cp)\n" +
		"    test -z (commandline -ct)\n" +
		"    and set COMP_LINE \"$COMP_LINE \"\n" +
		"    %s\n" +
		"end\n" +
		"complete -f -c " + program + " -a \"(__complete_" + program + ")\"",
}

func completionCommand() *command {
	return &command{
		name:     "completion",
		args:     "bash|zsh|fish",
		synopsis: "Prints the shell's completion script",
		example:  "completion bash > /etc/bash_completion.d/lictor",
		about: "Prints what a shell has to run to complete this program's commands and flags:\n" +
			"  eval \"$(" + program + " completion bash)\"\n" +
			"  " + program + " completion fish | source\n" +
			program + " -autocomplete-install writes the same into your shell's start file, -autocomplete-uninstall removes it.",
		positional: complete.PredictSet("bash", "zsh", "fish"),
		define: func(*flag.FlagSet) action {
			return func(_ context.Context, in *invocation) int {
				if len(in.args) != 1 {
					return in.misuse("Name one shell: bash, zsh or fish")
				}
				script, ok := completionScripts[in.args[0]]
				if !ok {
					return in.misuse("Unknown shell: %q", in.args[0])
				}
				self, err := os.Executable()
				if err != nil {
					return in.fail("Error finding this program's path: %s", err)
				}
				in.ui.Output(fmt.Sprintf(script, "'"+strings.ReplaceAll(self, "'", `'\''`)+"'"))
				return 0
			}
		},
	}
}
