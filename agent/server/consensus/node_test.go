package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lictor/agent/server/consensus"
	"lictor/rpc"
)

func TestOneServerElectsItselfWithoutWaitingForItsTimers(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"on disk": t.TempDir(), "in memory": ""} {
		t.Run(name, func(t *testing.T) {
			// An hour of timers: only an election that does not wait for them helps.
			s := newNetwork(t).start("a", dir, func(c *consensus.Config) {
				alone(c)
				c.Dev, c.Settings.Multiplier = false, 10
			})
			begun := time.Now()
			leader(t, s)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %s: the heartbeat timeout", took)
			}
			if answer, err := s.ApplyBytes(t.Context(), []byte("x")); err != nil || answer != 1 {
				t.Errorf("answered %v, %v", answer, err)
			}
			if _, err := s.ApplyBytes(t.Context(), []byte("refuse")); err == nil || err.Error() != "refused by the state machine" {
				t.Errorf("the state machine's error came back as %v", err)
			}
			if addr, id := s.Leader(); addr != s.addr || id != "a" {
				t.Errorf("the leader is %s at %s", id, addr)
			}
			if err := s.VerifyLeader(t.Context()); err != nil {
				t.Error(err)
			}
			if d := s.LastContact(); d != 0 {
				t.Errorf("the leader's last contact with the leader is %s ago", d)
			}
		})
	}
}

func TestAServerTakesUpWhatIsOnItsDisk(t *testing.T) {
	t.Parallel()
	nw, dir := newNetwork(t), t.TempDir()
	var want []string
	for run := range 3 {
		s := nw.start("a", dir, func(c *consensus.Config) {
			alone(c)
			c.Resolve = func(string) (string, bool) { return "", false }
		})
		leader(t, s)
		if got := s.fsm.all(); !slices.Equal(got, want) {
			t.Fatalf("run %d begins with %q, want %q", run, got, want)
		}
		for i := range 40 { // more than one file of the log
			entry := fmt.Sprintf("%d-%d-%s", run, i, strings.Repeat("x", 4<<10))
			s.put(t, entry)
			want = append(want, entry)
		}
		if run == 1 {
			_, r, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		nw.stop(s)
	}
	st, err := os.Stat(filepath.Join(dir, "raft"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the log is %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dir, "server_metadata.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("server_metadata.json: %v, %v", st, err)
	}
}

// What the log takes it can read back: the largest command that is agreed on, and
// nothing above it.
func TestACommandThatTheLogCouldNotHoldIsRefused(t *testing.T) {
	t.Parallel()
	nw, dir := newNetwork(t), t.TempDir()
	s := nw.start("a", dir, alone)
	leader(t, s)
	const most = 64<<20 - 64<<10
	if _, err := s.ApplyBytes(t.Context(), make([]byte, most+1)); !errors.Is(err, consensus.ErrEntryTooLarge) {
		t.Errorf("a larger one: %v", err)
	}
	if _, err := s.ApplyBytes(t.Context(), make([]byte, most)); err != nil {
		t.Error(err)
	}
	nw.stop(s)
	s = nw.start("a", dir, alone)
	leader(t, s)
	if got := s.fsm.all(); len(got) != 1 || len(got[0]) != most {
		t.Errorf("%d commands came back", len(got))
	}
}

func TestThreeServersFoundAClusterTogether(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	first := nw.start("server-0", "", nw.expect(3))
	second := nw.start("server-1", "", nw.expect(3))
	if _, err := second.ApplyBytes(t.Context(), []byte("x")); !errors.Is(err, rpc.ErrNoLeader) {
		t.Errorf("two of three accept a write: %v", err)
	}
	if p := first.Peers(); len(p) != 0 {
		t.Errorf("two of three have founded %q", p)
	}
	if d := first.LastContact(); d < 24*time.Hour {
		t.Errorf("heard of a leader %s ago, and there was none", d)
	}
	third := nw.start("server-2", "", nw.expect(3))
	all := []*server{first, second, third}
	lead := leader(t, all...)
	if lead != first {
		t.Errorf("%s leads, want the one with the lowest id", lead.cfg.NodeID)
	}
	for i := range 20 {
		lead.put(t, fmt.Sprint(i))
	}
	for _, s := range all {
		eventually(t, "every server has it all", func() bool { return len(s.fsm.all()) == 20 })
		if !slices.Equal(s.fsm.all(), lead.fsm.all()) {
			t.Errorf("%s has %q", s.cfg.NodeID, s.fsm.all())
		}
	}
	if _, err := second.ApplyBytes(t.Context(), []byte("x")); !errors.Is(err, rpc.ErrNoLeader) {
		t.Errorf("a follower took a write: %v", err)
	}
	if err := second.VerifyLeader(t.Context()); !errors.Is(err, rpc.ErrNoLeader) {
		t.Errorf("a follower verified its office: %v", err)
	}
	if second.ReadyForConsistentReads() || second.IsLeader() {
		t.Error("a follower says it leads")
	}
}

// A fourth server that expects three and finds a cluster does not found another.
func TestNobodyFoundsASecondCluster(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	lead := leader(t, nw.trio()...)
	lead.put(t, "x")
	// Its id is the lowest, so that it is the one that would.
	late := nw.start("a-late-server", "", nw.expect(3))
	if err := lead.Raft().AddVoter("a-late-server", raft.ServerAddress(late.addr), 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the late server has the cluster's entry", func() bool { return slices.Equal(late.fsm.all(), []string{"x"}) })
	if n := len(late.Peers()); n != 4 {
		t.Errorf("the late server knows %d servers", n)
	}
}

func TestServersThatDisagreeFoundNothing(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]consensus.Candidate{
		"another number":         {ID: "z", Name: "z", Addr: "127.0.0.1:1", Expect: 3},
		"a cluster of its own":   {ID: "z", Name: "z", Addr: "127.0.0.1:1", Alone: true},
		"no number":              {ID: "z", Name: "z", Addr: "127.0.0.1:1"},
		"does not answer":        {ID: "z", Name: "z", Addr: "127.0.0.1:1", Expect: 2},
		"the lower id founds it": {ID: "A", Name: "A", Addr: "127.0.0.1:1", Expect: 2},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			nw := newNetwork(t)
			s := nw.start("a", "", func(c *consensus.Config) {
				c.Bootstrap = consensus.Bootstrap{Expect: 2, Peers: nw.peers, Servers: func() []consensus.Candidate {
					select {
					case asked <- struct{}{}:
					default:
					}
					return []consensus.Candidate{other, {ID: "a", Name: "a", Addr: c.Address, Expect: 2}}
				}}
			})
			for range 3 {
				<-asked
			}
			if s.LastIndex() != 0 || len(s.Peers()) != 0 {
				t.Errorf("founded a cluster of %q", s.Peers())
			}
		})
	}
}

func TestALeaderIsLostAndWonAgain(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	all := nw.trio()
	old := leader(t, all...)
	old.put(t, "before")

	// Its duties end with its office, and begin anew with the next.
	var mu sync.Mutex
	began, ended := map[string]int{}, map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	for _, s := range all {
		tasks.Go(func() {
			s.Lead(ctx, func(ctx context.Context) {
				mu.Lock()
				began[s.cfg.NodeID]++
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				ended[s.cfg.NodeID]++
				mu.Unlock()
			})
		})
	}
	count := func(m map[string]int, s *server) int {
		mu.Lock()
		defer mu.Unlock()
		return m[s.cfg.NodeID]
	}
	eventually(t, "the duties of the first leader begin", func() bool { return count(began, old) == 1 })

	nw.isolate(old, true)
	others := slices.DeleteFunc(slices.Clone(all), func(s *server) bool { return s == old })
	next := leader(t, others...)
	next.put(t, "during")
	eventually(t, "the duties of the first leader end", func() bool { return count(ended, old) == 1 })
	eventually(t, "the duties of the next begin", func() bool { return count(began, next) == 1 })
	if err := old.VerifyLeader(t.Context()); !errors.Is(err, rpc.ErrNoLeader) {
		t.Errorf("a leader that is cut off verified its office: %v", err)
	}
	if _, err := old.ApplyBytes(t.Context(), []byte("lost")); err == nil {
		t.Error("a leader that is cut off acknowledged a write")
	}

	nw.isolate(old, false)
	eventually(t, "the old leader follows", func() bool { return slices.Equal(old.fsm.all(), []string{"before", "during"}) })

	lead := leader(t, all...)
	if err := lead.TransferLeadership(t.Context(), old.cfg.NodeID); lead != old && err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old leader leads again", old.ReadyForConsistentReads)
	eventually(t, "its duties begin again", func() bool { return count(began, old) == 2 })
	cancel()
	tasks.Wait()
}

// An entry that only a deposed leader has is cut from its log, also across a
// restart of it.
func TestAnEntryWithoutAMajorityIsCutFromTheLog(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	all := nw.trio(dirs...)
	old := leader(t, all...)
	old.put(t, "before")
	nw.isolate(old, true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := old.ApplyBytes(ctx, []byte("lost")); !errors.Is(err, consensus.ErrLeadershipLost) && !errors.Is(err, rpc.ErrNoLeader) {
		t.Fatalf("a write without a majority: %v", err)
	}
	others := slices.DeleteFunc(slices.Clone(all), func(s *server) bool { return s == old })
	leader(t, others...).put(t, "during")
	nw.isolate(old, false)
	eventually(t, "the old leader follows", func() bool { return slices.Equal(old.fsm.all(), []string{"before", "during"}) })

	id := old.cfg.NodeID
	nw.stop(old)
	// It comes back with the same data and another address.
	again := nw.start(id, dirs[slices.Index(all, old)], func(c *consensus.Config) {
		c.Dev, c.Settings.Multiplier = false, 1
	})
	lead := leader(t, others...)
	if err := lead.Raft().AddVoter(raft.ServerID(id), raft.ServerAddress(again.addr), 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
	lead.put(t, "after")
	eventually(t, "it has them all", func() bool { return slices.Equal(again.fsm.all(), []string{"before", "during", "after"}) })
}

func TestALeaderThatLeavesHandsOverFirst(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	all := nw.trio()
	old := leader(t, all...)
	old.put(t, "x")
	if err := old.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	others := slices.DeleteFunc(slices.Clone(all), func(s *server) bool { return s == old })
	next := leader(t, others...)
	if old.IsLeader() {
		t.Error("it still leads")
	}
	if err := next.RemoveServer(t.Context(), old.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	nw.isolate(old, true)
	next.put(t, "y") // two of two
	if err := next.RemoveServer(t.Context(), old.cfg.NodeID); !errors.Is(err, consensus.ErrUnknownServer) {
		t.Errorf("removed twice: %v", err)
	}
	if err := next.TransferLeadership(t.Context(), "zz"); err == nil || err.Error() != "Could not find address for server id zz" {
		t.Errorf("a transfer to nobody: %v", err)
	}
}

func TestTheLastServerLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	nw, dir := newNetwork(t), t.TempDir()
	s := nw.start("a", dir, alone)
	leader(t, s).put(t, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := errors.Join(s.Leave(ctx), s.AwaitRemoval(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := s.TransferLeadership(ctx, ""); err == nil || !strings.Contains(err.Error(), "cannot find peer") {
		t.Errorf("a transfer to nobody: %v", err)
	}
	nw.stop(s)
	s = nw.start("a", dir, nil)
	leader(t, s).put(t, "y")
	if got := s.fsm.all(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("has %q", got)
	}
}

func TestASnapshotIsRestoredOnEveryServer(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	all := nw.trio(dirs...)
	lead := leader(t, all...)
	for i := range 10 {
		lead.put(t, fmt.Sprint(i))
	}
	meta, r, err := lead.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state, err := io.ReadAll(r)
	r.Close()
	if err != nil || int64(len(state)) != meta.Size {
		t.Fatalf("read %d of %d bytes: %v", len(state), meta.Size, err)
	}
	want := lead.fsm.all()
	lead.put(t, "later")
	if err := lead.Restore(t.Context(), meta, strings.NewReader(string(state))); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		eventually(t, "every server has the snapshot", func() bool { return slices.Equal(s.fsm.all(), want) })
	}
	lead.put(t, "after")
	for _, s := range all {
		nw.stop(s)
	}
	// Every log begins behind the snapshot now.
	for i, dir := range dirs {
		s, err := nw.open(fmt.Sprintf("server-%d", i), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.fsm.all(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("server %d began with %q", i, got)
		}
	}
	follower := slices.IndexFunc(all, func(s *server) bool { return s != lead })
	if err := all[follower].Restore(t.Context(), meta, strings.NewReader("")); !errors.Is(err, rpc.ErrNoLeader) && !errors.Is(err, consensus.ErrShutdown) {
		t.Errorf("a restore on a follower: %v", err)
	}
}

func TestAFollowerFarBehindCatchesUpBySnapshot(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	small := func(c *consensus.Config) {
		nw.expect(3)(c)
		c.Settings = consensus.Settings{Multiplier: 1, TrailingLogs: 5}
	}
	var all []*server
	for i := range 3 {
		all = append(all, nw.start(fmt.Sprintf("server-%d", i), t.TempDir(), small))
	}
	lead := leader(t, all...)
	behind := all[(slices.Index(all, lead)+1)%3]
	nw.isolate(behind, true)
	for i := range 50 {
		lead.put(t, fmt.Sprint(i))
	}
	_, r, err := lead.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	nw.isolate(behind, false)
	eventually(t, "it catches up", func() bool { return slices.Equal(behind.fsm.all(), lead.fsm.all()) })
}

func TestClosedConnectionsAreMadeAnew(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	all := nw.trio()
	lead := leader(t, all...)
	for i := range 5 {
		for _, s := range all {
			s.CloseConns()
		}
		eventually(t, "writes go on", func() bool {
			_, err := leader(t, all...).ApplyBytes(t.Context(), fmt.Append(nil, i))
			return err == nil
		})
	}
	if err := lead.Reload(consensus.Settings{Multiplier: 2}); err != nil {
		t.Error(err)
	}
	if err := lead.Reload(consensus.Settings{Multiplier: 11}); err == nil {
		t.Error("a raft_multiplier of 11 was taken")
	}
}

// A leader that is cut off in the middle of a message does not stop a follower.
func TestAStoppedNodeClosesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	s := nw.start("a", "", alone)
	leader(t, s)
	ours, theirs := net.Pipe()
	given := make(chan struct{})
	go func() { defer close(given); s.Accept(theirs) }()
	<-given
	ours.Write([]byte{0}) // a message begins
	nw.stop(s)
	ours.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection of a stopped node: %v", err)
	}
	ours2, theirs2 := net.Pipe()
	s.Accept(theirs2)
	if _, err := ours2.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection given to a stopped node: %v", err)
	}
	if _, err := s.ApplyBytes(t.Context(), []byte("x")); err == nil {
		t.Error("a stopped node took a write")
	}
}

func TestManyWritersAndVerifiers(t *testing.T) {
	t.Parallel()
	nw := newNetwork(t)
	lead := leader(t, nw.trio()...)
	var tasks sync.WaitGroup
	for w := range 16 {
		tasks.Go(func() {
			for i := range 20 {
				if _, err := lead.ApplyBytes(t.Context(), fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
					t.Error(err)
					return
				}
				if err := lead.VerifyLeader(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	tasks.Wait()
	if n := len(lead.fsm.all()); n != 16*20 {
		t.Errorf("%d entries", n)
	}
}
