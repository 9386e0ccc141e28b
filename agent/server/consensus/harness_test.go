package consensus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lictor/agent/server/consensus"
)

// machine is a state machine that remembers its entries, in order.
type machine struct {
	mu      sync.Mutex
	entries []string
	refuse  error // what Restore answers
}

func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if string(l.Data) == "refuse" {
		return errors.New("refused by the state machine")
	}
	m.entries = append(m.entries, string(l.Data))
	return len(m.entries)
}

func (m *machine) ApplyBatch(ls []*raft.Log) []any {
	out := make([]any, len(ls))
	for i, l := range ls {
		if l.Type == raft.LogCommand {
			out[i] = m.Apply(l)
		}
	}
	return out
}

func (m *machine) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.entries...)
}

type image []byte

func (i image) Persist(s raft.SnapshotSink) error {
	if _, err := s.Write(i); err != nil {
		return err
	}
	return s.Close()
}
func (image) Release() {}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	b, err := json.Marshal(m.all())
	return image(b), err
}

func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return m.refuse
	}
	m.entries = nil
	return json.NewDecoder(r).Decode(&m.entries)
}

// server is one node with its listener.
type server struct {
	*consensus.Node
	fsm  *machine
	cfg  consensus.Config
	ln   net.Listener
	addr string
}

// network is what the servers of a test know of each other.
type network struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]*server // by address
	// cut is the addresses that nobody reaches and that reach nobody.
	cut map[string]bool
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, by: map[string]*server{}, cut: map[string]bool{}}
}

var errCut = errors.New("cut off")

func (nw *network) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		nw.mu.Lock()
		cut := nw.cut[from] || nw.cut[addr]
		nw.mu.Unlock()
		if cut {
			return nil, errCut
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// isolate cuts s off, or back in.
func (nw *network) isolate(s *server, cut bool) {
	nw.mu.Lock()
	nw.cut[s.addr] = cut
	all := []*server{}
	for _, o := range nw.by {
		all = append(all, o)
	}
	nw.mu.Unlock()
	if cut {
		for _, o := range all {
			o.CloseConns()
		}
	}
}

func (nw *network) peers(_ context.Context, addr string) ([]string, error) {
	nw.mu.Lock()
	s := nw.by[addr]
	nw.mu.Unlock()
	if s == nil {
		return nil, errors.New("nobody answers")
	}
	return s.Peers(), nil
}

func (nw *network) candidates() []consensus.Candidate {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	var out []consensus.Candidate
	for _, s := range nw.by {
		out = append(out, consensus.Candidate{ID: s.cfg.NodeID, Name: s.cfg.NodeID, Addr: s.addr, Expect: s.cfg.Bootstrap.Expect, Alone: s.cfg.Bootstrap.Alone})
	}
	return out
}

// listen makes the listener of a server that is not started yet.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// open starts a server; change may alter its configuration before.
func (nw *network) open(id, dir string, change func(*consensus.Config)) (*server, error) {
	nw.t.Helper()
	ln := listen(nw.t)
	addr := ln.Addr().String()
	s := &server{fsm: &machine{}, ln: ln, addr: addr}
	s.cfg = consensus.Config{
		NodeID: id, NodeName: id, Address: addr, DataDir: dir, FSM: s.fsm,
		Dial: nw.dial(addr), Dev: true, SegmentSize: 64 << 10, Log: logger(nw.t),
	}
	if change != nil {
		change(&s.cfg)
	}
	node, err := consensus.New(s.cfg)
	if err != nil {
		ln.Close()
		return nil, err
	}
	s.Node = node
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			nw.mu.Lock()
			cut := nw.cut[addr]
			nw.mu.Unlock()
			if cut {
				c.Close()
				continue
			}
			s.Accept(c)
		}
	}()
	nw.mu.Lock()
	nw.by[addr] = s
	nw.mu.Unlock()
	nw.t.Cleanup(func() { nw.stop(s) })
	return s, nil
}

func (nw *network) start(id, dir string, change func(*consensus.Config)) *server {
	nw.t.Helper()
	s, err := nw.open(id, dir, change)
	if err != nil {
		nw.t.Fatal(err)
	}
	return s
}

func (nw *network) stop(s *server) {
	nw.mu.Lock()
	delete(nw.by, s.addr)
	nw.mu.Unlock()
	s.ln.Close()
	s.Shutdown()
}

func alone(c *consensus.Config) { c.Bootstrap.Alone = true }

// trio starts three servers that found a cluster together.
func (nw *network) trio(dirs ...string) []*server {
	nw.t.Helper()
	var out []*server
	for i := range 3 {
		dir := ""
		if len(dirs) > 0 {
			dir = dirs[i]
		}
		out = append(out, nw.start(fmt.Sprintf("server-%d", i), dir, nw.expect(3)))
	}
	return out
}

func (nw *network) expect(n int) func(*consensus.Config) {
	return func(c *consensus.Config) {
		// The machine that runs the tests is busy: elections are not to be won by
		// accident.
		c.Dev, c.Settings.Multiplier = false, 1
		c.Bootstrap = consensus.Bootstrap{Expect: n, Servers: nw.candidates, Peers: nw.peers}
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// leader waits for one server to lead and be ready.
func leader(t *testing.T, servers ...*server) *server {
	t.Helper()
	var lead *server
	eventually(t, "a leader", func() bool {
		for _, s := range servers {
			if s.ReadyForConsistentReads() {
				lead = s
				return true
			}
		}
		return false
	})
	return lead
}

func (s *server) put(t *testing.T, entry string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := s.ApplyBytes(ctx, []byte(entry)); err != nil {
		t.Fatalf("apply %q: %v", entry, err)
	}
}

// logger shows a node's log where the test fails.
func logger(t *testing.T) hclog.Logger {
	w := &lines{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.tail(200))
		}
	})
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: w})
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Split(l.b.String(), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
