package fsm

import (
	"encoding/binary"
	"fmt"
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
	_, err := eachRecord(src, func(n uint64, t byte, body []byte) error {
		size := len(binary.AppendUvarint([]byte{t}, uint64(len(body)))) + len(body)
		r := Record{Type: recordNames[t], Size: size, kind: t, body: body}
		if r.Type == "" {
			return corrupt(n, fmt.Errorf("a record of unknown type %d", t))
		}
		if t == recEntry {
			var e entryRecord
			if err := decodeWhole(body, &e); err != nil {
				return corrupt(n, err)
			}
			r.Key = e.Key
		}
		return see(r)
	})
	return err
}
