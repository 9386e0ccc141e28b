package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"

	"lictor/agent/server/state"
	"lictor/rpc/wire"
)

// A snapshot is the magic, a version byte, records, and an end. A record is a
// type byte, the length of its body as a uvarint, and the body in msgpack. The
// end is a record whose body is the number of records before it and the CRC-32C
// of all bytes before its own type byte, both in big endian.
const (
	snapshotMagic   = "lictor-state"
	snapshotVersion = 1
)

// Types of records: never renumbered, a number never used again. What changes
// the meaning of records, a new type included, is a new version.
const (
	recEnd byte = iota
	recIndex
	recNode
	recService
	recCheck
	recEntry
	recTombstone
	recSession
	recCoordinate
	recAutopilot
)

// maxRecord bounds a record. A body takes memory as its bytes come, not before.
const maxRecord = 1 << 30

var (
	// ErrSnapshotVersion: a snapshot of a version that this server cannot read.
	ErrSnapshotVersion = errors.New("snapshot of another version")
	// ErrSnapshotCorrupt: not a snapshot, or one that was cut off or changed.
	ErrSnapshotCorrupt = errors.New("snapshot is corrupt")
)

// Bodies of records that are not types of the wire.
type (
	indexRecord struct {
		Name  string
		Index uint64
	}
	serviceRecord struct {
		Node    string
		Service *wire.NodeService
	}
	entryRecord struct {
		_struct                bool `codec:",toarray"` //lint:ignore U1000 the codec reads it
		Key                    string
		Value                  []byte
		Flags, LockIndex       uint64
		Session                string
		CreateIndex, ModifyIdx uint64
	}
	coordinateRecord struct {
		Coordinate *wire.Coordinate
		Index      uint64
	}
)

// Snapshot returns the state as it is now; writing it out needs no lock.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &snapshot{f.State().Snapshot()}, nil
}

type snapshot struct{ s *state.Snapshot }

// Persist writes the snapshot, and closes or cancels the sink.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := write(sink, s.s); err != nil {
		sink.Cancel()
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	return sink.Close()
}

func (s *snapshot) Release() { s.s.Close() }

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// recordWriter writes records. After an error it writes no more.
type recordWriter struct {
	out   *bufio.Writer
	buf   []byte
	crc   uint32
	count uint64
	err   error
}

func (w *recordWriter) raw(b []byte) {
	if w.err == nil {
		w.crc = crc32.Update(w.crc, crcTable, b)
		_, w.err = w.out.Write(b)
	}
}

func (w *recordWriter) record(t byte, body any) {
	if w.err != nil {
		return
	}
	if w.buf, w.err = encode(w.buf[:0], body); w.err != nil {
		return
	}
	w.raw(binary.AppendUvarint([]byte{t}, uint64(len(w.buf))))
	w.raw(w.buf)
	w.count++
}

func (w *recordWriter) end() error {
	if w.err != nil {
		return w.err
	}
	b := []byte{recEnd, 12}
	b = binary.BigEndian.AppendUint64(b, w.count)
	b = binary.BigEndian.AppendUint32(b, w.crc)
	w.raw(b)
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

// write writes all of s. Equal states give equal bytes.
func write(to io.Writer, s *state.Snapshot) error {
	w := &recordWriter{out: bufio.NewWriterSize(to, 64<<10)}
	w.raw(append([]byte(snapshotMagic), snapshotVersion))
	for name, idx := range s.Indexes() {
		w.record(recIndex, &indexRecord{name, idx})
	}
	for n := range s.Nodes() {
		w.record(recNode, n)
	}
	for node, svc := range s.Services() {
		w.record(recService, &serviceRecord{node, svc})
	}
	for c := range s.Checks() {
		w.record(recCheck, c)
	}
	for e := range s.Entries() {
		w.record(recEntry, &entryRecord{
			Key: e.Key, Value: e.Value, Flags: e.Flags, LockIndex: e.LockIndex, Session: e.Session,
			CreateIndex: e.CreateIndex, ModifyIdx: e.ModifyIndex,
		})
	}
	for key, idx := range s.Tombstones() {
		w.record(recTombstone, &indexRecord{key, idx})
	}
	for sess := range s.Sessions() {
		w.record(recSession, sess)
	}
	for c, idx := range s.Coordinates() {
		w.record(recCoordinate, &coordinateRecord{c, idx})
	}
	if c := s.Autopilot(); c != nil {
		w.record(recAutopilot, c)
	}
	return w.end()
}

// Restore puts the state of a snapshot in the place of the current one, and
// wakes everyone who watches that. After an error the state is as before. It
// closes src.
func (f *FSM) Restore(src io.ReadCloser) error {
	defer src.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.State()
	next, err := old.Successor()
	if err != nil {
		return fmt.Errorf("fsm: %w", err)
	}
	if err := read(src, next); err != nil {
		return fmt.Errorf("fsm: restore: %w", err)
	}
	f.state.Store(next)
	old.Abandon()
	return nil
}

// read fills an empty store from a snapshot.
func read(src io.Reader, s *state.Store) error {
	r := s.Restore()
	defer r.Abort()
	n, err := eachRecord(src, func(n uint64, t byte, body []byte) error {
		if err := restore(r, t, body); err != nil {
			return corrupt(n, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.Commit(); err != nil {
		return corrupt(n, err)
	}
	return nil
}

// eachRecord reads a snapshot and calls see for each record with its number,
// type and body, which is see's until it returns. It has checked the whole
// snapshot only when it returns without an error, and how many records there
// were.
func eachRecord(src io.Reader, see func(n uint64, t byte, body []byte) error) (n uint64, err error) {
	in := bufio.NewReaderSize(src, 64<<10)
	head := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, corrupt(0, err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return 0, fmt.Errorf("%w: it does not begin like one", ErrSnapshotCorrupt)
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return 0, fmt.Errorf("%w: it is version %d, this program reads version %d", ErrSnapshotVersion, v, snapshotVersion)
	}
	crc := crc32.Update(0, crcTable, head)
	var body bytes.Buffer
	for ; ; n++ {
		t, err := in.ReadByte()
		if err != nil {
			return n, corrupt(n, err)
		}
		length, err := binary.ReadUvarint(in)
		if err != nil {
			return n, corrupt(n, err)
		}
		if length > maxRecord {
			return n, corrupt(n, fmt.Errorf("a record of %d bytes", length))
		}
		body.Reset()
		if _, err := io.CopyN(&body, in, int64(length)); err != nil {
			return n, corrupt(n, err)
		}
		if t == recEnd {
			if err := checkEnd(body.Bytes(), n, crc); err != nil {
				return n, corrupt(n, err)
			}
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				return n, corrupt(n, errors.New("something follows the end"))
			}
			return n, nil
		}
		crc = crc32.Update(crc, crcTable, binary.AppendUvarint([]byte{t}, length))
		crc = crc32.Update(crc, crcTable, body.Bytes())
		if err := see(n, t, body.Bytes()); err != nil {
			return n, err
		}
	}
}

// corrupt says that record n could not be read.
func corrupt(n uint64, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: record %d: %w", ErrSnapshotCorrupt, n, err)
}

func checkEnd(b []byte, count uint64, crc uint32) error {
	if len(b) != 12 {
		return errors.New("the end has the wrong length")
	}
	if n := binary.BigEndian.Uint64(b); n != count {
		return fmt.Errorf("%d records where there should be %d", count, n)
	}
	if sum := binary.BigEndian.Uint32(b[8:]); sum != crc {
		return fmt.Errorf("checksum %08x where it should be %08x", crc, sum)
	}
	return nil
}

// restore restores one record. Nothing of body is kept.
func restore(r *state.Restore, t byte, body []byte) error {
	switch t {
	case recIndex:
		return restoreAs(body, func(m *indexRecord) error { return r.Index(m.Name, m.Index) })
	case recNode:
		return restoreAs(body, r.Node)
	case recService:
		return restoreAs(body, func(m *serviceRecord) error { return r.Service(m.Node, m.Service) })
	case recCheck:
		return restoreAs(body, r.Check)
	case recEntry:
		return restoreAs(body, func(m *entryRecord) error {
			return r.Entry(&wire.DirEntry{
				Key: m.Key, Value: m.Value, Flags: m.Flags, LockIndex: m.LockIndex, Session: m.Session,
				RaftIndex: wire.RaftIndex{CreateIndex: m.CreateIndex, ModifyIndex: m.ModifyIdx},
			})
		})
	case recTombstone:
		return restoreAs(body, func(m *indexRecord) error { return r.Tombstone(m.Name, m.Index) })
	case recSession:
		return restoreAs(body, r.Session)
	case recCoordinate:
		return restoreAs(body, func(m *coordinateRecord) error { return r.Coordinate(m.Coordinate, m.Index) })
	case recAutopilot:
		return restoreAs(body, r.Autopilot)
	}
	return fmt.Errorf("a record of unknown type %d", t)
}

func restoreAs[T any](body []byte, into func(*T) error) error {
	m := new(T)
	if err := decodeWhole(body, m); err != nil {
		return err
	}
	return into(m)
}
