package command

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hidden stands for a secret.
const hidden = "hidden"

// secretNames are parts of the names, in lower case, of values that are secret.
// The agent hides them itself: this is for one that does not.
var secretNames = []string{"token", "secret", "password", "encryptkey", "rpcauth", "auth_key", "authkey", "passphrase", "privatekey", "private_key"}

// scrub returns v, decoded from JSON and found under key, with every secret in
// it replaced.
func (d *debugCapture) scrub(key string, v any) any {
	switch v := v.(type) {
	case string:
		if v != "" && isSecretName(key) {
			return hidden
		}
		return d.hide(v)
	case []any:
		for i := range v {
			v[i] = d.scrub(key, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = d.scrub(k, v[k])
		}
	}
	return v
}

func isSecretName(key string) bool {
	key = strings.ToLower(key)
	if key == "encrypt" {
		return true
	}
	if strings.HasSuffix(key, "ttl") || strings.HasSuffix(key, "file") || strings.HasSuffix(key, "path") {
		return false
	}
	for _, part := range secretNames {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// hide takes our own token out of a text.
func (d *debugCapture) hide(text string) string {
	if d.c.token == "" {
		return text
	}
	return strings.ReplaceAll(text, d.c.token, hidden)
}

// archiveFolder makes a gzipped tar of a folder at path, where nothing may be.
func archiveFolder(dir, path string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(file)
	t := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = filepath.ToSlash(filepath.Join(filepath.Base(dir), rel))
		h.Uname, h.Gname, h.Uid, h.Gid = "", "", 0, 0
		if entry.IsDir() {
			h.Name += "/"
			return t.WriteHeader(h)
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = in.WriteTo(t)
		return err
	})
	return errors.Join(err, t.Close(), z.Close(), file.Close())
}
