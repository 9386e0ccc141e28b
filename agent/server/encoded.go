package server

import "sync"

// Bounds of the encoded answers that a server keeps. What a request says makes a
// new one, so a stranger can make as many as they like: each costs another one its
// place.
const (
	encodedEntries = 256
	encodedBytes   = 32 << 20
	encodedBody    = encodedBytes / 8 // a larger one is given out and not kept
)

// encodedAnswers are answers that were encoded for one request and serve the next
// one, for as long as the index of what they say stays the same. The zero value is
// ready, and safe for concurrent use. Bodies are shared and not changed.
type encodedAnswers struct {
	mu      sync.Mutex      // guards the fields below
	store   <-chan struct{} // AbandonCh of the store that they are from
	entries map[string]encodedAnswer
	bytes   int
}

type encodedAnswer struct {
	index uint64
	body  []byte
}

func (e *encodedAnswers) get(store <-chan struct{}, key []byte, index uint64) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.entries[string(key)]
	return a.body, ok && e.store == store && a.index == index
}

func (e *encodedAnswers) put(store <-chan struct{}, key []byte, index uint64, body []byte) {
	if len(key)+len(body) > encodedBody {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store != store {
		e.store, e.entries, e.bytes = store, map[string]encodedAnswer{}, 0
	}
	e.drop(string(key))
	e.entries[string(key)] = encodedAnswer{index, body}
	e.bytes += len(key) + len(body)
	// Any of them may go: it costs one encoding.
	for other := range e.entries {
		if len(e.entries) <= encodedEntries && e.bytes <= encodedBytes {
			return
		}
		if other != string(key) {
			e.drop(other)
		}
	}
}

func (e *encodedAnswers) drop(key string) {
	if a, ok := e.entries[key]; ok {
		e.bytes -= len(key) + len(a.body)
		delete(e.entries, key)
	}
}
