package rpc

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// malformed says whether an error is about what the peer sent.
func malformed(err error) bool {
	return errors.Is(err, errTooLarge) || errors.Is(err, errTooDeep) || errors.Is(err, errTooMany) || errors.Is(err, errMalformed)
}

// One line per reason and peer in this time, for this many peers at once. All
// peers beyond those count as one: somebody who has many addresses does not
// silence the log.
const (
	logEvery = 10 * time.Second
	logPeers = 1024
)

// logLimit bounds the log lines that peers can cause. It is safe for concurrent
// use.
type logLimit struct {
	mu   sync.Mutex // guards last
	last map[logKey]time.Time
}

type logKey struct {
	reason string
	peer   netip.Addr
}

func newLogLimit() *logLimit { return &logLimit{last: map[logKey]time.Time{}} }

// ok says whether a line for this reason and peer may be logged now.
func (l *logLimit) ok(reason string, peer netip.Addr) bool {
	k, now := logKey{reason, peer}, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.last[k]; ok && now.Sub(t) < logEvery {
		return false
	}
	if len(l.last) >= logPeers {
		for k, t := range l.last {
			if now.Sub(t) >= logEvery {
				delete(l.last, k)
			}
		}
		if len(l.last) >= logPeers {
			k = logKey{reason: reason}
			if t, ok := l.last[k]; ok && now.Sub(t) < logEvery {
				return false
			}
		}
	}
	l.last[k] = now
	return true
}
