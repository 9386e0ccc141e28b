package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
)

// checkSnapshots looks at the newest snapshot in dir, DATA/raft, and returns the
// index it ends with; 0 where there is none. Its content is checked when it is
// opened.
func checkSnapshots(dir string) (uint64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, snapshotDir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("consensus: %w", err)
	}
	var newest string
	var term, index uint64
	for _, e := range entries {
		t, i, ok := snapshotName(e.Name())
		if e.IsDir() && ok && (newest == "" || t > term || t == term && (i > index || i == index && e.Name() > newest)) {
			newest, term, index = e.Name(), t, i
		}
	}
	if newest == "" {
		return 0, nil
	}
	file := filepath.Join(dir, snapshotDir, newest, "meta.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, corrupt(dir, file, "%v", err)
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return 0, corrupt(dir, file, "%v", err)
	}
	switch {
	case meta.Version < raft.SnapshotVersionMin || meta.Version > raft.SnapshotVersionMax:
		return 0, fmt.Errorf("consensus: %s has format %d, and this agent reads %d to %d", file, meta.Version, raft.SnapshotVersionMin, raft.SnapshotVersionMax)
	case meta.ID != newest || meta.Index != index || meta.Term != term:
		return 0, corrupt(dir, file, "it is not the description of this snapshot")
	}
	return index, nil
}

// snapshotName reads "term-index-milliseconds".
func snapshotName(name string) (term, index uint64, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	term, err1 := strconv.ParseUint(parts[0], 10, 64)
	index, err2 := strconv.ParseUint(parts[1], 10, 64)
	_, err3 := strconv.ParseUint(parts[2], 10, 64)
	return term, index, errors.Join(err1, err2, err3) == nil
}

// checkWAL reads the whole log in dir/wal and returns an error for what cannot
// be the work of a machine that stopped in the middle of a write: a batch whose
// checksum is wrong with a good one after it, a file that is gone. wanted says
// that there has to be a log.
func checkWAL(dir string, wanted bool) error {
	path := filepath.Join(dir, walDir)
	files, err := filepath.Glob(filepath.Join(path, "*.wal"))
	if err != nil {
		return err
	}
	meta := filepath.Join(path, metadb.FileName)
	if _, err := os.Stat(meta); errors.Is(err, os.ErrNotExist) {
		if len(files) > 0 || wanted {
			return corrupt(dir, meta, "it is missing")
		}
		return nil
	}
	segments, err := readSegments(dir, meta)
	if err != nil {
		return err
	}
	for i, si := range segments {
		file := filepath.Join(path, segment.FileName(si))
		tail := si.SealTime.IsZero()
		if i > 0 && si.BaseIndex != segments[i-1].MaxIndex+1 {
			return corrupt(dir, meta, "its list of files has a hole before entry %d", si.BaseIndex)
		}
		what, err := checkSegment(file, si)
		switch {
		case errors.Is(err, os.ErrNotExist) && tail:
			// The library makes a file after it has listed it; see also checkEnd.
		case errors.Is(err, os.ErrNotExist):
			return corrupt(dir, file, "it is missing")
		case err != nil:
			return fmt.Errorf("consensus: %w", err)
		case what != "":
			return corrupt(dir, file, "%s", what)
		}
	}
	return nil
}

// lockWait is how long another process may keep the log to itself. The library
// would wait for ever.
const lockWait = time.Second

// readSegments reads the list of the log's files.
func readSegments(dir, meta string) (_ []types.SegmentInfo, err error) {
	defer func() {
		if p := recover(); p != nil { // bbolt panics on some damaged pages
			err = corrupt(dir, meta, "%v", p)
		}
	}()
	db, err := bbolt.Open(meta, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("consensus: %s is %w", meta, ErrInUse)
	}
	if err != nil {
		return nil, corrupt(dir, meta, "%v", err)
	}
	defer db.Close()
	var state types.PersistentState
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(metadb.MetaBucket))
		if b == nil || tx.Bucket([]byte(metadb.StableBucket)) == nil {
			return errors.New("it lacks a part")
		}
		raw := b.Get([]byte(metadb.MetaKey))
		if raw == nil {
			return nil
		}
		return json.Unmarshal(raw, &state)
	})
	if err != nil {
		return nil, corrupt(dir, meta, "%v", err)
	}
	return state.Segments, nil
}

// The format of a file of the log (raft-wal, segment/format.go): a header of 32
// bytes, then frames, each 8 bytes of header, the payload, and zeros to the next
// multiple of 8. The header is a type, 3 zeros, and the payload's length; a
// commit frame has no payload and instead of a length the CRC-32C of all since
// the last commit frame's end. After the last frame come zeros.
const (
	fileHeader  = 32
	frameHeader = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame reads a frame header; ok is false where there can be none.
func frame(h []byte) (kind byte, n uint32, ok bool) {
	if h[1]|h[2]|h[3] != 0 {
		return 0, 0, false
	}
	n = binary.LittleEndian.Uint32(h[4:8])
	return h[0], n, h[0] >= segment.FrameEntry && h[0] <= segment.FrameCommit
}

func padded(n uint32) int64 { return (int64(n) + 7) &^ 7 }

// checkSegment reads one file of the log and says what is wrong with it: "" where
// nothing is.
func checkSegment(file string, si types.SegmentInfo) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	s := scan{r: bufio.NewReaderSize(f, 1<<20), size: st.Size(), base: si.BaseIndex}
	if err := s.run(); err != nil {
		return "", err
	}
	tail := si.SealTime.IsZero()
	switch {
	case s.bad > 0 && s.bad < s.batches:
		return fmt.Sprintf("the checksum of its batch %d, before entry %d, is wrong", s.bad, si.BaseIndex+uint64(s.badEntries)), nil
	case s.batches > s.bad && s.header != headerOf(si):
		return "its header is not that of this file", nil
	case !tail:
		return s.sealed(f, si)
	}
	// The tail: what follows the last good batch was never acknowledged, unless
	// there is a good batch in it.
	good, err := goodBatchAfter(f, max(s.goodEnd, fileHeader), st.Size())
	if err != nil {
		return "", err
	}
	if good > 0 {
		return fmt.Sprintf("its frames end at byte %d, and there is a good batch behind that, at byte %d", s.end, good), nil
	}
	return "", nil
}

func headerOf(si types.SegmentInfo) [fileHeader]byte {
	var h [fileHeader]byte
	binary.LittleEndian.PutUint32(h[0:], 0x58eb6b0d)
	binary.LittleEndian.PutUint64(h[8:], si.BaseIndex)
	binary.LittleEndian.PutUint64(h[16:], si.ID)
	binary.LittleEndian.PutUint64(h[24:], si.Codec)
	return h
}

// scan reads the frames of a file from the first to the last that can be one.
type scan struct {
	r    *bufio.Reader
	size int64
	base uint64

	header     [fileHeader]byte
	offsets    []uint32 // of committed entries
	batches    int      // commit frames
	bad        int      // the first whose checksum is wrong, from 1; 0: none
	badEntries int      // entries up to it
	goodEnd    int64    // where the last batch before that ends; 0: there is none
	end        int64    // where the frames end
	indexAt    int64    // of the index block's payload; 0: none
}

func (s *scan) run() error {
	if n, err := io.ReadFull(s.r, s.header[:]); err != nil {
		s.end = int64(n)
		return ignoreEOF(err)
	}
	s.end = fileHeader
	crc := crc32.Update(0, castagnoli, s.header[:])
	var pending []uint32
	payload := make([]byte, 64<<10)
	for {
		var h [frameHeader]byte
		if _, err := io.ReadFull(s.r, h[:]); err != nil {
			return ignoreEOF(err)
		}
		kind, n, ok := frame(h[:])
		if !ok {
			return nil
		}
		if kind == segment.FrameCommit {
			s.batches++
			if n != crc && s.bad == 0 {
				s.bad, s.badEntries = s.batches, len(s.offsets)+len(pending)
			}
			s.offsets, pending = append(s.offsets, pending...), nil
			s.end += frameHeader
			if s.bad == 0 {
				s.goodEnd = s.end
			}
			crc = 0
			continue
		}
		if s.end+frameHeader+padded(n) > s.size {
			return nil
		}
		if kind == segment.FrameEntry {
			pending = append(pending, uint32(s.end))
		} else {
			s.indexAt = s.end + frameHeader
		}
		crc = crc32.Update(crc, castagnoli, h[:])
		for left := padded(n); left > 0; {
			p := payload[:min(left, int64(len(payload)))]
			if _, err := io.ReadFull(s.r, p); err != nil {
				return ignoreEOF(err)
			}
			crc = crc32.Update(crc, castagnoli, p)
			left -= int64(len(p))
		}
		s.end += frameHeader + padded(n)
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// sealed checks a file that is complete: it has all its entries, in good
// batches, and an index of them.
func (s *scan) sealed(f io.ReaderAt, si types.SegmentInfo) (string, error) {
	entries := uint64(len(s.offsets))
	switch {
	case s.bad > 0:
		return fmt.Sprintf("the checksum of its last batch, before entry %d, is wrong", si.BaseIndex+uint64(s.badEntries)), nil
	case si.BaseIndex+entries <= si.MaxIndex:
		return fmt.Sprintf("it ends with entry %d, and should have entry %d", si.BaseIndex+entries-1, si.MaxIndex), nil
	case s.indexAt != int64(si.IndexStart):
		return "its index block is not where it should be", nil
	}
	index := make([]byte, 4*entries)
	if _, err := f.ReadAt(index, s.indexAt); err != nil {
		return "its index block is cut off", ignoreEOF(err)
	}
	for i, offset := range s.offsets {
		if binary.LittleEndian.Uint32(index[4*i:]) != offset {
			return fmt.Sprintf("its index block is wrong about entry %d", si.BaseIndex+uint64(i)), nil
		}
	}
	return "", nil
}

// goodBatchAfter looks behind the last good batch for another one, and returns
// where it begins; 0 where there is none. A write that was cut short leaves at
// most one commit frame, and nothing good behind it.
func goodBatchAfter(f io.ReaderAt, from, size int64) (int64, error) {
	used, err := lastByte(f, from, size)
	if err != nil || used <= from {
		return 0, err
	}
	rest := make([]byte, used-from)
	if _, err := f.ReadAt(rest, from); err != nil {
		return 0, err
	}
	for i := 0; i+frameHeader <= len(rest); i += frameHeader {
		kind, _, ok := frame(rest[i:])
		if i > 0 && !(ok && kind == segment.FrameCommit) {
			continue // a batch begins after a commit frame, or after the damaged one
		}
		if batchAt(rest[i+frameHeader:]) {
			return from + int64(i) + frameHeader, nil
		}
	}
	return 0, nil
}

var zeros [64 << 10]byte

// lastByte is where the last byte that is not zero ends, or from.
func lastByte(f io.ReaderAt, from, size int64) (int64, error) {
	last := from
	buf := make([]byte, len(zeros))
	for at := from; at < size; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), size-at)]
		if n, err := f.ReadAt(b, at); err != nil && (err != io.EOF || n < len(b)) {
			return 0, err
		}
		if !bytes.Equal(b, zeros[:len(b)]) {
			last = at + int64(len(bytes.TrimRight(b, "\x00")))
		}
	}
	return min((last+frameHeader-1)&^(frameHeader-1), size), nil
}

// batchAt says whether b begins with a whole batch of at least one entry.
func batchAt(b []byte) bool {
	crc, entries := uint32(0), 0
	for at := int64(0); at+frameHeader <= int64(len(b)); {
		h := b[at : at+frameHeader]
		kind, n, ok := frame(h)
		switch {
		case !ok:
			return false
		case kind == segment.FrameCommit:
			return n == crc && entries > 0
		case at+frameHeader+padded(n) > int64(len(b)):
			return false
		case kind == segment.FrameEntry:
			entries++
		}
		next := at + frameHeader + padded(n)
		crc = crc32.Update(crc, castagnoli, b[at:next])
		at = next
	}
	return false
}
