package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lictor/agent/server/archive"
	"lictor/agent/server/fsm"
	"lictor/rpc/wire"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/serf/coordinate"
)

// sink is where a state machine writes its snapshot.
type sink struct{ bytes.Buffer }

func (*sink) ID() string    { return "x" }
func (*sink) Cancel() error { return nil }
func (*sink) Close() error  { return nil }

// makeSnapshot is a snapshot of one node and four keys: its archive, and the
// two files it is of.
func makeSnapshot(t testing.TB) (packed, meta, state []byte) {
	t.Helper()
	m, err := fsm.New(hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	put := func(typ fsm.MessageType, msg any) {
		index++
		b, err := fsm.Encode(typ, msg)
		if err != nil {
			t.Fatal(err)
		}
		if err, ok := m.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: b}).(error); ok {
			t.Fatal(err)
		}
	}
	put(fsm.Register, &wire.RegisterRequest{Node: "n", Address: "10.0.0.1", Service: &wire.NodeService{Service: "web"}})
	for _, key := range []string{"a/b/1", "a/b/2", "a/c", "top"} {
		put(fsm.KVS, &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte("value")}})
	}
	put(fsm.KVS, &wire.KVSRequest{Op: wire.KVDelete, DirEnt: wire.DirEntry{Key: "top"}})
	put(fsm.Autopilot, &wire.AutopilotSetConfigRequest{Config: wire.AutopilotConfig{MaxTrailingLogs: 9}})
	put(fsm.Register, &wire.RegisterRequest{Node: "n", Address: "10.0.0.1", Check: &wire.HealthCheck{CheckID: "c", Name: "c", Status: "passing"}})
	put(fsm.Session, &wire.SessionRequest{Op: wire.SessionCreate, Session: wire.Session{ID: "5e551011-0000-4000-8000-000000000000", Node: "n", Behavior: "release"}})
	put(fsm.CoordinateBatch, &fsm.CoordinateBatchRequest{Updates: []*wire.Coordinate{{Node: "n", Coord: coordinate.NewCoordinate(coordinate.DefaultConfig())}}})
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	head := &raft.SnapshotMeta{Version: 1, ID: "2-7-1", Index: 7, Term: 2, Size: int64(s.Len())}
	var b bytes.Buffer
	if err := archive.Write(&b, head, bytes.NewReader(s.Bytes())); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), text, s.Bytes()
}

func TestSnapshotSave(t *testing.T) {
	packed, _, _ := makeSnapshot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "t.snap")
	self := `{"Config":{"Version":"0.1.0","Datacenter":"dc1","NodeName":"n1"},"Stats":{"consul":{"leader":"true"}}}`
	answers := map[string]string{"GET /v1/snapshot": string(packed), "GET /v1/snapshot?dc=dc2&stale=": string(packed), "GET /v1/agent/self": self}
	const saved = "Saved and verified snapshot to index 7\n"
	runAPICases(t, []apiCase{
		{name: "save", args: []string{"snapshot", "save", path}, answers: answers, out: saved},
		{name: "save elsewhere", args: []string{"snapshot", "save", "-datacenter=dc2", "-stale", path}, answers: answers, out: saved},
		{name: "save with facts", args: []string{"snapshot", "save", "-append-filename=version,dc,node,status", path}, answers: answers, out: saved},
		{name: "unknown fact", args: []string{"snapshot", "save", "-append-filename=x", path}, answers: answers, status: 1, errOut: "~unknown part \"x\""},
		{name: "cut off", args: []string{"snapshot", "save", path}, answers: map[string]string{"GET /v1/snapshot": string(packed[:len(packed)-9])}, status: 1,
			errOut: "~Error saving snapshot: verify the snapshot: "},
		{name: "an error", args: []string{"snapshot", "save", path}, status: 1, errOut: "Error saving snapshot: Unexpected response code: 500 (boom)\n"},
		{name: "nothing", args: words("snapshot save"), status: 1, errOut: "~Missing FILE argument"},
		{name: "two", args: words("snapshot save a b"), status: 1, errOut: "~Too many arguments (expected 1, got 2)"},
		{name: "no folder", args: []string{"snapshot", "save", dir + "/none/x"}, answers: answers, status: 1, errOut: "~no such file or directory"},
		{name: "group", args: words("snapshot"), status: 1, errOut: "~Usage: lictor snapshot <subcommand>"},
	})
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil || !bytes.Equal(b, packed) {
			t.Errorf("%s is not what was sent, %v", e.Name(), err)
		}
	}
	if got := strings.Join(names, " "); got != "t-0.1.0-dc1-n1-leader.snap t.snap" {
		t.Errorf("files: %s", got)
	}
}

func TestSnapshotRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.snap")
	if err := os.WriteFile(path, []byte("an archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	runAPICases(t, []apiCase{
		{name: "restore", args: []string{"snapshot", "restore", path}, answers: map[string]string{"PUT /v1/snapshot": ""}, out: "Restored snapshot\n", asked: []string{"PUT /v1/snapshot an archive"}},
		{name: "an error", args: []string{"snapshot", "restore", path}, status: 1, errOut: "Error restoring snapshot: Unexpected response code: 500 (boom)\n"},
		{name: "no file", args: []string{"snapshot", "restore", path + "x"}, status: 1, errOut: "~Error opening snapshot file: open "},
		{name: "nothing", args: words("snapshot restore"), status: 1, errOut: "~Missing FILE argument"},
	})
}

func TestSnapshotInspectAndDecode(t *testing.T) {
	packed, meta, state := makeSnapshot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "t.snap")
	for name, b := range map[string][]byte{"t.snap": packed, "meta.json": meta, "state.bin": state, "bad.snap": packed[:40]} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The sizes are those of the state machine's own format.
	sizes := regexp.MustCompile(`\d+(\.\d)?K?B\n`)
	for _, file := range []string{path, filepath.Join(dir, "state.bin")} {
		got := lictor(t, nil, nil, "snapshot", "inspect", "-kvdetails", file)
		text := sizes.ReplaceAllString(got.out, "*\n")
		head := strings.Split(text, "\n")
		for i, want := range []string{" ID           2-7-1", " Size         ", " Index        7", " Term         2", " Version      1", ""} {
			if !strings.HasPrefix(head[i], want) || i != 1 && head[i] != want {
				t.Errorf("line %d is %q, want %q", i, head[i], want)
			}
		}
		if got.status != 0 || got.errOut != "" || !strings.HasSuffix(text, "\n"+
			"\n Key Name      Count      Size\n ----          ----       ----\n a/b           2          *\n a/c           1          *\n ----          ----       ----\n Total                    *\n") {
			t.Errorf("%+v", got)
		}
		if !regexp.MustCompile(`(?m)^ KVs +3 +\*$`).MatchString(text) || !regexp.MustCompile(`(?m)^ Type +Count +Size$`).MatchString(text) {
			t.Errorf("%s", text)
		}
	}
	got := lictor(t, nil, nil, "snapshot", "inspect", "-format=json", "-kvdetails", "-kvdepth=1", "-kvfilter=a/", path)
	var rep inspected
	if err := json.Unmarshal([]byte(got.out), &rep); err != nil || rep.Meta.ID != "2-7-1" || rep.Meta.Index != 7 || len(rep.StatsKV) != 1 ||
		rep.StatsKV[0].Name != "a" || rep.StatsKV[0].Count != 3 || rep.TotalSize == 0 || rep.TotalSizeKV != rep.StatsKV[0].Sum {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.HasPrefix(got.out, "{\n   \"Meta\": {\n      \"ID\": \"2-7-1\",\n") {
		t.Errorf("%s", got.out)
	}

	got = lictor(t, nil, nil, "snapshot", "decode", path)
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	if got.status != 0 || !strings.HasPrefix(lines[0], `{"Data":{"Version":1,"ID":"2-7-1","Index":7,"Term":2,`) || !strings.HasSuffix(lines[0], `,"Type":"SnapshotHeader"}`) {
		t.Errorf("%+v", got)
	}
	seen := map[string]int{}
	for _, line := range lines {
		var r struct {
			Data map[string]any
			Type string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || len(r.Data) == 0 {
			t.Errorf("%s: %v", line, err)
		}
		seen[r.Type]++
		switch {
		case r.Type == "KVs" && r.Data["Key"] == "a/c" && r.Data["Value"] != "dmFsdWU=",
			r.Type == "Nodes" && r.Data["Address"] != "10.0.0.1",
			r.Type == "Autopilot" && r.Data["MaxTrailingLogs"] != 9.0,
			r.Type == "Services" && r.Data["Service"].(map[string]any)["Service"] != "web",
			r.Type == "Tombstones" && r.Data["Name"] != "top":
			t.Errorf("decoded %s", line)
		}
	}
	for name, n := range map[string]int{"KVs": 3, "Nodes": 1, "Services": 1, "Tombstones": 1, "Autopilot": 1, "Checks": 1, "Sessions": 1, "Coordinates": 1} {
		if seen[name] != n {
			t.Errorf("%d of %s, want %d", seen[name], name, n)
		}
	}

	for _, args := range []string{"inspect", "decode"} {
		for file, want := range map[string]string{"bad.snap": "Error reading snapshot: ", "none": "no such file", "": "Missing FILE argument"} {
			line := []string{"snapshot", args}
			if file != "" {
				line = append(line, filepath.Join(dir, file))
			}
			if got := lictor(t, nil, nil, line...); got.status != 1 || got.out != "" || !strings.Contains(got.errOut, want) {
				t.Errorf("%v: %+v", line, got)
			}
		}
	}
	for args, want := range map[string]string{"-format=zz": "Unknown format: zz\n", "-kvdepth=1": "-kvdepth and -kvfilter are for -kvdetails\n"} {
		if got := lictor(t, nil, nil, "snapshot", "inspect", args, path); got.status != 1 || got.errOut != want {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestByteText(t *testing.T) {
	for n, want := range map[int]string{0: "0B", 344: "344B", 1024: "1KB", 1741: "1.7KB", 5 << 20: "5MB", 3 << 40: "3TB", 3 << 50: "3072TB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
