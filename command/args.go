package command

import (
	"os"
	"strings"
	"unsafe"
)

// secretFlags take values that nobody else on the machine may see.
var secretFlags = map[string]bool{
	"encrypt": true, "hcl": true, // agent; a fragment may hold anything
	"install": true, "use": true, "remove": true, // keyring
	"rpc-auth": true, "token": true,
}

// Args returns the arguments of this process, and overwrites the values of
// secret flags where other users could read them: what ps and /proc show is the
// memory that the kernel put them into. For the moment until then they are
// visible, so a file is the better place for a key.
func Args() []string {
	args := make([]string, 0, len(os.Args))
	secret := false // the value of a secret flag follows
	for i, arg := range os.Args {
		args = append(args, strings.Clone(arg))
		if i == 0 {
			continue
		}
		name, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		isFlag := strings.HasPrefix(arg, "-") && secretFlags[name]
		switch {
		case secret:
			overwrite(arg)
		case isFlag && joined:
			overwrite(value)
		}
		secret = isFlag && !joined && !secret
	}
	return args[1:]
}

// overwrite writes over a string of os.Args, which the Go runtime leaves where
// the kernel put it: it is not Go's memory and may be written.
func overwrite(s string) {
	if s == "" {
		return
	}
	for b := unsafe.Slice(unsafe.StringData(s), len(s)); len(b) > 0; b = b[1:] {
		b[0] = 'x'
	}
}
