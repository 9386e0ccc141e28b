package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says, for each package, which packages of ours it may import: imports
// point down only (main, command, agent, its parts, rpc and gossip, tlsutil).
// The first prefix that fits a package counts. A package that is not here may
// import none of ours.
var arrows = []struct {
	pkg string
	may []string
	why string
}{
	{"lictor/tlsutil", nil, "it is at the bottom"},
	{"lictor/version", nil, "it is a fact, not a part"},
	{"lictor/rpc/wire", nil, "types as they are on the wire know nothing"},
	{"lictor/rpc", []string{"lictor/rpc/wire", "lictor/tlsutil", "lictor/version"}, "rpc knows nothing of the agent and nothing of gossip"},
	{"lictor/gossip", []string{"lictor/tlsutil", "lictor/version"}, "gossip knows nothing of the agent and nothing of rpc"},
	{"lictor/agent/logs", nil, "a log serves everyone"},
	{"lictor/agent/answers", []string{"lictor/rpc/wire"}, "how an object is written depends on the object alone"},
	{"lictor/agent/config", []string{"lictor/agent/checks", "lictor/agent/local", "lictor/agent/watches", "lictor/tlsutil", "lictor/version"}, "the configuration starts nothing"},
	{"lictor/agent/server/state", []string{"lictor/rpc/wire"}, "a store knows nothing of who asks it"},
	{"lictor/agent/server/fsm", []string{"lictor/agent/server/state", "lictor/rpc/wire"}, "what a log entry does depends on the store alone"},
	{"lictor/agent/server/consensus", []string{"lictor/agent/server/fsm", "lictor/rpc"}, "it carries entries and does not know what they say"},
	{"lictor/agent/server/archive", []string{"lictor/agent/server/fsm"}, "an archive holds what the state machine wrote"},
	{"lictor/agent/server", []string{"lictor/agent/answers", "lictor/agent/logs", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/version"}, "it gets its few fields, never the agent"},
	{"lictor/agent/decode", nil, "reading keys in any spelling needs no meaning"},
	{"lictor/agent/script", nil, "it runs a program, whoever asks"},
	{"lictor/agent/checks", []string{"lictor/agent/decode", "lictor/agent/script", "lictor/rpc/wire", "lictor/tlsutil"}, "a check knows its target and whom it tells"},
	{"lictor/agent/local", []string{"lictor/agent/checks", "lictor/agent/decode", "lictor/rpc/wire", "lictor/tlsutil"}, "what is registered here does not know who registers it"},
	{"lictor/agent/watches", []string{"lictor/agent/decode", "lictor/agent/script", "lictor/tlsutil"}, "a watch asks the API as any client does"},
	{"lictor/agent/localrpc", []string{"lictor/agent/logs", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/version"}, "it gets its few fields, never the agent"},
	{"lictor/agent/httpapi", []string{"lictor/agent/answers", "lictor/agent/logs", "lictor/agent/checks", "lictor/agent/local", "lictor/agent/decode", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/version"}, "it gets its few fields, never the agent"},
	{"lictor/agent", []string{"lictor/agent", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/version"}, "it does not know who starts it"},
	{"lictor/command", []string{"lictor/agent", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/version"}, "it is started by main"},
	{"lictor/test", []string{"lictor/test", "lictor/rpc", "lictor/gossip", "lictor/tlsutil", "lictor/agent", "lictor/command", "lictor/version"}, "tests may know everything"},
	{"lictor", []string{"lictor/command", "lictor/version"}, "main only wires"},
}

// unwanted are names that say nothing of what a package promises.
var unwanted = []string{"util", "utils", "common", "helpers", "types", "structs"}

func below(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	type pkg struct {
		ImportPath string
		Standard   bool
		Imports    []string
	}
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", "lictor/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	ours := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if below(p.ImportPath, "lictor") {
			ours[p.ImportPath] = p
		}
	}
	used := make([]bool, len(arrows))
	for path, p := range ours {
		if slices.Contains(unwanted, path[strings.LastIndex(path, "/")+1:]) {
			t.Errorf("%s: a package has a sentence of its own; this name is none", path)
		}
		i := slices.IndexFunc(arrows, func(a struct {
			pkg string
			may []string
			why string
		}) bool {
			return a.pkg == path || a.pkg != "lictor" && below(path, a.pkg)
		})
		if i < 0 {
			t.Errorf("%s: say in arrows what it may import", path)
			continue
		}
		used[i] = true
		for _, imp := range p.Imports {
			if !below(imp, "lictor") || below(imp, path) {
				continue
			}
			if !slices.ContainsFunc(arrows[i].may, func(may string) bool { return below(imp, may) }) {
				t.Errorf("%s imports %s: %s", path, imp, arrows[i].why)
			}
			if below(imp, "lictor/test") && !below(path, "lictor/test") {
				t.Errorf("%s imports %s: product code never imports tests", path, imp)
			}
		}
	}
	for i, a := range arrows { // so that the list cannot rot
		if !used[i] {
			t.Errorf("%s does not exist any more", a.pkg)
		}
	}
}
