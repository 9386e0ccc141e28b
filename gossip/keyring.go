package gossip

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// KeyringConfig is a pool's encryption. Key is the configured one, which only
// seeds a keyring that is not there yet; Path is where the keyring is kept, ""
// for memory only.
type KeyringConfig struct {
	Key                            []byte
	Path                           string
	VerifyIncoming, VerifyOutgoing bool
	AllowPlaintext                 bool // start without a key although there was one
}

// ErrKeyMissing: this node had a gossip key and is started without one. The
// error that wraps it says what there was and which setting overrides it.
var ErrKeyMissing = errors.New("gossip: refusing to start without encryption")

// maxKeyringBytes bounds a keyring file: some hundreds of keys.
const maxKeyringBytes = 64 << 10

// Fingerprint names a key in logs and answers without giving it away. It is the
// start of an HMAC of the key: guessing a key from it is as hard as guessing the
// key from a packet.
func Fingerprint(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("lictor gossip key fingerprint v1"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// marker is the file that says that this pool once ran encrypted. It outlives
// the keyring file, so that losing that one is not losing encryption.
func (c Config) marker() string {
	base := c.SnapshotPath
	if base == "" {
		base = c.Keyring.Path
	}
	if base == "" {
		return ""
	}
	return strings.TrimSuffix(base, filepath.Ext(base)) + ".encrypted"
}

// loadKeyring decides which keys the pool starts with. It writes nothing.
func (c Config) loadKeyring(log hclog.Logger) (*memberlist.Keyring, error) {
	k := c.Keyring
	if len(k.Key) > 0 {
		if err := memberlist.ValidateKey(k.Key); err != nil {
			return nil, fmt.Errorf("gossip: encrypt: %w", err)
		}
	}
	stored, err := readKeyring(k.Path)
	if err != nil {
		return nil, err
	}
	if len(k.Key) == 0 {
		return nil, c.withoutKey(stored, log)
	}
	if len(stored) == 0 {
		return memberlist.NewKeyring(nil, k.Key)
	}
	if !slices.ContainsFunc(stored, func(s []byte) bool { return hmac.Equal(s, k.Key) }) {
		log.Warn("the keyring file holds other keys than encrypt, and it counts: use the keyring command to change keys",
			"pool", c.Kind.String(), "file", k.Path, "file_key", Fingerprint(stored[0]), "encrypt_key", Fingerprint(k.Key))
	}
	return memberlist.NewKeyring(stored, stored[0])
}

// withoutKey says whether the pool may run in plaintext.
func (c Config) withoutKey(stored [][]byte, log hclog.Logger) error {
	had := ""
	if len(stored) > 0 {
		had = fmt.Sprintf("%s holds a key (fingerprint %s)", c.Keyring.Path, Fingerprint(stored[0]))
	} else if m := c.marker(); m != "" {
		switch b, err := os.ReadFile(m); {
		case err == nil:
			had = fmt.Sprintf("%s says that this node had one (fingerprint %.16q)", m, strings.TrimSpace(string(b)))
		case !errors.Is(err, fs.ErrNotExist):
			had = fmt.Sprintf("%s is there and cannot be read (%v)", m, err)
		}
	}
	if had == "" {
		return nil
	}
	if !c.Keyring.AllowPlaintext {
		return fmt.Errorf("%w: encrypt is not set, but %s; set encrypt, or encrypt_allow_plaintext = true to lower the security of this node to plaintext gossip", ErrKeyMissing, had)
	}
	log.Warn("GOSSIP IS PLAINTEXT because encrypt_allow_plaintext says so, although this node had a key", "pool", c.Kind.String(), "was", had)
	return nil
}

// readKeyring reads a keyring file; no file is no error and no keys. It refuses
// one that is not a plain file, that others may read, or that does not parse:
// what is in it is never overwritten then.
func readKeyring(path string) ([][]byte, error) {
	if path == "" {
		return nil, nil
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	fail := func(format string, args ...any) ([][]byte, error) {
		return nil, fmt.Errorf("gossip: keyring %s: "+format, append([]any{path}, args...)...)
	}
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return fail("not a plain file (symlinks are not followed)")
	case runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0:
		return fail("others may read it (mode %#o): chmod 600 it, and rotate its keys if others could have read them", st.Mode().Perm())
	case st.Size() > maxKeyringBytes:
		return fail("%d bytes is too large for a keyring", st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var encoded []string
	if err := json.Unmarshal(b, &encoded); err != nil {
		return fail("not a JSON list of base64 keys; restore it, or move it away to start from encrypt")
	}
	if len(encoded) == 0 {
		return fail("there is no key in it; move it away to start from encrypt")
	}
	var keys [][]byte
	for i, e := range encoded {
		key, err := base64.StdEncoding.DecodeString(e)
		if err != nil || memberlist.ValidateKey(key) != nil {
			return fail("entry %d is not a base64 key of 16, 24 or 32 bytes; restore it, or move it away to start from encrypt", i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// persist writes the keyring where there is none yet, and the marker; a pool
// that may run in plaintext loses the marker.
func (c Config) persist(ring *memberlist.Keyring) error {
	if err := c.secureDir(); err != nil {
		return err
	}
	marker := c.marker()
	if ring == nil {
		if marker != "" && c.Keyring.AllowPlaintext {
			if err := os.Remove(marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	if path := c.Keyring.Path; path != "" {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			if err := writeFile(path, encodeKeyring(ring)); err != nil {
				return fmt.Errorf("gossip: write keyring: %w", err)
			}
		}
	}
	if marker == "" {
		return nil
	}
	if err := writeFile(marker, []byte(Fingerprint(ring.GetPrimaryKey())+"\n")); err != nil {
		return fmt.Errorf("gossip: write %s: %w", marker, err)
	}
	return nil
}

// encodeKeyring is the content of a keyring file: a JSON list of base64 keys,
// the primary one first.
func encodeKeyring(ring *memberlist.Keyring) []byte {
	keys := ring.GetKeys()
	b := []byte{'['}
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, k)
		b = append(b, '"')
	}
	return append(b, ']')
}

// secureEvery is how often the pool's files are looked at.
const secureEvery = time.Second

// secureFiles makes changes of the keyring last, until the pool stops. Serf
// writes the file over itself, and not through to the disk: what it has written
// is replaced by a complete file with the same keys. A file that somebody has
// edited or taken away is left as it is. And it compacts its snapshot into a new
// file that all may read.
func (p *Pool) secureFiles() {
	tick := time.NewTicker(secureEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		if err := narrow(p.cfg.SnapshotPath); err != nil && p.limit.ok("snapshot", nil) {
			p.log.Error("others may read the snapshot", "file", p.cfg.SnapshotPath, "error", err)
		}
		if p.keyring == nil || p.cfg.Keyring.Path == "" {
			continue
		}
		if err := p.secureOnce(p.cfg.Keyring.Path); err != nil && p.limit.ok("keyring file", nil) {
			p.log.Error("the keyring file could not be written", "file", p.cfg.Keyring.Path, "error", err)
		}
	}
}

// narrow takes a plain file away from all but its user.
func narrow(path string) error {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o077 == 0 || runtime.GOOS == "windows" {
		return nil // there is nothing to do
	}
	return os.Chmod(path, 0o600)
}

func (p *Pool) secureOnce(path string) error {
	was, err := os.ReadFile(path)
	ring := encodeKeyring(p.keyring)
	if err != nil || bytes.Equal(was, ring) {
		return nil
	}
	var bare bytes.Buffer
	if json.Compact(&bare, was) != nil || !bytes.Equal(bare.Bytes(), ring) {
		return nil // not what Serf has written
	}
	for {
		if err := writeFile(path, ring); err != nil {
			return err
		}
		// A change that Serf made meanwhile may have been written before ours.
		now := encodeKeyring(p.keyring)
		if bytes.Equal(now, ring) {
			return nil
		}
		ring = now
	}
}

// writeFile writes a file of mode 0600 under a temporary name and renames it.
func writeFile(path string, b []byte) error {
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

// fingerprint is that of the primary key, "none" without one, for log lines.
func (p *Pool) fingerprint() string {
	if p.keyring == nil {
		return "none"
	}
	return Fingerprint(p.keyring.GetPrimaryKey())
}

// Fingerprints are those of the primary key and of the others; "" and none
// without encryption.
func (p *Pool) Fingerprints() (primary string, others []string) {
	if p.keyring == nil {
		return "", nil
	}
	for i, k := range slices.Clone(p.keyring.GetKeys()) {
		if i == 0 {
			primary = Fingerprint(k)
		} else {
			others = append(others, Fingerprint(k))
		}
	}
	return primary, others
}

// KeyResult is what the nodes of a pool answered to a keyring operation: how
// many hold each base64 key, and what single nodes reported.
type KeyResult struct {
	Messages                  map[string]string
	Keys, PrimaryKeys         map[string]int
	NumNodes, NumResp, NumErr int
}

// Keyring runs an operation (list, install, use, remove) on all nodes of the
// pool; key is base64 and not needed for list. It blocks for the query's
// timeout at most. The result may be there together with an error: the error
// counts, the result has the nodes. Removing a key that some node still uses as
// its primary one is refused before any node is asked to.
func (p *Pool) Keyring(op, key string, relay uint8) (*KeyResult, error) {
	manager, opts := p.serf.KeyManager(), &serf.KeyRequestOptions{RelayFactor: relay}
	if !p.Encrypted() && op != "list" {
		return &KeyResult{NumNodes: p.NumAlive()}, errors.New("No keyring to modify (encryption not enabled)")
	}
	if op != "list" {
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return &KeyResult{}, errors.New("the key is not base64")
		}
		if err := memberlist.ValidateKey(raw); err != nil {
			return &KeyResult{}, err
		}
	}
	var r *serf.KeyResponse
	var err error
	switch op {
	case "list":
		r, err = manager.ListKeysWithOptions(opts)
	case "install":
		r, err = manager.InstallKeyWithOptions(key, opts)
	case "use":
		r, err = manager.UseKeyWithOptions(key, opts)
	case "remove":
		if err := p.mayRemove(key, opts); err != nil {
			return &KeyResult{NumNodes: p.NumAlive()}, err
		}
		r, err = manager.RemoveKeyWithOptions(key, opts)
	default:
		return nil, fmt.Errorf("gossip: no keyring operation %.32q", op)
	}
	if r == nil {
		return &KeyResult{}, err
	}
	return &KeyResult{
		Messages: r.Messages, Keys: r.Keys, PrimaryKeys: r.PrimaryKeys,
		NumNodes: r.NumNodes, NumResp: r.NumResp, NumErr: r.NumErr,
	}, err
}

// mayRemove refuses the removal of a key that is somebody's primary one: half
// of the nodes would have removed it and could not hear the others any more.
func (p *Pool) mayRemove(key string, opts *serf.KeyRequestOptions) error {
	r, err := p.serf.KeyManager().ListKeysWithOptions(opts)
	if r != nil && r.PrimaryKeys[key] > 0 {
		return fmt.Errorf("Removing the primary key is not allowed: %d of %d nodes encrypt with it", r.PrimaryKeys[key], r.NumNodes)
	}
	if err != nil {
		return fmt.Errorf("cannot tell whether every node has stopped using the key: %w", err)
	}
	return nil
}
