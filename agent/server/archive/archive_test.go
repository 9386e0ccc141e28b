package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lictor/agent/server/archive"
	"lictor/agent/server/fsm"
	"lictor/rpc/wire"
)

const limit = 1 << 20

func meta(size int) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{Version: 1, ID: "2-10-1", Index: 10, Term: 2, Size: int64(size), ConfigurationIndex: 1,
		Configuration: raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "127.0.0.1:8300"}}}}
}

func make1(t *testing.T, state string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Write(&b, meta(len(state)), strings.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// open opens b and checks that an error leaves nothing behind.
func open(t *testing.T, b []byte, limit int64) (*archive.Archive, error) {
	t.Helper()
	dir := t.TempDir()
	a, err := archive.Open(bytes.NewReader(b), dir, limit)
	if err != nil {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left %s behind", left[0].Name())
		}
	}
	return a, err
}

func TestAnArchiveIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	state := strings.Repeat("state ", 10000)
	dir := t.TempDir()
	a, err := archive.Open(bytes.NewReader(make1(t, state)), dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	if a.Meta.Index != 10 || a.Meta.Term != 2 || len(a.Meta.Configuration.Servers) != 1 {
		t.Errorf("describes %+v", a.Meta)
	}
	files, _ := os.ReadDir(dir)
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state is in a file of mode %v, %v", info.Mode(), err)
	}
	for range 2 {
		r, err := a.State()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != state {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %s behind", left[0].Name())
	}
}

func TestWriteNoticesAStateOfAnotherLength(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		if err := archive.Write(io.Discard, meta(size), strings.NewReader("abcd")); err == nil {
			t.Errorf("wrote 4 bytes as %d", size)
		}
	}
}

// Every byte counts: with any one of them changed, or any end missing, it is not
// an archive any more, or still the very same.
func TestTampering(t *testing.T) {
	t.Parallel()
	state := "the state of the machine"
	good := make1(t, state)
	same := func(b []byte) bool {
		a, err := open(t, b, limit)
		if err != nil {
			if !errors.Is(err, archive.ErrInvalid) {
				t.Errorf("not ErrInvalid: %v", err)
			}
			return false
		}
		defer a.Close()
		r, _ := a.State()
		got, _ := io.ReadAll(r)
		m, _ := json.Marshal(a.Meta)
		want, _ := json.Marshal(meta(len(state)))
		if string(got) != state || !bytes.Equal(m, want) {
			t.Errorf("took %q, %s", got, m)
		}
		return true
	}
	harmless := 0
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if same(b) {
			harmless++ // the gzip header's time, say
		}
	}
	if harmless > 10 {
		t.Errorf("%d of %d bytes may be changed", harmless, len(good))
	}
	for n := range good {
		if same(good[:n]) {
			t.Errorf("took the first %d of %d bytes", n, len(good))
		}
	}
	if same(append(bytes.Clone(good), 'x')) || same(append(bytes.Clone(good), good...)) {
		t.Error("took an archive with something behind it")
	}
}

// file is one file of an archive that a test puts together.
type file struct {
	name string
	body string
	head func(*tar.Header)
}

func pack(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.head != nil {
			f.head(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Close() // complains of files that are shorter than they say
	z.Close()
	return b.Bytes()
}

func TestArchivesThatAreNone(t *testing.T) {
	t.Parallel()
	head := func(change func(*raft.SnapshotMeta)) file {
		m := meta(5)
		if change != nil {
			change(m)
		}
		b, _ := json.Marshal(m)
		return file{name: "meta.json", body: string(b)}
	}
	good, state := head(nil), file{name: "state.bin", body: "state"}
	sums := func(fs ...file) file {
		var b strings.Builder
		for _, f := range fs {
			fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256([]byte(f.body)), f.name)
		}
		return file{name: "SHA256SUMS", body: b.String()}
	}
	zeros := file{name: "state.bin", body: strings.Repeat("\x00", 2*limit)}
	bomb := head(func(m *raft.SnapshotMeta) { m.Size = 2 * limit })
	stock := file{name: "state.bin", body: "\x81\xa9LastIndex\x0a\x00"}
	stockHead := head(func(m *raft.SnapshotMeta) { m.Size = int64(len(stock.body)) })

	if _, err := open(t, pack(t, good, state, sums(good, state)), limit); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
		is   error
	}{
		"nothing":                  {nil, "failed to decompress snapshot", nil},
		"junk":                     {[]byte("junk, not gzip"), "failed to decompress snapshot: gzip: invalid header", nil},
		"no files":                 {pack(t), "meta.json is missing", nil},
		"no state":                 {pack(t, good, sums(good, state)), "where state.bin should be", nil},
		"no sums":                  {pack(t, good, state), "SHA256SUMS is missing", nil},
		"the state first":          {pack(t, state, good, sums(good, state)), "where meta.json should be", nil},
		"the state twice":          {pack(t, good, state, state, sums(good, state)), "where SHA256SUMS should be", nil},
		"a file more":              {pack(t, good, state, sums(good, state), state), "there is more than", nil},
		"a wrong sum":              {pack(t, good, state, sums(good, file{"state.bin", "stats", nil})), "the checksum of state.bin is wrong", nil},
		"a wrong sum of meta":      {pack(t, good, state, sums(file{"meta.json", "x", nil}, state)), "the checksum of meta.json is wrong", nil},
		"a sum is missing":         {pack(t, good, state, sums(good)), "does not have the sum of every file", nil},
		"a sum twice":              {pack(t, good, state, sums(good, state, state)), "SHA256SUMS has the line", nil},
		"a sum of another file":    {pack(t, good, state, sums(good, state, file{"passwd", "", nil})), "SHA256SUMS has the line", nil},
		"sums without end":         {pack(t, good, state, file{"SHA256SUMS", strings.Repeat("\n", 5000), nil}), "SHA256SUMS has 5000 bytes, and may have 4096", archive.ErrTooLarge},
		"a path":                   {pack(t, file{"../meta.json", good.body, nil}, state, sums(good, state)), "where meta.json should be", nil},
		"a link":                   {pack(t, good, file{"state.bin", "", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd" }}, sums(good, state)), "where state.bin should be", nil},
		"meta is not JSON":         {pack(t, file{"meta.json", "{", nil}, state, sums(good, state)), "failed to read meta.json", nil},
		"meta is too long":         {pack(t, file{"meta.json", strings.Repeat(" ", 2<<20), nil}, state, sums(good, state)), "may have 1048576", archive.ErrTooLarge},
		"meta of version 9":        {pack(t, head(func(m *raft.SnapshotMeta) { m.Version = 9 }), state, sums(good, state)), "is of version 9, and this program reads version 1", archive.ErrVersion},
		"meta of nothing":          {pack(t, head(func(m *raft.SnapshotMeta) { m.Index = 0 }), state, sums(good, state)), "describes no snapshot", nil},
		"a negative size":          {pack(t, head(func(m *raft.SnapshotMeta) { m.Size = -1 }), state, sums(good, state)), "describes no snapshot", nil},
		"more state than meta has": {pack(t, head(func(m *raft.SnapshotMeta) { m.Size = 4 }), state, sums(good, state)), "state.bin has 5 bytes, and may have 4", archive.ErrTooLarge},
		"less state than meta has": {pack(t, head(func(m *raft.SnapshotMeta) { m.Size = 6 }), state, sums(good, state)), "state.bin has 5 bytes, and should have 6", nil},
		"a bomb that says so":      {pack(t, bomb, zeros, sums(bomb, zeros)), "it claims 2097152 bytes of state, and may have 1048576", archive.ErrTooLarge},
		"a bomb that does not":     {pack(t, good, zeros, sums(good, zeros)), "state.bin has 2097152 bytes, and may have 5", archive.ErrTooLarge},
		"a bomb behind the end":    {trailing(t, pack(t, good, state, sums(good, state))), "too much follows", archive.ErrTooLarge},
		"another agent's":          {pack(t, stockHead, stock, sums(stockHead, stock)), "written by another agent", archive.ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := open(t, c.b, limit)
			if err == nil {
				a.Close()
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), c.want) || !errors.Is(err, archive.ErrInvalid) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error is %q, want %q (%v)", err, c.want, c.is)
			}
		})
	}
}

// trailing is a good archive whose stream goes on with zeros for ever.
func trailing(t *testing.T, good []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(plain)
	w.Write(make([]byte, 8<<20))
	w.Close()
	return b.Bytes()
}

// sink is where a state machine writes its snapshot.
type sink struct{ bytes.Buffer }

func (*sink) ID() string    { return "x" }
func (*sink) Cancel() error { return nil }
func (*sink) Close() error  { return nil }

func TestInspectCountsWhatIsInside(t *testing.T) {
	t.Parallel()
	m, err := fsm.New(hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	put := func(typ fsm.MessageType, msg any) {
		index++
		b, err := fsm.Encode(typ, msg)
		if err != nil {
			t.Fatal(err)
		}
		if err, ok := m.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: b}).(error); ok {
			t.Fatal(err)
		}
	}
	put(fsm.Register, &wire.RegisterRequest{Node: "n", Address: "10.0.0.1"})
	for _, key := range []string{"a/b/1", "a/b/2", "a/c/1", "top", "a/b/3/4"} {
		put(fsm.KVS, &wire.KVSRequest{Op: wire.KVSet, DirEnt: wire.DirEntry{Key: key, Value: []byte("value")}})
	}
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var state sink
	if err := snap.Persist(&state); err != nil {
		t.Fatal(err)
	}
	a, err := open(t, make1(t, state.String()), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	count := func(stats []archive.Stat) map[string]int {
		out := map[string]int{}
		for _, s := range stats {
			out[s.Name] = s.Count
		}
		return out
	}
	rep, err := inspect(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := count(rep.Stats); got["KVs"] != 5 || got["Nodes"] != 1 || rep.StatsKV != nil || rep.TotalSize < 50 || rep.TotalSize > state.Len() {
		t.Errorf("counted %v of %d bytes", got, rep.TotalSize)
	}
	rep, err = inspect(a, &archive.KVDetails{Depth: 2, Filter: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if got := count(rep.StatsKV); len(got) != 2 || got["a/b"] != 3 || got["a/c"] != 1 {
		t.Errorf("counted %v", got)
	}
	bad, err := open(t, make1(t, state.String()[:state.Len()-1]), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if _, err := inspect(bad, nil); !errors.Is(err, fsm.ErrSnapshotCorrupt) {
		t.Errorf("a state that was cut off: %v", err)
	}
}

func inspect(a *archive.Archive, kv *archive.KVDetails) (*archive.Report, error) {
	state, err := a.State()
	if err != nil {
		return nil, err
	}
	return archive.InspectState(state, kv)
}
