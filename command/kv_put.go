package command

import (
	"context"
	"encoding/base64"
	"flag"

	"github.com/hashicorp/consul/api"
)

func kvPutCommand() *command {
	return &command{
		name:     "kv put",
		args:     "KEY [DATA]",
		synopsis: "Sets or updates data in the KV store",
		about: "Writes DATA to a key; without DATA, an empty value.\n" +
			"DATA may be @FILE for the content of a file or - for the standard input. Arguments are visible in the process list: give a secret so. " +
			"Data that begins with @ has to come from the standard input.",
		example:     "kv put redis/config/connections 5\nkv put redis/config.json @config.json\nkv put -cas -modify-index=844 redis/config/connections 6",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			o := &kvPutOptions{}
			fs.BoolVar(&o.acquire, "acquire", false, "Take the lock on the key for -session.")
			fs.BoolVar(&o.release, "release", false, "Give the lock on the key back; -session must hold it.")
			fs.StringVar(&o.session, "session", "", "`id` of the session for -acquire and -release.")
			fs.BoolVar(&o.cas, "cas", false, "Write only if the key has not changed since -modify-index; without that, only if there is no such key.")
			fs.Uint64Var(&o.modifyIndex, "modify-index", 0, "`index` of the last change that was seen, for -cas.")
			fs.Uint64Var(&o.flags, "flags", 0, "`number` to keep with the key, for any use.")
			fs.BoolVar(&o.base64, "base64", false, "DATA is base64 and is decoded first.")
			return o.run
		},
	}
}

type kvPutOptions struct {
	acquire, release, cas, base64 bool
	session                       string
	modifyIndex, flags            uint64
}

func (o *kvPutOptions) run(ctx context.Context, in *invocation) int {
	switch {
	case len(in.args) == 0 || kvKey(in.args[0]) == "":
		return in.misuse("Error! Missing KEY argument")
	case len(in.args) > 2:
		return in.misuse("Too many arguments (expected 1 or 2, got %d)", len(in.args))
	case o.acquire && o.release, o.cas && (o.acquire || o.release):
		return in.fail("Error! Only one of -cas, -acquire and -release may be given")
	case (o.acquire || o.release) && o.session == "":
		return in.fail("Error! Missing -session (required with -acquire and -release)")
	case in.given("modify-index") && !o.cas:
		return in.fail("Error! Cannot specify -modify-index without -cas")
	}
	p := &api.KVPair{Key: kvKey(in.args[0]), Flags: o.flags, Session: o.session, ModifyIndex: o.modifyIndex}
	if len(in.args) == 2 {
		data, err := dataArgument(in, in.args[1])
		if err == nil && o.base64 {
			data, err = decodeBase64(data)
		}
		if err != nil {
			return in.fail("Error! %s", err)
		}
		p.Value = data
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	kv := c.c.KV()
	switch {
	case o.cas:
		done, _, err := kv.CAS(p, nil)
		switch {
		case err != nil:
			return in.fail("Error! Did not write to %s: %s", p.Key, c.explain(err))
		case !done && o.modifyIndex == 0:
			return in.fail("Error! Did not write to %s: CAS performed with index=0 and key already exists.", p.Key)
		case !done:
			return in.fail("Error! Did not write to %s: CAS failed", p.Key)
		}
		in.ui.Output("Success! Data written to: " + p.Key)
	case o.acquire:
		done, _, err := kv.Acquire(p, nil)
		if err != nil {
			return in.fail("Error! Failed writing data: %s", c.explain(err))
		}
		if !done {
			return in.fail("Error! Did not acquire lock")
		}
		in.ui.Output("Success! Lock acquired on: " + p.Key)
	case o.release:
		done, _, err := kv.Release(p, nil)
		if err != nil {
			return in.fail("Error! Failed writing data: %s", c.explain(err))
		}
		if !done {
			return in.fail("Error! Did not release lock")
		}
		in.ui.Output("Success! Lock released on: " + p.Key)
	default:
		if _, err := kv.Put(p, nil); err != nil {
			return in.fail("Error! Failed writing data: %s", c.explain(err))
		}
		in.ui.Output("Success! Data written to: " + p.Key)
	}
	return 0
}

// decodeBase64 decodes data, with or without a line break at its end. An error
// does not repeat it.
func decodeBase64(data []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(data)))
	n, err := base64.StdEncoding.Decode(out, data)
	return out[:n], err
}
