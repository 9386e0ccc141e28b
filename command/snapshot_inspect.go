package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lictor/agent/server/archive"
	"lictor/agent/server/fsm"

	"github.com/hashicorp/raft"
	"github.com/posener/complete"
)

// rawState is the name of a snapshot's state in a server's data directory, where
// meta.json stands beside it.
const rawState = "state.bin"

func snapshotInspectCommand() *command {
	return &command{
		name:     "snapshot inspect",
		args:     "FILE",
		synopsis: "Displays information about a snapshot file",
		about: "Checks a snapshot and prints what it is and how much of what is in it. " +
			"A file named " + rawState + " is taken for the state in a server's data directory, with meta.json beside it.",
		example:    "snapshot inspect backup.snap\nsnapshot inspect -kvdetails -kvdepth=3 -kvfilter=vault/ backup.snap",
		values:     complete.Flags{"-format": complete.PredictSet("pretty", "json")},
		positional: complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			o := &inspectOptions{}
			fs.BoolVar(&o.details, "kvdetails", false, "Show what the keys of the KV store take, by how they begin.")
			fs.IntVar(&o.kv.Depth, "kvdepth", 2, "Count keys together that have this `number` of parts between slashes in common; with -kvdetails.")
			fs.StringVar(&o.kv.Filter, "kvfilter", "", "Count only keys that begin with this `prefix`; with -kvdetails.")
			fs.StringVar(&o.format, "format", "pretty", "Output `format`: pretty or json.")
			return o.run
		},
	}
}

type inspectOptions struct {
	details bool
	kv      archive.KVDetails
	format  string
}

// inspected is what is printed, in the form of -format=json.
type inspected struct {
	Meta        inspectedMeta
	Stats       []archive.Stat
	StatsKV     []archive.Stat `json:",omitempty"`
	TotalSize   int
	TotalSizeKV int
}

type inspectedMeta struct {
	ID          string
	Size        int64
	Index, Term uint64
	Version     raft.SnapshotVersion
}

func (o *inspectOptions) run(_ context.Context, in *invocation) int {
	switch {
	case len(in.args) != 1 || in.args[0] == "":
		return in.oneFile()
	case o.format != "pretty" && o.format != "json":
		return in.fail("Unknown format: %s", o.format)
	case !o.details && (in.given("kvdepth") || in.given("kvfilter")):
		return in.fail("-kvdepth and -kvfilter are for -kvdetails")
	}
	meta, state, done, err := openSnapshot(in.args[0])
	if err != nil {
		return in.fail("Error reading snapshot: %s", err)
	}
	defer done()
	var kv *archive.KVDetails
	if o.details {
		kv = &o.kv
	}
	rep, err := archive.InspectState(state, kv)
	if err != nil {
		return in.fail("Error extracting snapshot data: %s", err)
	}
	out := &inspected{
		inspectedMeta{meta.ID, meta.Size, meta.Index, meta.Term, meta.Version},
		rep.Stats, rep.StatsKV, rep.TotalSize, rep.TotalSizeKV,
	}
	if o.format == "pretty" {
		in.ui.Output(out.text(o.details))
		return 0
	}
	text, err := json.MarshalIndent(out, "", "   ")
	if err != nil {
		return in.fail("Error formatting snapshot data: %s", err)
	}
	in.ui.Output(string(text))
	return 0
}

func (r *inspected) text(details bool) string {
	head := wideTable([][]string{
		{" ID", r.Meta.ID}, {" Size", strconv.FormatInt(r.Meta.Size, 10)}, {" Index", strconv.FormatUint(r.Meta.Index, 10)},
		{" Term", strconv.FormatUint(r.Meta.Term, 10)}, {" Version", strconv.Itoa(int(r.Meta.Version))},
	})
	out := head + "\n\n" + statsText("Type", r.Stats, r.TotalSize)
	if details {
		out += "\n\n" + statsText("Key Name", r.StatsKV, r.TotalSizeKV)
	}
	return out
}

func statsText(what string, stats []archive.Stat, total int) string {
	rule := []string{" ----", "----", "----"}
	rows := [][]string{{" " + what, "Count", "Size"}, rule}
	for _, s := range stats {
		rows = append(rows, []string{" " + s.Name, strconv.Itoa(s.Count), byteText(s.Sum)})
	}
	return wideTable(append(rows, rule, []string{" Total", "", byteText(total)}))
}

// byteText is a size for people: 344B, 1.7KB, 5MB.
func byteText(n int) string {
	if n < 1<<10 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"KB", "MB", "GB", "TB"} {
		if v /= 1 << 10; v < 1<<10 {
			break
		}
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + unit
}

// openSnapshot opens an archive, or the state in a server's data directory.
// done lets go of it.
func openSnapshot(path string) (meta *raft.SnapshotMeta, state io.Reader, done func(), err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	if filepath.Base(path) == rawState {
		meta, err := readMeta(filepath.Join(filepath.Dir(path), "meta.json"))
		if err != nil {
			file.Close()
			return nil, nil, nil, err
		}
		return meta, file, func() { file.Close() }, nil
	}
	defer file.Close()
	a, err := archive.Open(file, "", archive.MaxState)
	if err != nil {
		return nil, nil, nil, err
	}
	if state, err = a.State(); err != nil {
		a.Close()
		return nil, nil, nil, err
	}
	return &a.Meta, state, func() { a.Close() }, nil
}

func readMeta(path string) (*raft.SnapshotMeta, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	meta := &raft.SnapshotMeta{}
	if err := json.NewDecoder(io.LimitReader(file, 1<<20)).Decode(meta); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return meta, nil
}

func snapshotDecodeCommand() *command {
	return &command{
		name:     "snapshot decode",
		args:     "FILE",
		synopsis: "Decodes a snapshot file to JSON",
		about: "Checks a snapshot and prints it as JSON, a line for each record: its type, and its data. The first line is what describes the snapshot. " +
			"The output holds every value of the KV store.",
		example:    "snapshot decode backup.snap | jq 'select(.Type == \"KVs\") | .Data.Key'",
		positional: complete.PredictFiles("*"),
		define: func(*flag.FlagSet) action {
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) != 1 || in.args[0] == "" {
					return in.oneFile()
				}
				meta, state, done, err := openSnapshot(in.args[0])
				if err != nil {
					return in.fail("Error reading snapshot: %s", err)
				}
				defer done()
				out := bufio.NewWriter(in.env.stdout)
				lines := json.NewEncoder(out)
				line := func(name string, data any) error {
					if err := ctx.Err(); err != nil {
						return err
					}
					return lines.Encode(struct {
						Data any
						Type string
					}{data, name})
				}
				err = line("SnapshotHeader", meta)
				if err == nil {
					err = fsm.Inspect(state, func(r fsm.Record) error {
						data, err := r.Data()
						if err != nil {
							return err
						}
						return line(r.Type, data)
					})
				}
				if err = errors.Join(err, out.Flush()); err != nil {
					return in.fail("Error decoding snapshot: %s", err)
				}
				return 0
			}
		},
	}
}
