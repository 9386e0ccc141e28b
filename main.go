// Lictor is a cluster agent whose gossip, RPC and API are encrypted and
// authenticated, and the command line that operates it.
package main

import (
	"context"
	"os"

	"lictor/command"
)

func main() {
	os.Exit(command.Main(context.Background(), command.Args()))
}
