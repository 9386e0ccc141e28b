package gossip

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
)

// This file turns what memberlist says about encryption into what an operator
// can act on. memberlist has no error values for these cases, only texts; a
// test runs each case against real pools, so that a change of a text is found.

// reasons are memberlist's texts (any case) and what they mean to this end. A
// %s is the fingerprint of our own primary key.
var reasons = []struct{ text, local, joiner string }{
	{
		"no installed keys could decrypt the message",
		"it is encrypted with a key that this agent does not have (or it is not of this cluster): our key is %s; compare the fingerprints with lictor info on both ends",
		"the peer uses another gossip key than this agent: ours is %s; compare the fingerprints with lictor info on both ends",
	},
	{
		"remote error: remote state is encrypted and encryption is not configured",
		"", "the peer has no gossip key, and this agent encrypts (key %s): set encrypt there, or encrypt_verify_outgoing = false here while the cluster is being changed",
	},
	{
		"remote error: encryption is configured but remote state is not encrypted",
		"", "the peer accepts only encrypted gossip, and this agent (key %s) sends plaintext: set encrypt and encrypt_verify_outgoing = true here",
	},
	{
		"remote state is encrypted and encryption is not configured",
		"the peer's gossip is encrypted and this agent has no gossip key (key %s): set encrypt here",
		"the peer accepts only encrypted gossip, and this agent has no gossip key (key %s): set encrypt here",
	},
	{
		"encryption is configured but remote state is not encrypted",
		"the peer's gossip is plaintext and this agent (key %s) accepts only encrypted gossip: set encrypt there, or encrypt_verify_incoming = false here while the cluster is being changed",
		"the peer's gossip is plaintext and this agent (key %s) accepts only encrypted gossip: set encrypt there, or encrypt_verify_incoming = false here while the cluster is being changed",
	},
	{
		"no installed keys",
		"it is plaintext or encrypted with another key, and our key is %s",
		"the peer's answer is plaintext or encrypted with another key, and our key is %s",
	},
	{
		"unacceptable label",
		"it belongs to another cluster: its gossip carries a label (key %s)",
		"the peer belongs to another cluster: its gossip carries a label (key %s)",
	},
}

// explainJoin puts the reason for a failed join first. The library's own text
// follows, and never stands alone where it would read as "EOF".
func (p *Pool) explainJoin(err error) error {
	text := strings.ToLower(err.Error())
	for _, r := range reasons {
		if strings.Contains(text, r.text) && r.joiner != "" {
			return fmt.Errorf(r.joiner+" (%w)", p.fingerprint(), flat{err})
		}
	}
	if strings.Contains(text, "eof") || strings.Contains(text, "connection reset") {
		return fmt.Errorf("the peer closed the connection without an answer: its log says why (our key is %s) (%w)", p.fingerprint(), flat{err})
	}
	return flat{err}
}

// flat is an error whose text is on one line.
type flat struct{ error }

func (f flat) Error() string { return strings.Join(strings.Fields(f.error.Error()), " ") }
func (f flat) Unwrap() error { return f.error }

// newLogger makes the standard logger that the libraries want. Lines about
// encryption are explained; what a peer can cause is rate-limited per peer.
func newLogger(to hclog.Logger, fingerprint func() string) *log.Logger {
	return log.New(&logWriter{log: to, fingerprint: fingerprint, limit: newLimiter()}, "", 0)
}

type logWriter struct {
	log         hclog.Logger
	fingerprint func() string
	limit       *limiter
}

// maxLine is how much of a library's line is kept: part of it may be a peer's.
const maxLine = 1024

var levels = []struct {
	prefix string
	level  hclog.Level
}{
	{"[TRACE]", hclog.Trace}, {"[DEBUG]", hclog.Debug}, {"[INFO]", hclog.Info},
	{"[WARN]", hclog.Warn}, {"[ERR]", hclog.Error}, {"[ERROR]", hclog.Error},
}

func (w *logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b[:min(len(b), maxLine)]))
	level := hclog.Info
	for _, l := range levels {
		if rest, ok := strings.CutPrefix(line, l.prefix); ok {
			level, line = l.level, strings.TrimSpace(rest)
			break
		}
	}
	line, peer := cutPeer(cutMeta(oneLine(line)))
	if peer == "" {
		w.log.Log(level, line)
		return len(b), nil
	}
	lower := strings.ToLower(line)
	for _, r := range reasons {
		if r.local == "" || !strings.Contains(lower, r.text) {
			continue
		}
		if w.limit.okString(r.text, peer) {
			w.log.Warn("gossip refused", "peer", peer, "reason", fmt.Sprintf(r.local, w.fingerprint()), "library", line)
		}
		return len(b), nil
	}
	// A peer's doing, whatever it was: an error of its, not of this agent.
	if level == hclog.Error {
		level = hclog.Warn
	}
	if level < hclog.Warn || w.limit.okString("other", peer) {
		w.log.Log(level, line, "peer", peer)
	}
	return len(b), nil
}

// oneLine writes out control characters: a peer's name is part of some lines, and
// must neither begin one of its own nor speak to a terminal.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cutMeta takes two encoded tag lists off memberlist's line about a member that
// sets its own entry right, as every agent does after a restart: a kilobyte of
// numbers that says nothing to anybody.
func cutMeta(line string) string {
	if head, _, ok := strings.Cut(line, " meta:(["); ok {
		return head
	}
	return line
}

// cutPeer takes memberlist's "from=addr" off the end of a line.
func cutPeer(line string) (rest, peer string) {
	i := strings.LastIndex(line, "from=")
	if i < 0 {
		return line, ""
	}
	return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+len("from="):])
}

// Limits on log lines that peers cause: one line per reason and address in this
// time, for this many addresses at once. All addresses beyond those count as
// one: somebody who has many does not silence the log.
const (
	limitEvery = 10 * time.Second
	limitPeers = 1024
)

// limiter says whether a line about a peer may be logged now. It is safe for
// concurrent use.
type limiter struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func newLimiter() *limiter { return &limiter{last: map[string]time.Time{}} }

func (l *limiter) ok(reason string, peer net.Addr) bool {
	if peer == nil {
		return l.okString(reason, "")
	}
	return l.okString(reason, peer.String())
}

func (l *limiter) okString(reason, peer string) bool {
	if ap, err := netip.ParseAddrPort(peer); err == nil {
		peer = ap.Addr().String() // each attempt comes from another port
	}
	key, now := reason+"|"+peer, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.last[key]; ok && now.Sub(t) < limitEvery {
		return false
	}
	if len(l.last) >= limitPeers {
		for k, t := range l.last {
			if now.Sub(t) >= limitEvery {
				delete(l.last, k)
			}
		}
		if len(l.last) >= limitPeers {
			key = reason + "|"
			if t, ok := l.last[key]; ok && now.Sub(t) < limitEvery {
				return false
			}
		}
	}
	l.last[key] = now
	return true
}
