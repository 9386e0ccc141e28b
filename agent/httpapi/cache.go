package httpapi

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"lictor/rpc/wire"
)

// Bounds of the agent's cache. What a request says makes a new entry, so a
// stranger can make as many as they like: each costs another one its place
// (CVE-2020-13250).
const (
	cacheEntries = 256
	cacheBytes   = 32 << 20
	cacheAnswer  = cacheBytes / 4 // a larger one is given out and not kept
	cacheTTL     = 72 * time.Hour // since an entry was last asked for
)

// How an entry is kept fresh: waits between tries while the servers do not
// answer, and between answers that bring nothing new.
const (
	refreshPause    = time.Second
	refreshMaxPause = time.Minute
)

// cachedRead is a read that the cache may answer.
type cachedRead struct {
	method  string
	req     wire.ReadRequest
	variant string
	refresh bool // keep it fresh with blocking queries
	fetch   func(context.Context, wire.ReadRequest) ([]byte, *wire.QueryMeta, error)
}

// own is the read with a request of its own, whose options may be changed.
func (c cachedRead) own() cachedRead {
	req := reflect.New(reflect.TypeOf(c.req).Elem())
	req.Elem().Set(reflect.ValueOf(c.req).Elem())
	c.req = req.Interface().(wire.ReadRequest)
	return c
}

// key is all that the answer depends on. A token is part of it: what one may see
// another may not.
func (c *cachedRead) key() (string, error) {
	o := c.req.Options()
	saved := *o
	o.MinQueryIndex, o.MaxQueryTime, o.MaxAge, o.MustRevalidate, o.StaleIfError = 0, 0, 0, false, 0
	o.AllowStale, o.MaxStaleDuration = false, 0 // a cached answer is one of any age
	b, err := json.Marshal(c.req)
	*o = saved
	return c.method + " " + c.variant + " " + string(b), err
}

// cache keeps encoded answers. It works while someone runs it; else every read
// goes to the servers.
type cache struct {
	mu      sync.Mutex // guards the fields below and those of the entries
	users   int
	ctx     context.Context // ends with the last user
	stop    context.CancelFunc
	entries map[string]*cacheEntry
	recent  *list.List // of *cacheEntry, the one asked for last in front
	bytes   int

	refreshers sync.WaitGroup
}

type cacheEntry struct {
	key    string
	place  *list.Element // nil once the entry was dropped
	cancel context.CancelFunc
	used   time.Time

	answer  *cachedAnswer // nil until there is one
	err     error         // why there is none
	lost    time.Time     // since when the servers do not answer; zero while they do
	resets  int           // how often the index went backwards
	changed chan struct{} // closed, and replaced, with every change of the fields above
}

// cachedAnswer is not changed once it is in an entry.
type cachedAnswer struct {
	body []byte
	meta wire.QueryMeta
	at   time.Time
}

// errDropped is the error of those who waited for an entry that was dropped.
var errDropped = errors.New("httpapi: the cache entry was dropped")

// use keeps the cache working until done is called; the last done empties it and
// returns when all its goroutines have.
func (c *cache) use() (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users++; c.users == 1 {
		c.ctx, c.stop = context.WithCancel(context.Background())
		c.entries, c.recent, c.bytes = map[string]*cacheEntry{}, list.New(), 0
	}
	return func() {
		c.mu.Lock()
		c.users--
		last := c.users == 0
		if last {
			for _, e := range c.entries {
				c.drop(e, errDropped)
			}
			c.stop()
		}
		c.mu.Unlock()
		if last {
			c.refreshers.Wait()
		}
	}
}

// drop takes an entry out; those who wait for it read err.
func (c *cache) drop(e *cacheEntry, err error) {
	if e.place == nil {
		return
	}
	c.recent.Remove(e.place)
	e.place = nil
	delete(c.entries, e.key)
	c.bytes -= e.size()
	e.cancel()
	if e.err = err; err != nil {
		e.wake()
	}
}

func (e *cacheEntry) size() int {
	n := len(e.key)
	if e.answer != nil {
		n += len(e.answer.body)
	}
	return n
}

func (e *cacheEntry) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// add makes an entry and starts what keeps it fresh, nil for nothing; c.mu is
// held. The oldest ones make room for it.
func (c *cache) add(key string, refresh func(context.Context, *cacheEntry)) *cacheEntry {
	e := &cacheEntry{key: key, changed: make(chan struct{})}
	var ctx context.Context
	ctx, e.cancel = context.WithCancel(c.ctx)
	e.place = c.recent.PushFront(e)
	c.entries[key] = e
	c.bytes += e.size()
	c.shrink(e)
	if refresh != nil {
		c.refreshers.Go(func() { refresh(ctx, e) })
	}
	return e
}

// shrink drops the entries that were not asked for the longest, but not keep.
func (c *cache) shrink(keep *cacheEntry) {
	for len(c.entries) > cacheEntries || c.bytes > cacheBytes {
		oldest := c.recent.Back().Value.(*cacheEntry)
		if oldest == keep {
			return
		}
		c.drop(oldest, errDropped)
	}
}

// lookup returns the entry of key, made where it was not there. It returns nil
// where the cache does not work.
func (c *cache) lookup(key string, refresh func(context.Context, *cacheEntry)) (e *cacheEntry, made bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == 0 {
		return nil, false
	}
	if e = c.entries[key]; e == nil {
		e, made = c.add(key, refresh), true
	}
	c.recent.MoveToFront(e.place)
	e.used = time.Now()
	return e, made
}

// put replaces the answer of an entry.
func (c *cache) put(e *cacheEntry, answer *cachedAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.place != nil {
		c.bytes -= e.size()
	}
	if e.answer != nil && answer.meta.Index < e.answer.meta.Index {
		e.resets++
	}
	e.answer, e.err, e.lost = answer, nil, time.Time{}
	e.wake()
	if e.place == nil {
		return
	}
	c.bytes += e.size()
	if len(answer.body) > cacheAnswer {
		c.drop(e, nil)
		return
	}
	c.shrink(e)
}

// failed notes that the servers do not answer. An entry without an answer is
// dropped: the next who asks tries again.
func (c *cache) failed(e *cacheEntry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.answer == nil {
		c.drop(e, err)
		return
	}
	if e.lost.IsZero() {
		e.lost = time.Now()
	}
}

// refresh keeps an entry fresh until it is dropped.
func (c *cache) refresh(ctx context.Context, e *cacheEntry, read cachedRead, maxWait time.Duration) {
	o := read.req.Options()
	o.AllowStale, o.MaxStaleDuration, o.MinQueryIndex, o.MaxQueryTime = true, 0, 0, maxWait
	pause := refreshPause
	for {
		body, meta, err := read.fetch(ctx, read.req)
		if ctx.Err() != nil {
			return
		}
		wait := time.Duration(0)
		switch {
		case err != nil:
			c.failed(e, err)
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, refreshMaxPause)
		default:
			if meta.Index <= o.MinQueryIndex {
				wait = refreshPause // nothing new: a server that does not block must not be asked in a loop
			}
			pause = refreshPause
			o.MinQueryIndex = meta.Index
			c.put(e, &cachedAnswer{body: body, meta: *meta, at: time.Now()})
		}
		c.mu.Lock()
		if time.Since(e.used) > cacheTTL {
			c.drop(e, errDropped)
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// wait returns the answer of an entry once its index is above after, or what it
// has when timeout fires. hit says that it was there already.
func (c *cache) wait(ctx context.Context, e *cacheEntry, after uint64, timeout <-chan time.Time) (answer *cachedAnswer, age time.Duration, hit bool, err error) {
	resets := -1
	for hit = true; ; hit = false {
		c.mu.Lock()
		answer, err = e.answer, e.err
		changed, lost := e.changed, e.lost
		if resets < 0 {
			resets = e.resets
		}
		reset := e.resets != resets
		c.mu.Unlock()
		if !lost.IsZero() {
			age = time.Since(lost)
		}
		switch {
		case err != nil:
			return nil, 0, false, err
		case answer != nil && (after == 0 || answer.meta.Index > after || reset):
			return answer, age, hit, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, false, ctx.Err()
		case <-timeout:
			if answer == nil {
				return nil, 0, false, errDropped
			}
			return answer, age, false, nil
		}
	}
}

// answerCached answers a read from the cache; the first one makes the entry.
func (a *API) answerCached(w http.ResponseWriter, r *request, read cachedRead) error {
	answer, age, hit, err := a.cached(r.Context(), read)
	h := w.Header()
	if err != nil {
		unknownMeta(h)
		return err
	}
	setMeta(h, cacheable, &answer.meta)
	setCacheHeaders(h, hit, age)
	a.writeEncoded(w, r, http.StatusOK, answer.body)
	return nil
}

func setCacheHeaders(h http.Header, hit bool, age time.Duration) {
	h.Set("X-Cache", "MISS")
	if hit {
		h.Set("X-Cache", "HIT")
		h.Set("Age", strconv.FormatInt(int64(age/time.Second), 10))
	}
}

func (a *API) cached(ctx context.Context, read cachedRead) (answer *cachedAnswer, age time.Duration, hit bool, err error) {
	key, err := read.key()
	if err != nil {
		return nil, 0, false, err
	}
	o := read.req.Options()
	var refresh func(context.Context, *cacheEntry)
	if read.refresh {
		own := read.own()
		refresh = func(ctx context.Context, e *cacheEntry) { a.cache.refresh(ctx, e, own, a.cfg.Data.MaxQueryTime) }
	}
	e, made := a.cache.lookup(key, refresh)
	switch {
	case e != nil && refresh == nil:
		return a.simple(ctx, e, read)
	case e != nil:
		var timeout <-chan time.Time
		if o.MinQueryIndex > 0 {
			timer := time.NewTimer(o.MaxQueryTime + rand.N(o.MaxQueryTime/16+1))
			defer timer.Stop()
			timeout = timer.C
		}
		answer, age, hit, err = a.cache.wait(ctx, e, o.MinQueryIndex, timeout)
		if !errors.Is(err, errDropped) {
			return answer, age, hit && !made, err
		}
	}
	// There is no cache, or this entry lost its place in it: the servers answer.
	body, meta, err := read.fetch(ctx, read.req)
	if err != nil {
		return nil, 0, false, err
	}
	return &cachedAnswer{body: body, meta: *meta}, 0, false, nil
}

// simple is a read whose entry nobody keeps fresh: the request says how old an
// answer may be.
func (a *API) simple(ctx context.Context, e *cacheEntry, read cachedRead) (*cachedAnswer, time.Duration, bool, error) {
	o := read.req.Options()
	a.cache.mu.Lock()
	answer := e.answer
	a.cache.mu.Unlock()
	var age time.Duration
	if answer != nil {
		age = time.Since(answer.at)
		switch {
		case o.MaxAge > 0 && age <= o.MaxAge, o.MaxAge == 0 && !o.MustRevalidate && age <= cacheTTL:
			return answer, age, true, nil
		}
	}
	body, meta, err := read.fetch(ctx, read.req)
	if err != nil {
		if answer != nil && age <= o.MaxAge+o.StaleIfError && o.StaleIfError > 0 {
			return answer, age, true, nil
		}
		a.cache.failed(e, err)
		return nil, 0, false, err
	}
	answer = &cachedAnswer{body: body, meta: *meta, at: time.Now()}
	a.cache.put(e, answer)
	return answer, 0, false, nil
}
