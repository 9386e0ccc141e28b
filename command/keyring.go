package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lictor/rpc/wire"
)

const maxRelayFactor = 5

func keyringCommand() *command {
	return &command{
		name:     "keyring",
		synopsis: "Manages gossip layer encryption keys",
		example:  "keyring -list\nkeyring -install=@new.key",
		about: "Lists, installs, uses and removes the keys that gossip is encrypted with, in the WAN pool and the LAN pools of all datacenters. " +
			"A rotation is -install of the new key, -use of it, and -remove of the old one; each step only once the one before it has reached every member.\n" +
			"Arguments are visible in the process list. Give a key as @FILE to have it read from a file, or as - to have it read from the standard input.",
		reachesAgent: true,
		define: func(fs *flag.FlagSet) action {
			o := &keyringOptions{}
			fs.StringVar(&o.install, "install", "", "Install this `key` on all members. They can then decrypt with it.")
			fs.StringVar(&o.use, "use", "", "Encrypt with this `key`, which must be installed on all members.")
			fs.StringVar(&o.remove, "remove", "", "Remove this `key` from all members. It must not be the one in use.")
			fs.BoolVar(&o.list, "list", false, "List all keys and how many members hold each.")
			fs.BoolVar(&o.listPrimary, "list-primary", false, "List the keys in use and how many members use each.")
			fs.IntVar(&o.relay, "relay-factor", 0, fmt.Sprintf("Have answers sent through this `number` of other members too, 0 to %d.", maxRelayFactor))
			fs.BoolVar(&o.localOnly, "local-only", false, "List without asking other datacenters. Only with -list and -list-primary.")
			return o.run
		},
	}
}

type keyringOptions struct {
	install, use, remove         string
	list, listPrimary, localOnly bool
	relay                        int
}

// keyringWrite is one operation that changes keys: its flag's value and what is
// printed before it.
type keyringWrite struct{ operation, progress, key string }

func (o *keyringOptions) run(ctx context.Context, in *invocation) int {
	actions := 0
	for _, name := range []string{"install", "use", "remove"} {
		if in.given(name) {
			actions++
		}
	}
	for _, on := range []bool{o.list, o.listPrimary} {
		if on {
			actions++
		}
	}
	switch {
	case actions == 0:
		in.ui.Error(in.help())
		return 1
	case actions > 1:
		return in.fail("Only a single action is allowed")
	case len(in.args) > 0:
		return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
	case o.relay < 0 || o.relay > maxRelayFactor:
		return in.fail("Error parsing relay factor: Relay factor must be in range: [0, %d]", maxRelayFactor)
	case o.localOnly && !o.list && !o.listPrimary:
		return in.fail("Error: local-only can only be set for list requests")
	}
	req := &wire.KeyringRequest{Operation: wire.KeyringList, RelayFactor: uint8(o.relay), LocalOnly: o.localOnly}
	progress := "==> Gathering installed encryption keys..."
	if o.listPrimary {
		progress = "==> Gathering installed primary encryption keys..."
	}
	for flagName, w := range map[string]keyringWrite{
		"install": {wire.KeyringInstall, "==> Installing new gossip encryption key...", o.install},
		"use":     {wire.KeyringUse, "==> Changing primary gossip encryption key...", o.use},
		"remove":  {wire.KeyringRemove, "==> Removing gossip encryption key...", o.remove},
	} {
		if !in.given(flagName) {
			continue
		}
		key, err := o.key(in, w.key)
		if err != nil {
			return in.fail("Error reading the key for -%s: %s", flagName, err)
		}
		req.Operation, req.Key, progress = w.operation, key, w.progress
	}

	c, ok := in.connect(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	in.ui.Output(progress)
	responses, err := c.Keyring(ctx, req)
	if err != nil {
		return in.fail("error: %s", strings.TrimRight(err.Error(), "\n"))
	}
	if req.Operation == wire.KeyringList {
		in.ui.Output("")
		in.ui.Output(formatKeys(responses, o.listPrimary))
	}
	return 0
}

// key returns the key that value stands for. An error never repeats it.
func (o *keyringOptions) key(in *invocation, value string) (string, error) {
	switch {
	case value == "":
		return "", errors.New("it is empty")
	case value == "-":
		return readSecretFrom(in.env.stdin)
	case strings.HasPrefix(value, "@"): // no base64 begins so
		return readSecret(value[1:])
	}
	return strings.TrimSpace(value), nil
}

// formatKeys lists the keys of each pool, in the order of the answer.
func formatKeys(responses []*wire.KeyringResponse, primary bool) string {
	var pools []string
	for _, r := range responses {
		var b strings.Builder
		switch {
		case r.WAN:
			b.WriteString("WAN:")
		case r.Segment != "":
			fmt.Fprintf(&b, "%s (LAN) [%s]:", clean(r.Datacenter), clean(r.Segment))
		default:
			fmt.Fprintf(&b, "%s (LAN):", clean(r.Datacenter))
		}
		keys := r.Keys
		if primary {
			keys = r.PrimaryKeys
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			fmt.Fprintf(&b, "\n  %s [%d/%d]", clean(k), keys[k], r.NumNodes)
		}
		for _, node := range slices.Sorted(maps.Keys(r.Messages)) {
			fmt.Fprintf(&b, "\n  %s: %s", clean(node), clean(r.Messages[node]))
		}
		pools = append(pools, b.String())
	}
	return strings.Join(pools, "\n\n")
}

// keyringFailure is the error of answers in which a pool or a node failed, in
// the shape that the HTTP API gives it. Nil where none did.
func keyringFailure(responses []*wire.KeyringResponse) error {
	var lines []string
	for _, r := range responses {
		if r.Error == "" {
			continue
		}
		pool := "WAN"
		if !r.WAN {
			pool = r.Datacenter + " (LAN)"
		}
		lines = append(lines, fmt.Sprintf("%s error: %s", clean(pool), clean(r.Error)))
		for _, node := range slices.Sorted(maps.Keys(r.Messages)) {
			lines = append(lines, fmt.Sprintf("%s: %s", clean(node), clean(r.Messages[node])))
		}
	}
	switch len(lines) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 error occurred:\n\t* %s", lines[0])
	}
	return fmt.Errorf("%d errors occurred:\n\t* %s", len(lines), strings.Join(lines, "\n\t* "))
}
