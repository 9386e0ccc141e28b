package command

import (
	"context"
	"flag"

	"github.com/hashicorp/consul/api"
)

func kvDeleteCommand() *command {
	return &command{
		name:        "kv delete",
		args:        "KEY_OR_PREFIX",
		synopsis:    "Removes data from the KV store",
		about:       "Deletes a key, or with -recurse all keys that begin with a prefix; an empty prefix is all keys. To delete what is not there is no error.",
		example:     "kv delete redis/config/connections\nkv delete -recurse redis/\nkv delete -cas -modify-index=844 redis/config/connections",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			o := &kvDeleteOptions{}
			fs.BoolVar(&o.recurse, "recurse", false, "Delete all keys that begin with the prefix.")
			fs.BoolVar(&o.cas, "cas", false, "Delete only if the key has not changed since -modify-index.")
			fs.Uint64Var(&o.modifyIndex, "modify-index", 0, "`index` of the last change that was seen, for -cas.")
			return o.run
		},
	}
}

type kvDeleteOptions struct {
	recurse, cas bool
	modifyIndex  uint64
}

func (o *kvDeleteOptions) run(ctx context.Context, in *invocation) int {
	key := ""
	switch len(in.args) {
	case 0:
	case 1:
		key = kvKey(in.args[0])
	default:
		return in.misuse("Too many arguments (expected 1, got %d)", len(in.args))
	}
	switch {
	case key == "" && !o.recurse:
		return in.misuse("Error! Missing KEY argument")
	case o.recurse && o.cas:
		return in.fail("Error! Cannot specify both -cas and -recurse")
	case o.cas && o.modifyIndex == 0:
		return in.fail("Error! -cas needs a -modify-index greater than 0")
	case in.given("modify-index") && !o.cas:
		return in.fail("Error! Cannot specify -modify-index without -cas")
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	kv := c.c.KV()
	switch {
	case o.recurse:
		if _, err := kv.DeleteTree(key, nil); err != nil {
			return in.fail("Error! Did not delete prefix %s: %s", key, c.explain(err))
		}
		in.ui.Output("Success! Deleted keys with prefix: " + key)
	case o.cas:
		done, _, err := kv.DeleteCAS(&api.KVPair{Key: key, ModifyIndex: o.modifyIndex}, nil)
		if err != nil {
			return in.fail("Error! Did not delete key %s: %s", key, c.explain(err))
		}
		if !done {
			return in.fail("Error! Did not delete key %s: CAS failed", key)
		}
		in.ui.Output("Success! Deleted key: " + key)
	default:
		if _, err := kv.Delete(key, nil); err != nil {
			return in.fail("Error deleting key %s: %s", key, c.explain(err))
		}
		in.ui.Output("Success! Deleted key: " + key)
	}
	return 0
}
