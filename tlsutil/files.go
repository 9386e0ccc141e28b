package tlsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of what SavePair writes.
const (
	CertMode fs.FileMode = 0o644
	KeyMode  fs.FileMode = 0o600
)

// SaveNew writes a file that must not exist, nor be a symlink, with exactly
// this mode whatever the umask. On an error nothing is left behind.
func SaveNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, KeyMode) // never wider than it will be
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s already exists.", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Replace writes a file under a temporary name and renames it, so that a reader
// sees the old or the new one. A symlink at path is replaced, not followed.
func Replace(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// SavePair writes a new certificate and its key: both or neither.
func SavePair(certPath, keyPath string, p *Pair) error {
	if err := SaveNew(certPath, p.Cert, CertMode); err != nil {
		return err
	}
	if err := SaveNew(keyPath, p.Key, KeyMode); err != nil {
		os.Remove(certPath) // ours: SaveNew has just made it
		return err
	}
	return nil
}
