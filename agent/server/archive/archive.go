// Package archive is the file that a snapshot is saved to and restored from: a
// gzip-compressed tar of meta.json, state.bin and SHA256SUMS, in that order.
// meta.json describes the snapshot as Raft does; state.bin is the state
// machine's; SHA256SUMS has a line for each of the two, as sha256sum(1) writes
// it.
//
// Open believes nothing: every size is bounded before anything is written, the
// sums are compared before anybody reads the state, and what is missing, comes
// twice, or follows the end is an error. The sums find damage. They do not tell
// who made the archive.
package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Names in the archive.
const (
	metaName  = "meta.json"
	stateName = "state.bin"
	sumsName  = "SHA256SUMS"
)

// Bounds of what is read. MaxState is the default for the state; it is as much
// as is unpacked to disk for an archive that claims it.
const (
	maxMeta        = 1 << 20
	maxSums        = 4 << 10
	MaxState int64 = 4 << 30
)

// Sentinels; every error of Open wraps ErrInvalid.
var (
	// ErrInvalid: not an archive, or not one that can be used.
	ErrInvalid = errors.New("invalid snapshot archive")
	// ErrVersion: an archive of a version that this program does not read.
	ErrVersion = errors.New("snapshot archive of another version")
	// ErrTooLarge: more in it than there may be.
	ErrTooLarge = errors.New("snapshot archive too large")
)

// invalid makes an error of Open. Its text is the cause's: existing tools match
// it.
type invalid struct {
	text  string
	cause error
}

func (e *invalid) Error() string   { return e.text }
func (e *invalid) Unwrap() []error { return []error{ErrInvalid, e.cause} }

func bad(cause error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if cause != nil {
		text += ": " + cause.Error()
	}
	return &invalid{text, cause}
}

// Write writes an archive of meta.Size bytes of state.
func Write(w io.Writer, meta *raft.SnapshotMeta, state io.Reader) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	head, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	now := time.Now().Truncate(time.Second)
	add := func(name string, size int64, r io.Reader) ([]byte, error) {
		h := sha256.New()
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: now}); err != nil {
			return nil, fmt.Errorf("archive: %s: %w", name, err)
		}
		if n, err := io.Copy(io.MultiWriter(t, h), r); err != nil {
			return nil, fmt.Errorf("archive: %s: %w", name, err)
		} else if n != size {
			return nil, fmt.Errorf("archive: %s has %d bytes, and should have %d", name, n, size)
		}
		return h.Sum(nil), nil
	}
	metaSum, err := add(metaName, int64(len(head)), bytes.NewReader(head))
	if err != nil {
		return err
	}
	stateSum, err := add(stateName, meta.Size, state)
	if err != nil {
		return err
	}
	sums := fmt.Sprintf("%x  %s\n%x  %s\n", metaSum, metaName, stateSum, stateName)
	if _, err := add(sumsName, int64(len(sums)), strings.NewReader(sums)); err != nil {
		return err
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// Archive is one that was found good: its description, and its state in a file
// of its own. It is for one goroutine. The caller closes it.
type Archive struct {
	Meta raft.SnapshotMeta
	file *os.File
}

// Open reads a whole archive and checks it. Its state goes to a temporary file in
// dir ("": the system's), which nobody else may read, and may have limit bytes.
// On an error nothing stays behind.
func Open(r io.Reader, dir string, limit int64) (_ *Archive, err error) {
	in := bufio.NewReader(r)
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, bad(err, "failed to decompress snapshot")
	}
	z.Multistream(false)
	a := &Archive{}
	if a.file, err = os.CreateTemp(dir, "snapshot-*.tmp"); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	t := tar.NewReader(z)
	var head, sums bytes.Buffer
	metaSum, err := take(t, metaName, maxMeta, &head)
	if err != nil {
		return nil, err
	}
	if err := a.readMeta(head.Bytes(), limit); err != nil {
		return nil, err
	}
	stateSum, err := take(t, stateName, a.Meta.Size, a.file)
	if err != nil {
		return nil, err
	}
	if n, err := a.file.Seek(0, io.SeekCurrent); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	} else if n != a.Meta.Size {
		return nil, bad(nil, "%s has %d bytes, and should have %d", stateName, n, a.Meta.Size)
	}
	if _, err := take(t, sumsName, maxSums, &sums); err != nil {
		return nil, err
	}
	if err := compare(sums.String(), map[string][]byte{metaName: metaSum.Sum(nil), stateName: stateSum.Sum(nil)}); err != nil {
		return nil, err
	}
	switch _, err := t.Next(); {
	case err == nil:
		return nil, bad(nil, "there is more than %s, %s and %s in it", metaName, stateName, sumsName)
	case err != io.EOF:
		return nil, bad(err, "failed to read the archive")
	}
	// The end of the tar is not that of the stream, which has a checksum too.
	if _, err := io.CopyN(io.Discard, z, maxTrail); err == nil {
		return nil, bad(ErrTooLarge, "too much follows the last file")
	} else if err != io.EOF {
		return nil, bad(err, "failed to decompress snapshot")
	}
	if _, err := in.ReadByte(); err == nil {
		return nil, bad(nil, "something follows the end of the archive")
	} else if err != io.EOF {
		return nil, bad(err, "failed to read the archive")
	}
	if err := a.ours(); err != nil {
		return nil, err
	}
	return a, nil
}

// maxTrail is how many zeros a tar may end with.
const maxTrail = 1 << 20

// take reads the next file of the archive, which must have this name and at most
// limit bytes.
func take(t *tar.Reader, name string, limit int64, to io.Writer) (hash.Hash, error) {
	h, err := t.Next()
	if err == io.EOF {
		return nil, bad(io.ErrUnexpectedEOF, "%s is missing", name)
	}
	if err != nil {
		return nil, bad(err, "failed to read the archive")
	}
	switch {
	case h.Name != name || h.Typeflag != tar.TypeReg:
		return nil, bad(nil, "there is %.64q where %s should be", h.Name, name)
	case sparse(h):
		return nil, bad(nil, "%s is a sparse file", name)
	case h.Size > limit:
		return nil, bad(ErrTooLarge, "%s has %d bytes, and may have %d", name, h.Size, limit)
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(to, sum), t, h.Size); err != nil {
		return nil, bad(err, "failed to read %s", name)
	}
	return sum, nil
}

// sparse says whether a file is one whose holes are not in the archive: its size
// says nothing about what was compressed.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return true
		}
	}
	return false
}

func (a *Archive) readMeta(b []byte, limit int64) error {
	if err := json.Unmarshal(b, &a.Meta); err != nil {
		return bad(err, "failed to read %s", metaName)
	}
	m := &a.Meta
	switch {
	case m.Version != raft.SnapshotVersionMax:
		return bad(ErrVersion, "%s is of version %d, and this program reads version %d", metaName, m.Version, raft.SnapshotVersionMax)
	case m.Index == 0 || m.Term == 0 || m.Size <= 0:
		return bad(nil, "%s describes no snapshot", metaName)
	case m.Size > limit:
		return bad(ErrTooLarge, "it claims %d bytes of state, and may have %d", m.Size, limit)
	}
	return nil
}

// compare compares the sums with those in the file, which must have each once and
// no other.
func compare(file string, sums map[string][]byte) error {
	seen := map[string]bool{}
	for line := range strings.Lines(file) {
		sum, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "  ")
		want, known := sums[name]
		if !ok || !known || seen[name] {
			return bad(nil, "%s has the line %.64q", sumsName, line)
		}
		seen[name] = true
		if got, err := hex.DecodeString(sum); err != nil || !bytes.Equal(got, want) {
			return bad(nil, "the checksum of %s is wrong", name)
		}
	}
	if len(seen) != len(sums) {
		return bad(nil, "%s does not have the sum of every file", sumsName)
	}
	return nil
}

// ours refuses the state of another agent of the family: a msgpack map that
// begins with LastIndex.
func (a *Archive) ours() error {
	var b [16]byte
	n, err := a.file.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("archive: %w", err)
	}
	if bytes.Contains(b[:n], []byte("LastIndex")) {
		return bad(ErrVersion, "its state was written by another agent, whose format this program does not read")
	}
	return nil
}

// State is the state from its beginning; the readers of several calls share one
// position.
func (a *Archive) State() (io.Reader, error) {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return a.file, nil
}

// Close removes the temporary file.
func (a *Archive) Close() error {
	return errors.Join(a.file.Close(), os.Remove(a.file.Name()))
}
