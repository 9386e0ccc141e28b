package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// storage is where a node keeps its log, its term and vote, and its snapshots.
type storage struct {
	dir    string // DATA/raft; "" in memory
	logs   raft.LogStore
	stable raft.StableStore
	snaps  *snapshots
	close  func() error
}

// Files under DATA/raft.
const (
	walDir       = "wal"
	snapshotDir  = "snapshots"
	peersFile    = "peers.json"
	peersInfo    = "peers.info"
	endFile      = "end.json"
	boltFile     = "raft.db" // the family's older log store
	metadataFile = "server_metadata.json"
)

// whatToDo ends the text of every error about damaged files.
const whatToDo = "; nothing was changed: keep a copy of %s, then either put back a copy from before the damage," +
	" or, where other servers have the data, move the folder away and start this server empty: the leader fills it again"

func corrupt(dir, file, format string, args ...any) error {
	return fmt.Errorf("consensus: %s is %w: %s"+whatToDo, file, ErrCorrupt, fmt.Sprintf(format, args...), dir)
}

// openStorage opens or makes what is on disk, after it has looked for damage:
// the libraries would take some kinds of it for the end of the log, and write
// over what follows. On an error nothing stays open.
func openStorage(cfg *Config, log hclog.Logger) (_ *storage, err error) {
	if cfg.DataDir == "" {
		mem := raft.NewInmemStore()
		return &storage{
			logs: mem, stable: mem,
			snaps: &snapshots{SnapshotStore: raft.NewInmemSnapshotStore()},
			close: func() error { return nil },
		}, nil
	}
	st := &storage{dir: filepath.Join(cfg.DataDir, "raft")}
	// The log and the snapshots hold every value of the key-value store.
	if err := os.MkdirAll(filepath.Join(st.dir, walDir), 0o700); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	if err := st.refuseBolt(); err != nil {
		return nil, err
	}
	newest, err := checkSnapshots(st.dir)
	if err != nil {
		return nil, err
	}
	if err := checkWAL(st.dir, newest > 0); err != nil {
		return nil, err
	}
	w, err := openWAL(st.dir, cfg.SegmentSize, log)
	if err != nil {
		return nil, err
	}
	st.close = w.Close
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	first, _ := w.FirstIndex()
	last, err := w.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	if first > newest+1 {
		return nil, corrupt(st.dir, filepath.Join(st.dir, snapshotDir),
			"the log begins with entry %d, and the newest snapshot ends with entry %d", first, newest)
	}
	if err := st.checkEnd(last); err != nil {
		return nil, err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(st.dir, snapshotsKept, log)
	if err != nil {
		return nil, fmt.Errorf("consensus: snapshots in %s: %w", st.dir, err)
	}
	st.snaps = &snapshots{SnapshotStore: files, dir: st.dir}
	cache, err := raft.NewLogCache(logCache, w)
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	st.logs, st.stable = cache, w
	return st, nil
}

func openWAL(dir string, segment int, log hclog.Logger) (*wal.WAL, error) {
	path := filepath.Join(dir, walDir)
	log = log.Named("wal")
	var w *wal.WAL
	var err error
	if segment > 0 {
		w, err = wal.Open(path, wal.WithLogger(log), wal.WithSegmentSize(segment))
	} else {
		w, err = wal.Open(path, wal.WithLogger(log))
	}
	if errors.Is(err, wal.ErrCorrupt) {
		return nil, corrupt(dir, path, "%v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("consensus: open the log in %s: %w", path, err)
	}
	return w, nil
}

// refuseBolt refuses the data directory of another agent of the family: its
// entries are not ours.
func (st *storage) refuseBolt() error {
	file := filepath.Join(st.dir, boltFile)
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("consensus: %s is the log of another agent, which this one does not read: save a snapshot there,"+
			" start this agent with an empty data_dir, and restore the snapshot here", file)
	}
	return nil
}

// end is what a node that stopped in order left behind. A log that is shorter at
// the next start has lost acknowledged entries; without it the loss of the very
// last ones cannot be told from a write that the machine's end cut short.
type end struct {
	LastIndex uint64 `json:"last_index"`
}

func (st *storage) checkEnd(last uint64) error {
	file := filepath.Join(st.dir, endFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	var e end
	if err := json.Unmarshal(b, &e); err != nil {
		return corrupt(st.dir, file, "%v", err)
	}
	if last < e.LastIndex {
		return corrupt(st.dir, filepath.Join(st.dir, walDir), "the log ends with entry %d, and ended with entry %d when this server stopped", last, e.LastIndex)
	}
	return nil
}

// begin forgets the end of the last run: from here on the log may get shorter
// for good reasons. undo puts it back, for a start that fails.
func (st *storage) begin() (undo func(), err error) {
	if st.dir == "" {
		return func() {}, nil
	}
	file := filepath.Join(st.dir, endFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err == nil {
		err = errors.Join(os.Remove(file), syncDir(st.dir))
	}
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	return func() { writeFile(file, b) }, nil
}

// finish notes the end of the log and closes it.
func (st *storage) finish() error {
	if st.dir == "" {
		return nil
	}
	last, err := st.logs.LastIndex()
	if err == nil {
		b, _ := json.Marshal(end{LastIndex: last})
		err = writeFile(filepath.Join(st.dir, endFile), b)
	}
	return errors.Join(err, st.close())
}

// writeFile writes a file of mode 0600 so that it is there whole or not at all.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errNewer is why an older snapshot is not used.
var errNewer = errors.New("not used: there is a newer one, which has failed")

// snapshots is a snapshot store that, until started is set, remembers the first
// one that could not be opened and opens no other after it. Raft would go on to
// an older snapshot, whose successor entries the log does not have any more.
type snapshots struct {
	raft.SnapshotStore
	dir     string // DATA/raft
	started atomic.Bool
	failed  error // set and read before started is
}

// Open implements raft.SnapshotStore.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if s.started.Load() {
		return s.SnapshotStore.Open(id)
	}
	if s.failed != nil {
		return nil, nil, errNewer
	}
	meta, r, err := s.SnapshotStore.Open(id)
	if err != nil {
		s.failed = corrupt(s.dir, filepath.Join(s.dir, snapshotDir, id, "state.bin"), "%v", err)
	}
	return meta, r, err
}

// machine is the state machine as Raft sees it while the node starts: after one
// snapshot that it refuses it refuses all, and keeps why.
type machine struct {
	raft.BatchingFSM
	started atomic.Bool
	failed  error // set and read before started is
}

// Restore implements raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	if m.started.Load() {
		return m.BatchingFSM.Restore(r)
	}
	if m.failed != nil {
		r.Close()
		return errNewer
	}
	m.failed = m.BatchingFSM.Restore(r)
	return m.failed
}
