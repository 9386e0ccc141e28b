package command

import (
	"cmp"
	"context"
	"flag"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/serf/serf"
	"github.com/posener/complete"
)

func membersCommand() *command {
	return &command{
		name:     "members",
		synopsis: "Lists the members of a cluster",
		example:  "members -status=failed\nmembers -detailed -wan",
		about: "Lists the members that the agent knows, and in which state they are. " +
			"The status is 2 where no member matches.",
		reachesAgent: true,
		values:       complete.Flags{"-status": complete.PredictSet("alive", "leaving", "left", "failed")},
		define: func(fs *flag.FlagSet) action {
			o := &membersOptions{}
			fs.BoolVar(&o.detailed, "detailed", false, "Show all tags of each member.")
			fs.BoolVar(&o.wan, "wan", false, "List the WAN pool: the servers of all datacenters. Only servers know it.")
			fs.StringVar(&o.status, "status", ".*", "Only members whose status matches this regular `expression`.")
			fs.StringVar(&o.segment, "segment", "", "Only members of this network `segment`, and servers.")
			fs.StringVar(&o.filter, "filter", "", "Only members for which this filter `expression` holds, such as 'Tags.dc == dc1'.")
			enterpriseFlags(fs)
			return o.run
		},
	}
}

type membersOptions struct {
	detailed, wan           bool
	status, segment, filter string
}

func (o *membersOptions) run(ctx context.Context, in *invocation) int {
	status, err := regexp.Compile(o.status)
	if err != nil {
		return in.fail("Failed to compile status regexp: %s", err)
	}
	var filter *bexpr.Evaluator
	if o.filter != "" {
		if filter, err = bexpr.CreateEvaluator(o.filter); err != nil {
			return in.fail("Failed to create boolean expression evaluator: %s", err)
		}
	}
	c, ok := in.connect(ctx)
	if !ok {
		return 1
	}
	defer c.Close()
	all, err := c.Members(ctx, o.wan)
	if err != nil {
		return in.fail("Error retrieving members: %s", err)
	}
	var shown []*api.AgentMember
	for _, m := range all {
		if m == nil || !status.MatchString(statusName(m)) || !o.inSegment(m) {
			continue
		}
		if filter != nil {
			// An expression about a tag that this member does not have does not match it.
			if ok, err := filter.Evaluate(m); err != nil && !strings.Contains(err.Error(), "error finding value") {
				return in.fail("Error evaluating -filter: %s", err)
			} else if err != nil || !ok {
				continue
			}
		}
		shown = append(shown, m)
	}
	if len(shown) == 0 {
		return 2
	}
	slices.SortStableFunc(shown, compareMembers)
	if o.detailed {
		in.ui.Output(detailedMembers(shown))
	} else {
		in.ui.Output(standardMembers(shown))
	}
	return 0
}

func (o *membersOptions) inSegment(m *api.AgentMember) bool {
	return o.segment == "" || o.segment == api.AllSegments || isServer(m) || m.Tags["segment"] == o.segment
}

func isServer(m *api.AgentMember) bool { return m.Tags["role"] == "consul" }

// segment is the segment as it is shown.
func segment(m *api.AgentMember) string {
	if isServer(m) {
		return "<all>"
	}
	return first(m.Tags["segment"], "<default>")
}

// compareMembers puts servers first, then goes by segment and name.
func compareMembers(a, b *api.AgentMember) int {
	if as, bs := isServer(a), isServer(b); as != bs {
		if as {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(segment(a), segment(b)), strings.Compare(a.Name, b.Name))
}

// statusName is the status as it is shown; serf itself panics at one that it does
// not know.
func statusName(m *api.AgentMember) string {
	if s := serf.MemberStatus(m.Status); s >= serf.StatusNone && s <= serf.StatusFailed {
		return s.String()
	}
	return "unknown"
}

func memberAddr(m *api.AgentMember) string {
	return net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))
}

func standardMembers(members []*api.AgentMember) string {
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"}}
	for _, m := range members {
		kind := "unknown"
		switch m.Tags["role"] {
		case "consul":
			kind = "server"
		case "node":
			kind = "client"
		}
		build, _, _ := strings.Cut(m.Tags["build"], ":")
		rows = append(rows, []string{
			m.Name, memberAddr(m), statusName(m), kind,
			first(build, "unknown"), first(m.Tags["vsn"], "unknown"), first(m.Tags["dc"], "unknown"),
			first(m.Tags["ap"], "default"), segment(m),
		})
	}
	return table(rows)
}

func detailedMembers(members []*api.AgentMember) string {
	rows := [][]string{{"Node", "Address", "Status", "Tags"}}
	for _, m := range members {
		tags := maps.Clone(m.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		tags["ap"] = first(tags["ap"], "default")
		if _, ok := tags["segment"]; ok {
			tags["segment"] = segment(m)
		}
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(tags)) {
			pairs = append(pairs, k+"="+tags[k])
		}
		rows = append(rows, []string{m.Name, memberAddr(m), statusName(m), strings.Join(pairs, ",")})
	}
	return table(rows)
}
