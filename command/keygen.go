package command

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"flag"
)

func keygenCommand() *command {
	return &command{
		name:     "keygen",
		synopsis: "Generates a new encryption key",
		example:  "keygen",
		about:    "Prints a new gossip encryption key: 32 random bytes as base64. It goes into the encrypt setting of every agent, or to keyring -install.",
		define: func(*flag.FlagSet) action {
			return func(_ context.Context, in *invocation) int {
				if len(in.args) > 0 {
					return in.misuse("keygen takes no arguments")
				}
				key := make([]byte, 32)
				rand.Read(key) // never fails: it ends the process instead
				in.ui.Output(base64.StdEncoding.EncodeToString(key))
				return 0
			}
		},
	}
}
