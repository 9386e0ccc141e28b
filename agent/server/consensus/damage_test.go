package consensus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lictor/agent/server/consensus"
)

// oldData makes the data directory of a server that stopped: a snapshot, some
// complete files of the log, and one with several batches that is not.
func oldData(t *testing.T) (dir string, entries []string) {
	t.Helper()
	dir = t.TempDir()
	nw := newNetwork(t)
	s := nw.start("a", dir, func(c *consensus.Config) {
		alone(c)
		c.Settings.TrailingLogs = 4
	})
	leader(t, s)
	put := func(n, size int) {
		for range n {
			e := fmt.Sprintf("%03d %s", len(entries), strings.Repeat("v", size))
			s.put(t, e)
			entries = append(entries, e)
		}
	}
	put(20, 4<<10)
	for range 2 {
		_, r, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		put(1, 10)
	}
	put(40, 4<<10)
	// Files that were compacted away may still be there; the next start deletes them.
	nw.stop(s)
	s = nw.start("a", dir, nil)
	leader(t, s)
	// Into a file of its own, which then has a handful of batches.
	for before := len(walFiles(t, dir)); len(walFiles(t, dir)) == before; {
		put(1, 4<<10)
	}
	put(6, 100)
	nw.stop(s)
	return dir, entries
}

func walFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "raft", "wal", "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// tree is every file below dir with its content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// frames are where the frames of a file of the log begin, by their kind.
func frames(t *testing.T, file string) (entry, index, commit []int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 32; at+8 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+4:]))
		switch b[at] {
		case 1:
			entry = append(entry, at)
		case 2:
			index = append(index, at)
		case 3:
			commit = append(commit, at)
			n = 0
		default:
			return entry, index, commit
		}
		at += 8 + (n+7)&^7
	}
	return entry, index, commit
}

func edit(t *testing.T, file string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x40; return b }
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// A damaged file is named, and nothing at all is changed.
func TestDamageIsFoundNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	old, _ := oldData(t)
	if n := len(walFiles(t, old)); n < 3 {
		t.Fatalf("the log has %d files", n)
	}
	newest := func(dir string) string {
		list, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*-*-*"))
		if err != nil || len(list) != 2 {
			t.Fatalf("snapshots: %q, %v", list, err)
		}
		slices.Sort(list)
		return list[1]
	}
	sealed := func(dir string) string { f := walFiles(t, dir); return f[len(f)-2] }
	tail := func(dir string) string { f := walFiles(t, dir); return f[len(f)-1] }
	meta := func(dir string) string { return filepath.Join(dir, "raft", "wal", "wal-meta.db") }

	for name, do := range map[string]func(t *testing.T, dir string) (file string){
		"a value in a complete file": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, sealed(dir))
			edit(t, sealed(dir), flip(entry[2]+100))
			return sealed(dir)
		},
		"the last value in a complete file": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, sealed(dir))
			edit(t, sealed(dir), flip(entry[len(entry)-1]+100))
			return sealed(dir)
		},
		"the header of a complete file": func(t *testing.T, dir string) string {
			edit(t, sealed(dir), flip(9))
			return sealed(dir)
		},
		"the index of a complete file": func(t *testing.T, dir string) string {
			_, index, _ := frames(t, sealed(dir))
			edit(t, sealed(dir), flip(index[0]+8))
			return sealed(dir)
		},
		"a complete file cut short": func(t *testing.T, dir string) string {
			edit(t, sealed(dir), func(b []byte) []byte { return b[:len(b)/2] })
			return sealed(dir)
		},
		"a complete file is gone": func(t *testing.T, dir string) string {
			f := sealed(dir)
			remove(t, f)
			return f
		},
		"a value in the last file": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), flip(entry[1]+50))
			return tail(dir)
		},
		"the header of the last file": func(t *testing.T, dir string) string {
			edit(t, tail(dir), flip(2))
			return tail(dir)
		},
		"the kind of a frame": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), flip(entry[1]))
			return tail(dir)
		},
		"a length that is a little wrong": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), func(b []byte) []byte { b[entry[1]+4] ^= 0x10; return b })
			return tail(dir)
		},
		"a length beyond everything": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), func(b []byte) []byte { b[entry[1]+6] ^= 0x7f; return b })
			return tail(dir)
		},
		"a length that leads behind all that was written": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), func(b []byte) []byte { b[entry[1]+5] = 0x20; return b })
			return tail(dir)
		},
		"a commit frame": func(t *testing.T, dir string) string {
			_, _, commit := frames(t, tail(dir))
			edit(t, tail(dir), flip(commit[1]))
			return tail(dir)
		},
		"the checksum in a commit frame": func(t *testing.T, dir string) string {
			_, _, commit := frames(t, tail(dir))
			edit(t, tail(dir), flip(commit[1]+5))
			return tail(dir)
		},
		"zeros in the middle": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), func(b []byte) []byte { clear(b[entry[1]:entry[2]]); return b })
			return tail(dir)
		},
		"the last batch, after an orderly stop": func(t *testing.T, dir string) string {
			entry, _, _ := frames(t, tail(dir))
			edit(t, tail(dir), flip(entry[len(entry)-1]+50))
			return filepath.Join(dir, "raft", "wal")
		},
		"the last file is gone, after an orderly stop": func(t *testing.T, dir string) string {
			remove(t, tail(dir))
			return filepath.Join(dir, "raft", "wal")
		},
		"the list of files is gone": func(t *testing.T, dir string) string {
			remove(t, meta(dir))
			return meta(dir)
		},
		"the list of files is empty": func(t *testing.T, dir string) string {
			edit(t, meta(dir), func(b []byte) []byte { return b[:0] })
			return meta(dir)
		},
		"the list of files is cut short": func(t *testing.T, dir string) string {
			edit(t, meta(dir), func(b []byte) []byte { return b[:100] })
			return meta(dir)
		},
		"the list of files is rubbish": func(t *testing.T, dir string) string {
			edit(t, meta(dir), func(b []byte) []byte { return bytes.Repeat([]byte("rubbish "), len(b)/8) })
			return meta(dir)
		},
		"the whole log is gone": func(t *testing.T, dir string) string {
			remove(t, filepath.Join(dir, "raft", "wal"))
			return meta(dir)
		},
		"the state in the snapshot": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "state.bin")
			edit(t, f, flip(50))
			return f
		},
		"the snapshot is cut short": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "state.bin")
			edit(t, f, func(b []byte) []byte { return b[:len(b)-1] })
			return f
		},
		"the snapshot's state is gone": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "state.bin")
			remove(t, f)
			return f
		},
		"the snapshot's description": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "meta.json")
			edit(t, f, func([]byte) []byte { return []byte("{") })
			return f
		},
		"the snapshot's description is another's": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "meta.json")
			edit(t, f, func(b []byte) []byte { return bytes.Replace(b, []byte(`"Index":`), []byte(`"Index":9`), 1) })
			return f
		},
		"the snapshot's description is gone": func(t *testing.T, dir string) string {
			f := filepath.Join(newest(dir), "meta.json")
			remove(t, f)
			return f
		},
		"all snapshots are gone": func(t *testing.T, dir string) string {
			remove(t, filepath.Join(dir, "raft", "snapshots"))
			return filepath.Join(dir, "raft", "snapshots")
		},
		"the note of the last stop": func(t *testing.T, dir string) string {
			f := filepath.Join(dir, "raft", "end.json")
			edit(t, f, func([]byte) []byte { return []byte("nonsense") })
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, old)
			file := do(t, dir)
			remove(t, filepath.Join(dir, "raft", "permTest"))
			before := tree(t, dir)
			s, err := newNetwork(t).open("a", dir, nil)
			if err == nil {
				t.Fatalf("started, with %d entries", len(s.fsm.all()))
			}
			if !errors.Is(err, consensus.ErrCorrupt) {
				t.Errorf("the error is not ErrCorrupt: %v", err)
			}
			if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), filepath.Join(dir, "raft")+", then") {
				t.Errorf("the error does not name %s, or does not say what to do: %v", file, err)
			}
			after := tree(t, dir)
			for name, b := range before {
				// Raft writes the term that it has read again before it opens a snapshot.
				if again := strings.Contains(file, "state.bin") && strings.HasSuffix(name, "wal-meta.db"); after[name] != b && !again {
					t.Errorf("%s was changed", name)
				}
			}
			for name := range after {
				if _, ok := before[name]; !ok && !strings.HasSuffix(name, ".wal") {
					t.Errorf("%s was made", name)
				}
			}
		})
	}
}

// What a machine that stopped in the middle of a write leaves is no damage.
func TestAnUnfinishedWriteIsCutOff(t *testing.T) {
	t.Parallel()
	old, entries := oldData(t)
	remove(t, filepath.Join(old, "raft", "end.json")) // it did not stop in order
	files := walFiles(t, old)
	tail, _ := filepath.Rel(old, files[len(files)-1])
	entry, _, commit := frames(t, files[len(files)-1])
	last, end := entry[len(entry)-1], commit[len(commit)-1]
	for name, c := range map[string]struct {
		change func([]byte) []byte
		lost   int
	}{
		"nothing was being written":         {func(b []byte) []byte { return b }, 0},
		"the commit frame is missing":       {func(b []byte) []byte { clear(b[end:]); return b }, 1},
		"half of the value is missing":      {func(b []byte) []byte { clear(b[last+40 : end]); return b }, 1},
		"the beginning is missing":          {func(b []byte) []byte { clear(b[last : last+16]); return b }, 1},
		"the file is shorter":               {func(b []byte) []byte { return b[:last+20] }, 1},
		"the next write has hardly begun":   {func(b []byte) []byte { copy(b[end+8:], "\x01\x00\x00\x00\x40\x00\x00\x00v"); return b }, 0},
		"the next write left rubbish":       {func(b []byte) []byte { copy(b[end+8:], "rubbish, and no frame"); return b }, 0},
		"the next write left its last half": {func(b []byte) []byte { copy(b[end+200:], b[last+40:end+8]); return b }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, old)
			edit(t, filepath.Join(dir, tail), c.change)
			s := newNetwork(t).start("a", dir, nil)
			leader(t, s).put(t, "next")
			want := append(slices.Clone(entries[:len(entries)-c.lost]), "next")
			if got := s.fsm.all(); !slices.Equal(got, want) {
				t.Errorf("has %d entries, want %d", len(got), len(want))
			}
		})
	}
}

func TestASnapshotThatTheStateMachineRefuses(t *testing.T) {
	t.Parallel()
	dir, _ := oldData(t)
	before := tree(t, dir)
	_, err := newNetwork(t).open("a", dir, func(c *consensus.Config) {
		c.FSM.(*machine).refuse = errors.New("it is of version 99, and this is version 1")
	})
	if err == nil || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), filepath.Join(dir, "raft", "snapshots")) {
		t.Fatalf("the error is %v", err)
	}
	after := tree(t, dir)
	for name, b := range before {
		if after[name] != b && !strings.HasSuffix(name, "wal-meta.db") { // the term, again
			t.Errorf("%s was changed", name)
		}
	}
}

func TestADataDirectoryHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nw := newNetwork(t)
	leader(t, nw.start("a", dir, alone))
	if _, err := nw.open("a", dir, alone); !errors.Is(err, consensus.ErrInUse) {
		t.Errorf("a second server on the same data: %v", err)
	}
}

func TestAnotherAgentsLogIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "raft", "raft.db")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("bolt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newNetwork(t).open("a", dir, alone); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("the error is %v", err)
	}
}

func TestAServerThatWasAwayForTooLong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		fits bool
	}{
		"a day":         {fmt.Sprintf(`{"last_seen_unix":%d}`, time.Now().Add(-24*time.Hour).Unix()), true},
		"eight days":    {fmt.Sprintf(`{"last_seen_unix":%d}`, time.Now().Add(-8*24*time.Hour).Unix()), false},
		"in the future": {fmt.Sprintf(`{"last_seen_unix":%d}`, time.Now().Add(time.Hour).Unix()), true},
		"rubbish":       {`{"last`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "server_metadata.json")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := newNetwork(t).open("a", dir, func(c *consensus.Config) {
				alone(c)
				c.RejoinAgeMax = 7 * 24 * time.Hour
			})
			if (err == nil) != c.fits {
				t.Fatalf("the error is %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), file) {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
}

func TestTheServersThatAreLeftRecoverByPeersJSON(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	all := nw.trio(dirs...)
	lead := leader(t, all...)
	lead.put(t, "x")
	left := (slices.Index(all, lead) + 1) % 3
	eventually(t, "the follower has it", func() bool { return len(all[left].fsm.all()) == 1 })
	for _, s := range all {
		nw.stop(s)
	}
	id, dir := all[left].cfg.NodeID, dirs[left]
	file := filepath.Join(dir, "raft", "peers.json")
	if _, err := os.Stat(filepath.Join(dir, "raft", "peers.info")); err != nil {
		t.Error(err)
	}

	for name, content := range map[string]string{
		"rubbish": "[", "nobody": "[]", "the old form": `["127.0.0.1:8300"]`,
		"twice the same": `[{"id":"a","address":"127.0.0.1:1"},{"id":"a","address":"127.0.0.1:2"}]`,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := nw.open(id, dir, nil); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s: the file is gone: %v", name, err)
		}
	}

	_, err := nw.open(id, dir, func(c *consensus.Config) {
		if err := os.WriteFile(file, fmt.Appendf(nil, `[{"id": "mistyped", "address": %q}]`, c.Address), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "the address of this server, whose id is "+id) {
		t.Errorf("with another id for this server: %v", err)
	}

	s := nw.start(id, dir, func(c *consensus.Config) {
		if err := os.WriteFile(file, fmt.Appendf(nil, `[{"id": %q, "address": %q}]`, id, c.Address), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	leader(t, s).put(t, "y")
	if got := s.fsm.all(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("has %q", got)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("peers.json is still there: %v", err)
	}

	// A server without any state does not take a peers.json for one.
	empty := t.TempDir()
	if err := os.MkdirAll(filepath.Join(empty, "raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(empty, "raft", "peers.json"), []byte(`[{"id":"b","address":"127.0.0.1:1"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nw.open("b", empty, nil); err == nil || !strings.Contains(err.Error(), "no initial state") {
		t.Errorf("recovered from nothing: %v", err)
	}
}
