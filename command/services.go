package command

import (
	"context"
	"flag"
	"fmt"
	"net"
	"strconv"

	"lictor/agent/local"
	"lictor/rpc/wire"

	"github.com/posener/complete"
)

func servicesRegisterCommand() *command {
	return &command{
		name:     "services register",
		args:     "[FILE...]",
		synopsis: "Register services with the local agent",
		about: "Registers the services of definition files (HCL or JSON, as in the agent's configuration) with the agent, or one service that flags describe. " +
			"The agent keeps them until they are deregistered, also when it restarts.",
		example:     "services register web.hcl\nservices register -name=web -port=8080 -tag=v1",
		usesAPI:     true,
		picksServer: true,
		positional:  complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			o := &servicesRegisterOptions{}
			fs.StringVar(&o.svc.ID, "id", "", "`id` of the service. The default is its name.")
			fs.StringVar(&o.svc.Service, "name", "", "`name` of the service.")
			fs.StringVar(&o.svc.Address, "address", "", "`address` of the service. The default is the node's.")
			fs.IntVar(&o.svc.Port, "port", 0, "`port` of the service.")
			fs.StringVar(&o.svc.SocketPath, "socket", "", "`path` of the service's unix socket, in place of an address and a port.")
			fs.Var((*list)(&o.svc.Tags), "tag", "A `tag` of the service. May be given again.")
			fs.Var((*pairs)(&o.svc.Meta), "meta", "Metadata of the service, as `key=value`. May be given again.")
			fs.Var(&o.tagged, "tagged-address", "An address of another kind, as `kind=address:port`. May be given again.")
			fs.StringVar(&o.svc.Kind, "kind", "", "`kind` of the service, where it is not an ordinary one.")
			return o.run
		},
	}
}

type servicesRegisterOptions struct {
	svc    local.Service
	tagged pairs
}

// definition are the flags that describe a service.
var definitionFlags = []string{"id", "name", "address", "port", "socket", "tag", "meta", "tagged-address", "kind"}

func (o *servicesRegisterOptions) run(ctx context.Context, in *invocation) int {
	described := false
	for _, name := range definitionFlags {
		described = described || in.given(name)
	}
	var services []*local.Service
	switch {
	case len(in.args) == 0 && !described:
		return in.misuse("Service registration requires at least one argument or flags.")
	case len(in.args) > 0 && described:
		return in.misuse("Service registration takes files or flags that describe one service, not both.")
	case described:
		if err := o.parseTagged(); err != nil {
			return in.fail("%s", err)
		}
		services = []*local.Service{&o.svc}
	default:
		var err error
		if services, err = readServices(in.args); err != nil {
			return in.fail("%s", err)
		}
	}
	for _, s := range services {
		if err := s.Validate(); err != nil {
			return in.fail("Error registering service %q: %s", s.Service, err)
		}
	}
	c, ok := in.api(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	for _, s := range services {
		if _, err := c.c.Raw().Write("/v1/agent/service/register", registrationOf(s), nil, nil); err != nil {
			return in.fail("Error registering service %q: %s", s.Service, c.explain(err))
		}
		in.ui.Output("Registered service: " + s.Service)
		for _, key := range s.Ignored {
			in.ui.Warn(fmt.Sprintf("The key %q of service %q has no effect here.", key, s.Service))
		}
	}
	return 0
}

func (o *servicesRegisterOptions) parseTagged() error {
	for name, text := range o.tagged {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return fmt.Errorf("-tagged-address %s: %q is not address:port", name, text)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("-tagged-address %s: %q is not a port", name, port)
		}
		if o.svc.TaggedAddresses == nil {
			o.svc.TaggedAddresses = map[string]wire.ServiceAddress{}
		}
		o.svc.TaggedAddresses[name] = wire.ServiceAddress{Address: host, Port: int(n)}
	}
	return nil
}

func servicesDeregisterCommand() *command {
	return &command{
		name:        "services deregister",
		args:        "[FILE...]",
		synopsis:    "Deregister services with the local agent",
		about:       "Removes a service from the agent by its id, or all services of definition files. A service of the agent's own configuration comes back when the agent restarts.",
		example:     "services deregister -id=web\nservices deregister web.hcl",
		usesAPI:     true,
		picksServer: true,
		positional:  complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			id := fs.String("id", "", "`id` of the service.")
			return func(ctx context.Context, in *invocation) int {
				var services []*local.Service
				switch {
				case len(in.args) == 0 && *id == "":
					return in.misuse("Service deregistration requires at least one argument or -id.")
				case len(in.args) > 0 && *id != "":
					return in.misuse("Service deregistration takes files or -id, not both.")
				case *id != "":
					services = []*local.Service{{NodeService: wire.NodeService{ID: *id}}}
				default:
					var err error
					if services, err = readServices(in.args); err != nil {
						return in.fail("%s", err)
					}
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				for _, s := range services {
					id := first(s.ID, s.Service)
					if err := c.c.Agent().ServiceDeregister(id); err != nil {
						return in.fail("Error deregistering service %q: %s", s.Service, c.explain(err))
					}
					in.ui.Output("Deregistered service: " + id)
				}
				return 0
			}
		},
	}
}
