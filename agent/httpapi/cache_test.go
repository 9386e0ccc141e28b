package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lictor/rpc/wire"
)

// cachedAPI runs an API without a listener, in the bubble of a synctest.
func cachedAPI(t *testing.T, data Data) (*API, *fake) {
	t.Helper()
	f := newFake(t, 1)
	data.Datacenter, data.Node = "dc1", "node-0"
	a, err := New(Config{Backend: f, Data: data})
	must(t, err)
	t.Cleanup(a.cache.use())
	return a, f
}

func serveOne(t *testing.T, a *API, path string, header ...string) *http.Response {
	t.Helper()
	req := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, req)
	return w.Result()
}

func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.bytes
}

// CVE-2020-13250: whatever requests say, the cache stays as large as it may be.
func TestCacheIsBounded(t *testing.T) {
	a, f := cachedAPI(t, Data{})
	for i := range 3 * cacheEntries {
		for _, path := range []string{
			"/v1/health/service/s" + strconv.Itoa(i) + "?cached",
			"/v1/health/service/web?cached&tag=" + strings.Repeat("x", 1000) + strconv.Itoa(i),
			"/v1/catalog/services?cached&token=" + strconv.Itoa(i),
			"/v1/catalog/datacenters?cached&token=" + strconv.Itoa(i),
		} {
			if resp := serveOne(t, a, path); resp.StatusCode != 200 {
				t.Fatalf("%s: %s", path, resp.Status)
			}
		}
	}
	if n, b := a.cache.size(); n > cacheEntries || b > cacheBytes || n < cacheEntries/2 {
		t.Errorf("%d entries, %d bytes", n, b)
	}
	// Those of dropped entries are not asked in the background any more.
	waiting := func() int {
		f.servers.mu.Lock()
		defer f.servers.mu.Unlock()
		return f.servers.waiting
	}
	for end := time.Now().Add(patience); waiting() > cacheEntries; {
		if time.Now().After(end) {
			t.Fatalf("%d questions in the background", waiting())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	var c cache
	done := c.use()
	for i := range 20 {
		e, _ := c.lookup(strconv.Itoa(i), nil)
		if e == nil {
			t.Fatal("the cache does not work")
		}
		c.put(e, &cachedAnswer{body: make([]byte, cacheAnswer-100)})
		if n, b := c.size(); b > cacheBytes || n > 5 {
			t.Fatalf("%d entries, %d bytes", n, b)
		}
	}
	e, _ := c.lookup("large", nil)
	c.put(e, &cachedAnswer{body: make([]byte, cacheAnswer+1)})
	c.mu.Lock()
	if c.entries["large"] != nil || e.answer == nil {
		t.Error("a large answer was kept, or not given out")
	}
	c.mu.Unlock()
	done()
	defer c.use()()
	if n, b := c.size(); n != 0 || b != 0 {
		t.Errorf("after it was emptied: %d entries, %d bytes", n, b)
	}
}

// use_cache=false: no entries at all.
func TestCacheOff(t *testing.T) {
	a, f := cachedAPI(t, Data{NoCache: true})
	for range 3 {
		for _, path := range []string{"/v1/health/service/web?cached", "/v1/catalog/service/web?cached", "/v1/catalog/services?cached", "/v1/catalog/datacenters?cached"} {
			if resp := serveOne(t, a, path); resp.StatusCode != 200 || resp.Header.Get("X-Cache") != "" {
				t.Errorf("%s: %s, X-Cache %q", path, resp.Status, resp.Header.Get("X-Cache"))
			}
		}
	}
	if n, _ := a.cache.size(); n != 0 || f.count("Health.ServiceNodesJSON") != 3 || f.count("Catalog.ListDatacenters") != 3 {
		t.Errorf("%d entries, %d calls", n, f.count("Health.ServiceNodesJSON"))
	}
}

func TestCacheAgesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := cachedAPI(t, Data{})
		const path = "/v1/health/service/web?cached"
		want := func(cache, age string) {
			t.Helper()
			resp := serveOne(t, a, path)
			if resp.StatusCode != 200 || resp.Header.Get("X-Cache") != cache || resp.Header.Get("Age") != age {
				t.Errorf("%s, X-Cache %q, Age %q; want %q, %q", resp.Status, resp.Header.Get("X-Cache"), resp.Header.Get("Age"), cache, age)
			}
		}
		fail := func(err error) {
			f.servers.mu.Lock()
			defer f.servers.mu.Unlock()
			f.servers.err = err
			f.servers.change()
		}
		f.servers.err = errors.New("No cluster leader")
		if resp := serveOne(t, a, path); resp.StatusCode != 500 || resp.Header.Get("X-Consul-Index") != "1" {
			t.Errorf("without an answer yet: %s", resp.Status)
		}
		if n, _ := a.cache.size(); n != 0 {
			t.Errorf("%d entries without an answer", n)
		}
		fail(nil)
		want("MISS", "")
		want("HIT", "0")
		time.Sleep(time.Hour) // the servers answer: it is fresh
		want("HIT", "0")
		// The query that was under way ends well; the next one fails.
		fail(errors.New("No cluster leader"))
		synctest.Wait()
		f.servers.mu.Lock()
		f.servers.change()
		f.servers.mu.Unlock()
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if age, err := strconv.Atoi(serveOne(t, a, path).Header.Get("Age")); err != nil || age < 300 {
			t.Errorf("it is %d s old", age)
		}
		before := f.count("Health.ServiceNodesJSON")
		time.Sleep(10 * time.Minute)
		if n := f.count("Health.ServiceNodesJSON") - before; n > 25 || n < 5 {
			t.Errorf("%d tries in ten minutes", n)
		}
		fail(nil)
		time.Sleep(2 * refreshMaxPause)
		synctest.Wait()
		want("HIT", "0")
		time.Sleep(cacheTTL + time.Hour)
		synctest.Wait()
		if n, _ := a.cache.size(); n != 0 {
			t.Errorf("%d entries that nobody asks for", n)
		}
	})
}

func TestCachedQueryBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := cachedAPI(t, Data{})
		const path = "/v1/catalog/services?cached"
		index := serveOne(t, a, path).Header.Get("X-Consul-Index")
		wait := func(index string) chan *http.Response {
			done := make(chan *http.Response, 1)
			go func() { done <- serveOne(t, a, path+"&index="+index+"&wait=1m") }()
			synctest.Wait()
			if len(done) > 0 {
				t.Errorf("index %s: it did not wait", index)
			}
			return done
		}
		waiting := wait(index)
		f.servers.mu.Lock()
		f.servers.change()
		f.servers.mu.Unlock()
		if got := (<-waiting).Header.Get("X-Consul-Index"); got == index {
			t.Errorf("it woke with index %s", got)
		}

		// Time alone ends it too, with what there is.
		start := time.Now()
		resp := <-wait("999")
		if took := time.Since(start); resp.StatusCode != 200 || took < time.Minute || took > 64*time.Second {
			t.Errorf("%s after %s", resp.Status, took)
		}

		// So does an index that went backwards, as after a restore.
		waiting = wait("999")
		f.servers.mu.Lock()
		f.servers.index, f.servers.restores = 3, 1
		f.servers.change()
		f.servers.mu.Unlock()
		if resp := <-waiting; resp.Header.Get("X-Consul-Index") != "4" {
			t.Errorf("index %s", resp.Header.Get("X-Consul-Index"))
		}

		// One whose entry loses its place asks the servers itself.
		waiting = wait("999")
		a.cache.mu.Lock()
		for _, e := range a.cache.entries {
			a.cache.drop(e, errDropped)
		}
		a.cache.mu.Unlock()
		if resp := <-waiting; resp.StatusCode != 200 {
			t.Errorf("after a drop: %s", resp.Status)
		}
	})
}

func TestSimpleCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := cachedAPI(t, Data{})
		want := func(control string, code int, cache, age string) {
			t.Helper()
			resp := serveOne(t, a, "/v1/catalog/datacenters?cached", "Cache-Control", control)
			if resp.StatusCode != code || resp.Header.Get("X-Cache") != cache || resp.Header.Get("Age") != age {
				t.Errorf("%q: %s, X-Cache %q, Age %q; want %d, %q, %q", control, resp.Status, resp.Header.Get("X-Cache"), resp.Header.Get("Age"), code, cache, age)
			}
		}
		want("", 200, "MISS", "")
		time.Sleep(10 * time.Second)
		want("", 200, "HIT", "10")
		want("max-age=20", 200, "HIT", "10")
		want("max-age=5", 200, "MISS", "")
		want("must-revalidate", 200, "MISS", "")
		want("max-age=0", 200, "MISS", "")
		want("max-age=x", 400, "", "")
		want("max-age=-1", 400, "", "")
		want("stale-if-error=99999999999999999999", 400, "", "")
		want("no-cache", 200, "HIT", "0")
		f.servers.err = errors.New("No cluster leader")
		time.Sleep(10 * time.Second)
		want("max-age=5, stale-if-error=60", 200, "HIT", "10")
		want("max-age=5, stale-if-error=2", 500, "", "")
		if n := f.count("Catalog.ListDatacenters"); n != 6 {
			t.Errorf("%d calls", n)
		}
	})
}

// A read that was asked for by many at once, and by none any more, leaves
// nothing running.
func TestCacheEndsWithItsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cache
		done, done2 := c.use(), c.use()
		read := func(name string) cachedRead {
			return cachedRead{method: name, req: &wire.DCSpecificRequest{}, refresh: true, fetch: func(ctx context.Context, req wire.ReadRequest) ([]byte, *wire.QueryMeta, error) {
				if req.Options().MinQueryIndex == 0 {
					return []byte("x"), &wire.QueryMeta{Index: 5}, nil
				}
				<-ctx.Done()
				return nil, nil, ctx.Err()
			}}
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				own := read(fmt.Sprint(i)).own()
				e, _ := c.lookup(fmt.Sprint(i%5), func(ctx context.Context, e *cacheEntry) { c.refresh(ctx, e, own, time.Minute) })
				if e == nil {
					t.Error("the cache does not work")
					return
				}
				if answer, _, _, err := c.wait(context.Background(), e, 0, nil); err != nil || string(answer.body) != "x" {
					t.Errorf("%v, %v", answer, err)
				}
			})
		}
		wg.Wait()
		done()
		if e, _ := c.lookup("0", nil); e == nil {
			t.Error("the first of two users ended it")
		}
		done2() // returns once all refreshers have
		if e, _ := c.lookup("0", nil); e != nil {
			t.Error("it works without a user")
		}
	})
}
