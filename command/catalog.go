package command

import (
	"flag"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

func catalogDatacentersCommand() *command {
	return &command{
		name:        "catalog datacenters",
		synopsis:    "Lists all known datacenters for this agent",
		about:       "Prints the names of the datacenters that the agent knows, the nearest first.",
		example:     "catalog datacenters",
		usesAPI:     true,
		picksServer: true,
		define: func(*flag.FlagSet) action {
			return askAPI(func(in *invocation, c *httpClient) int {
				dcs, err := c.c.Catalog().Datacenters()
				if err != nil {
					return in.fail("Error listing datacenters: %s", c.explain(err))
				}
				for _, dc := range dcs {
					in.ui.Output(clean(dc))
				}
				return 0
			})
		},
	}
}

func catalogNodesCommand() *command {
	return &command{
		name:        "catalog nodes",
		synopsis:    "Lists all nodes in the given datacenter",
		about:       "Prints the nodes of the catalog, or those that run a service, have some metadata or match a filter. The status is 0 also where there is none.",
		example:     "catalog nodes -service=web\ncatalog nodes -detailed -node-meta=rack=r1 -near=_agent",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			o := &catalogNodesOptions{}
			fs.BoolVar(&o.detailed, "detailed", false, "Show whole ids, all addresses and the metadata.")
			fs.StringVar(&o.near, "near", "", "Sort by the round-trip time from this `node`; _agent is the agent that is asked.")
			fs.Var(&o.meta, "node-meta", "Only nodes with this metadata, as `key=value`. May be given again: all have to match.")
			fs.StringVar(&o.service, "service", "", "Only nodes that run this `service`.")
			fs.StringVar(&o.filter, "filter", "", "Only nodes for which this filter `expression` holds.")
			return askAPI(o.run)
		},
	}
}

type catalogNodesOptions struct {
	detailed              bool
	near, service, filter string
	meta                  pairs
}

func (o *catalogNodesOptions) run(in *invocation, c *httpClient) int {
	q := in.query()
	q.Near, q.NodeMeta, q.Filter = o.near, o.meta, o.filter
	var nodes []*api.Node
	var err error
	if o.service == "" {
		nodes, _, err = c.c.Catalog().Nodes(q)
	} else {
		var instances []*api.CatalogService
		instances, _, err = c.c.Catalog().Service(o.service, "", q)
		seen := map[string]bool{}
		for _, s := range instances {
			if !seen[s.Node] {
				seen[s.Node] = true
				nodes = append(nodes, &api.Node{
					ID: s.ID, Node: s.Node, Address: s.Address, Datacenter: s.Datacenter,
					TaggedAddresses: s.TaggedAddresses, Meta: s.NodeMeta,
				})
			}
		}
	}
	if err != nil {
		return in.fail("Error listing nodes: %s", c.explain(err))
	}
	if len(nodes) == 0 {
		in.ui.Error("No nodes match the given query - try expanding your search.")
		return 0
	}
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if o.detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, n := range nodes {
		if o.detailed {
			rows = append(rows, []string{n.Node, n.ID, n.Address, n.Datacenter, joinPairs(n.TaggedAddresses), joinPairs(n.Meta)})
		} else {
			rows = append(rows, []string{n.Node, n.ID[:min(8, len(n.ID))], n.Address, n.Datacenter})
		}
	}
	in.ui.Output(table(rows))
	return 0
}

func catalogServicesCommand() *command {
	return &command{
		name:        "catalog services",
		synopsis:    "Lists all registered services in a datacenter",
		about:       "Prints the names of the services in the catalog, or of those on one node or on nodes with some metadata. The status is 0 also where there is none.",
		example:     "catalog services -tags\ncatalog services -node=web-1",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			var meta pairs
			node := fs.String("node", "", "Only services on this node: its `name` or id.")
			tags := fs.Bool("tags", false, "Show the tags of each service.")
			fs.Var(&meta, "node-meta", "Only services on nodes with this metadata, as `key=value`. May be given again: all have to match.")
			return askAPI(func(in *invocation, c *httpClient) int {
				services, err := catalogServices(c, in.query(), *node, meta)
				if err != nil {
					return in.fail("Error listing services: %s", c.explain(err))
				}
				if len(services) == 0 {
					in.ui.Error("No services match the given query - try expanding your search.")
					return 0
				}
				var rows [][]string
				for _, name := range slices.Sorted(maps.Keys(services)) {
					row := []string{name}
					if t := services[name]; *tags && len(t) > 0 {
						slices.Sort(t)
						row = append(row, strings.Join(slices.Compact(t), ","))
					}
					rows = append(rows, row)
				}
				in.ui.Output(table(rows))
				return 0
			})
		},
	}
}

// catalogServices are the tags of each service, by name.
func catalogServices(c *httpClient, q *api.QueryOptions, node string, meta map[string]string) (map[string][]string, error) {
	q.NodeMeta = meta
	if node == "" {
		services, _, err := c.c.Catalog().Services(q)
		return services, err
	}
	n, _, err := c.c.Catalog().Node(node, q)
	if err != nil || n == nil {
		return nil, err
	}
	for k, v := range meta {
		if got, ok := n.Node.Meta[k]; !ok || got != v {
			return nil, nil
		}
	}
	services := map[string][]string{}
	for _, s := range n.Services {
		services[s.Service] = append(services[s.Service], s.Tags...)
	}
	return services, nil
}
