package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

// kvEntry is one key in the documents of export and import.
type kvEntry struct {
	Key       string `json:"key"`
	Flags     uint64 `json:"flags"`
	Value     []byte `json:"value"`
	Namespace string `json:"namespace,omitempty"`
	Partition string `json:"partition,omitempty"`
}

func kvExportCommand() *command {
	return &command{
		name:        "kv export",
		args:        "[PREFIX]",
		synopsis:    "Exports a tree from the KV store as JSON",
		about:       "Prints all keys that begin with a prefix, all keys without one, as a JSON document that 'kv import' takes. Values are in base64.",
		example:     "kv export redis/ > redis.json",
		usesAPI:     true,
		picksServer: true,
		define: func(*flag.FlagSet) action {
			return func(ctx context.Context, in *invocation) int {
				prefix := ""
				switch len(in.args) {
				case 0:
				case 1:
					prefix = kvKey(in.args[0])
				default:
					return in.misuse("Too many arguments (expected 1, got %d)", len(in.args))
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				pairs, _, err := c.c.KV().List(prefix, in.query())
				if err != nil {
					return in.fail("Error querying agent: %s", c.explain(err))
				}
				out := make([]kvEntry, 0, len(pairs))
				for _, p := range pairs {
					value := p.Value
					if value == nil {
						value = []byte{} // "" and not null
					}
					out = append(out, kvEntry{p.Key, p.Flags, value, p.Namespace, p.Partition})
				}
				text, err := json.MarshalIndent(out, "", "\t")
				if err != nil {
					return in.fail("Error exporting KV data: %s", err)
				}
				fmt.Fprintf(in.env.stdout, "%s\n", text)
				return 0
			}
		},
	}
}

func kvImportCommand() *command {
	return &command{
		name:     "kv import",
		args:     "DATA",
		synopsis: "Imports a tree stored as JSON to the KV store",
		about: "Writes the keys of a document that 'kv export' made, one after the other; what is there already is replaced. When a key fails the ones before it stay written.\n" +
			"DATA may be the document itself, @FILE, or - for the standard input.",
		example:     "kv import @redis.json\nkv import -prefix=copy - < redis.json",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			prefix := fs.String("prefix", "", "Write all keys below this `prefix`.")
			return func(ctx context.Context, in *invocation) int {
				switch {
				case len(in.args) == 0 || in.args[0] == "":
					return in.misuse("Error! Missing DATA argument")
				case len(in.args) > 1:
					return in.misuse("Too many arguments (expected 1, got %d)", len(in.args))
				}
				data, err := dataArgument(in, in.args[0])
				if err != nil {
					return in.fail("Error! %s", err)
				}
				var entries []kvEntry
				if err := json.Unmarshal(data, &entries); err != nil {
					return in.fail("Cannot unmarshal data: %s", err)
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				for _, e := range entries {
					p := &api.KVPair{Key: kvKey(e.Key), Flags: e.Flags, Value: e.Value}
					if *prefix != "" {
						p.Key = strings.TrimSuffix(kvKey(*prefix), "/") + "/" + p.Key
					}
					if _, err := c.c.KV().Put(p, nil); err != nil {
						return in.fail("Error! Failed writing data for key %s: %s", p.Key, c.explain(err))
					}
					in.ui.Output("Imported: " + p.Key)
				}
				return 0
			}
		},
	}
}
