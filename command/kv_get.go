package command

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

func kvGetCommand() *command {
	return &command{
		name:     "kv get",
		args:     "[KEY_OR_PREFIX]",
		synopsis: "Retrieves or lists data from the KV store",
		about: "Prints the value of a key, and a line break after it. With -recurse it prints all keys that begin with a prefix with their values, " +
			"with -keys the keys alone. Keys and values are printed as they are stored.",
		example:     "kv get redis/config/connections\nkv get -recurse redis/\nkv get -keys -separator='/' redis/",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			o := &kvGetOptions{}
			fs.BoolVar(&o.base64, "base64", false, "Print values in base64.")
			fs.BoolVar(&o.detailed, "detailed", false, "Print indexes, flags and the session that holds the key too.")
			fs.BoolVar(&o.keys, "keys", false, "List the keys that begin with the prefix, up to the next separator, each once.")
			fs.BoolVar(&o.recurse, "recurse", false, "Print all keys that begin with the prefix.")
			fs.StringVar(&o.separator, "separator", "/", "What -keys lists up to. Empty lists whole keys.")
			return o.run
		},
	}
}

type kvGetOptions struct {
	base64, detailed, keys, recurse bool
	separator                       string
}

func (o *kvGetOptions) run(ctx context.Context, in *invocation) int {
	key := ""
	switch len(in.args) {
	case 0:
	case 1:
		key = kvKey(in.args[0])
	default:
		return in.misuse("Too many arguments (expected 1, got %d)", len(in.args))
	}
	if key == "" && !o.recurse && !o.keys {
		return in.misuse("Error! Missing KEY argument")
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	switch kv := c.c.KV(); {
	case o.keys:
		keys, _, err := kv.Keys(key, o.separator, in.query())
		if err != nil {
			return in.fail("Error querying agent: %s", c.explain(err))
		}
		for _, k := range keys {
			fmt.Fprintln(in.env.stdout, k)
		}
	case o.recurse:
		pairs, _, err := kv.List(key, in.query())
		if err != nil {
			return in.fail("Error querying agent: %s", c.explain(err))
		}
		for i, p := range pairs {
			if !o.detailed {
				fmt.Fprintf(in.env.stdout, "%s:%s\n", p.Key, kvText(p.Value, o.base64))
				continue
			}
			if i > 0 {
				fmt.Fprintln(in.env.stdout)
			}
			fmt.Fprint(in.env.stdout, o.details(p))
		}
	default:
		p, _, err := kv.Get(key, in.query())
		switch {
		case err != nil:
			return in.fail("Error querying agent: %s", c.explain(err))
		case p == nil:
			return in.fail("Error! No key exists at: %s", key)
		case o.detailed:
			fmt.Fprint(in.env.stdout, o.details(p))
		default:
			fmt.Fprintln(in.env.stdout, kvText(p.Value, o.base64))
		}
	}
	return 0
}

// details is what is known of a key, a line each.
func (o *kvGetOptions) details(p *api.KVPair) string {
	var b strings.Builder
	for _, row := range [][2]string{
		{"CreateIndex", fmt.Sprint(p.CreateIndex)},
		{"Flags", fmt.Sprint(p.Flags)},
		{"Key", p.Key},
		{"LockIndex", fmt.Sprint(p.LockIndex)},
		{"ModifyIndex", fmt.Sprint(p.ModifyIndex)},
		{"Session", first(p.Session, "-")},
		{"Value", kvText(p.Value, o.base64)},
	} {
		fmt.Fprintf(&b, "%-17s%s\n", row[0], row[1])
	}
	return b.String()
}
