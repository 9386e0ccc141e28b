package localrpc

import (
	"fmt"
	"os/user"
	"strconv"
)

// lookupID returns the number of a user or group given by name or number.
func lookupID(kind, name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	var id string
	switch kind {
	case "user":
		u, err := user.Lookup(name)
		if err != nil {
			return 0, fmt.Errorf("unix_sockets.user: %w", err)
		}
		id = u.Uid
	default:
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, fmt.Errorf("unix_sockets.group: %w", err)
		}
		id = g.Gid
	}
	n, err := strconv.Atoi(id)
	if err != nil {
		return 0, fmt.Errorf("unix_sockets.%s: %q has no number on this system", kind, name)
	}
	return n, nil
}
