package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/serf/serf"
)

const patience = 20 * time.Second

var (
	keyA = bytes.Repeat([]byte{0xa1}, 32)
	keyB = bytes.Repeat([]byte{0xb2}, 32)
)

// logBuffer is a log that a test reads while pools write it.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var (
	nextIP   int
	nextIPMu sync.Mutex
)

// config is a pool's on an address of its own, with fast timers and its log.
func config(name string, key []byte) (Config, *logBuffer) {
	nextIPMu.Lock()
	nextIP++
	ip := netip.AddrFrom4([4]byte{127, 77, byte(nextIP / 250), byte(nextIP%250 + 1)})
	nextIPMu.Unlock()
	log := &logBuffer{}
	return Config{
		Node: name, NodeID: "id-" + name, Datacenter: "dc1",
		Tags:                map[string]string{"role": "node", "dc": "dc1", "id": "id-" + name},
		Bind:                netip.AddrPortFrom(ip, 8301),
		LeavePropagateDelay: 50 * time.Millisecond,
		Timers:              Timers{GossipInterval: 20 * time.Millisecond, ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond},
		Keyring:             KeyringConfig{Key: key, VerifyIncoming: true, VerifyOutgoing: true},
		Log:                 hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Debug}),
	}, log
}

func open(t *testing.T, c Config) *Pool {
	t.Helper()
	p, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func status(p *Pool, name string) serf.MemberStatus {
	for _, m := range p.Members() {
		if m.Name == name {
			return m.Status
		}
	}
	return serf.StatusNone
}

func join(t *testing.T, p, to *Pool) {
	t.Helper()
	if n, failed := p.Join(context.Background(), []string{to.cfg.Bind.String()}); n != 1 {
		t.Fatalf("join: %v", failed)
	}
	poll(t, "both to see each other", func() bool {
		return status(p, to.cfg.name()) == serf.StatusAlive && status(to, p.cfg.name()) == serf.StatusAlive
	})
}

func TestJoinEventLeave(t *testing.T) {
	before := runtime.NumGoroutine()
	ca, _ := config("a", keyA)
	cb, _ := config("b", keyA)
	a, b := open(t, ca), open(t, cb)
	join(t, b, a)
	sub := a.Subscribe(64)
	if err := b.UserEvent("deploy", []byte("v1"), false); err != nil {
		t.Fatal(err)
	}
	poll(t, "the event", func() bool {
		select {
		case ev := <-sub.C:
			u, ok := ev.(serf.UserEvent)
			return ok && u.Name == "deploy" && string(u.Payload) == "v1"
		default:
			return false
		}
	})
	if err := a.ForceLeave("nobody", false); !errors.Is(err, ErrNoMember) {
		t.Errorf("force-leave of nobody: %v", err)
	}
	for range 2 {
		if err := b.Leave(context.Background()); err != nil {
			t.Errorf("leave: %v", err)
		}
	}
	poll(t, "b to have left", func() bool { return status(a, "b") == serf.StatusLeft })
	for range 2 {
		a.Shutdown()
		b.Shutdown()
	}
	poll(t, "the subscription to end", func() bool {
		select {
		case _, ok := <-sub.C:
			return !ok
		default:
			return false
		}
	})
	poll(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// Each refusal gives its reason on both ends, and never only "EOF".
func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		name           string
		joiner, peer   []byte
		change         func(joiner, peer *Config)
		toJoiner, logs string
	}{
		{"no key to strict", nil, keyA, nil, "this agent has no gossip key", "gossip is plaintext and this agent"},
		{"key to no key", keyA, nil, nil, "gossip is plaintext", "encrypted and this agent has no gossip key"},
		{"another key", keyA, keyB, nil, "another gossip key", "a key that this agent does not have"},
		{"another datacenter", keyA, keyA, func(j, _ *Config) {
			j.Datacenter = "dc2"
			j.Tags = map[string]string{"role": "node", "dc": "dc2"}
		}, "part of wrong datacenter", "part of wrong datacenter"},
		{"same id, another name", keyA, keyA, func(j, p *Config) {
			j.NodeID = p.NodeID
			j.Tags = map[string]string{"role": "node", "dc": "dc1", "id": p.NodeID}
		}, "conflicting node ID", "conflicting node ID"},
		{"a client in the WAN pool", keyA, keyA, func(j, p *Config) {
			p.Kind, p.Server = WAN, true
			p.Tags = map[string]string{"role": "consul", "dc": "dc1", "port": "8300"}
		}, "", "is not a server"},
		{"address not allowed", keyA, keyA, func(_, p *Config) {
			p.Allowed = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.PrefixFrom(p.Bind.Addr(), 32)}
		}, "its log says why", "serf_lan_allowed_cidrs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			cj, _ := config("joiner", row.joiner)
			cp, peerLog := config("peer", row.peer)
			if row.change != nil {
				row.change(&cj, &cp)
			}
			j, p := open(t, cj), open(t, cp)
			_, failed := j.Join(context.Background(), []string{cp.Bind.String()})
			if row.toJoiner != "" && (len(failed) != 1 || !strings.Contains(failed[0].Err.Error(), row.toJoiner)) {
				t.Errorf("the joiner is told %v, want %q", failed, row.toJoiner)
			}
			poll(t, fmt.Sprintf("the peer to log %q; its log is\n%s", row.logs, peerLog), func() bool { return strings.Contains(peerLog.String(), row.logs) })
			if len(p.Members()) != 1 {
				t.Errorf("the peer has taken it in: %v", p.Members())
			}
		})
	}
}

// The guide's ladder: neighbours on it hear each other, both ways round.
func TestLadder(t *testing.T) {
	set := map[string]KeyringConfig{
		"plain":   {VerifyIncoming: true, VerifyOutgoing: true},
		"ready":   {Key: keyA},
		"sending": {Key: keyA, VerifyOutgoing: true},
		"strict":  {Key: keyA, VerifyIncoming: true, VerifyOutgoing: true},
	}
	for _, pair := range [][2]string{{"plain", "ready"}, {"ready", "ready"}, {"ready", "sending"}, {"sending", "sending"}, {"sending", "strict"}, {"strict", "strict"}} {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			t.Parallel()
			ca, _ := config("a", nil)
			cb, _ := config("b", nil)
			ca.Keyring, cb.Keyring = set[pair[0]], set[pair[1]]
			a, b := open(t, ca), open(t, cb)
			if a.Posture() != pair[0] || b.Posture() != pair[1] {
				t.Errorf("postures %s and %s", a.Posture(), b.Posture())
			}
			join(t, a, b)
			join(t, b, a)
		})
	}
}

func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n, "serf", "local.keyring") }
	var pools []*Pool
	for _, n := range []string{"a", "b", "c"} {
		c, _ := config(n, keyA)
		c.Keyring.Path = path(n)
		pools = append(pools, open(t, c))
	}
	join(t, pools[1], pools[0])
	join(t, pools[2], pools[0])
	poll(t, "everybody to see everybody", func() bool {
		return pools[0].NumAlive() == 3 && pools[1].NumAlive() == 3 && pools[2].NumAlive() == 3
	})
	a, b64A, b64B := pools[0], base64.StdEncoding.EncodeToString(keyA), base64.StdEncoding.EncodeToString(keyB)
	must := func(op, key string) *KeyResult {
		t.Helper()
		r, err := a.Keyring(op, key, 0)
		if err != nil || r.NumNodes != 3 || r.NumErr != 0 {
			t.Fatalf("%s: %+v, %v", op, r, err)
		}
		return r
	}
	must("install", b64B)
	if r := must("list", ""); r.Keys[b64A] != 3 || r.Keys[b64B] != 3 || r.PrimaryKeys[b64A] != 3 {
		t.Errorf("after install: %+v", r)
	}
	if _, err := a.Keyring("remove", b64A, 0); err == nil || !strings.Contains(err.Error(), "Removing the primary key is not allowed") {
		t.Errorf("removing the primary key: %v", err)
	}
	must("use", b64B)
	must("list", "")
	if _, err := a.Keyring("install", base64.StdEncoding.EncodeToString([]byte("short")), 0); err == nil || !strings.Contains(err.Error(), "16, 24 or 32") {
		t.Errorf("a short key: %v", err)
	}
	for _, n := range []string{"a", "b", "c"} {
		b, err := os.ReadFile(path(n))
		if err != nil || !strings.Contains(string(b), b64A) || strings.Index(string(b), b64B) > strings.Index(string(b), b64A) {
			t.Errorf("keyring of %s: %v", n, err)
		}
		if st, err := os.Stat(path(n)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s's: %v, %v", n, st.Mode(), err)
		}
	}
	// What Serf wrote over the old file is replaced by a whole one, and what
	// somebody else wrote is not.
	poll(t, "a file of our own", func() bool {
		b, err := os.ReadFile(path("a"))
		return err == nil && bytes.Equal(b, encodeKeyring(a.keyring))
	})
	edited := []byte(`["` + b64A + `"]`)
	if err := os.WriteFile(path("c"), edited, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pools[2].secureOnce(path("c")); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path("c")); err != nil || !bytes.Equal(b, edited) {
		t.Errorf("a file that was edited has been overwritten: %v", err)
	}
	for _, p := range pools {
		p.Shutdown()
	}

	// The file counts from now on, and says so without saying a key.
	c, log := config("a", keyA)
	c.Keyring.Key = bytes.Repeat([]byte{0xc3}, 32)
	c.Keyring.Path = path("a")
	p := open(t, c)
	if first, others := p.Fingerprints(); first != Fingerprint(keyB) || len(others) != 1 {
		t.Errorf("started with %s and %v", first, others)
	}
	got := log.String()
	if !strings.Contains(got, Fingerprint(keyB)) || !strings.Contains(got, Fingerprint(c.Keyring.Key)) {
		t.Errorf("no warning with both fingerprints:\n%s", got)
	}
	for _, secret := range []string{b64A, b64B, base64.StdEncoding.EncodeToString(c.Keyring.Key)} {
		if strings.Contains(got, secret) {
			t.Error("a key is in the log")
		}
	}
}

// A node that had a key does not run in plaintext by accident.
func TestStartWithoutKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "serf")
	c, log := config("a", keyA)
	c.Keyring.Path, c.SnapshotPath = filepath.Join(dir, "local.keyring"), filepath.Join(dir, "local.snapshot")
	open(t, c).Shutdown()
	for _, name := range []string{"", "local.keyring", "local.snapshot", "local.encrypted"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q: %v, %v", name, st, err)
		}
	}
	refused := func() {
		t.Helper()
		_, err := Open(context.Background(), c)
		if !errors.Is(err, ErrKeyMissing) || !strings.Contains(err.Error(), "encrypt_allow_plaintext") || !strings.Contains(err.Error(), Fingerprint(keyA)) {
			t.Errorf("started, or no reason: %v", err)
		}
	}
	c.Keyring.Key = nil
	refused()
	if err := os.Remove(c.Keyring.Path); err != nil {
		t.Fatal(err)
	}
	refused()
	marker := filepath.Join(dir, "local.encrypted")
	if err := errors.Join(os.Remove(marker), os.Mkdir(marker, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), c); !errors.Is(err, ErrKeyMissing) {
		t.Errorf("with a marker that cannot be read: %v", err)
	}
	c.Keyring.AllowPlaintext = true
	if p := open(t, c); p.Encrypted() || !strings.Contains(log.String(), "GOSSIP IS PLAINTEXT") {
		t.Errorf("encrypted: %v, log:\n%s", p.Encrypted(), log)
	}
}

// Serf compacts a snapshot into a new file that all may read: not for long.
func TestCompactedSnapshotIsOurs(t *testing.T) {
	c, _ := config("a", keyA)
	c.SnapshotPath = filepath.Join(t.TempDir(), "serf", "local.snapshot")
	p := open(t, c)
	first, err := os.Open(c.SnapshotPath) // as long as it is open no other file is taken for it
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	before, err := first.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for range 20_000 { // each is a line of it
		if err := p.UserEvent("x", nil, false); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "the snapshot to be another file, and ours", func() bool {
		now, err := os.Stat(c.SnapshotPath)
		return err == nil && !os.SameFile(before, now) && now.Mode().Perm() == 0o600
	})
	p.Shutdown()
	if err := os.Chmod(c.SnapshotPath, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, c)
	if st, err := os.Stat(c.SnapshotPath); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("after a start: %v, %v", st.Mode(), err)
	}
}

// A keyring that cannot be trusted stops the start and stays as it is.
func TestBadKeyringFiles(t *testing.T) {
	good := `["` + base64.StdEncoding.EncodeToString(keyA) + `"]`
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		link bool
		want string
	}{
		"no JSON":     {"canary", 0o600, false, "not a JSON list"},
		"no keys":     {"[]", 0o600, false, "no key in it"},
		"short key":   {`["Y2FuYXJ5"]`, 0o600, false, "entry 1"},
		"others read": {good, 0o644, false, "chmod 600"},
		"symlink":     {good, 0o600, true, "symlink"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, _ := config("a", keyA)
			c.Keyring.Path = filepath.Join(dir, "local.keyring")
			file := c.Keyring.Path
			if row.link {
				file = filepath.Join(dir, "elsewhere")
				if err := os.Symlink(file, c.Keyring.Path); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(file, []byte(row.text), row.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Open(context.Background(), c)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "Y2Fu") {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != row.text {
				t.Errorf("the file has changed: %q, %v", b, err)
			}
			if ln, err := net.Listen("tcp", c.Bind.String()); err != nil {
				t.Errorf("the port is still bound: %v", err)
			} else {
				ln.Close()
			}
		})
	}
	c, _ := config("a", []byte("not a key"))
	c.Keyring.Path = filepath.Join(t.TempDir(), "serf", "local.keyring")
	if _, err := Open(context.Background(), c); err == nil {
		t.Error("a key of nine bytes was accepted")
	}
	if _, err := os.Stat(filepath.Dir(c.Keyring.Path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written for a bad key: %v", err)
	}
}

func TestRetryJoin(t *testing.T) {
	c, _ := config("a", keyA)
	p := open(t, c)
	if err := p.RetryJoin(context.Background(), RetryOptions{Addrs: []string{"127.77.255.254:1"}, Interval: time.Millisecond, Max: 2}); err == nil {
		t.Error("two failed rounds are no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.RetryJoin(ctx, RetryOptions{Addrs: []string{"127.77.255.254:1"}, Interval: time.Hour}); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFlood(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var floods sync.WaitGroup
	defer floods.Wait()
	defer cancel()
	var lans, wans []*Pool
	for i := range 3 {
		cl, _ := config(fmt.Sprintf("s%d", i), keyA)
		cl.Server = true
		cl.Tags = map[string]string{"role": "consul", "dc": "dc1", "port": "8300", "id": cl.Node, "wan_join_port": "8302"}
		cw := cl
		cw.Kind, cw.Bind = WAN, netip.AddrPortFrom(cl.Bind.Addr(), 8302)
		lan, wan := open(t, cl), open(t, cw)
		lans, wans = append(lans, lan), append(wans, wan)
		floods.Go(func() { Flood(ctx, lan, wan) })
	}
	join(t, lans[1], lans[0])
	join(t, lans[2], lans[0])
	poll(t, "the WAN pool to fill", func() bool {
		return wans[0].NumAlive() == 3 && wans[1].NumAlive() == 3 && wans[2].NumAlive() == 3
	})
	if status(wans[0], "s2.dc1") != serf.StatusAlive {
		t.Errorf("members: %v", wans[0].Members())
	}
}

// An id that a living member has is not taken by another one, at whichever
// member it comes in first.
func TestConflictingIDs(t *testing.T) {
	ca, _ := config("a", keyA)
	cb, _ := config("b", keyA)
	a, b := open(t, ca), open(t, cb)
	join(t, b, a)
	cc, _ := config("c", keyA)
	cc.NodeID, cc.Tags["id"] = "id-b", "id-b"
	c := open(t, cc)
	n, failed := c.Join(context.Background(), []string{a.cfg.Bind.String()})
	if n != 0 || !strings.Contains(fmt.Sprint(failed), "conflicting node ID") {
		t.Errorf("%d joined, %v", n, failed)
	}
	for _, p := range []*Pool{a, b} {
		if s := status(p, "c"); s != serf.StatusNone {
			t.Errorf("%s sees it as %s", p.cfg.Node, s)
		}
	}
	// Renamed and started again where it was, it is the same agent.
	b.Shutdown()
	renamed := cb
	renamed.Node = "b2"
	join(t, open(t, renamed), a)
}

// What every agent logs after a restart is a line, not a page of numbers, and
// the pool has a name in JSON too.
func TestLogLinesArePlain(t *testing.T) {
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: true})
	w := newLogger(log, func() string { return "" })
	w.Print("[WARN] memberlist: Refuting an alive message for 'n1' (127.0.0.1:8301) meta:([255 142 162] VS [255 142 164]), vsn:([1 5] VS [1 5])")
	if got := out.String(); !strings.Contains(got, "for 'n1' (127.0.0.1:8301)\"") || strings.Contains(got, "255") {
		t.Errorf("logged %s", got)
	}
	out.Reset()
	c, _ := config("json", nil)
	c.Log = log
	if open(t, c); !strings.Contains(out.String(), `"pool":"LAN"`) {
		t.Errorf("logged %s", out.String())
	}
}

// What a peer can put into tags or into a library's log line never stops us.
func FuzzPeerText(f *testing.F) {
	f.Add("[ERR] memberlist: failed to receive: No installed keys could decrypt the message from=127.0.0.1:1", "consul", "dc1", "x")
	f.Add("from=", "", "", "")
	f.Add("[WARN] from=[::1]:99999999", "node", "\x00", "'%s%d")
	w := &logWriter{log: hclog.NewNullLogger(), fingerprint: func() string { return "" }, limit: newLimiter()}
	f.Fuzz(func(t *testing.T, line, role, dc, id string) {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		m := &serf.Member{Name: id, Tags: map[string]string{"role": role, "dc": dc, "id": id}}
		for _, kind := range []Kind{LAN, WAN} {
			r := &mergeRules{kind: kind, dc: "dc1", id: "me", name: "me", log: hclog.NewNullLogger(), known: func() []serf.Member { return nil }}
			if err := r.NotifyMerge([]*serf.Member{m, m}); err == nil && kind == LAN && dc != "dc1" {
				t.Errorf("a member of %q was let in", dc)
			}
		}
	})
}

// What members say of themselves in their tags lets in nobody that the rules
// keep out, at any place in the list, and none is kept for a time that is none.
func FuzzTags(f *testing.F) {
	f.Add("a", "node", "dc1", "1", "8300", "24h", uint8(1), "b", "consul", "dc1", "2", "8300", "", uint8(1))
	f.Add("a", "node", "dc1", "1", "", "-1h", uint8(1), "b", "node", "dc1", "1", "", "9999999h", uint8(3))
	f.Add("me", "consul", "dc1", "me", "8300", "0", uint8(1), "me", "consul", "dc1", "me", "8300", "1", uint8(4))
	f.Add("", "", "", "", "", "", uint8(0), "", "mesh", "dc2", "\x00", "x", "1ns", uint8(2))
	const self = "me"
	addr := netip.MustParseAddrPort("10.0.0.1:8301")
	f.Fuzz(func(t *testing.T, name1, role1, dc1, id1, port1, tm1 string, status1 uint8, name2, role2, dc2, id2, port2, tm2 string, status2 uint8) {
		members := []*serf.Member{
			{Name: name1, Addr: net.IPv4(10, 0, 0, 2), Port: 8301, Status: serf.MemberStatus(status1 % 5), Tags: map[string]string{"role": role1, "dc": dc1, "id": id1, "port": port1, "rc_tm": tm1}},
			{Name: name2, Addr: net.IPv4(10, 0, 0, 3), Port: 8301, Status: serf.MemberStatus(status2 % 5), Tags: map[string]string{"role": role2, "dc": dc2, "id": id2, "port": port2, "rc_tm": tm2}},
		}
		for _, kind := range []Kind{LAN, WAN} {
			r := &mergeRules{kind: kind, dc: "dc1", id: self, name: self, addr: addr, log: hclog.NewNullLogger(), known: func() []serf.Member { return nil }}
			if r.NotifyMerge(members) != nil {
				continue
			}
			present := 0
			for _, m := range members {
				if m.Status == serf.StatusLeft {
					continue
				}
				present++
				switch tags := m.Tags; {
				case kind == LAN && tags["dc"] != "dc1", kind == LAN && tags["role"] != "consul" && tags["role"] != "node",
					kind == WAN && (tags["role"] != "consul" || tags["dc"] == "" || tags["port"] == ""),
					tags["id"] == self && m.Name != self:
					t.Errorf("%s: let in: %+v", kind, m)
				}
			}
			if present == 2 && id1 == id2 && id1 != "" && name1 != name2 {
				t.Errorf("%s: %q and %q were let in with one id", kind, name1, name2)
			}
		}
		for _, m := range members {
			if d := (reconnectOverride{}).ReconnectTimeout(m, time.Hour); d <= 0 {
				t.Errorf("kept for %s", d)
			}
		}
	})
}

// A peer's name cannot make a line of its own in the log, nor reach a terminal
// as anything but text.
func TestLogLinesStayLines(t *testing.T) {
	log := &logBuffer{}
	l := newLogger(hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Debug}), func() string { return "" })
	l.Print("[INFO] serf: EventMemberJoin: evil\n2026-01-01T00:00:00.000Z [ERROR] agent: forged\x1b[2J 127.0.0.1")
	l.Print("[ERR] memberlist: evil\nforged from=127.0.0.1:1\nforged")
	if text := log.String(); strings.Count(text, "\n") != 2 || strings.ContainsRune(text, 0x1b) {
		t.Errorf("got %q", text)
	}
}
