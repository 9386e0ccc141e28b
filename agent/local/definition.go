package local

import (
	"lictor/agent/checks"
	"lictor/rpc/wire"
)

// Service is the registration of a service, from a file or from the API.
type Service struct {
	wire.NodeService
	Checks []*checks.Definition
	Token  string // a secret
	Source string // "local" from files, "remote" from the API
}
