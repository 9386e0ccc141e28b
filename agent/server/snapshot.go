package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"lictor/agent/server/archive"
	"lictor/agent/server/consensus"
	"lictor/agent/server/fsm"
	"lictor/rpc"
	"lictor/rpc/wire"
)

// SnapshotConfig is what the snapshot exchange needs.
type SnapshotConfig struct {
	Datacenter string
	NodeID     string
	Raft       *consensus.Node
	// Servers are the addresses of another datacenter's servers, the best first.
	Servers func(dc string) []string
	// Dial opens a connection with first byte 5 to the server at addr.
	Dial func(ctx context.Context, dc, addr string) (net.Conn, error)
	// Restored is called after a restore: Leader.Restored.
	Restored func()
	// TempDir is where an archive is unpacked; "": the system's.
	TempDir string
	// MaxState is the largest state that is restored; 0: archive.MaxState.
	MaxState int64
	// HoldTimeout is how long a request waits for a leader; 0: 7s.
	HoldTimeout time.Duration
	Log         hclog.Logger
}

// Snapshots saves and restores snapshots: over connections with first byte 5
// (wire.md, 4.8), and for this process.
type Snapshots struct {
	cfg SnapshotConfig
	log hclog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
	tasks sync.WaitGroup
}

// NewSnapshots returns the exchange. The caller closes it.
func NewSnapshots(cfg SnapshotConfig) *Snapshots {
	if cfg.MaxState == 0 {
		cfg.MaxState = archive.MaxState
	}
	if cfg.HoldTimeout == 0 {
		cfg.HoldTimeout = 7 * time.Second
	}
	s := &Snapshots{cfg: cfg, log: cfg.Log.Named("snapshot"), conns: map[net.Conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends all exchanges and returns when they have ended.
func (s *Snapshots) Close() {
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
}

// Open is how many exchanges are going on.
func (s *Snapshots) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Times and sizes of an exchange.
const (
	snapshotRequestTime = 10 * time.Second // for the request
	snapshotStall       = time.Minute      // without a byte read or written
	snapshotHeader      = 64 << 10         // request or response
	snapshotLinger      = 2 * time.Second  // for a refused archive to be read to its end
	snapshotPause       = 100 * time.Millisecond
)

// snapshotAccess is who may save and restore: agents, for those who use their
// HTTP API, and operators.
const snapshotAccess = rpc.AllowClient | rpc.AllowCLI | rpc.AllowServer | rpc.AllowRemoteServer

// Serve serves one exchange and closes conn: it is rpc.ServerConfig.Snapshot.
func (s *Snapshots) Serve(conn net.Conn, peer rpc.Peer) {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		conn.Close()
		return
	}
	s.conns[conn] = struct{}{}
	s.tasks.Add(1)
	s.mu.Unlock()
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		s.tasks.Done()
	}()
	if err := s.serve(conn, peer); err != nil && s.ctx.Err() == nil {
		s.log.Warn("a snapshot exchange failed", "from", conn.RemoteAddr(), "error", err)
	}
}

func (s *Snapshots) serve(conn net.Conn, peer rpc.Peer) error {
	conn.SetDeadline(time.Now().Add(snapshotRequestTime))
	p := &patient{Conn: conn}
	in := bufio.NewReader(p)
	var req wire.SnapshotRequest
	if err := rpc.ReadObject(in, snapshotHeader, &req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	conn.SetDeadline(time.Time{})
	p.timed = true
	if peer.Classes()&snapshotAccess == 0 {
		err := fmt.Errorf("%w: snapshots may be saved and restored by %s, and this connection is %s", rpc.ErrPermissionDenied, snapshotAccess, peer.Classes())
		s.refuse(conn, err)
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	resp, out, err := s.Do(ctx, &req, in)
	if err != nil {
		s.refuse(conn, err)
		return err
	}
	defer out.Close()
	b, err := rpc.AppendObject(nil, resp)
	if err != nil {
		return err
	}
	if _, err := p.Write(b); err != nil {
		return err
	}
	_, err = io.Copy(p, out)
	return err
}

// refuse answers with an error, and reads what the peer still sends: to close
// the connection over unread bytes could take the answer from it.
func (s *Snapshots) refuse(conn net.Conn, cause error) {
	b, err := rpc.AppendObject(nil, &wire.SnapshotResponse{Error: cause.Error()})
	if err != nil {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(snapshotStall))
	if _, err := conn.Write(b); err != nil {
		return
	}
	end := time.Now().Add(snapshotLinger)
	conn.SetReadDeadline(end)
	buf := make([]byte, 32<<10)
	for time.Now().Before(end) {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// patient is a connection on which, once timed is set, each read and write has a
// deadline of its own.
type patient struct {
	net.Conn
	timed bool
}

func (c *patient) Read(b []byte) (int, error) {
	if c.timed {
		c.SetReadDeadline(time.Now().Add(snapshotStall))
	}
	return c.Conn.Read(b)
}

func (c *patient) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(snapshotStall))
	return c.Conn.Write(b)
}

// SnapshotCall does an exchange over conn, a new connection with first byte 5 to
// any server of the datacenter, and takes it over. in is the archive of a
// restore, nil for a save. The caller reads what a save returns to its end, and
// closes it. The text of an error that the server answered is its own.
func SnapshotCall(ctx context.Context, conn net.Conn, req *wire.SnapshotRequest, in io.Reader) (_ *wire.SnapshotResponse, _ io.ReadCloser, err error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if err != nil {
			stop()
			conn.Close()
			if ctx.Err() != nil {
				err = ctx.Err()
			}
		}
	}()
	b, err := rpc.AppendObject(nil, req)
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(b); err != nil {
		return nil, nil, fmt.Errorf("send the snapshot request: %w", err)
	}
	var sent error
	if in != nil {
		// A server that refuses the archive answers before it has read it: the answer
		// says more than the error of writing to it.
		if _, sent = io.Copy(conn, in); sent == nil {
			half, ok := conn.(interface{ CloseWrite() error })
			if !ok {
				return nil, nil, errors.New("this connection cannot tell the end of an archive")
			}
			sent = half.CloseWrite()
		}
	}
	out := bufio.NewReader(conn)
	resp := &wire.SnapshotResponse{}
	if err := rpc.ReadObject(out, snapshotHeader, resp); err != nil {
		return nil, nil, fmt.Errorf("read the answer to the snapshot request: %w", errors.Join(sent, err))
	}
	if resp.Error != "" {
		return nil, nil, rpc.RemoteError(resp.Error)
	}
	if sent != nil {
		return nil, nil, fmt.Errorf("send the snapshot: %w", sent)
	}
	return resp, &exchanged{Reader: out, conn: conn, stop: stop}, nil
}

// exchanged is what follows the answer.
type exchanged struct {
	io.Reader
	conn net.Conn
	stop func() bool
}

func (e *exchanged) Close() error {
	e.stop()
	return e.conn.Close()
}

// Do saves or restores: here, at the leader, or in another datacenter. in is the
// archive of a restore and is read to its end. What a save returns is the archive
// and is closed by the caller; an archive that breaks off in the middle ends with
// an error, and has no valid end.
func (s *Snapshots) Do(ctx context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.SnapshotResponse, io.ReadCloser, error) {
	switch {
	case req.Op != wire.SnapshotSave && req.Op != wire.SnapshotRestore:
		return nil, nil, fmt.Errorf("unknown snapshot operation %d", req.Op)
	case req.Op == wire.SnapshotSave:
		in = nil
	case in == nil:
		return nil, nil, errors.New("a restore needs an archive")
	}
	if req.Datacenter != "" && req.Datacenter != s.cfg.Datacenter {
		return s.elsewhere(ctx, req, in)
	}
	end := time.Now().Add(s.cfg.HoldTimeout)
	for {
		conn, err := s.place(ctx, req)
		switch {
		case err == nil && conn == nil:
			return s.here(ctx, req, in)
		case err == nil:
			return oneHop(SnapshotCall(ctx, conn, req, in))
		case !errors.Is(err, rpc.ErrNoLeader) || time.Now().After(end):
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(snapshotPause):
		}
	}
}

// oneHop puts the prefix of a forwarded call before an error (wire.md, section
// 3).
func oneHop(resp *wire.SnapshotResponse, out io.ReadCloser, err error) (*wire.SnapshotResponse, io.ReadCloser, error) {
	if err != nil {
		err = fmt.Errorf("rpc error making call: %w", err)
	}
	return resp, out, err
}

// place is where a request of this datacenter is done: nil for here, else a
// connection to the leader.
func (s *Snapshots) place(ctx context.Context, req *wire.SnapshotRequest) (net.Conn, error) {
	if s.cfg.Raft.IsLeader() {
		if !s.cfg.Raft.ReadyForConsistentReads() {
			return nil, rpc.ErrNoLeader
		}
		return nil, nil
	}
	if req.AllowStale && req.Op == wire.SnapshotSave {
		return nil, nil
	}
	addr, id := s.cfg.Raft.Leader()
	if addr == "" || id == s.cfg.NodeID {
		return nil, rpc.ErrNoLeader
	}
	conn, err := s.cfg.Dial(ctx, s.cfg.Datacenter, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: the last one known does not answer: %w", rpc.ErrNoLeader, err)
	}
	return conn, nil
}

// elsewhere passes a request on to another datacenter.
func (s *Snapshots) elsewhere(ctx context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.SnapshotResponse, io.ReadCloser, error) {
	err := error(rpc.ErrNoPath)
	for _, addr := range s.cfg.Servers(req.Datacenter) {
		var conn net.Conn
		if conn, err = s.cfg.Dial(ctx, req.Datacenter, addr); err == nil {
			return oneHop(SnapshotCall(ctx, conn, req, in))
		}
		err = fmt.Errorf("%w: %w", rpc.ErrRemoteDCUnreachable, err)
	}
	return nil, nil, err
}

func (s *Snapshots) here(ctx context.Context, req *wire.SnapshotRequest, in io.Reader) (*wire.SnapshotResponse, io.ReadCloser, error) {
	if req.Op == wire.SnapshotRestore {
		resp, err := s.restore(ctx, in)
		return resp, io.NopCloser(eof{}), err
	}
	return s.save(ctx, req.AllowStale)
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// save takes a snapshot and returns its archive while it is made.
func (s *Snapshots) save(ctx context.Context, stale bool) (*wire.SnapshotResponse, io.ReadCloser, error) {
	node := s.cfg.Raft
	if !stale {
		if err := node.VerifyLeader(ctx); err != nil {
			return nil, nil, err
		}
	}
	if node.IsLeader() {
		// Everything that was acknowledged is in, and the configuration of the
		// servers is settled.
		if err := node.Barrier(ctx); err != nil {
			return nil, nil, err
		}
	}
	meta, state, err := node.Snapshot(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("take a snapshot: %w", err)
	}
	r, w := io.Pipe()
	go func() { // until the reader has it all, or closes
		defer state.Close()
		w.CloseWithError(archive.Write(w, meta, state)) // nil: EOF
	}()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
	addr, _ := node.Leader()
	resp := &wire.SnapshotResponse{QueryMeta: wire.QueryMeta{Index: meta.Index, LastContact: node.LastContact(), KnownLeader: addr != ""}}
	return resp, &saved{r, stop}, nil
}

type saved struct {
	*io.PipeReader
	stop func() bool
}

func (s *saved) Close() error {
	s.stop()
	return s.PipeReader.Close()
}

// restore checks an archive in every way, its state by restoring it into a state
// machine that nobody uses, and only then replaces the state of the cluster.
func (s *Snapshots) restore(ctx context.Context, in io.Reader) (*wire.SnapshotResponse, error) {
	a, err := archive.Open(in, s.cfg.TempDir, s.cfg.MaxState)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	state, err := a.State()
	if err != nil {
		return nil, err
	}
	trial, err := fsm.New(hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	if err := trial.Restore(io.NopCloser(state)); err != nil {
		return nil, fmt.Errorf("the snapshot cannot be restored, and nothing was changed: %w", err)
	}
	if state, err = a.State(); err != nil {
		return nil, err
	}
	s.log.Info("restoring a snapshot", "index", a.Meta.Index, "bytes", a.Meta.Size)
	if err := s.cfg.Raft.Restore(ctx, &a.Meta, state); err != nil {
		return nil, fmt.Errorf("restore the snapshot: %w", err)
	}
	if s.cfg.Restored != nil {
		s.cfg.Restored()
	}
	return &wire.SnapshotResponse{QueryMeta: wire.QueryMeta{Index: s.cfg.Raft.LastIndex(), KnownLeader: true}}, nil
}
