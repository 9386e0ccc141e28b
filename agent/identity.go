package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-uuid"
	"github.com/shirou/gopsutil/v4/host"

	"lictor/agent/config"
)

// nodeID returns this node's id: the configured one, the one in DATA/node-id,
// one made from the host's id where that was asked for, or a random one, in
// this order. It is written to DATA/node-id (0600) unless the agent keeps
// nothing on disk.
func nodeID(n config.Node) (string, error) {
	path := filepath.Join(n.DataDir, "node-id")
	if n.ID != "" {
		return n.ID, persistNodeID(n, path, n.ID)
	}
	if n.DataDir != "" && !n.Dev {
		if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() {
			return "", fmt.Errorf("%s is not a plain file (symlinks are not followed)", path)
		}
		b, err := os.ReadFile(path)
		switch {
		case err == nil:
			id := strings.ToLower(strings.TrimSpace(string(b)))
			if _, err := uuid.ParseUUID(id); err != nil {
				return "", fmt.Errorf("%s: %w; remove the file to get a new id", path, err)
			}
			return id, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	if !n.DisableHostNodeID {
		if info, err := host.Info(); err == nil {
			if _, err := uuid.ParseUUID(strings.ToLower(info.HostID)); err == nil {
				return strings.ToLower(info.HostID), persistNodeID(n, path, strings.ToLower(info.HostID))
			}
		}
	}
	id, err := uuid.GenerateUUID()
	if err != nil {
		return "", err
	}
	return id, persistNodeID(n, path, id)
}

func persistNodeID(n config.Node, path, id string) error {
	if n.DataDir == "" || n.Dev {
		return nil
	}
	if b, err := os.ReadFile(path); err == nil && string(b) == id {
		return nil
	}
	return writeFile(path, []byte(id))
}

// writeFile writes a file that only this user may read, under a temporary name
// first, so that a crash leaves the old or the new one and a symlink at path is
// replaced and not followed.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
