package command

import "testing"

func TestOperatorRaft(t *testing.T) {
	const conf = "GET /v1/operator/raft/configuration"
	const header = "Node  ID  Address      State     Voter  RaftProtocol  Commit Index  Trails Leader By\n"
	runAPICases(t, []apiCase{
		{name: "list", args: words("operator raft list-peers"), answers: map[string]string{conf: `{"Servers":[` +
			`{"ID":"i1","Node":"s1","Address":"10.0.0.1:83","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":100},` +
			`{"ID":"i2","Node":"s2","Address":"10.0.0.2:83","Leader":false,"ProtocolVersion":"3","Voter":true,"LastIndex":97},` +
			`{"ID":"i3","Node":"s3","Address":"10.0.0.3:83","Leader":false,"ProtocolVersion":"3","Voter":false,"LastIndex":101}],"Index":5}`},
			out: header +
				"s1    i1  10.0.0.1:83  leader    true   3             100           -\n" +
				"s2    i2  10.0.0.2:83  follower  true   3             97            3 commits\n" +
				"s3    i3  10.0.0.3:83  follower  false  3             101           0 commits\n"},
		{name: "list, no leader", args: words("operator raft list-peers -stale"), answers: map[string]string{conf + "?stale=": `{"Servers":[{"ID":"i1","Node":"s1","Address":"10.0.0.1:83","ProtocolVersion":"3","Voter":true}]}`},
			out: header + "s1    i1  10.0.0.1:83  follower  true   3             0             -\n"},
		{name: "list, an error", args: words("operator raft list-peers"), status: 1, errOut: "Error getting peers: Failed to retrieve raft configuration: Unexpected response code: 500 (boom)\n"},
		{name: "remove by id", args: words("operator raft remove-peer -id=x"), answers: map[string]string{"DELETE /v1/operator/raft/peer?id=x": ""}, out: "Removed peer with id \"x\"\n"},
		{name: "remove by address", args: words("operator raft remove-peer -address=10.0.0.1:8300"), answers: map[string]string{"DELETE /v1/operator/raft/peer?address=10.0.0.1%3A8300": ""}, out: "Removed peer with address \"10.0.0.1:8300\"\n"},
		{name: "remove none", args: words("operator raft remove-peer"), status: 1, errOut: "~an address or id is required for the peer to remove"},
		{name: "remove both", args: words("operator raft remove-peer -id=x -address=y"), status: 1, errOut: "~cannot give both an address and id"},
		{name: "remove, an error", args: words("operator raft remove-peer -id=x"), status: 1, errOut: "Error removing peer: Unexpected response code: 500 (boom)\n"},
		{name: "transfer", args: words("operator raft transfer-leader"), answers: map[string]string{"POST /v1/operator/raft/transfer-leader": `{"Success":true}`}, out: "Success\n"},
		{name: "transfer to", args: words("operator raft transfer-leader -id=x"), answers: map[string]string{"POST /v1/operator/raft/transfer-leader?id=x": `{"Success":true}`}, out: "Success\n"},
		{name: "transfer fails", args: words("operator raft transfer-leader"), status: 1, errOut: "Error transfering leadership: Unexpected response code: 500 (boom)\n"},
		{name: "group", args: words("operator raft"), status: 1, errOut: "~Usage: lictor operator raft <subcommand>"},
		{name: "group above", args: words("operator"), status: 1, errOut: "~Usage: lictor operator <subcommand>"},
	})
}

func TestOperatorAutopilot(t *testing.T) {
	const conf = "GET /v1/operator/autopilot/configuration"
	const current = `{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":9}`
	const changed = `{"CleanupDeadServers":false,"LastContactThreshold":"500ms","MaxTrailingLogs":250,"MinQuorum":3,"ServerStabilizationTime":"10s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":9}`
	const put = "PUT /v1/operator/autopilot/configuration?cas=9"
	const state = `{"Healthy":true,"FailureTolerance":1,"OptimisticFailureTolerance":1,"Servers":{"i1":{"ID":"i1","Name":"s1","Address":"10.0.0.1:8300","NodeStatus":"alive","Version":"0.1.0","LastContact":"0s","LastTerm":2,"LastIndex":10,"Healthy":true,"StableSince":"2026-01-01T00:00:00Z","ReadReplica":false,"Status":"leader","Meta":{"k":"v"},"NodeType":"voter"}},"Leader":"i1","Voters":["i1"]}`
	set := words("operator autopilot set-config -cleanup-dead-servers=false -min-quorum=3 -last-contact-threshold=500ms")
	runAPICases(t, []apiCase{
		{name: "get", args: words("operator autopilot get-config"), answers: map[string]string{conf: current},
			out: "CleanupDeadServers = true\nLastContactThreshold = 200ms\nMaxTrailingLogs = 250\nMinQuorum = 0\nServerStabilizationTime = 10s\nRedundancyZoneTag = \"\"\nDisableUpgradeMigration = false\nUpgradeVersionTag = \"\"\n"},
		{name: "get, an error", args: words("operator autopilot get-config"), status: 1, errOut: "Error querying Autopilot configuration: Unexpected response code: 500 (boom)\n"},
		{name: "set", args: set, answers: map[string]string{conf: current, put: "true"}, out: "Configuration updated!\n", asked: []string{conf, put + " " + changed}},
		{name: "set, too late", args: set, answers: map[string]string{conf: current, put: "false"}, status: 1, errOut: "Configuration could not be updated: somebody else has changed it. Please try again.\n"},
		{name: "set, an error", args: set, answers: map[string]string{conf: current}, status: 1, errOut: "Error setting Autopilot configuration: Unexpected response code: 500 (boom)\n"},
		{name: "state", args: words("operator autopilot state"), answers: map[string]string{"GET /v1/operator/autopilot/state": state},
			out: `Healthy:                      true
Failure Tolerance:            1
Optimistic Failure Tolerance: 1
Leader:                       i1
Voters:
   i1

Servers:
   i1
      Name:         s1
      Address:      10.0.0.1:8300
      Version:      0.1.0
      Status:       leader
      Node Type:    voter
      Node Status:  alive
      Healthy:      true
      Last Contact: 0s
      Last Term:    2
      Last Index:   10
      Meta
         "k": "v"
`},
		{name: "state as JSON", args: words("operator autopilot state -format=json"), answers: map[string]string{"GET /v1/operator/autopilot/state": `{"Leader":"i1"}`},
			out: "{\n   \"Healthy\": false,\n   \"FailureTolerance\": 0,\n   \"OptimisticFailureTolerance\": 0,\n   \"Servers\": null,\n   \"Leader\": \"i1\",\n   \"Voters\": null\n}\n"},
		{name: "state, bad format", args: words("operator autopilot state -format=zz"), status: 1, errOut: "Unknown format: zz\n"},
		{name: "group", args: words("operator autopilot"), status: 1, errOut: "~Usage: lictor operator autopilot <subcommand>"},
	})
}

func TestOperatorUsage(t *testing.T) {
	const dc1 = `"dc1":{"Nodes":1,"Services":2,"ServiceInstances":4,"ConnectServiceInstances":{"connect-proxy":0,"connect-native":0},"BillableServiceInstances":3}`
	const dc2 = `"dc2":{"Nodes":2,"Services":1,"ServiceInstances":1,"ConnectServiceInstances":{"connect-proxy":1},"BillableServiceInstances":1}`
	one := map[string]string{"GET /v1/operator/usage": `{"Usage":{` + dc1 + `}}`}
	billable := "Billable Service Instances Total: 3\ndc1 Billable Service Instances: 3\n\nBillable Services\nServices      Service instances\n2             3\n"
	connect := "Connect Services\nType                Service instances\nconnect-native      0\nconnect-proxy       0\n"
	runAPICases(t, []apiCase{
		{name: "one", args: words("operator usage instances"), answers: one,
			out: billable + "\nNodes\nDatacenter      Count\ndc1             1\n\nTotal           1\n\n" + connect},
		{name: "billable", args: words("operator usage instances -billable"), answers: one, out: billable},
		{name: "connect", args: words("operator usage instances -connect"), answers: one, out: connect},
		{name: "all", args: words("operator usage instances -all-datacenters"), answers: map[string]string{"GET /v1/operator/usage?global=": `{"Usage":{` + dc2 + `,` + dc1 + `}}`},
			out: "Billable Service Instances Total: 4\ndc1 Billable Service Instances: 3\ndc2 Billable Service Instances: 1\n\n" +
				"Billable Services\nDatacenter      Services      Service instances\ndc1             2             3\ndc2             1             1\n\nTotal           3             4\n\n" +
				"Nodes\nDatacenter      Count\ndc1             1\ndc2             2\n\nTotal           3\n\n" +
				"Connect Services\nDatacenter      Type                Service instances\ndc1             connect-native      0\ndc1             connect-proxy       0\ndc2             connect-proxy       1\n\nTotal                               1\n"},
		{name: "an error", args: words("operator usage instances"), status: 1, errOut: "Error fetching usage information: Unexpected response code: 500 (boom)\n"},
	})
}
