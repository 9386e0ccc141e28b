package command

import (
	"context"
	"flag"
	"fmt"
	"strconv"

	"github.com/hashicorp/consul/api"
)

func raftListPeersCommand() *command {
	return &command{
		name:        "operator raft list-peers",
		synopsis:    "Display the current Raft peer configuration",
		about:       "Prints the servers that Raft counts as peers, whether each votes, and by how much it trails the leader.",
		example:     "operator raft list-peers\noperator raft list-peers -stale",
		usesAPI:     true,
		picksServer: true,
		define: func(*flag.FlagSet) action {
			return askAPI(func(in *invocation, c *httpClient) int {
				peers, err := c.c.Operator().RaftGetConfiguration(in.query())
				if err != nil {
					return in.fail("Error getting peers: Failed to retrieve raft configuration: %s", c.explain(err))
				}
				in.ui.Output(table(raftPeers(peers.Servers)))
				return 0
			})
		},
	}
}

func raftPeers(servers []*api.RaftServer) [][]string {
	rows := [][]string{{"Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"}}
	leader, known := uint64(0), false
	for _, s := range servers {
		if s.Leader {
			leader, known = s.LastIndex, true
		}
	}
	for _, s := range servers {
		state, trails := "follower", "-"
		switch {
		case s.Leader:
			state = "leader"
		case known && s.LastIndex <= leader:
			trails = fmt.Sprintf("%d commits", leader-s.LastIndex)
		case known:
			trails = "0 commits" // it has got on since the leader was asked
		}
		rows = append(rows, []string{
			s.Node, s.ID, s.Address, state, strconv.FormatBool(s.Voter),
			first(s.ProtocolVersion, "<=1"), strconv.FormatUint(s.LastIndex, 10), trails,
		})
	}
	return rows
}

func raftRemovePeerCommand() *command {
	return &command{
		name:     "operator raft remove-peer",
		synopsis: "Remove a server from the Raft configuration",
		about: "Takes a server out of the Raft configuration, by its id or its address, where it is gone for good and autopilot has not done so. " +
			"A server that still runs comes back: stop it, or have it leave, first.",
		example:     "operator raft remove-peer -id=673f5fe3-0c2a-4bef-9571-c9ddbbc7a1c5\noperator raft remove-peer -address=10.0.0.3:8300",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			id := fs.String("id", "", "`id` of the server.")
			addr := fs.String("address", "", "`address` of the server, with its port.")
			return func(ctx context.Context, in *invocation) int {
				switch {
				case len(in.args) > 0:
					return in.misuse("Too many arguments (expected 0, got %d)", len(in.args))
				case *id == "" && *addr == "":
					return in.fail("Error removing peer: an address or id is required for the peer to remove")
				case *id != "" && *addr != "":
					return in.fail("Error removing peer: cannot give both an address and id")
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				op, done, err := c.c.Operator(), "", error(nil)
				if *id != "" {
					done, err = fmt.Sprintf("Removed peer with id %q", *id), op.RaftRemovePeerByID(*id, nil)
				} else {
					done, err = fmt.Sprintf("Removed peer with address %q", *addr), op.RaftRemovePeerByAddress(*addr, nil)
				}
				if err != nil {
					return in.fail("Error removing peer: %s", c.explain(err))
				}
				in.ui.Output(done)
				return 0
			}
		},
	}
}

func raftTransferLeaderCommand() *command {
	return &command{
		name:        "operator raft transfer-leader",
		synopsis:    "Transfer raft leadership to another node",
		about:       "Has the leader hand over to another voting server, and prints Success once it has.",
		example:     "operator raft transfer-leader\noperator raft transfer-leader -id=673f5fe3-0c2a-4bef-9571-c9ddbbc7a1c5",
		usesAPI:     true,
		picksServer: true,
		define: func(fs *flag.FlagSet) action {
			id := fs.String("id", "", "`id` of the server to hand over to. The default is the one that is furthest.")
			return askAPI(func(in *invocation, c *httpClient) int {
				res, err := c.c.Operator().RaftLeaderTransfer(*id, in.query())
				switch {
				case err != nil:
					return in.fail("Error transfering leadership: %s", c.explain(err))
				case !res.Success:
					return in.fail("Error transfering leadership: the leader has not handed over")
				}
				in.ui.Output("Success")
				return 0
			})
		},
	}
}
