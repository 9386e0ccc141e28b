package command

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

func usageInstancesCommand() *command {
	return &command{
		name:        "operator usage instances",
		synopsis:    "Display service instance usage information",
		about:       "Counts the services, their instances and the nodes of the agent's datacenter, or of all that it can reach.",
		example:     "operator usage instances\noperator usage instances -all-datacenters",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			all := fs.Bool("all-datacenters", false, "Count in all datacenters.")
			billable := fs.Bool("billable", false, "Show ordinary services only: all but those of a service mesh and of the servers.")
			connect := fs.Bool("connect", false, "Show services of a service mesh only.")
			return askAPI(func(in *invocation, c *httpClient) int {
				q := in.query()
				q.Global = *all
				res, _, err := c.c.Operator().Usage(q)
				if err != nil {
					return in.fail("Error fetching usage information: %s", c.explain(err))
				}
				var parts []string
				if !*connect || *billable {
					parts = append(parts, billableUsage(res.Usage, *all))
				}
				if !*connect && !*billable {
					parts = append(parts, nodeUsage(res.Usage))
				}
				if !*billable || *connect {
					parts = append(parts, connectUsage(res.Usage, *all))
				}
				in.ui.Output(strings.Join(parts, "\n\n"))
				return 0
			})
		},
	}
}

// Each of these is one section: by datacenter, with a total where all are shown.

func billableUsage(usage map[string]api.ServiceUsage, all bool) string {
	var b strings.Builder
	rows := [][]string{{"Datacenter", "Services", "Service instances"}}
	var services, instances int
	dcs := slices.Sorted(maps.Keys(usage))
	for _, dc := range dcs {
		u := usage[dc]
		services += u.Services
		instances += u.BillableServiceInstances
		rows = append(rows, []string{dc, strconv.Itoa(u.Services), strconv.Itoa(u.BillableServiceInstances)})
	}
	fmt.Fprintf(&b, "Billable Service Instances Total: %d\n", instances)
	for _, dc := range dcs {
		fmt.Fprintf(&b, "%s Billable Service Instances: %d\n", clean(dc), usage[dc].BillableServiceInstances)
	}
	b.WriteString("\nBillable Services\n")
	if all {
		rows = append(rows, nil, []string{"Total", strconv.Itoa(services), strconv.Itoa(instances)})
	} else {
		rows = withoutFirst(rows)
	}
	b.WriteString(wideTable(rows))
	return b.String()
}

func nodeUsage(usage map[string]api.ServiceUsage) string {
	rows, total := [][]string{{"Datacenter", "Count"}}, 0
	for _, dc := range slices.Sorted(maps.Keys(usage)) {
		total += usage[dc].Nodes
		rows = append(rows, []string{dc, strconv.Itoa(usage[dc].Nodes)})
	}
	rows = append(rows, nil, []string{"Total", strconv.Itoa(total)})
	return "Nodes\n" + wideTable(rows)
}

func connectUsage(usage map[string]api.ServiceUsage, all bool) string {
	rows, total := [][]string{{"Datacenter", "Type", "Service instances"}}, 0
	for _, dc := range slices.Sorted(maps.Keys(usage)) {
		kinds := usage[dc].ConnectServiceInstances
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			total += kinds[kind]
			rows = append(rows, []string{dc, kind, strconv.Itoa(kinds[kind])})
		}
	}
	if all {
		rows = append(rows, nil, []string{"Total", "", strconv.Itoa(total)})
	} else {
		rows = withoutFirst(rows)
	}
	return "Connect Services\n" + wideTable(rows)
}

// withoutFirst are the rows without their first column.
func withoutFirst(rows [][]string) [][]string {
	out := make([][]string, len(rows))
	for i, row := range rows {
		out[i] = row[1:]
	}
	return out
}
