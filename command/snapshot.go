package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"lictor/agent/server/archive"

	"github.com/posener/complete"
)

func snapshotSaveCommand() *command {
	return &command{
		name:     "snapshot save",
		args:     "FILE",
		synopsis: "Saves snapshot of the servers' state",
		about: "Saves the state of the servers (nodes, services, checks, keys and sessions) as of one moment into a file, and checks that it is whole. " +
			"A file of that name is replaced, but only by a good snapshot. It holds every value of the KV store: only its owner may read it.",
		example:     "snapshot save backup.snap\nsnapshot save -stale -append-filename=version,dc backup.snap",
		usesAPI:     true,
		picksServer: true,
		positional:  complete.PredictFiles("*"),
		define: func(fs *flag.FlagSet) action {
			add := fs.String("append-filename", "", "Add these `parts` to the name before its extension, separated by commas: version, dc, node, status.")
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) != 1 || in.args[0] == "" {
					return in.oneFile()
				}
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				path := in.args[0]
				if *add != "" {
					var err error
					if path, err = appendFacts(c, path, strings.Split(*add, ",")); err != nil {
						return in.fail("Error naming the snapshot: %s", c.explain(err))
					}
				}
				body, _, err := c.c.Snapshot().Save(in.query())
				if err != nil {
					return in.fail("Error saving snapshot: %s", c.explain(err))
				}
				defer body.Close()
				index, err := saveVerified(path, body)
				if err != nil {
					return in.fail("Error saving snapshot: %s", err)
				}
				in.ui.Output(fmt.Sprintf("Saved and verified snapshot to index %d", index))
				return 0
			}
		},
	}
}

// oneFile says that exactly one FILE is needed.
func (in *invocation) oneFile() int {
	if len(in.args) > 1 {
		return in.misuse("Too many arguments (expected 1, got %d)", len(in.args))
	}
	return in.misuse("Missing FILE argument")
}

// appendFacts adds what the agent says of itself to a file's name.
func appendFacts(c *httpClient, path string, facts []string) (string, error) {
	self, err := c.c.Agent().Self()
	if err != nil {
		return "", err
	}
	ext := filepath.Ext(path)
	name := strings.TrimSuffix(path, ext)
	for _, fact := range facts {
		var value string
		switch fact {
		case "version":
			value, _ = self["Config"]["Version"].(string)
		case "dc":
			value, _ = self["Config"]["Datacenter"].(string)
		case "node":
			value, _ = self["Config"]["NodeName"].(string)
		case "status":
			value = "follower"
			if stats, ok := self["Stats"]["consul"].(map[string]any); ok && stats["leader"] == "true" {
				value = "leader"
			}
		default:
			return "", fmt.Errorf("unknown part %q: version, dc, node and status can be added", fact)
		}
		if value == "" || strings.ContainsAny(value, `/\`) {
			return "", fmt.Errorf("the agent's %s is no part of a file's name", fact)
		}
		name += "-" + value
	}
	return name + ext, nil
}

// saveVerified writes an archive to a temporary file, checks it, and renames it.
// It returns the index of the snapshot.
func saveVerified(path string, body io.Reader) (index uint64, err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*.unverified")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	defer file.Close()
	if _, err := io.Copy(file, body); err != nil {
		return 0, fmt.Errorf("receive the snapshot: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	a, err := archive.Open(file, dir, archive.MaxState)
	if err != nil {
		return 0, fmt.Errorf("verify the snapshot: %w", err)
	}
	if err := a.Close(); err != nil {
		return 0, err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	return a.Meta.Index, os.Rename(file.Name(), path)
}

func snapshotRestoreCommand() *command {
	return &command{
		name:     "snapshot restore",
		args:     "FILE",
		synopsis: "Restores snapshot of the servers' state",
		about: "Replaces the state of the servers by that of a snapshot. Everything written since it was saved is lost; nothing is changed where it is not a good snapshot. " +
			"It is meant for a cluster that has to be built anew.",
		example:     "snapshot restore backup.snap",
		usesAPI:     true,
		picksServer: true,
		positional:  complete.PredictFiles("*"),
		define: func(*flag.FlagSet) action {
			return func(ctx context.Context, in *invocation) int {
				if len(in.args) != 1 || in.args[0] == "" {
					return in.oneFile()
				}
				file, err := os.Open(in.args[0])
				if err != nil {
					return in.fail("Error opening snapshot file: %s", err)
				}
				defer file.Close()
				c, ok := in.api(ctx)
				if !ok {
					return 1
				}
				defer c.Close()
				if err := c.c.Snapshot().Restore(nil, file); err != nil {
					return in.fail("Error restoring snapshot: %s", c.explain(err))
				}
				in.ui.Output("Restored snapshot")
				return 0
			}
		},
	}
}
