package local

import (
	"lictor/agent/checks"
	"lictor/rpc/wire"
)

// Service is the registration of a service, from a file or from the API. It is
// not changed once it was registered.
type Service struct {
	wire.NodeService
	Checks []*checks.Definition
	Token  string // a secret
	Source string // "local" from files, "remote" from the API

	// Ignored are keys of features that this agent does not have, which Parse
	// took and left out.
	Ignored []string
}
