package command

import "testing"

func TestWatchOnce(t *testing.T) {
	events := `[{"ID":"b54fe110-7af5-cafc-d1fb-afc8ba432b1c","Name":"d","Version":1,"LTime":5}]`
	runAPICases(t, []apiCase{
		{name: "key", args: words("watch -type=key -key=a"), answers: map[string]string{"GET /v1/kv/a": "[" + pairA + "]"},
			out: "{\n    \"Key\": \"a\",\n    \"CreateIndex\": 3,\n    \"ModifyIndex\": 9,\n    \"LockIndex\": 1,\n    \"Flags\": 42,\n    \"Value\": \"dmFsdWU=\",\n    \"Session\": \"s1\"\n}\n"},
		{name: "no key", args: words("watch -type=key -key=a"), answers: map[string]string{"GET /v1/kv/a": "404"}, out: "null\n"},
		{name: "keyprefix", args: words("watch -type=keyprefix -prefix=x/"), answers: map[string]string{"GET /v1/kv/x/?recurse=": "[]"}, out: "[]\n"},
		{name: "services", args: words("watch -type=services -stale"), answers: map[string]string{"GET /v1/catalog/services?stale=": `{"web":["a"]}`}, out: "{\n    \"web\": [\n        \"a\"\n    ]\n}\n"},
		{name: "nodes", args: words("watch -type=nodes -filter=x"), answers: map[string]string{"GET /v1/catalog/nodes?filter=x": `[]`}, out: "[]\n"},
		{name: "service", args: words("watch -type=service -service=web -tag=a -tag=b -passingonly=true"), answers: map[string]string{"GET /v1/health/service/web?passing=1&tag=a&tag=b": `[]`}, out: "[]\n"},
		{name: "checks", args: words("watch -type=checks"), answers: map[string]string{"GET /v1/health/state/any": `[]`}, out: "[]\n"},
		{name: "checks by state", args: words("watch -type=checks -state=critical"), answers: map[string]string{"GET /v1/health/state/critical": `[]`}, out: "[]\n"},
		{name: "checks of a service", args: words("watch -type=checks -service=web"), answers: map[string]string{"GET /v1/health/checks/web": `[]`}, out: "[]\n"},
		{name: "event", args: words("watch -type=event -name=d"), answers: map[string]string{"GET /v1/event/list?name=d": events},
			out: "[\n    {\n        \"ID\": \"b54fe110-7af5-cafc-d1fb-afc8ba432b1c\",\n        \"Name\": \"d\",\n        \"Payload\": null,\n        \"NodeFilter\": \"\",\n        \"ServiceFilter\": \"\",\n        \"TagFilter\": \"\",\n        \"Version\": 1,\n        \"LTime\": 5\n    }\n]\n"},
		{name: "an error", args: words("watch -type=nodes"), status: 1, errOut: "Error querying agent: Unexpected response code: 500 (boom)\n"},

		{name: "no type", args: words("watch"), status: 1, errOut: "~Watch type must be specified\n"},
		{name: "unknown type", args: words("watch -type=x"), status: 1, errOut: "~Unsupported watch type: x\n"},
		{name: "mesh type", args: words("watch -type=connect_leaf"), status: 1, errOut: "~Type connect_leaf is not supported in the CLI tool\n"},
		{name: "no key", args: words("watch -type=key"), status: 1, errOut: "~Must specify a single key to watch\n"},
		{name: "no prefix", args: words("watch -type=keyprefix"), status: 1, errOut: "~Must specify a single prefix to watch\n"},
		{name: "no service", args: words("watch -type=service"), status: 1, errOut: "~Must specify a single service to watch\n"},
		{name: "service and state", args: words("watch -type=checks -service=x -state=any"), status: 1, errOut: "~Cannot specify service and state\n"},
		{name: "a flag of another type", args: words("watch -type=key -key=a -prefix=b"), status: 1, errOut: "~Invalid parameter for type key: -prefix\n"},
		{name: "bad boolean", args: words("watch -type=service -service=x -passingonly=maybe"), status: 1, errOut: "~invalid boolean value"},
	})
}
