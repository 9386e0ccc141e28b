package fsm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

// Any bytes as a log entry: applied, or the machine halts and says so; then it
// is as before. What was applied can be saved and restored.
func FuzzLogEntry(f *testing.F) {
	for _, e := range randomLog(f, 4, 40) {
		f.Add(e.Data)
	}
	f.Add([]byte{2, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{8, 1, 0x81, 0xa3, 'O', 'p', 's', 0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0})
	f.Add(append([]byte{0, 1}, bytes.Repeat([]byte{0x91}, 1000)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newFSM(t)
		m.ApplyBatch(randomLog(t, 4, 15))
		before := snapshot(t, m)
		halted := false
		func() {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				text, ok := p.(string)
				if halted = true; !ok || !strings.HasPrefix(text, "fsm: log entry 16: ") {
					panic(p)
				}
			}()
			m.Apply(&raft.Log{Index: 16, Type: raft.LogCommand, Data: data})
		}()
		after := snapshot(t, m)
		if halted && !bytes.Equal(before, after) {
			t.Error("it has halted and changed something")
		}
		again := newFSM(t)
		if err := restore(again, after); err != nil {
			t.Errorf("what was applied cannot be restored: %v", err)
		} else if !bytes.Equal(snapshot(t, again), after) {
			t.Error("a restore gives another state")
		}
		// Everything can be read and undone.
		m.State().Overview(nil)
		m.Apply(entry(t, 17, fsm.Deregister, wire.DeregisterRequest{Node: "a"}))
	})
}

// Any bytes as a snapshot: restored, or refused as what they are.
func FuzzSnapshot(f *testing.F) {
	m := newFSM(f)
	m.ApplyBatch(randomLog(f, 5, 80))
	good := snapshot(f, m)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append([]byte("lictor-state\x01\x05"), 0xff, 0xff, 0xff, 0xff, 0x03))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newFSM(t)
		old := m.State()
		err := restore(m, data)
		if err == nil {
			m.State().Overview(nil)
			m.ApplyBatch(randomLog(t, 6, 20))
			return
		}
		if !errors.Is(err, fsm.ErrSnapshotCorrupt) && !errors.Is(err, fsm.ErrSnapshotVersion) {
			t.Errorf("%v", err)
		}
		if m.State() != old {
			t.Error("it was refused and restored")
		}
	})
}

// Any record in a snapshot that is otherwise whole.
func FuzzSnapshotRecord(f *testing.F) {
	m := newFSM(f)
	m.ApplyBatch(randomLog(f, 7, 80))
	for b := snapshot(f, m)[len("lictor-state")+1:]; b[0] != 0; {
		n, used := binary.Uvarint(b[1:])
		end := 1 + used + int(n)
		f.Add(b[0], b[1+used:end])
		b = b[end:]
	}
	f.Add(byte(3), []byte{0x81, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'a'})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		b := append([]byte("lictor-state\x01"), kind)
		b = append(binary.AppendUvarint(b, uint64(len(body))), body...)
		crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		b = binary.BigEndian.AppendUint64(append(b, 0, 12), 1)
		m := newFSM(t)
		if err := restore(m, binary.BigEndian.AppendUint32(b, crc)); err != nil {
			if !errors.Is(err, fsm.ErrSnapshotCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		m.State().Overview(nil)
		m.State().NodeDump(nil)
		m.ApplyBatch(randomLog(t, 8, 20))
		if err := restore(newFSM(t), snapshot(t, m)); err != nil {
			t.Errorf("what was restored cannot be restored again: %v", err)
		}
	})
}
