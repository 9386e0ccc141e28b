package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Record is one record of a snapshot, as Inspect sees it.
type Record struct {
	Type string // "Nodes", "KVs", ...
	Size int    // bytes in the snapshot, with its type and length
	Key  string // of an entry of the key-value store

	kind byte
	body []byte // Inspect's, until see returns
}

var recordNames = map[byte]string{
	recIndex:      "Indexes",
	recNode:       "Nodes",
	recService:    "Services",
	recCheck:      "Checks",
	recEntry:      "KVs",
	recTombstone:  "Tombstones",
	recSession:    "Sessions",
	recCoordinate: "Coordinates",
	recAutopilot:  "Autopilot",
}

// Inspect reads a snapshot without restoring it, and calls see for each record.
// Its error is what Restore would say of the snapshot as a whole, or see's.
func Inspect(src io.Reader, see func(Record) error) error {
	in := bufio.NewReaderSize(src, 64<<10)
	head := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return corrupt(0, err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin like one", ErrSnapshotCorrupt)
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return fmt.Errorf("%w: it is version %d, this program reads version %d", ErrSnapshotVersion, v, snapshotVersion)
	}
	crc := crc32.Update(0, crcTable, head)
	var body bytes.Buffer
	for n := uint64(0); ; n++ {
		t, err := in.ReadByte()
		if err != nil {
			return corrupt(n, err)
		}
		length, err := binary.ReadUvarint(in)
		if err != nil {
			return corrupt(n, err)
		}
		if length > maxRecord {
			return corrupt(n, fmt.Errorf("a record of %d bytes", length))
		}
		body.Reset()
		if _, err := io.CopyN(&body, in, int64(length)); err != nil {
			return corrupt(n, err)
		}
		if t == recEnd {
			if err := checkEnd(body.Bytes(), n, crc); err != nil {
				return corrupt(n, err)
			}
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				return corrupt(n, errors.New("something follows the end"))
			}
			return nil
		}
		start := binary.AppendUvarint([]byte{t}, length)
		crc = crc32.Update(crc, crcTable, start)
		crc = crc32.Update(crc, crcTable, body.Bytes())
		r := Record{Type: recordNames[t], Size: len(start) + body.Len(), kind: t, body: body.Bytes()}
		if r.Type == "" {
			return corrupt(n, fmt.Errorf("a record of unknown type %d", t))
		}
		if t == recEntry {
			var e entryRecord
			if err := decodeWhole(body.Bytes(), &e); err != nil {
				return corrupt(n, err)
			}
			r.Key = e.Key
		}
		if err := see(r); err != nil {
			return err
		}
	}
}
